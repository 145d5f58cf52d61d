"""The output of hosts as lines with the name of the host: ``web1 | …``, ``web1 ! …`` for stderr."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.model.event import StepOutput
from orchestrator.model.sanitize import decode_sanitized, to_one_line
from orchestrator.model.text_encoding import trim_partial_characters
from orchestrator.output.event_lines import host_label

_MAX_LINE_BYTES = 8192
_StreamKey: TypeAlias = "tuple[str, str | None, str]"


def prefix_line(host: str, app: str | None, text: str, *, stderr: bool = False) -> str:
    """Return a line of a host's output with the host's name before it."""
    return f"{to_one_line(host_label(host, app))} {'!' if stderr else '|'} {text}".rstrip()


class HostLines:
    """A splitter of the hosts' output into prefixed lines. Incomplete lines are held back."""

    def __init__(self) -> None:
        self._partial: dict[_StreamKey, PartialLine] = {}

    def feed(self, event: StepOutput) -> Iterator[str]:
        """Yield the lines that are complete now."""
        key = (event.host, event.app, event.stream)
        partial = self._partial.setdefault(key, PartialLine())
        for text in partial.feed(event.data):
            yield prefix_line(event.host, event.app, text, stderr=event.stream == "stderr")

    def end_step(self, host: str, app: str | None) -> Iterator[str]:
        """Yield the last lines of a step, which have no newline."""
        for stream in ("stdout", "stderr"):
            partial = self._partial.pop((host, app, stream), None)
            if partial and (rest := partial.take_rest()):
                yield prefix_line(host, app, rest, stderr=stream == "stderr")

    def end_all(self) -> Iterator[str]:
        """Yield the last lines of all steps that did not end."""
        for host, app, _ in list(self._partial):
            yield from self.end_step(host, app)


class PartialLine(Struct):
    """An incomplete line of limited size: the excess is dropped and counted."""

    data: bytearray = field(default_factory=bytearray)
    dropped: int = 0

    def feed(self, data: bytes) -> Iterator[str]:
        """Add bytes and yield the lines that are complete now."""
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._append(part)
            yield self._text()
        self._append(rest)

    def take_rest(self) -> str:
        """Return the incomplete last line, or ''."""
        return self._text() if self.data else ""

    def _append(self, part: bytes) -> None:
        self.data += part
        if len(self.data) <= _MAX_LINE_BYTES:
            return
        bar = self.data.rstrip(b"\r").rfind(b"\r")  # a progress bar: only its last state is kept
        if bar >= 0:
            del self.data[: bar + 1]
            self.dropped = 0
        self.dropped += max(len(self.data) - _MAX_LINE_BYTES, 0)
        del self.data[_MAX_LINE_BYTES:]

    def _text(self) -> str:
        text = decode_sanitized(trim_partial_characters(bytes(self.data), end=self.dropped > 0))
        if self.dropped:
            text += f" [… {self.dropped} more bytes; the log has all …]"
        self.data.clear()
        self.dropped = 0
        return text
