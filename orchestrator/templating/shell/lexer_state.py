"""The state of the lexer: what is open, and what the text reached so far may be."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from enum import Enum

from msgspec import Struct

from orchestrator.model.charsets import NOTHING, Unfinished
from orchestrator.templating.shell.word_state import Alt, Spot


class Refusal(Exception):  # noqa: N818 - becomes a DefinitionError where the file is known
    """Text or a place for a value that cannot be made safe: what, where (offset), what to do."""

    def __init__(self, what: str, offset: int, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.offset, self.hint = what, offset, hint


class Kind(Enum):
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


COMMANDS = (Kind.TOP, Kind.SUBSTITUTION, Kind.GROUP, Kind.CASE, Kind.ARRAY)
UNITS = (Kind.TOP, Kind.SUBSTITUTION)


class Document(Struct, frozen=True):
    """A here-document. ``quoted``: its delimiter was, so nothing in it is special.

    ``strip``: leading tabs go (``<<-``). ``inside``: it stands in a ``$(…)``.
    """

    delimiter: str
    quoted: bool
    strip: bool
    inside: bool
    opened: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Document) and self._said == other._said

    def __hash__(self) -> int:
        return hash(self._said)

    @property
    def _said(self) -> tuple[object, ...]:
        """All but where it was opened."""
        return self.delimiter, self.quoted, self.strip, self.inside


class Line(Enum):
    """What the here-document's line begun may still be."""

    EQUAL = "the delimiter"
    JOINED = "the delimiter, after a line that ended in a backslash"
    LONGER = "begins with the delimiter"
    OTHER = "no delimiter"


NEW_LINE = frozenset({(Line.EQUAL, "")})


class Frame(Struct):
    """One thing that is open. Which fields mean something depends on ``kind``.

    ``alts``: for what holds commands or patterns. ``begun``: the offset where the command in
    hand begins. ``pending``: here-documents announced on
    this line. ``depth``: parentheses open in arithmetic; ``command``: it began with a bare
    ``((``. ``quoted``: a ``${`` inside double quotes. ``document``, ``lines``, ``rest``: the
    here-document being read, its line so far, and those to follow. ``process``: a ``<(`` or
    ``>(``. ``fresh``: no word was in it yet. ``commented``: the line before ended in a comment.
    """

    kind: Kind
    opened: int
    alts: frozenset[Alt] = frozenset()
    begun: int = 0
    pending: tuple[Document, ...] = ()
    depth: int = 0
    command: bool = False
    quoted: bool = False
    document: Document | None = None
    lines: frozenset[tuple[Line, str]] = NEW_LINE
    rest: tuple[Document, ...] = ()
    process: bool = False
    fresh: bool = True
    commented: bool = False

    def __eq__(self, other: object) -> bool:
        """Whether they differ at most in where they were opened and begun."""
        if not isinstance(other, Frame) or not self.like(other):
            return False
        mine = (self.alts, self.lines, self.fresh, self.commented)
        return mine == (other.alts, other.lines, other.fresh, other.commented)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def like(self, other: Frame) -> bool:
        """Whether both are the same but for what is judged alternative by alternative."""
        return self._open == other._open

    @property
    def _open(self) -> tuple[object, ...]:
        what = (self.kind, self.pending, self.depth, self.command, self.quoted, self.process)
        return (*what, self.document, self.rest)


class Doubt(Struct, frozen=True):
    """Text that not all shells read alike: what, where (offset), who does not, what to do."""

    what: str
    offset: int
    why: str = "which dash, bash and busybox do not read alike"
    hint: str = "put the value into a variable before that: `x={{ … }}`"


class State(Struct):
    """Where the lexer is.

    ``open_end``: what the text so far may end with that the next character could continue:
    an operator's characters, ``$``, a backslash, ``name`` (``$name``), ``<<``, or nothing.
    ``lone``: the places of expressions that end right here and are words so far; ``ends``: of
    all that end right here. ``operands``: those in this comparison of a ``[[ ]]``. ``doubt``:
    what the shells read differently. ``unfinished``: the bytes right before that may be the
    beginning of a multi-byte character.
    """

    frames: list[Frame]
    open_end: frozenset[str] = frozenset({""})
    lone: frozenset[int] = frozenset()
    operands: frozenset[int] = frozenset()
    doubt: Doubt | None = None
    ends: frozenset[int] = frozenset()
    unfinished: frozenset[Unfinished] = frozenset({NOTHING})

    @property
    def top(self) -> Frame:
        """The innermost thing open."""
        return self.frames[-1]

    def copy(self) -> State:
        """An equal state that changes on its own."""
        other = copy(self)
        other.frames = [copy(f) for f in self.frames]
        return other

    def unit(self) -> Frame:
        """The innermost frame whose newlines begin here-documents."""
        return next(f for f in reversed(self.frames) if f.kind in UNITS)

    def substituted(self) -> bool:
        """Return True inside a ``$(…)`` or ``<(…)``."""
        return any(frame.kind is Kind.SUBSTITUTION for frame in self.frames)

    def commands(self) -> Frame | None:
        """The frame whose word the innermost quotes belong to, if it is shell code."""
        for frame in reversed(self.frames):
            if frame.kind not in (Kind.DOUBLE, Kind.SINGLE):
                return frame if frame.kind in COMMANDS else None
        return None

    def documents(self) -> Iterator[Frame]:
        """The here-documents being read, outermost first."""
        return (f for f in self.frames if f.kind is Kind.DOCUMENT)


def begin() -> State:
    """The state before any text."""
    return State([Frame(Kind.TOP, 0, frozenset({Alt(Spot.START)}))])


def join(one: State, other: State) -> State | None:
    """The state that stands for both, or None where they differ in what is open."""
    if len(one.frames) != len(other.frames):
        return None
    joined = one.copy()
    for mine, theirs in zip(joined.frames, other.frames, strict=True):
        if not mine.like(theirs):
            return None
        mine.alts |= theirs.alts
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
