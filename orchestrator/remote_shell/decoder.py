"""What the shell says, taken apart: its markers, and the output between them.

A marker is ``NONCE KIND WORDS…`` with a newline, and may begin at any byte of its stream. R and E
are said on both, the others on stdout:

    R                                     the shell is ready
    B STEP                                a step begins
    E STEP HOW STATUS FAILED CHANGED      it is over; HOW is done, guard, unsure, missing, when,
                                          timeout or gone, STATUS a number or -, the flags 0 or 1
    T STEP KIND TEXT                      what a module's script reports
    S                                     the segment is over
    D                                     so is the shell

A host can say anything: what is none of this is Garbled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeAlias

from msgspec import Struct

from orchestrator.model.text_encoding import quote_text

_LONGEST = 8192  # of a marker's words, in bytes: a module's report has a thousand characters
_MOST_HELD = 16 << 20
_MARKER = 512  # bytes that a marker takes here at most, besides a report's text
_DIGITS = 40  # of a number: each loop within a loop adds five to a step's
_SHOWN = 120
_COUNTS = {"R": 0, "B": 1, "E": 5, "S": 0, "D": 0}  # words of a marker


class Garbled(Exception):  # noqa: N818 - says what the stream is
    """What arrived cannot have been said by the prelude."""


class Output(Struct, frozen=True):
    """Bytes of a step, or of none (0)."""

    step: int
    stream: str
    data: bytes


class Marker(Struct, frozen=True):
    """A marker, by its words."""

    kind: str
    words: tuple[str, ...] = ()


Happening: TypeAlias = Output | Marker


class Scanner:
    """Finds the markers in one stream, however it is cut into pieces."""

    def __init__(self, nonce: bytes) -> None:
        self._nonce = nonce
        self._held = b""

    def feed(self, data: bytes) -> Iterator[bytes | Marker]:
        """The output and markers that these bytes complete."""
        data, self._held = self._held + data, b""
        start = 0
        while (found := data.find(self._nonce, start)) >= 0:
            if found > start:
                yield data[start:found]
            end = data.find(b"\n", found)
            if end < 0:
                self._hold(data[found:])
                return
            yield _marker(data[found + len(self._nonce) : end])
            start = end + 1
        kept = self._beginning(data, start)
        if len(data) - kept > start:
            yield data[start : len(data) - kept]
        self._held = data[len(data) - kept :]

    def rest(self) -> bytes:
        """What is held back when nothing more will come."""
        rest, self._held = self._held, b""
        return rest

    def _beginning(self, data: bytes, start: int) -> int:
        """How many bytes at the end may be the beginning of the nonce."""
        for size in range(min(len(self._nonce) - 1, len(data) - start), 0, -1):
            if data.endswith(self._nonce[:size]):
                return size
        return 0

    def _hold(self, data: bytes) -> None:
        if len(data) > len(self._nonce) + _LONGEST:
            raise Garbled("a marker without an end")
        self._held = data


class Streams:
    """Both streams as one sequence in which each step's output stands inside the step.

    The streams wait for one another at R and E, so that a step's end comes after all that it
    wrote to either; and stderr, which is told of no beginnings, for B. What a stream brings
    while it waits is held, and is little.
    """

    def __init__(self, nonce: str) -> None:
        self._stdout = _Stream("stdout", Scanner(nonce.encode()))
        self._stderr = _Stream("stderr", Scanner(nonce.encode()))
        self._between = False  # steps: whose the next bytes of stderr are is not known yet

    def feed(self, stdout: bytes, stderr: bytes) -> Iterator[Happening]:
        """What these bytes complete, in order. Raises Garbled."""
        self._stdout.feed(stdout)
        self._stderr.feed(stderr)
        while True:
            yield from self._drain()
            ends = self._stdout.at_end, self._stderr.at_end
            if None in ends:
                break
            if ends[0] != ends[1]:
                raise Garbled(f"two markers at once: {ends[0]} and {ends[1]}")
            yield self._pass_end()
        if max(self._stdout.size, self._stderr.size) > _MOST_HELD:
            raise Garbled("the end of a step on one stream only")

    def rest(self) -> Iterator[Output]:
        """All output that is left when nothing more will come."""
        for stream in (self._stdout, self._stderr):
            yield from stream.rest()

    def _drain(self) -> Iterator[Happening]:
        for happening in self._stdout.until_end():
            if isinstance(happening, Marker) and happening.kind in "BS":
                if happening.kind == "B":
                    self._stdout.step = self._stderr.step = number(happening.words[0])
                self._between = False
            yield happening
        if not self._between or self._stdout.at_end:
            for happening in self._stderr.until_end():
                if isinstance(happening, Marker):
                    raise Garbled(f"{happening.kind} on stderr")
                yield happening

    def _pass_end(self) -> Marker:
        self._between = True
        self._stderr.pass_end()
        return self._stdout.pass_end()


class _Stream:
    """One stream: what came and was not yet told, and the step it stands in."""

    def __init__(self, name: str, scanner: Scanner) -> None:
        self._name = name
        self._scanner = scanner
        self._waiting: deque[bytes | Marker] = deque()
        self.step = 0
        self.size = 0

    @property
    def at_end(self) -> Marker | None:
        """The end marker that comes next, if one does."""
        first = self._waiting[0] if self._waiting else None
        return first if isinstance(first, Marker) and first.kind in "RE" else None

    def feed(self, data: bytes) -> None:
        for item in self._scanner.feed(data) if data else ():
            self._waiting.append(item)
            self.size += _size(item)

    def until_end(self) -> Iterator[Happening]:
        while self._waiting and not self.at_end:
            yield self._next()

    def pass_end(self) -> Marker:
        marker = self._waiting.popleft()
        assert isinstance(marker, Marker)
        self.size -= _size(marker)
        self.step = 0
        return marker

    def rest(self) -> Iterator[Output]:
        self._waiting.append(self._scanner.rest())
        while self._waiting:
            happening = self._next()
            if isinstance(happening, Output) and happening.data:
                yield happening

    def _next(self) -> Happening:
        item = self._waiting.popleft()
        self.size -= _size(item)
        return Output(self.step, self._name, item) if isinstance(item, bytes) else item


def _marker(line: bytes) -> Marker:
    if line.startswith(b" T "):
        words = line.decode("utf-8", "surrogateescape").split(" ", 4)
        if len(words) != 5:
            raise Garbled(f"half a report: {line[:_SHOWN]!r}")
        number(words[2])
        return Marker("T", tuple(words[2:]))
    words = line[:_MARKER].decode("ascii", "replace").split(" ")
    if len(words) < 2 or words[0] or _COUNTS.get(words[1]) != len(words) - 2:
        raise Garbled(f"an unknown marker: {line[:_SHOWN]!r}")
    if words[1] in "BE":
        number(words[2])
    return Marker(words[1], tuple(words[2:]))


@lru_cache(4096)
def number(word: str) -> int:
    """Return the number that a host wrote. Raises Garbled if it is not one, or a longer one than
    any of the prelude's."""
    if len(word) > _DIGITS or not (word.isdecimal() and word.isascii()):
        raise Garbled(f"{quote_text(word[:_SHOWN])} for a number")
    return int(word)


def _size(item: bytes | Marker) -> int:
    """How many bytes it takes here, roughly."""
    if isinstance(item, bytes):
        return len(item)
    return _MARKER + len(item.words[2]) if item.kind == "T" else _MARKER
