"""A lexer for shell text that comes in pieces, with values between them.

It knows no more of the grammar than it takes to say where quotes, comments, substitutions
and here-documents begin and end: POSIX.1-2017 XCU 2.2, 2.3, 2.6 and 2.7, and what bash adds.
Where dash, bash and busybox would go on differently, or bash in another locale, it notes a
doubt, after which no value may be inserted. It never guesses.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.model.charsets import NOTHING, Unfinished, after, hides
from orchestrator.model.lazy_regex import regex
from orchestrator.templating.shell import commands, heredoc
from orchestrator.templating.shell.lexer_state import COMMANDS, Doubt, Frame, Kind, Refusal, State
from orchestrator.templating.shell.placeholders import Place
from orchestrator.templating.shell.word_state import Alt, Spot

_STOPS = {
    Kind.DOUBLE: regex(r'["\\$`]'),
    Kind.DOCUMENT: regex(r"[\n\\$`]"),
    Kind.BRACE: regex(r"[}\\'\"$`]"),
    Kind.ARITHMETIC: regex(r"[()\\'\"$`#<]"),
    Kind.BACKTICK: regex(r"[\\`]"),
    Kind.DOLLAR_SINGLE: regex(r"[\\']"),
    Kind.SINGLE: regex(r"'"),
    Kind.COMMENT: regex(r"\n"),
}
_DEPTH = 200
_LIKE_DOUBLE = (Kind.DOUBLE, Kind.DOCUMENT, Kind.ARITHMETIC)
_PARAMETER = regex(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+")
_NAME_GOES_ON = regex(r"[A-Za-z0-9_]*")
_JOINS = regex(r"[0-9\\`]|[^\x00-\x7f]")
"""What a value before it, in quotes or a here-document, must not end in half a character for."""
_WIDE = regex(r"([^\x00-\x7f])([0-9]?)\Z")
_MEANS = regex(r"[\s'\"\\$`;&|<>()]")


class Lexer:
    """Moves a state over text. ``places`` are the values' places found so far."""

    def __init__(self, state: State, places: list[Place]) -> None:
        self.state, self.places = state, places
        self.text, self.offset = "", 0
        self.end = ""
        self._ascii = True

    def feed(self, text: str, offset: int) -> None:
        """Read more text, whose first character stands at an offset of the template."""
        if not text:
            return
        self.text, self.offset, self.end = text, offset, ""
        self._ascii = text.isascii() and self.state.unfinished == {NOTHING}
        i = commands.resume(self)
        while i < len(text):
            i = self._step(i)
        self.state.open_end = frozenset({self.end})

    def _step(self, i: int) -> int:
        state = self.state
        open_documents = list(state.documents())
        top, lone = state.top, state.lone
        kind = top.kind
        j = (commands.step if top.kind in _WORDS else _INSIDE[top.kind])(self, i)
        for frame in open_documents:
            doubt = heredoc.follow(frame, self.text[i:j], nested=frame is not top)
            if doubt:
                self.doubt(doubt, i)
        if lone and j > i and self.text[i:j] != "\\\n":
            state.lone = frozenset()
        if kind in _WORDS and self.text[i] not in "#\n":
            top.commented = False
        self._follow(kind, i, j)
        return j

    def _follow(self, kind: Kind, i: int, j: int) -> None:
        """Note what multi-byte locales make of the text passed, which stood in a frame of that
        kind; and for the values right before it whether it could be read together with them."""
        state, piece = self.state, self.text[i:j]
        if state.ends and piece:
            for index in state.ends if _JOINS.match(piece) else ():
                self.places[index].joined = True
            state.ends = frozenset()
        if self._ascii or not piece:
            return
        means = _MEANS if kind in _WORDS else _STOPS[kind]
        for n, char in enumerate(piece) if means.match(piece) else ():
            if char != "\n" and char.isascii() and (_MEANS.match(char) or means.match(char)):
                self._hidden(kind, i + n, {after(u, piece[:n]) for u in state.unfinished})
        state.unfinished = frozenset(after(u, piece) for u in state.unfinished)

    def _hidden(self, kind: Kind, i: int, unfinished: set[Unfinished]) -> None:
        """Note the character if bash may not see it behind bytes of another."""
        if not any(hides(u, self.text[i]) for u in unfinished):
            return
        before = _WIDE.search(self.text[max(0, i - 2) : i])
        wide, digit = before.groups() if before else ("", "")
        apart = {Kind.SINGLE: "''", Kind.DOCUMENT: "${0+}"}.get(kind, '""')
        self.doubt(
            f"`{wide}{digit}{self.text[i]}`",
            i,
            "of which bash may see no more than one character in locales such as GB18030",
            f"keep it apart: `{wide}{apart}{digit}{self.text[i]}`",
        )

    def at(self, i: int) -> int:
        """The template's offset of a character of the piece."""
        return self.offset + i

    def skip(self, i: int) -> int:
        """The index of the next character, beyond line continuations."""
        while self.text.startswith("\\\n", i):
            i += 2
        return i

    def doubt(self, what: str, i: int, why: str = "", hint: str = "") -> None:
        """Note what the shells read differently; the first is kept."""
        new = Doubt(what, self.at(i))
        self.state.doubt = self.state.doubt or Doubt(
            what, self.at(i), why or new.why, hint or new.hint
        )

    def push(self, kind: Kind, i: int) -> Frame:
        """Open something. Returns its frame. Raises ``Refusal`` where too much is open already:
        all of it is looked at for each character."""
        frame = Frame(kind, self.at(i))
        if len(self.state.frames) > _DEPTH:
            raise Refusal(f"quotes and `$(` more than {_DEPTH} levels deep", self.at(i))
        if kind in COMMANDS:
            frame.alts = frozenset({Alt(Spot.START)})
            frame.begun = self.at(i + 1)
        self.state.frames.append(frame)
        return frame

    def pop(self) -> None:
        """Close the innermost thing open."""
        self.state.frames.pop()

    def run(self, i: int) -> int:
        """The index of the next character that means something in the innermost frame."""
        found = _STOPS[self.state.top.kind].search(self.text, i)
        return found.start() if found else len(self.text)

    def escape(self, i: int) -> int:
        """Pass a backslash and what it quotes."""
        if i + 1 >= len(self.text):
            self.end = "\\"
        return min(i + 2, len(self.text))

    def dollar(self, i: int) -> int:
        """Pass a ``$`` and open what it begins."""
        text, top = self.text, self.state.top
        j = self.skip(i + 1)
        if j >= len(text):
            self.end = "$"
            return len(text)
        quoted = top.kind in _LIKE_DOUBLE or top.quoted
        char = text[j]
        if char == "{":
            if text[j + 1 : j + 2] in (" ", "\t", "\n", "|"):
                self.doubt("`${ `", i)
            self.push(Kind.BRACE, i).quoted = quoted
        elif char == "(":
            return self._parenthesis(i, j)
        elif char == "'" and not quoted:
            self.push(Kind.DOLLAR_SINGLE, i)
        elif char == "[":
            self.doubt("`$[`", i)
        elif found := _PARAMETER.match(text, j):
            self.end = "name" if found.end() == len(text) else ""
            return found.end()
        elif char not in "@*#?$!-":
            return j
        return j + 1

    def _parenthesis(self, i: int, j: int) -> int:
        k = self.skip(j + 1)
        if self.text[k : k + 1] == "(":
            self.push(Kind.ARITHMETIC, i).depth = 2
            return k + 1
        self.push(Kind.SUBSTITUTION, i).begun = self.at(j + 1)
        self.end = "(" if k >= len(self.text) else ""
        return j + 1

    def name_goes_on(self) -> int:
        """Pass the rest of a ``$name`` that the piece before broke off."""
        found = _NAME_GOES_ON.match(self.text)
        end = found.end() if found else 0
        self.end = "name" if end == len(self.text) else ""
        return end

    def finish(self) -> None:
        """The text is over. Raises ``Refusal`` where something is open."""
        state = self.state
        if state.doubt:
            return
        if state.top.kind is Kind.COMMENT:
            self.pop()
        while state.top.kind is Kind.DOCUMENT:
            frame = state.top
            if not heredoc.at_delimiter(frame, frame.opened)[0] or frame.rest:
                break
            self.pop()
        if state.top.kind in _WORDS:
            commands.end_word(self, len(self.text))
        _nothing_open(state)


