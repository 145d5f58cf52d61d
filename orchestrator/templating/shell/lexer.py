"""A lexer for shell text in pieces, with values between them.

It knows only as much of the grammar as it needs to find quotes, comments, substitutions and
here-documents: POSIX.1-2017 XCU 2.2, 2.3, 2.6 and 2.7, and bash's additions. If dash, bash and
busybox parse the text differently, or bash in another locale, it notes a doubt, after which no
value may be inserted. It never guesses.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.model.charsets import NO_BYTES, Unfinished, may_swallow, unfinished_after
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.templating.shell import commands, heredoc
from orchestrator.templating.shell.lexer_state import (
    COMMAND_KINDS,
    FrameKind,
    LexerFrame,
    LexerState,
    ShellDoubt,
    UnsafeShellError,
)
from orchestrator.templating.shell.placeholders import Placeholder
from orchestrator.templating.shell.word_state import WordAlternative, WordRole

_SPECIAL_CHARS = {
    FrameKind.DOUBLE: lazy_regex(r'["\\$`]'),
    FrameKind.DOCUMENT: lazy_regex(r"[\n\\$`]"),
    FrameKind.BRACE: lazy_regex(r"[}\\'\"$`]"),
    FrameKind.ARITHMETIC: lazy_regex(r"[()\\'\"$`#<]"),
    FrameKind.BACKTICK: lazy_regex(r"[\\`]"),
    FrameKind.DOLLAR_SINGLE: lazy_regex(r"[\\']"),
    FrameKind.SINGLE: lazy_regex(r"'"),
    FrameKind.COMMENT: lazy_regex(r"\n"),
}
_MAX_DEPTH = 200
_DOUBLE_QUOTE_KINDS = (FrameKind.DOUBLE, FrameKind.DOCUMENT, FrameKind.ARITHMETIC)
_PARAMETER = lazy_regex(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+")
_NAME_GOES_ON = lazy_regex(r"[A-Za-z0-9_]*")
_MAY_COMPLETE_CHAR = lazy_regex(r"[0-9\\`]|[^\x00-\x7f]")
"""Text after a value in quotes or a here-document that could complete a multi-byte character."""
_WIDE_CHAR = lazy_regex(r"([^\x00-\x7f])([0-9]?)\Z")
_MEANINGFUL = lazy_regex(r"[\s'\"\\$`;&|<>()]")


class ShellLexer:
    """A lexer that moves a state over text. ``placeholders`` are those found so far."""

    def __init__(self, state: LexerState, placeholders: list[Placeholder]) -> None:
        self.state, self.placeholders = state, placeholders
        self.text, self.offset = "", 0
        self.end = ""
        self._ascii = True

    def feed(self, text: str, offset: int) -> None:
        """Lex more text, whose first character is at ``offset`` of the template."""
        if not text:
            return
        self.text, self.offset, self.end = text, offset, ""
        self._ascii = text.isascii() and self.state.unfinished == {NO_BYTES}
        i = commands.resume_piece(self)
        while i < len(text):
            i = self._lex_next(i)
        self.state.open_end = frozenset({self.end})

    def _lex_next(self, i: int) -> int:
        state = self.state
        open_documents = list(state.open_documents())
        top, lone = state.top, state.lone
        kind = top.kind
        j = (commands.lex_command if top.kind in _WORD_KINDS else _LEXERS[top.kind])(self, i)
        for frame in open_documents:
            doubt = heredoc.follow_lines(frame, self.text[i:j], nested=frame is not top)
            if doubt:
                self.note_doubt(doubt, i)
        if lone and j > i and self.text[i:j] != "\\\n":
            state.lone = frozenset()
        if kind in _WORD_KINDS and self.text[i] not in "#\n":
            top.commented = False
        self._track_bytes(kind, i, j)
        return j

    def _track_bytes(self, kind: FrameKind, i: int, j: int) -> None:
        """Track how multi-byte locales read the text passed, which was in a frame of ``kind``.

        Also note for the values right before it whether they could be read together with it.
        """
        state, piece = self.state, self.text[i:j]
        if state.ends and piece:
            for index in state.ends if _MAY_COMPLETE_CHAR.match(piece) else ():
                self.placeholders[index].joined = True
            state.ends = frozenset()
        if self._ascii or not piece:
            return
        means = _MEANINGFUL if kind in _WORD_KINDS else _SPECIAL_CHARS[kind]
        for n, char in enumerate(piece) if means.match(piece) else ():
            if char != "\n" and char.isascii() and (_MEANINGFUL.match(char) or means.match(char)):
                self._check_swallowed(
                    kind, i + n, {unfinished_after(u, piece[:n]) for u in state.unfinished}
                )
        state.unfinished = frozenset(unfinished_after(u, piece) for u in state.unfinished)

    def _check_swallowed(self, kind: FrameKind, i: int, unfinished: set[Unfinished]) -> None:
        """Note a doubt if bash may read the character as a part of the preceding bytes."""
        if not any(may_swallow(u, self.text[i]) for u in unfinished):
            return
        before = _WIDE_CHAR.search(self.text[max(0, i - 2) : i])
        wide, digit = before.groups() if before else ("", "")
        apart = {FrameKind.SINGLE: "''", FrameKind.DOCUMENT: "${0+}"}.get(kind, '""')
        self.note_doubt(
            f"`{wide}{digit}{self.text[i]}`",
            i,
            "which bash may read as one character in locales such as GB18030",
            f"keep it apart: `{wide}{apart}{digit}{self.text[i]}`",
        )

    def offset_of(self, i: int) -> int:
        """Return the template's offset of a character of the piece."""
        return self.offset + i

    def skip_continuations(self, i: int) -> int:
        """Return the index of the next character after line continuations."""
        while self.text.startswith("\\\n", i):
            i += 2
        return i

    def note_doubt(self, what: str, i: int, why: str = "", hint: str = "") -> None:
        """Note text that the shells parse differently; only the first doubt is kept."""
        new = ShellDoubt(what, self.offset_of(i))
        self.state.doubt = self.state.doubt or ShellDoubt(
            what, self.offset_of(i), why or new.why, hint or new.hint
        )

    def push(self, kind: FrameKind, i: int) -> LexerFrame:
        """Open a construct and return its frame.

        Raises ``UnsafeShellError`` if too many are open: every character is checked against all.
        """
        frame = LexerFrame(kind, self.offset_of(i))
        if len(self.state.frames) > _MAX_DEPTH:
            raise UnsafeShellError(
                f"quotes and `$(` more than {_MAX_DEPTH} levels deep", self.offset_of(i)
            )
        if kind in COMMAND_KINDS:
            frame.alternatives = frozenset({WordAlternative(WordRole.START)})
            frame.command_start = self.offset_of(i + 1)
        self.state.frames.append(frame)
        return frame

    def pop(self) -> None:
        """Close the innermost open construct."""
        self.state.frames.pop()

    def find_special(self, i: int) -> int:
        """Return the index of the next special character of the innermost frame."""
        found = _SPECIAL_CHARS[self.state.top.kind].search(self.text, i)
        return found.start() if found else len(self.text)

    def pass_escape(self, i: int) -> int:
        """Pass a backslash and the character that it quotes."""
        if i + 1 >= len(self.text):
            self.end = "\\"
        return min(i + 2, len(self.text))

    def pass_dollar(self, i: int) -> int:
        """Pass a ``$`` and open the construct that it begins."""
        text, top = self.text, self.state.top
        j = self.skip_continuations(i + 1)
        if j >= len(text):
            self.end = "$"
            return len(text)
        quoted = top.kind in _DOUBLE_QUOTE_KINDS or top.quoted
        char = text[j]
        if char == "{":
            if text[j + 1 : j + 2] in (" ", "\t", "\n", "|"):
                self.note_doubt("`${ `", i)
            self.push(FrameKind.BRACE, i).quoted = quoted
        elif char == "(":
            return self._pass_parenthesis(i, j)
        elif char == "'" and not quoted:
            self.push(FrameKind.DOLLAR_SINGLE, i)
        elif char == "[":
            self.note_doubt("`$[`", i)
        elif found := _PARAMETER.match(text, j):
            self.end = "name" if found.end() == len(text) else ""
            return found.end()
        elif char not in "@*#?$!-":
            return j
        return j + 1

    def _pass_parenthesis(self, i: int, j: int) -> int:
        k = self.skip_continuations(j + 1)
        if self.text[k : k + 1] == "(":
            self.push(FrameKind.ARITHMETIC, i).depth = 2
            return k + 1
        self.push(FrameKind.SUBSTITUTION, i).command_start = self.offset_of(j + 1)
        self.end = "(" if k >= len(self.text) else ""
        return j + 1

    def continue_name(self) -> int:
        """Pass the rest of a ``$name`` that began in the previous piece."""
        found = _NAME_GOES_ON.match(self.text)
        end = found.end() if found else 0
        self.end = "name" if end == len(self.text) else ""
        return end

    def finish(self) -> None:
        """End the text. Raises ``UnsafeShellError`` if a construct is open."""
        state = self.state
        if state.doubt:
            return
        if state.top.kind is FrameKind.COMMENT:
            self.pop()
        while state.top.kind is FrameKind.DOCUMENT:
            frame = state.top
            if not heredoc.match_delimiter(frame, frame.opened)[0] or frame.rest:
                break
            self.pop()
        if state.top.kind in _WORD_KINDS:
            commands.end_word(self, len(self.text))
        _check_all_closed(state)


