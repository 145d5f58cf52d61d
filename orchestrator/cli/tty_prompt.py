"""Prompts on the terminal, and confirmations on stdin, during a run."""

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

_POLL_INTERVAL = 0.2  # seconds until an interrupt is noticed
_TTY_PATH = "/dev/tty"


class TtyPrompter:
    """The controlling terminal of the process, whatever its stdin and stderr are.

    ``terminal_lock`` pauses the live display during a prompt.
    """

    def __init__(self, terminal_lock: TerminalLock) -> None:
        """Store the lock; the terminal is opened for each prompt."""
        self._terminal_lock = terminal_lock
        self._saved_settings: tuple[int, list[Any]] | None = None

    def prompt_function(self) -> PromptCallback | None:
        """Return ``ask``, or None if there is no terminal.

        Callers can skip slow steps if nobody can be asked.
        """
        try:
            os.close(self._open_tty())
        except OSError:
            return None
        return self.ask

    def ask(self, prompt: str, echo: bool, stop: threading.Event) -> str | None:
        """Prompt for a line and return it without its newline; echo the input only if ``echo``.

        Return None if there is no terminal, at the end of its input, or when ``stop`` is set.
        """
        try:
            device = self._open_tty()
        except OSError:
            return None
        try:
            with self._terminal_lock.question():
                return self._prompt(device, prompt, echo=echo, stop=stop)
        except (OSError, termios.error):
            return None  # the terminal was closed, or this is a background process
        finally:
            os.close(device)

    def restore(self) -> None:
        """Switch the terminal's echo on again, for a process that exits during a prompt."""
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
    """The lines of stdin, which need not be a terminal, read with a cancellable wait.

    ``question_lock`` is held by the thread that asks a question.
    """

    def __init__(self) -> None:
        """Start with an empty buffer."""
        self.question_lock = threading.Lock()
        self._buffer = b""

    def next_line(self, is_cancelled: Callable[[], bool]) -> str | None:
        """Return the next line without its newline.

        Return None at the end of stdin, or when ``is_cancelled`` returns True.
        """
        while b"\n" not in self._buffer:
            if is_cancelled():
                return None
            if select.select([0], [], [], _POLL_INTERVAL)[0]:
                try:
                    data = os.read(0, 4096)
                except OSError:
                    data = b""  # the terminal was closed
                if not data:
                    break
                self._buffer += data
        line, newline, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r") if line or newline else None


def _read_tty_line(device: int, stop: threading.Event) -> str | None:
    """Read one line; the terminal itself handles editing. Return None when ``stop`` is set."""
    while not stop.is_set():
        if select.select([device], [], [], _POLL_INTERVAL)[0]:
            data = os.read(device, 4096)
            return data.decode("utf-8", "surrogateescape").rstrip("\r\n") if data else None
    return None
