"""The part of the lexer that reads commands: words, operators, `case`, redirections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.regex import regex
from orchestrator.templating.shelltext.boundaries import end_word, new_command, read_documents
from orchestrator.templating.shelltext.parentheses import close, open_
from orchestrator.templating.shelltext.redirections import both, redirect
from orchestrator.templating.shelltext.state import COMMANDS, UNITS, Kind, Refusal
from orchestrator.templating.shelltext.words import (
    COMMAND,
    Alt,
    Shape,
    Spot,
    after_line,
    grow,
    quoted,
)

if TYPE_CHECKING:
    from orchestrator.templating.shelltext.lexer import Lexer

_GOES_ON = {
    "<": "<>&(",
    ">": ">&|(",
    "&": "&>",
    "&>": ">",
    "|": "|&",
    ";": ";&",
    ";;": "&",
    "(": "(",
}
_ENDS_WORD = " \t\n;&|<>()"
_PLAIN = regex(r"[^\s\\'\"`$#;&|<>()=]+")


def step(lexer: Lexer, i: int) -> int:
    """Pass the next thing in commands or in a pattern's parentheses."""
    char = lexer.text[i]
    if char in " \t":
        end_word(lexer, i)
        return i + 1
    if char == "\n":
        return _newline(lexer, i)
    if char in ";&|<>()":
        return _operator(lexer, i)
    if char == "#" and _comment(lexer, i):
        return i + 1
    if char == "\\" and lexer.text[i + 1 : i + 2] == "\n":
        return i + 2
    continues(lexer)
    if char in "\\'\"`$":
        return _quote(lexer, i)
    return _grow(lexer, i)


def continues(lexer: Lexer) -> None:
    """The word goes on: a value that ends right here is not a word by itself."""
    for index in lexer.state.lone:
        lexer.places[index].alone = False


def _quote(lexer: Lexer, i: int) -> int:
    char, top = lexer.text[i], lexer.state.top
    top.alts = frozenset(quoted(alt) for alt in top.alts)
    if char == "\\":
        inside = any(frame.kind is Kind.SUBSTITUTION for frame in lexer.state.frames)
        if top.kind is Kind.ARRAY and inside:  # bash 5.2 and 5.3: it quotes nothing there
            what = "a backslash in an array in `$(…)`"
            lexer.doubt(what, i, "where bash 5.2 and 5.3 pass over it", "write quotes instead")
        return lexer.escape(i)
    if char == "$":
        return lexer.dollar(i)
    lexer.push({"'": Kind.SINGLE, '"': Kind.DOUBLE, "`": Kind.BACKTICK}[char], i)
    return i + 1


def _grow(lexer: Lexer, i: int) -> int:
    char, top = lexer.text[i], lexer.state.top
    for alt in top.alts:
        named = alt.shape in (Shape.LONE, Shape.HOLED) and alt.spot in COMMAND
        if char == "=" and named and not alt.target:
            hint = "write the name itself, or hand it to `env`: `env {{ name }}={{ x }} …`"
            raise Refusal("an expression in an assignment's name", lexer.at(i), hint)
    if top.alts == {Alt(alt.spot, alt.target, Shape.OTHER) for alt in top.alts} and (
        found := _PLAIN.match(lexer.text, i)
    ):
        return found.end()
    top.alts = frozenset(grow(alt, char) for alt in top.alts)
    return i + 1


def _comment(lexer: Lexer, i: int) -> bool:
    top = lexer.state.top
    if top.kind is Kind.PARENS:
        return False
    between = {alt.shape is Shape.NONE for alt in top.alts}
    if len(between) > 1:
        what = "whether `#` begins a comment depends on an `if` or `for`"
        raise Refusal(what, lexer.at(i), "put a blank before it, or quote it")
    if between == {True}:
        lexer.push(Kind.COMMENT, i)
        return True
    return False


def _newline(lexer: Lexer, i: int) -> int:
    state = lexer.state
    end_word(lexer, i)
    if state.top.kind is Kind.PARENS:
        return i + 1
    state.top.alts = frozenset(Alt(after_line(alt.spot)) for alt in state.top.alts)
    state.top.begun = lexer.at(i + 1)
    unit = state.unit()
    if any(f.pending for f in state.frames if f.kind in UNITS and f is not unit):
        lexer.doubt("a line's end in `$(…)` on the line of a `<<`", i)
    documents, unit.pending = unit.pending, ()
    read_documents(lexer, documents, i)
    return i + 1


def _operator(lexer: Lexer, i: int) -> int:
    char = lexer.text[i]
    if lexer.state.top.kind is Kind.ARRAY and char != ")":
        # bash goes on at the next line after this error, were it in the middle of a value.
        lexer.doubt(f"`{char}` in an array", i)
    if char in "<>":
        return redirect(lexer, i, char)
    if char == "(":
        return open_(lexer, i)
    end_word(lexer, i)
    if char == ")":
        return close(lexer, i)
    j = lexer.skip(i + 1)
    two = char + lexer.text[j : j + 1]
    if two == "&>":
        return both(lexer, j)
    if two in (";;", ";&"):
        return _case_item(lexer, i, j)
    double = two in ("&&", "||", "|&")
    new_command(lexer, j + 1 if double else i + 1, tests=two in ("&&", "||") or char == "|")
    lexer.end = char if j >= len(lexer.text) else ""
    return j + 1 if double else i + 1


def _case_item(lexer: Lexer, i: int, j: int) -> int:
    top = lexer.state.top
    if top.kind is Kind.CASE:
        top.alts = frozenset({Alt(Spot.PATTERN)})
    else:
        lexer.doubt(f"`;{lexer.text[j]}` outside of `case`", i)
        new_command(lexer, j + 1, tests=False)
    if lexer.text[j] == ";":
        k = lexer.skip(j + 1)
        lexer.end = ";;" if k >= len(lexer.text) else ""
        if lexer.text[k : k + 1] == "&":
            return k + 1
    return j + 1


def resume(lexer: Lexer) -> int:
    """Pass what joins this piece to the one before. Raises ``Refusal`` where the middle of an
    operator would depend on a ``{% … %}``."""
    text, ends = lexer.text, lexer.state.open_end
    first = text[lexer.skip(0) : lexer.skip(0) + 1]
    for end in sorted(ends):
        split = end in ("$", "\\", "<<") or (first and first in _GOES_ON.get(end, ""))
        if split or (end == "delimiter" and first not in _ENDS_WORD):
            what = f"`{{% … %}}` right after `{'<<' if end == 'delimiter' else end}`"
            raise Refusal(what, lexer.offset, "keep what belongs together in one piece")
    if ")" in ends and first != ")":
        lexer.doubt("`((` that does not end in `))`", 0)
    inner = lexer.state.top.kind
    if "name" in ends and inner not in (*COMMANDS, Kind.PARENS):
        return lexer.name_goes_on()
    return 0
