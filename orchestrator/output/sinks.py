"""The sinks of a run, chosen by its output streams, and their combination."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TextIO

from orchestrator.model.event import EventSink, RunEvent
from orchestrator.output.console import TextConsole, open_console, supports_live_output
from orchestrator.output.terminal_lock import TerminalLock


class MultiSink:
    """A sink that passes every event to several sinks, in order.

    If a sink raises, the others still receive the event; the first error is raised after all have
    received it. A sink may emit an event (a warning) during its call: that event follows the
    current one.
    """

    def __init__(self, sinks: Sequence[EventSink]) -> None:
        self._sinks = tuple(sinks)
        self._waiting: deque[RunEvent] = deque()
        self._busy = False

    def __call__(self, event: RunEvent) -> None:
        self._waiting.append(event)
        if self._busy:
            return
        self._busy = True
        errors: list[Exception] = []
        try:
            while self._waiting:
                self._deliver(self._waiting.popleft(), errors)
        finally:
            self._busy = False
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Close every sink, even if one raises; then raise the first error."""
        errors: list[Exception] = []
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _deliver(self, event: RunEvent, errors: list[Exception]) -> None:
        for sink in self._sinks:
            try:
                sink(event)
            except Exception as error:
                errors.append(error)


def choose_sinks(
    *,
    json: bool,
    verbose: int,
    stdout: TextIO,
    stderr: TextIO,
    environ: Mapping[str, str],
    diff: bool = False,
    terminal_lock: TerminalLock | None = None,
) -> EventSink:
    """Return the sink of a run: JSON lines, a live view with results, or plain lines with rows.

    Events and the live view go to stderr, output and results to stdout. The sink raises OSError
    from the call in which writing to a stream failed, once per stream. ``verbose``: 0 is the
    default, 1 adds steps, 2 everything, -1 only errors and warnings. ``diff``: show what was
    changed, not only what would be changed. ``terminal_lock`` is shared with prompts.
    """
    if json:
        from orchestrator.output.json_lines import JsonLinesSink

        return JsonLinesSink(TextConsole(stdout))
    from orchestrator.output.summary import SummarySink

    out = open_console(stdout, environ)
    if supports_live_output(stderr, environ):
        from orchestrator.output.live_view import LiveSink

        return MultiSink(
            (
                LiveSink(stderr, environ, verbose, terminal_lock or TerminalLock()),
                SummarySink(out, whole=verbose > 0, diff=diff, unfold=verbose > 0),
            )
        )
    from orchestrator.output.plain_sink import PlainSink

    return MultiSink(
        (
            PlainSink(open_console(stderr, environ), out, verbose, diff=diff),
            SummarySink(out, outputs=False, unfold=verbose > 0),
        )
    )
