"""How far a run is, counted from its events: what the live view shows, without the showing.

One picture of a run's progress, as lines of styled text that fit the terminal.

The live view: a few lines at the bottom of the terminal while a run is under way.

Events only count; one thread draws, so that the cost does not grow with hosts or events.
rich is loaded by that thread, and only for a run that takes long enough to be watched.
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
    ConnectFinished,
    ConnectStarted,
    Event,
    HostFinished,
    RunFinished,
    RunStarted,
    StepOutput,
    StepStarted,
    TaskFinished,
    TaskStarted,
    Warned,
)
from orchestrator.model.sanitize import decode, one_line
from orchestrator.model.text_encoding import whole_characters
from orchestrator.output.console import Out
from orchestrator.output.event_lines import Lines, target
from orchestrator.output.terminal_lock import Turns
from orchestrator.output.text_width import cells, cut, pad

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


_TAIL = 1024


class Work(Struct):
    """What one host does now: since when (seconds since the epoch), and its latest bytes."""

    who: str
    since: float
    doing: str
    tail: bytes = b""

    @property
    def said(self) -> str:
        """The last line that it printed, clean, or what it does where it printed none."""
        tail = whole_characters(self.tail, start=len(self.tail) >= _TAIL, end=True)
        lines = (" ".join(line.split()) for line in reversed(decode(tail).split("\n")))
        return next(filter(None, lines), f"({one_line(self.doing)})")


class Lane(Struct):
    """The task that runs in one lane."""

    task: str
    app: str | None
    since: float
    hosts: int
    done: int = 0
    failed: int = 0
    running: dict[str, Work] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.app} {self.task}" if self.app else self.task


class Progress(Struct):
    """All of it. Each event costs a few dict operations, whatever the number of hosts."""

    hosts: int = 0
    connected: int = 0
    unreachable: int = 0
    since: float = 0.0
    connecting: dict[str, Work] = field(default_factory=dict)
    lanes: dict[str | None, Lane] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Count one event."""
        match event:
            case StepOutput(app=app, host=host, data=data):
                self._printed(app, host, data)
            case StepStarted(app=app, host=host):
                self._began(event)
            case HostFinished(app=app, host=host):
                if lane := self.lanes.get(app):
                    lane.running.pop(host, None)
                    lane.done += 1
                    lane.failed += event.outcome.status.bad
            case TaskStarted(app=app):
                self.lanes[app] = Lane(event.task, app, event.time, len(event.hosts))
            case TaskFinished(app=app):
                self.lanes.pop(app, None)
            case ConnectStarted(host=host):
                self.since = self.since or event.time
                self.connecting[host] = Work(host, event.time, "connecting")
            case ConnectFinished(host=host):
                self.connecting.pop(host, None)
                self.connected += not event.error
                self.unreachable += bool(event.error)
            case RunStarted():
                self.hosts = len(event.hosts)

    def slowest(self, count: int) -> list[Work]:
        """The hosts that have been at their step (or at connecting) for longest."""
        return heapq.nsmallest(count, self._working(), key=lambda work: work.since)

    def _working(self) -> Iterator[Work]:
        yield from self.connecting.values()
        for lane in self.lanes.values():
            yield from lane.running.values()

    def _began(self, event: StepStarted) -> None:
        lane = self.lanes.get(event.app)
        if lane is None:
            return
        work = lane.running.get(event.host)
        if work is None:
            who = target(event.host, event.app)
            lane.running[event.host] = Work(who, event.time, event.name)
        else:
            work.since, work.doing = event.time, event.name

    def _printed(self, app: str | None, host: str, data: bytes) -> None:
        lane = self.lanes.get(app)
        work = lane.running.get(host) if lane else None
        if work is not None:
            work.tail = (work.tail + data[-_TAIL:])[-_TAIL:]


Segment: TypeAlias = tuple[str, str]
_SLOWEST = 5
_BAR = (6, 30)


