"""Decoding of the shell's output: protocol markers, and the output between them.

A marker is ``NONCE KIND WORDS…`` with a newline, and may start at any byte of its stream. R and E
are sent on both streams, the others on stdout:

    R [PID]                               the shell is ready; its process ID
    B STEP                                a step starts
    E STEP HOW STATUS FAILED CHANGED      the step ended; HOW is done, guard, unsure, missing, when,
                                          timeout or gone, STATUS a number or -, the flags 0 or 1
    T STEP KIND TEXT                      a report of a module's script
    S                                     the pipeline ended
    D                                     the shell ended

The host is not trusted: any other marker raises ProtocolError.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeAlias

from msgspec import Struct

from orchestrator.model.text_encoding import repr_text

# Maximum length of a marker's words: a part of a module's report has 1000 characters.
_MAX_MARKER_LINE_BYTES = 8192
_MAX_HELD_BYTES = 16 << 20
_MARKER_BYTES = 512  # maximum size of a marker in memory, without a report's text
_MAX_DIGITS = 40  # each nested loop adds five digits to a step's number
_MAX_SHOWN_CHARS = 120
_WORD_COUNTS = {"R": (0, 1), "B": (1,), "E": (5,), "S": (0,), "D": (0,)}


class ProtocolError(Exception):
    """The received data is not valid output of the bootstrap."""


class OutputChunk(Struct, frozen=True):
    """Output of a step; ``step`` is 0 for output outside any step."""

    step: int
    stream: str
    data: bytes


class ProtocolMarker(Struct, frozen=True):
    """A marker and its words."""

    kind: str
    words: tuple[str, ...] = ()


ProtocolEvent: TypeAlias = OutputChunk | ProtocolMarker


class MarkerScanner:
    """A scanner for the markers in one stream, regardless of how it is split into chunks."""

    def __init__(self, nonce: bytes) -> None:
        self._nonce = nonce
        self._held = b""

    def feed(self, data: bytes) -> Iterator[bytes | ProtocolMarker]:
        """Yield the output and the markers that these bytes complete."""
        data, self._held = self._held + data, b""
        start = 0
        while (found := data.find(self._nonce, start)) >= 0:
            if found > start:
                yield data[start:found]
            end = data.find(b"\n", found)
            if end < 0:
                self._hold_back(data[found:])
                return
            yield _parse_marker(data[found + len(self._nonce) : end])
            start = end + 1
        kept = self._partial_nonce_size(data, start)
        if len(data) - kept > start:
            yield data[start : len(data) - kept]
        self._held = data[len(data) - kept :]

    def rest(self) -> bytes:
        """Return the bytes still buffered at the end of the stream."""
        rest, self._held = self._held, b""
        return rest

    def _partial_nonce_size(self, data: bytes, start: int) -> int:
        """Return how many bytes at the end may be the beginning of the nonce."""
        for size in range(min(len(self._nonce) - 1, len(data) - start), 0, -1):
            if data.endswith(self._nonce[:size]):
                return size
        return 0

    def _hold_back(self, data: bytes) -> None:
        if len(data) > len(self._nonce) + _MAX_MARKER_LINE_BYTES:
            raise ProtocolError("unterminated marker")
        self._held = data


class StreamDecoder:
    """A decoder that merges both streams; the output of a step lies within the step.

    The streams are synchronized at R and E, so that the end of a step follows everything that it
    wrote to either stream. Stderr, which has no B markers, also waits for B. Data of a waiting
    stream is buffered; there is little of it.
    """

    def __init__(self, nonce: str) -> None:
        self._stdout = _StreamState("stdout", MarkerScanner(nonce.encode()))
        self._stderr = _StreamState("stderr", MarkerScanner(nonce.encode()))
        self._between = False  # between steps the owner of the next stderr bytes is not known yet

    def feed(self, stdout: bytes, stderr: bytes) -> Iterator[ProtocolEvent]:
        """Yield the events that these bytes complete, in order. Raises ProtocolError."""
        self._stdout.feed(stdout)
        self._stderr.feed(stderr)
        while True:
            yield from self._drain()
            ends = self._stdout.next_end, self._stderr.next_end
            if None in ends:
                break
            if ends[0] != ends[1]:
                raise ProtocolError(f"conflicting markers: {ends[0]} and {ends[1]}")
            yield self._pass_end()
        if max(self._stdout.size, self._stderr.size) > _MAX_HELD_BYTES:
            raise ProtocolError("the end of a step on one stream only")

    def rest(self) -> Iterator[OutputChunk]:
        """Yield all output still buffered at the end of both streams."""
        for stream in (self._stdout, self._stderr):
            yield from stream.rest()

    def _drain(self) -> Iterator[ProtocolEvent]:
        for event in self._stdout.until_end():
            if isinstance(event, ProtocolMarker) and event.kind in "BS":
                if event.kind == "B":
                    self._stdout.step = self._stderr.step = parse_number(event.words[0])
                self._between = False
            yield event
        if not self._between or self._stdout.next_end:
            for event in self._stderr.until_end():
                if isinstance(event, ProtocolMarker):
                    raise ProtocolError(f"{event.kind} on stderr")
                yield event

    def _pass_end(self) -> ProtocolMarker:
        self._between = True
        self._stderr.pass_end()
        return self._stdout.pass_end()


class _StreamState:
    """One stream: its pending items, and the step that its output belongs to."""

    def __init__(self, name: str, scanner: MarkerScanner) -> None:
        self._name = name
        self._scanner = scanner
        self._waiting: deque[bytes | ProtocolMarker] = deque()
        self.step = 0
        self.size = 0

    @property
    def next_end(self) -> ProtocolMarker | None:
        """Return the next item if it is an R or E marker, else None."""
        first = self._waiting[0] if self._waiting else None
        return first if isinstance(first, ProtocolMarker) and first.kind in "RE" else None

    def feed(self, data: bytes) -> None:
        for item in self._scanner.feed(data) if data else ():
            self._waiting.append(item)
            self.size += _held_size(item)

    def until_end(self) -> Iterator[ProtocolEvent]:
        while self._waiting and not self.next_end:
            yield self._next()

    def pass_end(self) -> ProtocolMarker:
        marker = self._waiting.popleft()
        assert isinstance(marker, ProtocolMarker)
        self.size -= _held_size(marker)
        self.step = 0
        return marker

    def rest(self) -> Iterator[OutputChunk]:
        self._waiting.append(self._scanner.rest())
        while self._waiting:
            event = self._next()
            if isinstance(event, OutputChunk) and event.data:
                yield event

    def _next(self) -> ProtocolEvent:
        item = self._waiting.popleft()
        self.size -= _held_size(item)
        return OutputChunk(self.step, self._name, item) if isinstance(item, bytes) else item


def _parse_marker(line: bytes) -> ProtocolMarker:
    if line.startswith(b" T "):
        words = line.decode("utf-8", "surrogateescape").split(" ", 4)
        if len(words) != 5:
            raise ProtocolError(f"incomplete report: {line[:_MAX_SHOWN_CHARS]!r}")
        parse_number(words[2])
        return ProtocolMarker("T", tuple(words[2:]))
    words = line[:_MARKER_BYTES].decode("ascii", "replace").split(" ")
    if len(words) < 2 or words[0] or len(words) - 2 not in _WORD_COUNTS.get(words[1], ()):
        raise ProtocolError(f"unknown marker: {line[:_MAX_SHOWN_CHARS]!r}")
    if words[1] in "RBE" and len(words) > 2:
        parse_number(words[2])
    return ProtocolMarker(words[1], tuple(words[2:]))


@lru_cache(4096)
def parse_number(word: str) -> int:
    """Return the number sent by the host.

    Raises ProtocolError if the word is not a number, or has more digits than any number of the
    bootstrap.
    """
    if len(word) > _MAX_DIGITS or not (word.isdecimal() and word.isascii()):
        raise ProtocolError(f"{repr_text(word[:_MAX_SHOWN_CHARS])} is not a number")
    return int(word)


def _held_size(item: bytes | ProtocolMarker) -> int:
    """Return the approximate size in bytes of a buffered item."""
    if isinstance(item, bytes):
        return len(item)
    return _MARKER_BYTES + len(item.words[2]) if item.kind == "T" else _MARKER_BYTES
