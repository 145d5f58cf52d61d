"""What a parenthesis between or in words opens and closes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.regex import regex
from orchestrator.templating.shelltext.boundaries import end_word
from orchestrator.templating.shelltext.state import Kind, Refusal
from orchestrator.templating.shelltext.words import RESERVED, TESTS, Alt, Shape, Spot, quoted

if TYPE_CHECKING:
    from orchestrator.templating.shelltext.lexer import Lexer


def open_(lexer: Lexer, i: int) -> int:
    """Pass a ``(``."""
    state, text = lexer.state, lexer.text
    top = state.top
    if state.lone:
        raise Refusal("an expression right before `(`", lexer.at(i), "put a blank between them")
    if top.kind is Kind.PARENS:
        lexer.push(Kind.PARENS, i)
        return i + 1
    _end_keyword(lexer, i)
    top = state.top
    between = {alt.shape is Shape.NONE for alt in top.alts}
    spots = {alt.spot for alt in top.alts}
    j = lexer.skip(i + 1)
    lexer.end = "(" if j >= len(text) else ""
    if between == {False}:
        return _inside_word(lexer, i)
    if between == {True} and spots <= {Spot.PATTERN}:
        top.alts = frozenset({Alt(Spot.PATTERNS)})
        return i + 1
    if between == {True} and spots <= set(TESTS):
        lexer.push(Kind.PARENS, i)
        return i + 1
    if between == {True} and not spots & {Spot.PATTERN, *TESTS}:
        return _group(lexer, i, j, spots)
    what = "what `(` means here depends on what is inserted before it"
    raise Refusal(what, lexer.at(i), "put it on a line of its own")


def _end_keyword(lexer: Lexer, i: int) -> None:
    """``if(``, ``in(``, ``!(``: the reserved word is over, and a command begins."""
    alts = lexer.state.top.alts
    words = {alt.text for alt in alts if alt.shape is Shape.KEY}
    places = {alt.spot for alt in alts} <= {Spot.START, Spot.CASE_IN}
    if len(words) == len(alts) and words <= RESERVED and places:
        if "!" in words:
            lexer.doubt("`!(`", i)  # a pattern to bash, where extglob is set
        end_word(lexer, i)


def _group(lexer: Lexer, i: int, j: int, spots: set[Spot]) -> int:
    top = lexer.state.top
    top.alts = frozenset({Alt(Spot.START)})
    if lexer.text[j : j + 1] != "(":
        lexer.push(Kind.GROUP, i)
        return i + 1
    if not spots <= {Spot.START, Spot.NAME}:
        lexer.doubt("`((` where no command begins", i)
    frame = lexer.push(Kind.ARITHMETIC, i)
    frame.depth, frame.command = 2, True
    return j + 1


_FUNCTION = regex(r"\([ \t]*\)")


def _inside_word(lexer: Lexer, i: int) -> int:
    """``name()``, ``name=(`` or a pattern such as ``@(a|b)``."""
    top, text = lexer.state.top, lexer.text
    before = text[i - 1 : i] if i else ""
    found = _FUNCTION.match(text, i)
    if found and before not in ("@", "?", "*", "+", "!", "="):
        top.alts = frozenset({Alt(Spot.START)})
        return found.end()
    if before == "=" and all(alt.shape is Shape.VALUE_START for alt in top.alts):
        lexer.push(Kind.ARRAY, i).alts = frozenset({Alt(Spot.WORDS)})
        return i + 1
    top.alts = frozenset(quoted(alt) for alt in top.alts)
    lexer.push(Kind.PARENS, i)
    return i + 1


def close(lexer: Lexer, i: int) -> int:
    """Pass a ``)``; the word before it has ended."""
    state = lexer.state
    top = state.top
    if top.kind is Kind.CASE:
        spots = {alt.spot for alt in top.alts}
        if spots <= {Spot.PATTERN, Spot.PATTERNS}:
            top.alts, top.begun = frozenset({Alt(Spot.START)}), lexer.at(i + 1)
            return i + 1
    elif top.kind is not Kind.TOP:
        if top.kind is Kind.SUBSTITUTION and top.pending:
            lexer.doubt("a here-document that begins after its `$(…)`", i)
        lexer.pop()
        return i + 1
    lexer.doubt("a `)` without a `(`", i)
    return i + 1