def frame(
    progress: Progress, now: float, width: int, height: int, bar: str = "━─"
) -> list[list[Segment]]:
    """A line per lane (and for connecting), then the slowest hosts; styles are rich's.

    Takes at most half the height of a small terminal; ``bar`` is what is done and what is not.
    """
    room = max(height - 1, 1)
    tracks = _tracks(progress, now)
    kept = tracks if len(tracks) <= max(room - 1, 1) else tracks[: max(room - 2, 1)]
    shown = _lines(kept, width, bar)
    if len(kept) < len(tracks) and room > 1:
        shown.append([(cut(f"… and {len(tracks) - len(kept)} more", width), "dim")])
    count = max(0, min(_SLOWEST, height // 2, room - len(shown)))
    return shown + _hosts(progress.slowest(count), now, width)


def clock(seconds: float) -> str:
    """``12 s``, ``3:05`` or ``1:02:03``."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes = f"{rest // 60}:{rest % 60:02}"
    return f"{hours}:{minutes:0>5}" if hours else minutes


class _Track(Struct, frozen=True):
    """One line of progress. ``said`` holds ways to tell the counts, the longest first."""

    label: str
    done: int
    total: int
    failed: int
    said: tuple[str, ...]
    elapsed: str


def _tracks(progress: Progress, now: float) -> list[_Track]:
    found: list[_Track] = []
    if progress.connecting:
        bad, total = progress.unreachable, progress.hosts
        done = progress.connected + bad
        said = (f"{done}/{total}, {bad} failed" if bad else f"{done}/{total}",)
        found.append(
            _Track(
                "connecting",
                done,
                total=total,
                failed=bad,
                said=said,
                elapsed=clock(now - progress.since),
            )
        )
    for lane in progress.lanes.values():
        label, elapsed = one_line(lane.label), clock(now - lane.since)
        found.append(
            _Track(
                label,
                lane.done,
                total=lane.hosts,
                failed=lane.failed,
                said=_said(lane),
                elapsed=elapsed,
            )
        )
    return found


def _said(lane: Lane) -> tuple[str, ...]:
    failed = f", {lane.failed} failed" if lane.failed else ""
    done = f"{lane.done}/{lane.hosts}"
    return f"{done} done, {len(lane.running)} running{failed}", f"{done}{failed}"


def _lines(tracks: Sequence[_Track], width: int, bar: str) -> list[list[Segment]]:
    """The tracks in columns: label, bar (where there is room), counts, elapsed."""
    labels = min(_widest([track.label for track in tracks]), width // 2)
    times = _widest([track.elapsed for track in tracks])
    room = width - times - 4
    said: list[str] = []
    for form in range(2):
        said = [track.said[min(form, len(track.said) - 1)] for track in tracks]
        if labels + _widest(said) <= room:
            break
    counts = _widest(said)
    labels = max(min(labels, room - counts), 1)
    size = min(room - counts - labels - 2, _BAR[1])
    return [
        [
            (pad(cut(track.label, labels), labels) + "  ", "bold"),
            *(_bar(track, size, bar) if size >= _BAR[0] else []),
            (pad(text, counts) + "  ", "red" if track.failed else ""),
            (pad(track.elapsed, times, right=True), "dim"),
        ]
        for track, text in zip(tracks, said, strict=True)
    ]


def _bar(track: _Track, size: int, bar: str) -> list[Segment]:
    full = min(size * track.done // track.total, size) if track.total else 0
    style = "red" if track.failed else "green"
    return [(bar[0] * full, style), (bar[1] * (size - full) + "  ", "dim")]


def _widest(texts: Sequence[str]) -> int:
    return max(map(cells, texts), default=0)


def _hosts(works: Sequence[Work], now: float, width: int) -> list[list[Segment]]:
    """A line per host: its name, how long it has been at it, the last line it printed."""
    rows = [(one_line(work.who), clock(now - work.since), work.said) for work in works]
    names = min(_widest([row[0] for row in rows]), width * 2 // 5)
    times = _widest([row[1] for row in rows])
    room = width - names - times - 6
    return [
        [
            (f"  {pad(cut(name, names), names)}", ""),
            (f"  {pad(spent, times, right=True)}", "dim"),
            (f"  {cut(said, room)}" if room > 3 else "", "dim" if said.startswith("(") else ""),
        ]
        for name, spent, said in rows
    ]


_MANY = 10
_PATIENCE = 0.3
_PAUSE = 1 / 6
_STYLES = {"31": "red", "32": "green", "33": "yellow", "36": "cyan", "2": "dim"}


class Live:
    """A sink that draws the progress on a terminal until RunFinished, then leaves no trace.

    Warnings and the first hosts that fail stand above it and stay; with ``verbose`` above 0
    the steps do, too. Nothing is drawn while somebody asks a question (``turns``).
    """

    def __init__(
        self, stderr: TextIO, environ: Mapping[str, str], verbose: int, turns: Turns
    ) -> None:
        self._turns = turns
        self._stderr, self._environ, self._verbose = stderr, environ, verbose
        self._out = Out(stderr, colour=True)
        self._progress = Progress()
        self._lines = Lines(verbose if verbose > 0 else -1)
        self._failures = 0
        self._notes: deque[tuple[str, str]] = deque()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._progress.take(event)
        self._note(event)
        if isinstance(event, RunStarted):
            self._thread = threading.Thread(target=self._draw, name="live view", daemon=True)
            atexit.register(self.close)  # a cursor that stays hidden outlives us
            self._thread.start()
        elif isinstance(event, RunFinished):
            self.close()

    def close(self) -> None:
        """Take the view away and give the cursor back; print notes that are left."""
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
            return  # the terminal went away

    def _note(self, event: Event) -> None:
        told = self._lines.line(event)
        if told is None:
            return
        if self._verbose <= 0 and not isinstance(event, Warned | RunFinished):
            self._failures += 1
            if self._failures > _MANY:
                return
            if self._failures == _MANY:
                told = (f"{told[0]}; from here on failures are told at the end", told[1])
        self._notes.append(told)

    def _draw(self) -> None:
        if self._stop.wait(_PATIENCE):
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
                self._stop.wait(_PAUSE)
        except OSError:
            return  # the terminal went away; the run is none the worse for it

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
            while not (self._turns.asked or self._stop.wait(_PAUSE)):
                self._print_notes(console)
                display.update(self._picture(console), refresh=True)

    def _print_notes(self, console: Console) -> None:
        from rich.text import Text

        while self._notes:
            text, style = self._notes.popleft()
            console.print(Text(text, style=_STYLES.get(style, "")))

    def _picture(self, console: Console) -> Text:
        from rich.text import Text

        width, height = console.size
        bar = "━─" if console.encoding.startswith("utf") else "#-"
        with self._lock:
            lines = frame(self._progress, time.time(), width - 1, height, bar)
        parts = [Text.assemble(*segments) for segments in lines]
        picture = Text("\n").join(parts)
        picture.no_wrap, picture.overflow = True, "crop"
        return picture
