"""The output of one command of a console: folded at its end, or as it comes from a single host."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TextIO

from msgspec.structs import replace

from orchestrator.model.event import (
    EventSink,
    RunEvent,
    RunFinished,
    StepFinished,
    StepOutput,
    Warned,
)
from orchestrator.model.host_folding import fold_hostnames, fold_messages, message_frame
from orchestrator.model.sanitize import to_one_line
from orchestrator.model.step_result import HostSummary, Status
from orchestrator.output.console import (
    BOLD,
    DIM,
    RED,
    TextConsole,
    open_console,
    status_text,
    supports_live_output,
)
from orchestrator.output.display_options import DisplayOptions
from orchestrator.output.host_lines import PartialLine
from orchestrator.output.live_view import LiveSink
from orchestrator.output.output_groups import OutputGroups
from orchestrator.output.sinks import MultiSink
from orchestrator.output.summary import results_table, summary_line
from orchestrator.output.terminal_lock import TerminalLock
from orchestrator.output.text_width import wrap_text

_STREAM_DELAY = 0.3
"""Seconds for which the first output of a single host is held back, to fold it if that is all."""

_MAX_HELD_BYTES = 64 * 1024


def command_sink(
    hosts: Sequence[str],
    *,
    stdout: TextIO,
    stderr: TextIO,
    environ: Mapping[str, str],
    verbose: int = 0,
    terminal_lock: TerminalLock,
) -> EventSink:
    """Return the sink of one command on these hosts: output and result go to stdout.

    ``verbose``: 1 adds the table of hosts and does not cut output.
    """
    out, errors = open_console(stdout, environ), open_console(stderr, environ)
    shown = CommandSink(out, verbose=verbose, streamed=hosts[0] if len(hosts) == 1 else "")
    if len(hosts) > 1 and supports_live_output(stderr, environ):
        live = LiveSink(stderr, environ, 0, terminal_lock, progress_only=True)
        return MultiSink((live, shown))
    return MultiSink((WarningSink(errors), shown))


def connect_sink(
    *, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str], terminal_lock: TerminalLock
) -> EventSink:
    """Return the sink for connecting hosts: it prints those that are unreachable, with hints."""
    out, errors = open_console(stdout, environ), open_console(stderr, environ)
    if supports_live_output(stderr, environ):
        live = LiveSink(stderr, environ, 0, terminal_lock, progress_only=True)
        return MultiSink((live, ConnectSink(out)))
    return MultiSink((WarningSink(errors), ConnectSink(out)))


class WarningSink:
    """A sink that prints warnings."""

    def __init__(self, errors: TextConsole) -> None:
        self._errors = errors

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, Warned):
            self._errors.lines([to_one_line(event.text)])

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class ConnectSink:
    """A sink that prints the hosts that are not connected, each reason once."""

    def __init__(self, out: TextConsole) -> None:
        self._out = out

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, RunFinished):
            self._out.lines(failure_lines(event.rows, {}, self._out, hints=True))

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class CommandSink:
    """A sink that prints a command's output, folded, and its result in one line.

    Failed hosts follow, each reason once. ``streamed`` is the only host of the command: its output
    is printed as it comes, if the command takes a while.
    """

    def __init__(self, out: TextConsole, *, verbose: int = 0, streamed: str = "") -> None:
        self._out, self._verbose = out, verbose
        self._outputs = OutputGroups(DisplayOptions(verbose=verbose))
        self._stream = OutputStream(out, streamed) if streamed else None
        self._reasons: dict[str, str] = {}

    def __call__(self, event: RunEvent) -> None:
        match event:
            case StepOutput() if self._stream and event.task:
                self._stream.add(event.stream, event.data)
            case StepFinished():
                if event.outcome.status.is_failure:
                    self._reasons[event.host] = event.outcome.reason
                if not (self._stream and self._stream.finish()):
                    self._outputs.add(event)
            case RunFinished():
                self._out.lines(self._result_lines(event))

    def close(self) -> None:
        """Print what is held back of the output."""
        if self._stream:
            self._stream.finish()

    def _result_lines(self, event: RunFinished) -> Iterator[str]:
        order = {row.host: number for number, row in enumerate(event.rows)}
        lines = list(self._outputs.lines(order, {}, self._out))
        yield from lines[:-1]  # without the empty line that precedes a table
        rows = [_plain_row(row) for row in event.rows]
        if self._verbose:
            yield ""
            yield from results_table(rows, self._out, unfold=True)
        result = summary_line(rows, event.seconds)
        style = RED if any(row.status.is_failure for row in rows) else DIM
        yield from (
            self._out.paint(line, style)
            for line in wrap_text(result, self._out.width or len(result))
        )
        yield from failure_lines(rows, self._reasons, self._out)
        if event.log and (self._verbose or self._outputs.is_cut):
            yield self._out.paint(f"log: {to_one_line(event.log)}", DIM)


def failure_lines(
    rows: Sequence[HostSummary],
    reasons: Mapping[str, str],
    out: TextConsole,
    *,
    hints: bool = False,
) -> Iterator[str]:
    """Yield why hosts failed, one line for those with the same reason; not those interrupted.

    ``reasons`` replace those of the rows. With ``hints``, each is followed by what to do.
    """
    groups: dict[object, list[HostSummary]] = {}
    for row in rows:
        if row.status.is_failure and row.status is not Status.CANCELLED:
            reason = reasons.get(row.host, row.reason)
            key = (row.status, message_frame(reason, row.host))
            groups.setdefault(key, []).append(row)
    width = (out.width or 10_000) - 4
    for group in groups.values():
        names = to_one_line(fold_hostnames(row.host for row in group))
        reason = fold_messages((row.host, reasons.get(row.host, row.reason)) for row in group)
        text = f"{names} {status_text(group[0].status)}: {to_one_line(reason)}"
        first, *rest = wrap_text(text, width)
        first = out.paint(names, BOLD) + first.removeprefix(names) if names in first else first
        yield from (f"  {first}", *(f"    {line}" for line in rest))
        hint = fold_messages((row.host, row.hint) for row in group[:1])
        if hints and hint:
            yield from (f"    {line}" for line in wrap_text(to_one_line(hint), width))


def _plain_row(row: HostSummary) -> HostSummary:
    """Return the row with the status as it is shown.

    `changed`, the status of each command that may change something, is `ok`. A host that had not
    started is cancelled: nothing but an interrupt prevents that.
    """
    if row.status is Status.CHANGED:
        return replace(row, status=Status.OK, ok=row.ok + row.changed, changed=0)
    return replace(row, status=Status.CANCELLED) if row.status is Status.NOT_STARTED else row


class OutputStream:
    """The output of one host, printed line by line once the command has run for a while.

    Thread-safe: a timer prints what was held back.
    """

    def __init__(self, out: TextConsole, host: str) -> None:
        self._out, self._host = out, host
        self._lock = threading.Lock()
        self._held: list[tuple[str, bytes]] = []
        self._held_bytes = 0
        self._timer: threading.Timer | None = None
        self._is_streaming = self._is_finished = False
        self._partial = {"stdout": PartialLine(), "stderr": PartialLine()}

    def add(self, stream: str, data: bytes) -> None:
        """Print the lines that these bytes complete, or hold them back."""
        with self._lock:
            if self._is_streaming:
                self._print(stream, data)
                return
            self._held.append((stream, data))
            self._held_bytes += len(data)
            if self._held_bytes > _MAX_HELD_BYTES:
                self._begin()
            elif self._timer is None:
                self._timer = threading.Timer(_STREAM_DELAY, self._begin_late)
                self._timer.daemon = True
                self._timer.start()

    def finish(self) -> bool:
        """Print the incomplete last line; return True if the output has been printed."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._is_finished = True
            if self._is_streaming:
                for stream, partial in self._partial.items():
                    if rest := partial.take_rest():
                        self._print_lines(stream, [rest])
            return self._is_streaming

    def _begin_late(self) -> None:
        with self._lock, suppress(OSError):  # nothing can be written any more
            if not self._is_streaming and not self._is_finished:
                self._begin()

    def _begin(self) -> None:
        self._is_streaming = True
        self._out.lines([self._out.paint(f"── {to_one_line(self._host)} ──", BOLD)])
        for stream, data in self._held:
            self._print(stream, data)
        self._held = []

    def _print(self, stream: str, data: bytes) -> None:
        self._print_lines(stream, self._partial[stream].feed(data))

    def _print_lines(self, stream: str, lines: Iterator[str] | Sequence[str]) -> None:
        mark = self._out.paint("!", DIM) if stream == "stderr" else " "
        self._out.lines(f"{mark} {line}".rstrip() for line in lines)
