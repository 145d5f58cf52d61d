"""The sinks of a run, chosen by its output streams, and their combination."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

from orchestrator.model.event import EventSink, RunEvent, RunStarted
from orchestrator.output.ci_log import CiServer, GroupMarkers, ci_server
from orchestrator.output.console import TextConsole, open_console, supports_live_output
from orchestrator.output.display_options import DisplayOptions, OutputMode
from orchestrator.output.terminal_lock import TerminalLock


class MultiSink:
    """A sink that passes every event to several sinks, in order.

    If a sink raises, the others still receive the event; the first error is raised after all have
    received it. A sink may emit an event (a warning) during its call: that event follows the
    current one.
    """

    def __init__(self, sinks: Sequence[EventSink]) -> None:
        self.sinks = tuple(sinks)
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
        for sink in self.sinks:
            try:
                sink.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _deliver(self, event: RunEvent, errors: list[Exception]) -> None:
        for sink in self.sinks:
            try:
                sink(event)
            except Exception as error:
                errors.append(error)


def choose_sinks(
    options: DisplayOptions,
    *,
    stdout: TextIO,
    stderr: TextIO,
    environ: Mapping[str, str],
    terminal_lock: TerminalLock | None = None,
    find_expected: Callable[[RunStarted], float | None] | None = None,
) -> EventSink:
    """Return the sink of a run: JSON lines, a live view with results, or plain lines with rows.

    Events and the live view go to stderr, output and results to stdout; in the log of a CI server,
    all goes to stdout if ``options`` ask for groups. The sink raises OSError from the call in which
    writing to a stream failed, once per stream. ``terminal_lock`` is shared with prompts.
    ``find_expected`` returns how many seconds a run will take, if that is known.
    """
    if options.json:
        from orchestrator.output.json_lines import JsonLinesSink

        return JsonLinesSink(TextConsole(stdout))
    from orchestrator.output.summary import SummarySink

    out = open_console(stdout, environ)
    is_folded = options.mode is OutputMode.FOLDED or options.diff_hosts
    if options.mode is not OutputMode.LINES and supports_live_output(stderr, environ):
        from orchestrator.output.live_view import LiveSink

        live = LiveSink(
            stderr,
            environ,
            options.verbose,
            terminal_lock or TerminalLock(),
            outputs=not is_folded
            and options.mode is not OutputMode.QUIET
            and supports_live_output(stdout, environ),
            find_expected=find_expected,
        )
        summary = SummarySink(
            out,
            options,
            outputs=options.mode is not OutputMode.QUIET,
            was_output_shown=live.was_output_shown,
            needs_changes=live.has_scattered_lines,
        )
        return MultiSink((live, summary))
    sinks = _plain_sinks(options, out, open_console(stderr, environ), environ)
    return MultiSink((*sinks, SummarySink(out, options, outputs=is_folded)))


def _plain_sinks(
    options: DisplayOptions, out: TextConsole, errors: TextConsole, environ: Mapping[str, str]
) -> Iterator[EventSink]:
    """Yield the sinks that print events and outputs as lines; in groups in the log of a CI server.

    Groups need one stream, in which lines keep their order: it is that of the outputs.
    """
    from orchestrator.output.plain_sink import PlainSink

    is_hidden = options.mode in (OutputMode.FOLDED, OutputMode.QUIET) or options.diff_hosts

    def plain_sink(events: TextConsole, output: TextConsole) -> EventSink:
        return PlainSink(events, output, options.verbose, diff=options.diff, outputs=not is_hidden)

    server = ci_server(environ)
    if not options.groups or options.mode is not None or server is None or _is_file(out.stream):
        yield plain_sink(errors, out)
        return
    from orchestrator.output.task_groups import AnnotationSink, TaskGroupSink

    markers = GroupMarkers(server)
    yield TaskGroupSink(out, markers, lambda console: plain_sink(console, console))
    if server is CiServer.GITHUB:
        yield AnnotationSink(out, environ)


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False
