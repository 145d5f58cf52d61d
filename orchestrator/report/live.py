"""The live view: a few lines at the bottom of the terminal while a run is under way.

Events only count; one thread draws, so that the cost does not grow with hosts or events.
rich is loaded by that thread, and only for a run that takes long enough to be watched.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from orchestrator.model.event import Event, RunFinished, RunStarted, Warned
from orchestrator.report.frame import frame
from orchestrator.report.lines import Lines
from orchestrator.report.out import Out
from orchestrator.report.progress import Progress
from orchestrator.report.turns import Turns

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

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
