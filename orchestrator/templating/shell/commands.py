"""Where words and commands end.

What a parenthesis between or in words opens and closes.

Redirections, and here-documents up to where they are announced.

The part of the lexer that reads commands: words, operators, `case`, redirections.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.model.lazy_regex import regex
from orchestrator.templating.shell.lexer_state import (
    COMMANDS,
    UNITS,
    Document,
    Frame,
    Kind,
    Refusal,
)
from orchestrator.templating.shell.word_state import (
    COMMAND,
    NUMERIC,
    RESERVED,
    TESTS,
    Action,
    Alt,
    Shape,
    Spot,
    Target,
    after_command,
    after_line,
    finish,
    grow,
    quoted,
)

if TYPE_CHECKING:
    from orchestrator.templating.shell.lexer import Lexer


def end_word(lexer: Lexer, i: int, *, descriptor: bool = False) -> None:
    """End the word before a character. ``descriptor``: digits right here are no word (``2>``)."""
    frame = lexer.state.top
    if frame.kind is Kind.PARENS:
        return
    _only_as_keywords(lexer, i)
    alts: set[Alt] = set()
    actions: set[Action] = set()
    for alt in frame.alts:
        if descriptor and alt.shape is Shape.DIGITS:
            alts.add(Alt(alt.spot, alt.target))
            continue
        action, after = finish(alt, in_case=frame.kind is Kind.CASE)
        if alt.spot in TESTS and alt.text in NUMERIC and alt.shape is Shape.KEY:
            for index in lexer.state.operands:
                lexer.places[index].integer = True
        actions.add(action)
        alts.update(after)
    if len(actions) > 1:
        what = "whether this is the keyword `case` or `esac` depends on what is inserted before it"
        raise Refusal(what, lexer.at(i), "put the keyword on a line of its own")
    if Action.CLOSE_CASE in actions:
        lexer.pop()
        return
    frame.alts = frozenset(alts)
    if alts == {Alt(Spot.START)}:
        frame.begun = lexer.at(i)
    if Action.OPEN_CASE in actions:
        lexer.push(Kind.CASE, i).alts = frozenset({Alt(Spot.CASE)})


def _only_as_keywords(lexer: Lexer, i: int) -> None:
    """Doubt a ``case`` or ``esac`` in a substitution where bash before 5.2 may not tell the
    keyword from an argument (tried, 4.2 to 5.1); then it takes the wrong ``)`` for the end."""
    frame, state = lexer.state.top, lexer.state
    words = {alt.text for alt in frame.alts if alt.shape is Shape.KEY}
    fresh, frame.fresh = frame.fresh, frame.fresh and frame.alts <= _BETWEEN
    if not words & {"case", "esac"} or not state.substituted():
        return
    substitutions = [f for f in state.frames if f.kind is Kind.SUBSTITUTION]
    first = frame is substitutions[-1] and fresh
    if words == {"case"} and first and not (frame.process and len(substitutions) > 1):
        return
    if words == {"esac"} and frame.kind is Kind.CASE and _ends_case(frame):
        return
    lexer.doubt(
        "a `case` in `$(…)`",
        i,
        "which bash before 5.2 does not read in every place",
        "put the `case` into a function before that, and call it in the `$(…)`",
    )


_BETWEEN = frozenset({Alt(Spot.START)})


def _ends_case(frame: Frame) -> bool:
    return {alt.spot for alt in frame.alts} <= {Spot.START, Spot.PATTERN}


def new_command(lexer: Lexer, i: int, *, tests: bool) -> None:
    """Another command begins at ``i``, after an operator. ``tests``: in ``[[ ]]`` a test."""
    lexer.state.operands = frozenset()
    top = lexer.state.top
    spots = {
        after_command(a.spot) if tests or a.spot not in TESTS else Spot.START for a in top.alts
    }
    top.alts, top.begun = frozenset(Alt(spot) for spot in spots), lexer.at(i)


def read_documents(lexer: Lexer, documents: tuple[Document, ...], i: int) -> None:
    """Begin the first of the here-documents, if there are any."""
    if documents:
        frame = lexer.push(Kind.DOCUMENT, i)
        frame.document, frame.rest = documents[0], documents[1:]


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


_MOST = 200
_DELIMITER = regex(r"""(?:[^\s'"\\$`;&|<>()]|\\[^\n]|'[^'\n]*'|"[^"$`\\\n]*")+(?=[\s;&|<>()]|\Z)""")


def redirect(lexer: Lexer, i: int, char: str) -> int:
    """Pass a ``<`` or ``>`` and what belongs to it."""
    for index in lexer.state.lone:
        lexer.places[index].bare = False  # else digits would name a descriptor
    text, j = lexer.text, lexer.skip(i + 1)
    following = text[j : j + 1]
    end_word(lexer, i, descriptor=following != "(")
    top = lexer.state.top
    if following == "(":
        top.alts = frozenset(quoted(alt) for alt in top.alts)
        frame = lexer.push(Kind.SUBSTITUTION, i)
        frame.begun, frame.process = lexer.at(j + 1), True
        return j + 1
    if char == "<" and following == "<":
        k = lexer.skip(j + 1)
        if text[k : k + 1] != "<":
            strip = text[k : k + 1] == "-"
            return _here(lexer, k + 1 if strip else j + 1, i, strip=strip)
        j = k
    in_test = all(alt.spot in TESTS for alt in top.alts)
    if not in_test:
        target = Target.COPY if following == "&" else Target.FILE
        top.alts = frozenset(Alt(alt.spot, target) for alt in top.alts)
    if following and following in ("<>&" if char == "<" else ">&|"):
        return j + 1
    lexer.end = char if j >= len(text) else ""
    return i + 1


def _here(lexer: Lexer, i: int, opened: int, *, strip: bool) -> int:
    """Note the here-document announced here; its delimiter begins after blanks."""
    text, state = lexer.text, lexer.state
    j = lexer.skip(i)
    while text[j : j + 1] in (" ", "\t"):
        j = lexer.skip(j + 1)
    if j >= len(text):
        lexer.end = "<<"
        return len(text)
    found = _DELIMITER.match(text, j)
    if not found:
        lexer.doubt("a here-document's delimiter that is no plain word", opened)
        return j
    word = found.group()
    inside = any(frame.kind is Kind.SUBSTITUTION for frame in state.frames)
    delimiter = re.sub(r"\\(.)|['\"]", r"\1", word)
    document = Document(delimiter, any(c in word for c in "\\'\""), strip, inside, lexer.at(opened))
    unit, top = state.unit(), state.top
    if inside and unit.pending:
        what = "a second here-document on a line in `$(…)`"
        why = "which bash before 5.2 does not find the end of"
        lexer.doubt(what, opened, why, "put the commands on lines of their own")
    if len(unit.pending) >= _MOST:
        raise Refusal(f"more than {_MOST} here-documents on one line", lexer.at(i))
    unit.pending += (document,)
    top.alts = frozenset(
        Alt(Spot.PREFIX if alt.spot is Spot.START else alt.spot) for alt in top.alts
    )
    lexer.end = "delimiter" if found.end() == len(text) else ""
    return found.end()


def both(lexer: Lexer, j: int) -> int:
    """``&>``: both streams to bash; to dash the command's end, and a redirection."""
    top = lexer.state.top
    spots = {alt.spot for alt in top.alts}
    spots |= {after_command(spot) for spot in spots}
    top.alts = frozenset(Alt(spot, Target.FILE) for spot in spots)
    k = lexer.skip(j + 1)
    lexer.end = "&>" if k >= len(lexer.text) else ""
    return k + 1 if lexer.text[k : k + 1] == ">" else j + 1


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
