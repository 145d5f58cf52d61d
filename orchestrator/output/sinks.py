"""Several sinks as one.

Which sinks a run has, by what its output goes to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TextIO

from orchestrator.model.event import EventSink, RunEvent
from orchestrator.output.console import TextConsole, open_console, supports_live_output
from orchestrator.output.terminal_lock import TerminalLock


class MultiSink:
    """Hands every event to each sink, in order.

    A sink that raises keeps the event from no other; the first error is raised when all have
    had it. A sink may emit (a warning) from within its call: that event comes after this one.
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
        """Close every sink, even where one raises; then raise the first error."""
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
    """What shows a run: JSON lines; or a live view, then folded results; or plain lines, then rows.

    Events and the live view go to stderr, output and results to stdout. The sink raises
    OSError from the call in which a stream turned out to take nothing more, once per stream.
    ``verbose``: 0 as usual, 1 steps, 2 everything, -1 only what went wrong. ``diff``: what
    changed is shown, too, and not only what would. ``terminal_lock``: shared with who asks questions.
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
                SummarySink(out, whole=verbose > 0, diff=diff),
            )
        )
    from orchestrator.output.plain_sink import PlainSink

    return MultiSink(
        (
            PlainSink(open_console(stderr, environ), out, verbose, diff=diff),
            SummarySink(out, outputs=False),
        )
    )
