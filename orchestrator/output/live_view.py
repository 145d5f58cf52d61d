"""The live view: a few lines at the bottom of the terminal during a run.

Events only update counters; one thread draws, so that the cost does not grow with hosts or events.
Only that thread loads rich, and only for a run that takes long enough to be watched.
"""

from __future__ import annotations

import atexit
import heapq
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO, TypeAlias

from msgspec import Struct, field

from orchestrator.model.event import (
    BatchPaused,
    ConnectFinished,
    ConnectStarted,
    HostFinished,
    RunEvent,
    RunFinished,
    RunStarted,
    StepOutput,
    StepStarted,
    TaskFinished,
    TaskStarted,
    Warned,
)
from orchestrator.model.sanitize import decode_sanitized, to_one_line
from orchestrator.model.text_encoding import trim_partial_characters
from orchestrator.output.console import TextConsole
from orchestrator.output.event_lines import EventLineFormatter, host_label
from orchestrator.output.terminal_lock import TerminalLock
from orchestrator.output.text_width import display_width, pad_text, truncate_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


_TAIL_BYTES = 1024


class HostActivity(Struct):
    """The current activity of one host, with its start (epoch seconds) and its last bytes."""

    host_label: str
    since: float
    action: str
    tail: bytes = b""

    @property
    def last_line(self) -> str:
        """Return the host's last line of output, sanitized, or its activity if it printed none."""
        tail = trim_partial_characters(self.tail, start=len(self.tail) >= _TAIL_BYTES, end=True)
        lines = (" ".join(line.split()) for line in reversed(decode_sanitized(tail).split("\n")))
        return next(filter(None, lines), f"({to_one_line(self.action)})")


class AppProgress(Struct):
    """The task that runs for one app."""

    task: str
    app: str | None
    since: float
    hosts: int
    done: int = 0
    failed: int = 0
    running: dict[str, HostActivity] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.app} {self.task}" if self.app else self.task


class RunProgress(Struct):
    """The progress of a run. Each event costs a few dict operations for any number of hosts."""

    hosts: int = 0
    connected: int = 0
    unreachable: int = 0
    since: float = 0.0
    connecting: dict[str, HostActivity] = field(default_factory=dict)
    apps: dict[str | None, AppProgress] = field(default_factory=dict)

    def count_event(self, event: RunEvent) -> None:
        """Count one event."""
        match event:
            case StepOutput(app=app, host=host, data=data):
                self._on_output(app, host, data)
            case StepStarted(app=app, host=host):
                self._on_step_started(event)
            case HostFinished(app=app, host=host):
                if app_progress := self.apps.get(app):
                    app_progress.running.pop(host, None)
                    app_progress.done += 1
                    app_progress.failed += event.outcome.status.is_failure
            case TaskStarted(app=app):
                self.apps[app] = AppProgress(event.task, app, event.time, len(event.hosts))
            case TaskFinished(app=app):
                self.apps.pop(app, None)
            case BatchPaused(app=app):
                what = f"pause before batch {event.batch}"
                self.apps[app] = AppProgress(what, app, event.time, hosts=0)
            case ConnectStarted(host=host):
                self.since = self.since or event.time
                self.connecting[host] = HostActivity(host, event.time, "connecting")
            case ConnectFinished(host=host):
                self.connecting.pop(host, None)
                self.connected += not event.error
                self.unreachable += bool(event.error)
            case RunStarted():
                self.hosts = len(event.hosts)

    def slowest_hosts(self, count: int) -> list[HostActivity]:
        """Return the hosts whose current step (or connection attempt) has taken longest."""
        return heapq.nsmallest(count, self._active_hosts(), key=lambda work: work.since)

    def _active_hosts(self) -> Iterator[HostActivity]:
        yield from self.connecting.values()
        for app_progress in self.apps.values():
            yield from app_progress.running.values()

    def _on_step_started(self, event: StepStarted) -> None:
        app_progress = self.apps.get(event.app)
        if app_progress is None:
            return
        work = app_progress.running.get(event.host)
        if work is None:
            who = host_label(event.host, event.app)
            app_progress.running[event.host] = HostActivity(who, event.time, event.name)
        else:
            work.since, work.action = event.time, event.name

    def _on_output(self, app: str | None, host: str, data: bytes) -> None:
        app_progress = self.apps.get(app)
        work = app_progress.running.get(host) if app_progress else None
        if work is not None:
            work.tail = (work.tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]


