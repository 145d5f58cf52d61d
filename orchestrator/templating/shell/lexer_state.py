"""The state of the lexer: open constructs, and possible readings of the text so far."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from enum import Enum

from msgspec import Struct

from orchestrator.model.charsets import NO_BYTES, Unfinished
from orchestrator.templating.shell.word_state import WordAlternative, WordRole


class UnsafeShellError(Exception):
    """Text, or a context of a value, that cannot be made safe; with offset and hint."""

    def __init__(self, what: str, offset: int, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.offset, self.hint = what, offset, hint


class FrameKind(Enum):
    """The kind of an open construct; the value is its name in messages."""

    TOP = "the command"
    SUBSTITUTION = "`$(`"
    GROUP = "`(`"
    CASE = "`case`"
    ARRAY = "an array's `(`"
    PARENS = "a pattern's `(`"
    DOUBLE = 'a `"`'
    SINGLE = "a `'`"
    DOLLAR_SINGLE = "`$'`"
    BACKTICK = "a backtick"
    BRACE = "`${`"
    ARITHMETIC = "`((`"
    COMMENT = "a comment"
    DOCUMENT = "a here-document"


COMMAND_KINDS = (
    FrameKind.TOP,
    FrameKind.SUBSTITUTION,
    FrameKind.GROUP,
    FrameKind.CASE,
    FrameKind.ARRAY,
)
UNIT_KINDS = (FrameKind.TOP, FrameKind.SUBSTITUTION)


class HereDocument(Struct, frozen=True):
    """A here-document.

    ``quoted``: its delimiter is quoted, so nothing in it is special. ``strip``: leading tabs are
    removed (``<<-``). ``inside``: it is inside a ``$(…)``.
    """

    delimiter: str
    quoted: bool
    strip: bool
    inside: bool
    opened: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HereDocument) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, ...]:
        """Return everything except the offset."""
        return self.delimiter, self.quoted, self.strip, self.inside


class HeredocLineState(Enum):
    """The possible readings of a here-document's current line."""

    EQUAL = "the delimiter"
    JOINED = "the delimiter, after a line that ended in a backslash"
    LONGER = "begins with the delimiter"
    OTHER = "no delimiter"


NEW_LINE = frozenset({(HeredocLineState.EQUAL, "")})


class LexerFrame(Struct):
    """One open construct. Which fields are used depends on ``kind``.

    ``alternatives``: the readings of the current word, in commands and patterns. ``command_start``:
    the offset of the current command. ``pending``: here-documents announced on this line.
    ``depth``: open parentheses in arithmetic; ``command``: it began with a bare ``((``. ``quoted``:
    a ``${`` inside double quotes. ``document``, ``lines``, ``rest``: the current here-document, its
    line so far, and the documents to follow. ``process``: a ``<(`` or ``>(``. ``fresh``: it
    contains no word yet. ``commented``: the previous line ended in a comment.
    """

    kind: FrameKind
    opened: int
    alternatives: frozenset[WordAlternative] = frozenset()
    command_start: int = 0
    pending: tuple[HereDocument, ...] = ()
    depth: int = 0
    command: bool = False
    quoted: bool = False
    document: HereDocument | None = None
    lines: frozenset[tuple[HeredocLineState, str]] = NEW_LINE
    rest: tuple[HereDocument, ...] = ()
    process: bool = False
    fresh: bool = True
    commented: bool = False

    def __eq__(self, other: object) -> bool:
        """Return True if both differ at most in their offsets."""
        if not isinstance(other, LexerFrame) or not self.is_like(other):
            return False
        mine = (self.alternatives, self.lines, self.fresh, self.commented)
        return mine == (other.alternatives, other.lines, other.fresh, other.commented)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def is_like(self, other: LexerFrame) -> bool:
        """Return True if both are equal except for what is compared by alternative."""
        return self._comparable == other._comparable

    @property
    def _comparable(self) -> tuple[object, ...]:
        what = (self.kind, self.pending, self.depth, self.command, self.quoted, self.process)
        return (*what, self.document, self.rest)


class ShellDoubt(Struct, frozen=True):
    """Text that the shells parse differently: what, offset, which shells, and a hint."""

    what: str
    offset: int
    why: str = "which dash, bash and busybox parse differently"
    hint: str = "assign the value to a variable before it: `x={{ … }}`"


class LexerState(Struct):
    """The state of the lexer.

    ``open_end``: the ends of the text so far that the next character could continue: an operator's
    characters, ``$``, a backslash, ``name`` (``$name``), ``<<``, or nothing. ``lone``: the
    placeholders that end right here and are words so far; ``ends``: all that end right here.
    ``operands``: the placeholders in this comparison of a ``[[ ]]``. ``doubt``: text that the
    shells parse differently. ``unfinished``: the preceding bytes that may begin a multi-byte
    character.
    """

    frames: list[LexerFrame]
    open_end: frozenset[str] = frozenset({""})
    lone: frozenset[int] = frozenset()
    operands: frozenset[int] = frozenset()
    doubt: ShellDoubt | None = None
    ends: frozenset[int] = frozenset()
    unfinished: frozenset[Unfinished] = frozenset({NO_BYTES})

    @property
    def top(self) -> LexerFrame:
        """Return the innermost open frame."""
        return self.frames[-1]

    def copy(self) -> LexerState:
        """Return an independent copy."""
        other = copy(self)
        other.frames = [copy(f) for f in self.frames]
        return other

    def innermost_unit(self) -> LexerFrame:
        """Return the innermost frame whose newlines begin here-documents."""
        return next(f for f in reversed(self.frames) if f.kind in UNIT_KINDS)

    def is_in_substitution(self) -> bool:
        """Return True inside a ``$(…)`` or ``<(…)``."""
        return any(frame.kind is FrameKind.SUBSTITUTION for frame in self.frames)

    def enclosing_commands(self) -> LexerFrame | None:
        """Return the frame whose word contains the innermost quotes.

        Return None if that frame is not shell code.
        """
        for frame in reversed(self.frames):
            if frame.kind not in (FrameKind.DOUBLE, FrameKind.SINGLE):
                return frame if frame.kind in COMMAND_KINDS else None
        return None

    def open_documents(self) -> Iterator[LexerFrame]:
        """Return the current here-documents, outermost first."""
        return (f for f in self.frames if f.kind is FrameKind.DOCUMENT)


def initial_state() -> LexerState:
    """Return the state before any text."""
    return LexerState([LexerFrame(FrameKind.TOP, 0, frozenset({WordAlternative(WordRole.START)}))])


def join_states(one: LexerState, other: LexerState) -> LexerState | None:
    """Return a state that represents both, or None if they differ in what is open."""
    if len(one.frames) != len(other.frames):
        return None
    joined = one.copy()
    for mine, theirs in zip(joined.frames, other.frames, strict=True):
        if not mine.is_like(theirs):
            return None
        mine.alternatives |= theirs.alternatives
        mine.lines |= theirs.lines
        mine.fresh &= theirs.fresh
        mine.commented |= theirs.commented
    joined.open_end |= other.open_end
    joined.lone |= other.lone
    joined.operands |= other.operands
    joined.ends |= other.ends
    joined.unfinished |= other.unfinished
    joined.doubt = one.doubt or other.doubt
    return joined
