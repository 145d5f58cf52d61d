"""The live view: lines that stay, and below them a few lines that show what runs.

Events only update counters; one thread draws, so that the cost does not grow with hosts or events.
Only that thread loads rich, and only for a run that takes long enough to be watched.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO, TypeAlias

from msgspec import Struct

from orchestrator.model.event import (
    ConnectFinished,
    ConnectStarted,
    Crashed,
    Noted,
    RunEvent,
    RunFinished,
    RunStarted,
    StepFinished,
    StepOutput,
    TaskFinished,
    TaskStarted,
    Warned,
)
from orchestrator.model.sanitize import to_one_line
from orchestrator.output.console import BOLD, DIM, TextConsole, open_console
from orchestrator.output.event_lines import EventLineFormatter
from orchestrator.output.live_output import LiveOutput
from orchestrator.output.run_progress import HostActivity, RunProgress, TaskProgress
from orchestrator.output.step_lines import LineLayout, StepLines, StyledLine, step_title
from orchestrator.output.terminal_lock import TerminalLock
from orchestrator.output.text_width import display_width, pad_text, truncate_text, wrap_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text


StyledText: TypeAlias = tuple[str, str]
_MAX_SLOWEST = 5
_MIN_SECONDS_SHOWN = 1.0  # of a host's step, or its line would only flicker
_MIN_SECONDS_EXPECTED = 5.0  # of a run, for which the estimate is shown
_BAR_WIDTHS = (6, 30)


def render_progress(
    progress: RunProgress,
    now: float,
    width: int,
    height: int,
    *,
    bar: str = "━─",
    expected: float | None = None,
) -> list[list[StyledText]]:
    """Return a line per app (and for connecting), then the slowest hosts; styles are rich's.

    The result takes at most half the height of a small terminal. ``bar`` has two characters: for
    the finished part and for the rest. ``expected`` is how many seconds the whole run will take, if
    that is known.
    """
    room = max(height - 1, 1)
    rows = _progress_rows(progress, now)
    kept = rows if len(rows) <= max(room - 1, 1) else rows[: max(room - 2, 1)]
    shown = _bar_lines(kept, width, bar)
    if len(kept) < len(rows) and room > 1:
        shown.append([(truncate_text(f"… and {len(rows) - len(kept)} more", width), "dim")])
    if (expected or 0) >= _MIN_SECONDS_EXPECTED and rows and room > len(shown):
        elapsed = format_duration(now - progress.since)
        text = f"{elapsed} of about {format_duration(expected or 0)}, as in earlier runs"
        shown.append([(truncate_text(text, width), "dim")])
    count = max(0, min(_MAX_SLOWEST, height // 2, room - len(shown)))
    slowest = progress.slowest_hosts(count, now - _MIN_SECONDS_SHOWN)
    return shown + _host_lines(slowest, now, width)


def format_duration(seconds: float) -> str:
    """Return a duration as ``12 s``, ``3:05`` or ``1:02:03``."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes = f"{rest // 60}:{rest % 60:02}"
    return f"{hours}:{minutes:0>5}" if hours else minutes


class _ProgressRow(Struct, frozen=True):
    """One line of progress. ``count_forms`` are texts of the counts, the longest first."""

    label: str
    count_forms: tuple[str, ...]
    elapsed: str
    done: int
    total: int
    failed: int


def _progress_rows(progress: RunProgress, now: float) -> list[_ProgressRow]:
    found: list[_ProgressRow] = []
    if progress.connecting:
        bad, total = progress.unreachable, progress.hosts
        done = progress.connected + bad
        counts = f"{done}/{total}, {bad} failed" if bad else f"{done}/{total}"
        elapsed = format_duration(now - progress.since)
        found.append(
            _ProgressRow("connecting", (counts,), elapsed, done=done, total=total, failed=bad)
        )
    for task in progress.tasks():
        total = task.hosts * max(task.steps, 1)
        done = min(task.steps_done, total) if task.steps else task.done
        elapsed = format_duration(now - task.since)
        label = to_one_line(task.label)
        found.append(
            _ProgressRow(
                label, _count_forms(task), elapsed, done=done, total=total, failed=task.failed
            )
        )
    return found


def _count_forms(task: TaskProgress) -> tuple[str, ...]:
    if not task.hosts:
        return ("",)
    step = min((task.reached or (0,))[0] + 1, task.steps)
    failed = f", {task.failed} failed" if task.failed else ""
    hosts = f"{task.done}/{task.hosts}"
    long, short = [], []
    if task.total > 1:
        long.append(f"task {task.number} of {task.total}")
    if task.steps > 1:
        long.append(f"step {step} of {task.steps}")
        short.append(f"step {step}/{task.steps}")
    return (
        "  ".join((*long, f"{hosts} done, {len(task.running)} running{failed}")),
        "  ".join((*long, f"{hosts} done{failed}")),
        "  ".join((*short, f"{hosts}{failed}")),
        f"{hosts}{failed}",
    )


def _bar_lines(rows: Sequence[_ProgressRow], width: int, bar: str) -> list[list[StyledText]]:
    """Return the rows in columns: label, bar (if there is room), counts, elapsed time."""
    labels = min(_max_width([row.label for row in rows]), width // 2)
    times = _max_width([row.elapsed for row in rows])
    room = width - times - 4
    counts_text: list[str] = []
    for form in range(4):
        counts_text = [row.count_forms[min(form, len(row.count_forms) - 1)] for row in rows]
        bar_room = _BAR_WIDTHS[0] + 2 if form < 2 else 0  # short forms go without a bar
        if labels + _max_width(counts_text) + bar_room <= room:
            break
    counts = _max_width(counts_text)
    labels = max(min(labels, room - counts), 1)
    size = min(room - counts - labels - 2, _BAR_WIDTHS[1])
    return [
        [
            (pad_text(truncate_text(row.label, labels), labels) + "  ", "bold"),
            *(_bar_segments(row, size, bar) if size >= _BAR_WIDTHS[0] else []),
            (pad_text(text, counts) + "  ", "red" if row.failed else ""),
            (pad_text(row.elapsed, times, right=True), "dim"),
        ]
        for row, text in zip(rows, counts_text, strict=True)
    ]


def _bar_segments(row: _ProgressRow, size: int, bar: str) -> list[StyledText]:
    full = min(size * row.done // row.total, size) if row.total else 0
    style = "red" if row.failed else "green"
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


_FIRST_DRAW_DELAY = 0.3
_REDRAW_INTERVAL = 1 / 6
_MAX_WAITING_CHARS = 1_000_000


class LiveSink:
    """A sink that prints lines that stay, and draws the progress below them until RunFinished.

    A line stays for each changed, failed and retried step (``StepLines``; with ``verbose`` above 0
    for every step) and for each warning; so does, with ``outputs``, the output of few hosts
    (``LiveOutput``). A header precedes the first of them; before, it is a part of the view. With
    ``progress_only``, only warnings stay. Nothing is drawn during a prompt (``terminal_lock``).
    ``find_expected`` returns how many seconds the run will take, or None; the first drawing calls
    it.
    """

    def __init__(
        self,
        stderr: TextIO,
        environ: Mapping[str, str],
        verbose: int,
        terminal_lock: TerminalLock,
        *,
        outputs: bool = False,
        progress_only: bool = False,
        find_expected: Callable[[RunStarted], float | None] | None = None,
    ) -> None:
        self._turns = terminal_lock
        self._stderr, self._environ = stderr, environ
        width = open_console(stderr, environ).width
        self._out = TextConsole(stderr, colour=True, width=width)
        self._layout = LineLayout(width and width - 1, _is_unicode(stderr))
        self._progress = RunProgress()
        self._lines = EventLineFormatter(verbose, has_times=False)
        self._verbose = verbose
        self._step_lines = StepLines(verbose)
        self._output = LiveOutput() if outputs else None
        self._began: RunStarted | None = None
        self._is_single_step = False
        self._find_expected = find_expected
        self._progress_only = progress_only
        self._has_header = verbose >= 0 and not progress_only
        self._waiting: deque[str] = deque()
        self._waiting_chars = 0
        self._has_lines = False
        self._lock = threading.Condition()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, event: RunEvent) -> None:
        with self._lock:
            self._progress.count_event(event)
            self._take_lines(event)
            while self._waiting_chars > _MAX_WAITING_CHARS and self._can_wait():
                self._lock.wait(_REDRAW_INTERVAL)
        if isinstance(event, RunStarted):
            self._thread = threading.Thread(target=self._draw, name="live view", daemon=True)
            atexit.register(self.close)  # or the cursor would stay hidden after exit
            self._thread.start()
        elif isinstance(event, RunFinished):
            self.close()

    def close(self) -> None:
        """Remove the view, restore the cursor and print the remaining lines."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            atexit.unregister(self.close)
        with self._lock:
            self._stay(self._step_lines.all_lines(self._layout))
            if self._output:
                self._add_waiting(list(self._output.end_all()))
            if self._has_lines and self._began and not self._progress_only:
                self._add_waiting([""])
                self._has_lines = False  # a sink may be closed again
            text = self._take_waiting()
        try:
            self._out.write(text)
        except OSError:
            return  # the terminal is gone

    def was_output_shown(self, event: StepFinished) -> bool:
        """Return True if the output of the step that has just ended was printed as it came."""
        return self._output is not None and self._output.take_shown(event)

    def has_scattered_lines(self) -> bool:
        """Return True if the lines that stay are not one for each step and result."""
        return self._step_lines.has_partial

    def _can_wait(self) -> bool:
        """Return True if the drawing thread will take the waiting lines soon."""
        return (
            self._thread is not None
            and self._thread.is_alive()
            and not self._stop.is_set()
            and not self._turns.has_question
        )

    def _take_lines(self, event: RunEvent) -> None:
        match event:
            case StepOutput():
                if event.task and self._output and (self._verbose > 0 or not event.is_for_steps):
                    self._take_output(event)
                return
            case RunStarted():
                self._began = event
                self._step_lines.only_failures = event.check
            case TaskStarted() if event.total == 1 and event.steps < 2:
                self._is_single_step = self._step_lines.only_failures = True
            case StepFinished() if self._output:
                self._add_waiting(list(self._output.end_step(event)))
        if not self._progress_only:
            self._step_lines.add(event)
        if isinstance(event, TaskFinished):
            self._stay(
                self._step_lines.due_lines(time.time(), self._progress.reached(), self._layout)
            )
            if self._output:
                self._output.end_task(event.app)
        if note := self._note(event):
            self._stay([note])

    def _note(self, event: RunEvent) -> StyledLine | None:
        """Return the line of an event that is not the result of a step, host or connection."""
        line = self._lines.format_event(event)
        match event:
            case Warned() | Crashed() | RunFinished():
                return line
            case Noted():
                return line  # None, unless verbose
            case ConnectStarted() | ConnectFinished(error="") | TaskFinished():
                return line if self._verbose > 1 else None
        return None

    def _take_output(self, event: StepOutput) -> None:
        assert self._output
        task = self._progress.apps.get(event.app)
        work = task.running.get(event.host) if task else None
        is_only_step = self._is_single_step
        title = ""
        if work and not is_only_step:
            title = self._out.paint(step_title(event.app, event.task, work.action), DIM)
        at_once = is_only_step and self._progress.hosts == 1
        lines = list(self._output.add(event, title, at_once=at_once))
        if at_once:
            self._has_header = False  # it would follow the output that it belongs above
            self._add_waiting(lines)
        else:
            self._stay_plain(lines)

    def _stay_due_steps(self, now: float) -> None:
        reached = self._progress.reached()
        self._stay(self._step_lines.due_lines(now, reached, self._layout))

    def _stay(self, lines: Iterable[StyledLine]) -> None:
        self._stay_plain(self._out.paint(*line) for line in lines)

    def _stay_plain(self, lines: Iterable[str]) -> None:
        found = list(lines)
        if found:
            self._add_header()
            self._add_waiting(found)

    def _add_header(self) -> None:
        rows = self._header_lines()
        self._has_header = False
        self._add_waiting([self._out.paint(row, BOLD) for row in rows])

    def _header_lines(self) -> list[str]:
        """Return the lines of the header, if it has not been printed."""
        if not self._has_header or self._began is None:
            return []
        text, width = _header_text(self._began), self._layout.width
        return wrap_text(text, width) if width else [text]

    def _add_waiting(self, lines: Sequence[str]) -> None:
        self._has_lines |= bool(lines)
        self._waiting += lines
        self._waiting_chars += sum(map(len, lines))

    def _take_waiting(self) -> str:
        text = "".join(f"{line}\n" for line in self._waiting)
        self._waiting.clear()
        self._waiting_chars = 0
        self._lock.notify_all()
        return text

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
        expected = self._find_expected(self._began) if self._find_expected and self._began else None
        try:
            while not self._stop.is_set():
                with self._turns.view() as ours:
                    if ours:
                        self._display(console, expected)
                self._stop.wait(_REDRAW_INTERVAL)
        except OSError:
            return  # the terminal is gone; the run continues

    def _display(self, console: Console, expected: float | None) -> None:
        from rich.live import Live as Display

        with Display(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        ) as display:
            drawn: list[str] = []
            while not (self._turns.has_question or self._stop.wait(_REDRAW_INTERVAL)):
                lines, text = self._next_drawing(console, expected)
                shown = ["".join(part for part, _ in line) for line in lines]
                if text or shown != drawn:
                    with console:  # one write for all of it, or it would flicker
                        _erase_wrapped_rows(console, drawn)
                        if text:
                            console.print(_RawText(text), crop=False, end="")
                        display.update(_rich_text(lines), refresh=True)
                    drawn = shown

    def _next_drawing(
        self, console: Console, expected: float | None
    ) -> tuple[list[list[StyledText]], str]:
        """Return the lines of progress, and the text to print above them."""
        width, height = console.size
        bar = "━─" if self._layout.is_unicode else "#-"
        now = time.time()
        with self._lock:
            self._layout = LineLayout(width - 1, self._layout.is_unicode)
            self._stay_due_steps(now)
            if self._output:
                self._stay_plain(self._output.due_lines(now))
            header = self._header_lines()  # of a run without lines so far
            room = max(height - len(header), 1)
            lines = [[(row, "bold")] for row in header]
            lines += render_progress(
                self._progress, now, width - 1, room, bar=bar, expected=expected
            )
            return lines, self._out.encodable(self._take_waiting())


class _RawText(Struct, frozen=True):
    """Text that rich writes as it is."""

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        yield Segment(self.text)


def _rich_text(lines: Sequence[Sequence[StyledText]]) -> Text:
    from rich.text import Text

    picture = Text("\n").join(Text.assemble(*line) for line in lines)
    picture.no_wrap, picture.overflow = True, "crop"
    return picture


def _erase_wrapped_rows(console: Console, drawn: Sequence[str]) -> None:
    """Erase the rows that the drawn lines take in excess, since a narrower terminal wraps them."""
    width = max(console.width, 1)
    excess = sum(max(display_width(line) - 1, 0) // width for line in drawn)
    if excess:
        from rich.control import Control
        from rich.segment import ControlType

        up = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
        console.control(Control(*(up * excess)))


def _header_text(event: RunStarted) -> str:
    tasks = to_one_line(" ".join(event.tasks))
    check = "check of " if event.check else ""
    apps = f" for {', '.join(event.apps)}" if event.apps else ""
    hosts = f"{len(event.hosts)} host{'' if len(event.hosts) == 1 else 's'}"
    resumed = ", resumed" if event.resumed else ""
    return to_one_line(f"{event.stage}: {check}{tasks}{apps} on {hosts}, run {event.run}{resumed}")


def _is_unicode(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")
