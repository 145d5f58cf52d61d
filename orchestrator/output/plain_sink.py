"""A run as plain lines without control codes, for output that is not a live terminal.

This is the case without a terminal and under CI, NO_COLOR or TERM=dumb. Events go to one stream
(stderr) and the hosts' output to the other (stdout), each line prefixed with its host: ``devserver1
| …`` for stdout, ``devserver1 ! …`` for stderr.
"""

from __future__ import annotations

from orchestrator.model.event import RunEvent, StepFinished, StepOutput
from orchestrator.output.console import TextConsole
from orchestrator.output.diff import change_lines
from orchestrator.output.event_lines import EventLineFormatter
from orchestrator.output.host_lines import HostLines, prefix_line


class PlainSink:
    """A sink that prints one line per event, and (if ``outputs``) the hosts' output by lines."""

    def __init__(
        self,
        events: TextConsole,
        output: TextConsole,
        verbose: int = 0,
        *,
        diff: bool = False,
        outputs: bool = True,
    ) -> None:
        self._outputs, self._diff = outputs, diff and outputs
        self._events, self._output, self._verbose = events, output, verbose
        self._lines = EventLineFormatter(verbose)
        self._host_lines = HostLines()

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, StepOutput):
            is_shown = not event.is_for_steps or self._verbose > 0
            if not event.task:  # output of the login shell before the session was ready
                is_shown = self._verbose > 1
            if self._outputs and is_shown:
                self._output.lines(self._host_lines.feed(event))
            return
        if isinstance(event, StepFinished):
            self._output.lines(self._host_lines.end_step(event.host, event.app))
        line = self._lines.format_event(event)
        if line:
            self._events.lines([self._events.paint(*line)])
        if isinstance(event, StepFinished) and self._diff and event.outcome.changes:
            changes = change_lines(event.outcome)
            self._output.lines(prefix_line(event.host, event.app, text) for text in changes)

    def close(self) -> None:
        """Print output that has no final newline yet."""
        self._output.lines(self._host_lines.end_all())