StyledText: TypeAlias = tuple[str, str]
_MAX_SLOWEST = 5
_BAR_WIDTHS = (6, 30)


def render_progress(
    progress: RunProgress, now: float, width: int, height: int, bar: str = "━─"
) -> list[list[StyledText]]:
    """Return a line per app (and for connecting), then the slowest hosts; styles are rich's.

    The result takes at most half the height of a small terminal. ``bar`` has two characters: for
    the finished part and for the rest.
    """
    room = max(height - 1, 1)
    tracks = _bar_rows(progress, now)
    kept = tracks if len(tracks) <= max(room - 1, 1) else tracks[: max(room - 2, 1)]
    shown = _bar_lines(kept, width, bar)
    if len(kept) < len(tracks) and room > 1:
        shown.append([(truncate_text(f"… and {len(tracks) - len(kept)} more", width), "dim")])
    count = max(0, min(_MAX_SLOWEST, height // 2, room - len(shown)))
    return shown + _host_lines(progress.slowest_hosts(count), now, width)


def format_duration(seconds: float) -> str:
    """Return a duration as ``12 s``, ``3:05`` or ``1:02:03``."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes = f"{rest // 60}:{rest % 60:02}"
    return f"{hours}:{minutes:0>5}" if hours else minutes


class _ProgressBarRow(Struct, frozen=True):
    """One line of progress. ``count_forms`` are texts of the counts, the longest first."""

    label: str
    done: int
    total: int
    failed: int
    count_forms: tuple[str, ...]
    elapsed: str


def _bar_rows(progress: RunProgress, now: float) -> list[_ProgressBarRow]:
    found: list[_ProgressBarRow] = []
    if progress.connecting:
        bad, total = progress.unreachable, progress.hosts
        done = progress.connected + bad
        count_forms = (f"{done}/{total}, {bad} failed" if bad else f"{done}/{total}",)
        found.append(
            _ProgressBarRow(
                "connecting",
                done,
                total=total,
                failed=bad,
                count_forms=count_forms,
                elapsed=format_duration(now - progress.since),
            )
        )
    for app_progress in progress.apps.values():
        label, elapsed = to_one_line(app_progress.label), format_duration(now - app_progress.since)
        found.append(
            _ProgressBarRow(
                label,
                app_progress.done,
                total=app_progress.hosts,
                failed=app_progress.failed,
                count_forms=_count_forms(app_progress),
                elapsed=elapsed,
            )
        )
    return found


def _count_forms(app_progress: AppProgress) -> tuple[str, ...]:
    failed = f", {app_progress.failed} failed" if app_progress.failed else ""
    done = f"{app_progress.done}/{app_progress.hosts}"
    return f"{done} done, {len(app_progress.running)} running{failed}", f"{done}{failed}"


def _bar_lines(tracks: Sequence[_ProgressBarRow], width: int, bar: str) -> list[list[StyledText]]:
    """Return the rows in columns: label, bar (if there is room), counts, elapsed time."""
    labels = min(_max_width([track.label for track in tracks]), width // 2)
    times = _max_width([track.elapsed for track in tracks])
    room = width - times - 4
    counts_text: list[str] = []
    for form in range(2):
        counts_text = [track.count_forms[min(form, len(track.count_forms) - 1)] for track in tracks]
        if labels + _max_width(counts_text) <= room:
            break
    counts = _max_width(counts_text)
    labels = max(min(labels, room - counts), 1)
    size = min(room - counts - labels - 2, _BAR_WIDTHS[1])
    return [
        [
            (pad_text(truncate_text(track.label, labels), labels) + "  ", "bold"),
            *(_bar_segments(track, size, bar) if size >= _BAR_WIDTHS[0] else []),
            (pad_text(text, counts) + "  ", "red" if track.failed else ""),
            (pad_text(track.elapsed, times, right=True), "dim"),
        ]
        for track, text in zip(tracks, counts_text, strict=True)
    ]


def _bar_segments(track: _ProgressBarRow, size: int, bar: str) -> list[StyledText]:
    full = min(size * track.done // track.total, size) if track.total else 0
    style = "red" if track.failed else "green"
    return [(bar[0] * full, style), (bar[1] * (size - full) + "  ", "dim")]


def _max_width(texts: Sequence[str]) -> int:
    return max(map(display_width, texts), default=0)


def _host_lines(works: Sequence[HostActivity], now: float, width: int) -> list[list[StyledText]]:
    """Return a line per host: its name, the duration of its step, its last line of output."""
    rows = [
        (to_one_line(work.host_label), format_duration(now - work.since), work.last_line)
        for work in works
    ]
    names = min(_max_width([row[0] for row in rows]), width * 2 // 5)
    times = _max_width([row[1] for row in rows])
    room = width - names - times - 6
    return [
        [
            (f"  {pad_text(truncate_text(name, names), names)}", ""),
            (f"  {pad_text(spent, times, right=True)}", "dim"),
            (
                f"  {truncate_text(last_line, room)}" if room > 3 else "",
                "dim" if last_line.startswith("(") else "",
            ),
        ]
        for name, spent, last_line in rows
    ]


_MAX_FAILURES_SHOWN = 10
_FIRST_DRAW_DELAY = 0.3
_REDRAW_INTERVAL = 1 / 6
_STYLES = {"31": "red", "32": "green", "33": "yellow", "36": "cyan", "2": "dim"}


class LiveSink:
    """A sink that draws the progress on a terminal until RunFinished, and then removes it.

    Warnings and the first failed hosts are printed above it and stay, as do steps with ``verbose``
    above 0. Nothing is drawn during a prompt (``terminal_lock``).
    """

    def __init__(
        self, stderr: TextIO, environ: Mapping[str, str], verbose: int, terminal_lock: TerminalLock
    ) -> None:
        self._turns = terminal_lock
        self._stderr, self._environ, self._verbose = stderr, environ, verbose
        self._out = TextConsole(stderr, colour=True)
        self._progress = RunProgress()
        self._lines = EventLineFormatter(verbose if verbose > 0 else -1)
        self._failures = 0
        self._notes: deque[tuple[str, str]] = deque()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, event: RunEvent) -> None:
        with self._lock:
            self._progress.count_event(event)
        self._add_note(event)
        if isinstance(event, RunStarted):
            self._thread = threading.Thread(target=self._draw, name="live view", daemon=True)
            atexit.register(self.close)  # or the cursor would stay hidden after exit
            self._thread.start()
        elif isinstance(event, RunFinished):
            self.close()

    def close(self) -> None:
        """Remove the view, restore the cursor and print the remaining notes."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            atexit.unregister(self.close)
        notes = [self._out.paint(*note) for note in self._notes]
        self._notes.clear()
        try:
            self._out.lines(notes)
        except OSError:
            return  # the terminal is gone

    def _add_note(self, event: RunEvent) -> None:
        line = self._lines.format_event(event)
        if line is None:
            return
        if self._verbose <= 0 and not isinstance(event, Warned | RunFinished):
            self._failures += 1
            if self._failures > _MAX_FAILURES_SHOWN:
                return
            if self._failures == _MAX_FAILURES_SHOWN:
                line = (f"{line[0]}; further failures are listed at the end", line[1])
        self._notes.append(line)

    def _draw(self) -> None:
        if self._stop.wait(_FIRST_DRAW_DELAY):
            return
        from rich.console import Console

        console = Console(
            file=self._stderr,
            force_terminal=True,
            highlight=False,
            markup=False,
            emoji=False,
            _environ=self._environ,
        )
        try:
            while not self._stop.is_set():
                with self._turns.view() as ours:
                    if ours:
                        self._display(console)
                self._stop.wait(_REDRAW_INTERVAL)
        except OSError:
            return  # the terminal is gone; the run continues

    def _display(self, console: Console) -> None:
        from rich.live import Live as Display

        with Display(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        ) as display:
            while not (self._turns.has_question or self._stop.wait(_REDRAW_INTERVAL)):
                self._print_notes(console)
                display.update(self._render_view(console), refresh=True)

    def _print_notes(self, console: Console) -> None:
        from rich.text import Text

        while self._notes:
            text, style = self._notes.popleft()
            console.print(Text(text, style=_STYLES.get(style, "")))

    def _render_view(self, console: Console) -> Text:
        from rich.text import Text

        width, height = console.size
        bar = "━─" if console.encoding.startswith("utf") else "#-"
        with self._lock:
            lines = render_progress(self._progress, time.time(), width - 1, height, bar)
        parts = [Text.assemble(*segments) for segments in lines]
        picture = Text("\n").join(parts)
        picture.no_wrap, picture.overflow = True, "crop"
        return picture
