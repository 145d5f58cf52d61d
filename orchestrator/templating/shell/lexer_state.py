"""The state of the lexer: what is open, and what the text reached so far may be."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from enum import Enum

from msgspec import Struct

from orchestrator.model.charsets import NO_BYTES, Unfinished
from orchestrator.templating.shell.word_state import WordAlternative, WordRole


class UnsafeShellError(Exception):
    """Text or a place for a value that cannot be made safe: what, where (offset), what to do."""

    def __init__(self, what: str, offset: int, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.offset, self.hint = what, offset, hint


class FrameKind(Enum):
    """What a frame is; the value names it to the user."""

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
    """A here-document. ``quoted``: its delimiter was, so nothing in it is special.

    ``strip``: leading tabs go (``<<-``). ``inside``: it stands in a ``$(…)``.
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
        """All but where it was opened."""
        return self.delimiter, self.quoted, self.strip, self.inside


class HeredocLineState(Enum):
    """What the here-document's line begun may still be."""

    EQUAL = "the delimiter"
    JOINED = "the delimiter, after a line that ended in a backslash"
    LONGER = "begins with the delimiter"
    OTHER = "no delimiter"


NEW_LINE = frozenset({(HeredocLineState.EQUAL, "")})


class LexerFrame(Struct):
    """One thing that is open. Which fields mean something depends on ``kind``.

    ``alternatives``: for what holds commands or patterns. ``command_start``: the offset where the command in
    hand begins. ``pending``: here-documents announced on
    this line. ``depth``: parentheses open in arithmetic; ``command``: it began with a bare
    ``((``. ``quoted``: a ``${`` inside double quotes. ``document``, ``lines``, ``rest``: the
    here-document being read, its line so far, and those to follow. ``process``: a ``<(`` or
    ``>(``. ``fresh``: no word was in it yet. ``commented``: the line before ended in a comment.
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
        """Whether they differ at most in where they were opened and begun."""
        if not isinstance(other, LexerFrame) or not self.is_like(other):
            return False
        mine = (self.alternatives, self.lines, self.fresh, self.commented)
        return mine == (other.alternatives, other.lines, other.fresh, other.commented)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def is_like(self, other: LexerFrame) -> bool:
        """Whether both are the same but for what is judged alternative by alternative."""
        return self._comparable == other._comparable

    @property
    def _comparable(self) -> tuple[object, ...]:
        what = (self.kind, self.pending, self.depth, self.command, self.quoted, self.process)
        return (*what, self.document, self.rest)


class ShellDoubt(Struct, frozen=True):
    """Text that not all shells read alike: what, where (offset), who does not, what to do."""

    what: str
    offset: int
    why: str = "which dash, bash and busybox do not read alike"
    hint: str = "put the value into a variable before that: `x={{ … }}`"


class LexerState(Struct):
    """Where the lexer is.

    ``open_end``: what the text so far may end with that the next character could continue:
    an operator's characters, ``$``, a backslash, ``name`` (``$name``), ``<<``, or nothing.
    ``lone``: the places of expressions that end right here and are words so far; ``ends``: of
    all that end right here. ``operands``: those in this comparison of a ``[[ ]]``. ``doubt``:
    what the shells read differently. ``unfinished``: the bytes right before that may be the
    beginning of a multi-byte character.
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
        """The innermost thing open."""
        return self.frames[-1]

    def copy(self) -> LexerState:
        """An equal state that changes on its own."""
        other = copy(self)
        other.frames = [copy(f) for f in self.frames]
        return other

    def innermost_unit(self) -> LexerFrame:
        """The innermost frame whose newlines begin here-documents."""
        return next(f for f in reversed(self.frames) if f.kind in UNIT_KINDS)

    def is_in_substitution(self) -> bool:
        """Return True inside a ``$(…)`` or ``<(…)``."""
        return any(frame.kind is FrameKind.SUBSTITUTION for frame in self.frames)

    def enclosing_commands(self) -> LexerFrame | None:
        """The frame whose word the innermost quotes belong to, if it is shell code."""
        for frame in reversed(self.frames):
            if frame.kind not in (FrameKind.DOUBLE, FrameKind.SINGLE):
                return frame if frame.kind in COMMAND_KINDS else None
        return None

    def open_documents(self) -> Iterator[LexerFrame]:
        """The here-documents being read, outermost first."""
        return (f for f in self.frames if f.kind is FrameKind.DOCUMENT)


def initial_state() -> LexerState:
    """The state before any text."""
    return LexerState([LexerFrame(FrameKind.TOP, 0, frozenset({WordAlternative(WordRole.START)}))])


def join_states(one: LexerState, other: LexerState) -> LexerState | None:
    """The state that stands for both, or None where they differ in what is open."""
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