def _nothing_open(state: State) -> None:
    for frame in reversed(state.frames):
        pending = frame.pending or ((frame.document,) if frame.document else ())
        if pending:
            what = f"the here-document '{pending[0].delimiter}' does not end"
            hint = "its end is a line that holds the delimiter alone"
            raise Refusal(what, pending[0].opened, hint)
        if frame.kind is not Kind.TOP:
            raise Refusal(f"{frame.kind.value} is not closed", frame.opened)
    if "<<" in state.open_end:
        raise Refusal("`<<` without a delimiter", state.top.opened)


def _double(lexer: Lexer, i: int) -> int:
    char = lexer.text[i]
    if char == '"':
        lexer.pop()
        return i + 1
    return _expansion(lexer, i) or lexer.run(i)


def _expansion(lexer: Lexer, i: int) -> int:
    """Pass what is special in double quotes and here-documents; 0 where nothing is."""
    char = lexer.text[i]
    if char == "\\":
        return lexer.escape(i)
    if char == "$":
        return lexer.dollar(i)
    if char == "`":
        lexer.push(Kind.BACKTICK, i)
        return i + 1
    return 0


def _until_quote(lexer: Lexer, i: int) -> int:
    """Single quotes and backticks: up to their end, whatever is inside."""
    kind, char = lexer.state.top.kind, lexer.text[i]
    if char == ("`" if kind is Kind.BACKTICK else "'"):
        lexer.pop()
        return i + 1
    if char == "\\" and kind is not Kind.SINGLE:
        if lexer.text[i + 1 : i + 2] == "'" and kind is Kind.DOLLAR_SINGLE:
            lexer.doubt("`\\'` in `$'…'`", i)  # dash knows no $'…'
        return lexer.escape(i)
    return lexer.run(i)