def _check_all_closed(state: LexerState) -> None:
    for frame in reversed(state.frames):
        pending = frame.pending or ((frame.document,) if frame.document else ())
        if pending:
            what = f"the here-document '{pending[0].delimiter}' does not end"
            hint = "its end is a line with only the delimiter"
            raise UnsafeShellError(what, pending[0].opened, hint)
        if frame.kind is not FrameKind.TOP:
            raise UnsafeShellError(f"{frame.kind.value} is not closed", frame.opened)
    if "<<" in state.open_end:
        raise UnsafeShellError("`<<` without a delimiter", state.top.opened)


def _lex_double(lexer: ShellLexer, i: int) -> int:
    char = lexer.text[i]
    if char == '"':
        lexer.pop()
        return i + 1
    return _lex_expansion(lexer, i) or lexer.find_special(i)


def _lex_expansion(lexer: ShellLexer, i: int) -> int:
    """Pass an expansion in double quotes or a here-document; return 0 if there is none."""
    char = lexer.text[i]
    if char == "\\":
        return lexer.pass_escape(i)
    if char == "$":
        return lexer.pass_dollar(i)
    if char == "`":
        lexer.push(FrameKind.BACKTICK, i)
        return i + 1
    return 0


def _lex_until_quote(lexer: ShellLexer, i: int) -> int:
    """Pass text in single quotes or backticks up to the end."""
    kind, char = lexer.state.top.kind, lexer.text[i]
    if char == ("`" if kind is FrameKind.BACKTICK else "'"):
        lexer.pop()
        return i + 1
    if char == "\\" and kind is not FrameKind.SINGLE:
        if lexer.text[i + 1 : i + 2] == "'" and kind is FrameKind.DOLLAR_SINGLE:
            lexer.note_doubt("`\\'` in `$'…'`", i)  # dash does not support $'…'
        return lexer.pass_escape(i)
    return lexer.find_special(i)


