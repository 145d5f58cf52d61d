"""Questions to whoever sits at the terminal, or answers on stdin, while a run is under way."""

from __future__ import annotations

import os
import select
import termios
import threading
from collections.abc import Callable
from typing import Any

from orchestrator.model.sanitize import to_one_line
from orchestrator.output.terminal_lock import TerminalLock
from orchestrator.transports.prompts import PromptCallback

_POLL_INTERVAL = 0.2  # seconds until it is noticed that the run was interrupted
_TTY_PATH = "/dev/tty"


class TtyPrompter:
    """The terminal that the process was started from, whatever its stdin and stderr are.

    ``terminal_lock`` keeps the live view out of the questions.
    """

    def __init__(self, terminal_lock: TerminalLock) -> None:
        self._terminal_lock = terminal_lock
        self._saved_settings: tuple[int, list[Any]] | None = None

    def prompt_function(self) -> PromptCallback | None:
        """``ask``, or None where there is no terminal to ask at: then some things can be had
        faster than where somebody might answer.
        """
        try:
            os.close(self._open_tty())
        except OSError:
            return None
        return self.ask

    def ask(self, prompt: str, echo: bool, stop: threading.Event) -> str | None:
        """What is typed, without its newline; None where there is no terminal, its end was
        typed, or ``stop`` was set meanwhile. Not echoed unless ``echo``.
        """
        try:
            device = self._open_tty()
        except OSError:
            return None
        try:
            with self._terminal_lock.question():
                return self._prompt(device, prompt, echo=echo, stop=stop)
        except OSError:
            return None  # the terminal went away, or we are in its background
        finally:
            os.close(device)

    def restore(self) -> None:
        """Let what is typed be seen again; for a process that ends in the middle of a question."""
        if self._saved_settings is not None:
            device, before = self._saved_settings
            termios.tcsetattr(device, termios.TCSANOW, before)

    def _open_tty(self) -> int:
        return os.open(_TTY_PATH, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)

    def _prompt(self, device: int, prompt: str, *, echo: bool, stop: threading.Event) -> str | None:
        if not echo:
            self._disable_echo(device)
        try:
            os.write(device, f"{to_one_line(prompt)} ".encode("utf-8", "replace"))
            line = _read_tty_line(device, stop)
        finally:
            self.restore()
            self._saved_settings = None
        if not echo or line is None:
            os.write(device, b"\n")
        return line

    def _disable_echo(self, device: int) -> None:
        before = termios.tcgetattr(device)
        hidden = list(before)
        hidden[3] = before[3] & ~termios.ECHO
        self._saved_settings = (device, before)
        termios.tcsetattr(device, termios.TCSAFLUSH, hidden)


class StdinLines:
    """The lines of stdin, which need not be a terminal, for questions that can be given up.
    ``question_lock`` is held by whoever asks one."""

    def __init__(self) -> None:
        self.question_lock = threading.Lock()
        self._buffer = b""

    def next_line(self, is_cancelled: Callable[[], bool]) -> str | None:
        """Return the next line without its newline, or None at the end of stdin and once
        ``is_cancelled`` returns True."""
        while b"\n" not in self._buffer:
            if is_cancelled():
                return None
            if select.select([0], [], [], _POLL_INTERVAL)[0]:
                data = os.read(0, 4096)
                if not data:
                    break
                self._buffer += data
        line, newline, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r") if line or newline else None


def _read_tty_line(device: int, stop: threading.Event) -> str | None:
    """One line, edited by the terminal itself."""
    while not stop.is_set():
        if select.select([device], [], [], _POLL_INTERVAL)[0]:
            data = os.read(device, 4096)
            return data.decode("utf-8", "surrogateescape").rstrip("\r\n") if data else None
    return None