def _brace(lexer: Lexer, i: int) -> int:
    char, quoted = lexer.text[i], lexer.state.top.quoted
    if char == "}":
        lexer.pop()
        return i + 1
    if char in "'\"":
        if quoted:
            lexer.doubt("a quote in `${…}` in double quotes", i)
        elif char == "'":
            lexer.push(Kind.SINGLE, i)
        if char == '"':
            lexer.push(Kind.DOUBLE, i)
        return i + 1
    return _expansion(lexer, i) or lexer.run(i)


def _arithmetic(lexer: Lexer, i: int) -> int:
    char, top = lexer.text[i], lexer.state.top
    if char == "(":
        top.depth += 1
        return i + 1
    if char == ")":
        return _close_arithmetic(lexer, i)
    if char in "'\"" or (top.command and (char == "#" or lexer.text.startswith("<<", i))):
        lexer.doubt(f"`{char}` in `((…))`", i)  # a subshell in a subshell to dash
    if char in "'\"#<":
        return i + 1
    return _expansion(lexer, i) or lexer.run(i)


def _close_arithmetic(lexer: Lexer, i: int) -> int:
    top = lexer.state.top
    top.depth -= 1
    if top.depth == 1:
        j = lexer.skip(i + 1)
        if lexer.text[j : j + 1] == ")":
            lexer.pop()
            return j + 1
        if j >= len(lexer.text):
            lexer.end = ")"
        else:
            lexer.doubt("`((` that does not end in `))`", i)
    elif top.depth == 0:
        lexer.pop()
    return i + 1


_MISREAD = regex(r"['\"`$\\()<>;&|]")


def _comment(lexer: Lexer, i: int) -> int:
    if lexer.text[i] == "\n":
        lexer.pop()
        lexer.state.top.commented = True
        return i
    j = lexer.run(i)
    second = lexer.state.frames[-2].commented and lexer.state.substituted()
    if second and _MISREAD.search(lexer.text, i, j):
        what = "a second line of comment, with quotes or operators in it, in `$(…)`"
        lexer.doubt(what, i, "which bash before 5.2 takes for code", "put a blank before the `#`")
    return j


def _document(lexer: Lexer, i: int) -> int:
    frame, char = lexer.state.top, lexer.text[i]
    document = frame.document
    assert document
    if char == "\n":
        ended, doubt = heredoc.at_delimiter(frame, lexer.at(i))
        if doubt:
            lexer.doubt(doubt, i)
        if ended:
            lexer.pop()
            commands.read_documents(lexer, frame.rest, i)
        return i + 1
    if document.quoted:
        found = lexer.text.find("\n", i)
        return found if found >= 0 else len(lexer.text)
    return _expansion(lexer, i) or lexer.run(i)


_WORDS = (*COMMANDS, Kind.PARENS)
_INSIDE: dict[Kind, Callable[[Lexer, int], int]] = {
    Kind.DOUBLE: _double,
    Kind.SINGLE: _until_quote,
    Kind.DOLLAR_SINGLE: _until_quote,
    Kind.BACKTICK: _until_quote,
    Kind.BRACE: _brace,
    Kind.ARITHMETIC: _arithmetic,
    Kind.COMMENT: _comment,
    Kind.DOCUMENT: _document,
}