def _lex_brace(lexer: ShellLexer, i: int) -> int:
    char, quoted = lexer.text[i], lexer.state.top.quoted
    if char == "}":
        lexer.pop()
        return i + 1
    if char in "'\"":
        if quoted:
            lexer.note_doubt("a quote in `${…}` in double quotes", i)
        elif char == "'":
            lexer.push(FrameKind.SINGLE, i)
        if char == '"':
            lexer.push(FrameKind.DOUBLE, i)
        return i + 1
    return _lex_expansion(lexer, i) or lexer.find_special(i)


def _lex_arithmetic(lexer: ShellLexer, i: int) -> int:
    char, top = lexer.text[i], lexer.state.top
    if char == "(":
        top.depth += 1
        return i + 1
    if char == ")":
        return _close_arithmetic(lexer, i)
    if char in "'\"" or (top.command and (char == "#" or lexer.text.startswith("<<", i))):
        lexer.note_doubt(f"`{char}` in `((…))`", i)  # a subshell in a subshell in dash
    if char in "'\"#<":
        return i + 1
    return _lex_expansion(lexer, i) or lexer.find_special(i)


def _close_arithmetic(lexer: ShellLexer, i: int) -> int:
    top = lexer.state.top
    top.depth -= 1
    if top.depth == 1:
        j = lexer.skip_continuations(i + 1)
        if lexer.text[j : j + 1] == ")":
            lexer.pop()
            return j + 1
        if j >= len(lexer.text):
            lexer.end = ")"
        else:
            lexer.note_doubt("`((` that does not end in `))`", i)
    elif top.depth == 0:
        lexer.pop()
    return i + 1


_COMMENT_CHARS_MISREAD = lazy_regex(r"['\"`$\\()<>;&|]")


def _lex_comment(lexer: ShellLexer, i: int) -> int:
    if lexer.text[i] == "\n":
        lexer.pop()
        lexer.state.top.commented = True
        return i
    j = lexer.find_special(i)
    second = lexer.state.frames[-2].commented and lexer.state.is_in_substitution()
    if second and _COMMENT_CHARS_MISREAD.search(lexer.text, i, j):
        what = "a second line of comment, with quotes or operators in it, in `$(…)`"
        lexer.note_doubt(
            what, i, "which bash before 5.2 takes for code", "put a blank before the `#`"
        )
    return j


def _lex_document(lexer: ShellLexer, i: int) -> int:
    frame, char = lexer.state.top, lexer.text[i]
    document = frame.document
    assert document
    if char == "\n":
        ended, doubt = heredoc.match_delimiter(frame, lexer.offset_of(i))
        if doubt:
            lexer.note_doubt(doubt, i)
        if ended:
            lexer.pop()
            commands.begin_documents(lexer, frame.rest, i)
        return i + 1
    if document.quoted:
        found = lexer.text.find("\n", i)
        return found if found >= 0 else len(lexer.text)
    return _lex_expansion(lexer, i) or lexer.find_special(i)


_WORD_KINDS = (*COMMAND_KINDS, FrameKind.PARENS)
_LEXERS: dict[FrameKind, Callable[[ShellLexer, int], int]] = {
    FrameKind.DOUBLE: _lex_double,
    FrameKind.SINGLE: _lex_until_quote,
    FrameKind.DOLLAR_SINGLE: _lex_until_quote,
    FrameKind.BACKTICK: _lex_until_quote,
    FrameKind.BRACE: _lex_brace,
    FrameKind.ARITHMETIC: _lex_arithmetic,
    FrameKind.COMMENT: _lex_comment,
    FrameKind.DOCUMENT: _lex_document,
}
