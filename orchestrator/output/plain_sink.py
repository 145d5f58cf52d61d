"""A run as plain lines without control codes, for output that is not a live terminal.

This is the case without a terminal and under CI, NO_COLOR or TERM=dumb. Events go to one stream
(stderr) and the hosts' output to the other (stdout), each line prefixed with its host: ``devserver1
| …`` for stdout, ``devserver1 ! …`` for stderr.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from orchestrator.model.event import RunEvent, StepFinished, StepOutput
from orchestrator.model.sanitize import decode_sanitized, to_one_line
from orchestrator.model.text_encoding import trim_partial_characters
from orchestrator.output.console import TextConsole
from orchestrator.output.diff import change_lines
from orchestrator.output.event_lines import EventLineFormatter, host_label

_MAX_LINE_BYTES = 8192


class PlainSink:
    """A sink that prints one line per event, and the hosts' output line by line."""

    def __init__(
        self, events: TextConsole, output: TextConsole, verbose: int = 0, *, diff: bool = False
    ) -> None:
        self._diff = diff
        self._events, self._output, self._verbose = events, output, verbose
        self._lines = EventLineFormatter(verbose)
        self._partial: dict[tuple[str, str | None, str], PartialLine] = {}

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, StepOutput):
            self._print_output(event)
            return
        if isinstance(event, StepFinished):
            for stream in ("stdout", "stderr"):
                self._end_line(event.host, event.app, stream)
        line = self._lines.format_event(event)
        if line:
            self._events.lines([self._events.paint(*line)])
        if isinstance(event, StepFinished) and self._diff and event.outcome.changes:
            key = (event.host, event.app, "stdout")
            self._output.lines([_prefixed(key, text) for text in change_lines(event.outcome)])

    def close(self) -> None:
        """Print output that has no final newline yet."""
        for key in list(self._partial):
            self._end_line(*key)

    def _print_output(self, event: StepOutput) -> None:
        if not event.task and self._verbose < 2:
            return  # output of the login shell before the session was ready
        key = (event.host, event.app, event.stream)
        partial = self._partial.setdefault(key, PartialLine())
        self._output.lines([_prefixed(key, text) for text in partial.feed(event.data)])

    def _end_line(self, host: str, app: str | None, stream: str) -> None:
        key = (host, app, stream)
        partial = self._partial.pop(key, None)
        if partial and (rest := partial.take_rest()):
            self._output.lines([_prefixed(key, rest)])


def _prefixed(key: tuple[str, str | None, str], text: str) -> str:
    host, app, stream = key
    mark = "!" if stream == "stderr" else "|"
    return f"{to_one_line(host_label(host, app))} {mark} {text}".rstrip()


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
