"""Questions to whoever sits at the terminal, or answers on stdin, while a run is under way."""

from __future__ import annotations

import os
import select
import termios
import threading
from collections.abc import Callable
from typing import Any

from orchestrator.model.sanitize import one_line
from orchestrator.output.terminal_lock import Turns
from orchestrator.transports.prompts import Ask

_SLICE = 0.2  # seconds until it is noticed that the run was interrupted
_DEVICE = "/dev/tty"


class Terminal:
    """The terminal that the process was started from, whatever its stdin and stderr are.

    ``turns`` keeps the live view out of the questions.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._hidden: tuple[int, list[Any]] | None = None

    def asker(self) -> Ask | None:
        """``ask``, or None where there is no terminal to ask at: then some things can be had
        faster than where somebody might answer.
        """
        try:
            os.close(self._device())
        except OSError:
            return None
        return self.ask

    def ask(self, prompt: str, seen: bool, stop: threading.Event) -> str | None:
        """What is typed, without its newline; None where there is no terminal, its end was
        typed, or ``stop`` was set meanwhile. Not echoed unless ``seen``.
        """
        try:
            device = self._device()
        except OSError:
            return None
        try:
            with self._turns.question():
                return self._asked(device, prompt, seen=seen, stop=stop)
        except OSError:
            return None  # the terminal went away, or we are in its background
        finally:
            os.close(device)

    def restore(self) -> None:
        """Let what is typed be seen again; for a process that ends in the middle of a question."""
        if self._hidden is not None:
            device, before = self._hidden
            termios.tcsetattr(device, termios.TCSANOW, before)

    def _device(self) -> int:
        return os.open(_DEVICE, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)

    def _asked(self, device: int, prompt: str, *, seen: bool, stop: threading.Event) -> str | None:
        if not seen:
            self._hide(device)
        try:
            os.write(device, f"{one_line(prompt)} ".encode("utf-8", "replace"))
            line = _line(device, stop)
        finally:
            self.restore()
            self._hidden = None
        if not seen or line is None:
            os.write(device, b"\n")
        return line

    def _hide(self, device: int) -> None:
        before = termios.tcgetattr(device)
        hidden = list(before)
        hidden[3] = before[3] & ~termios.ECHO
        self._hidden = (device, before)
        termios.tcsetattr(device, termios.TCSAFLUSH, hidden)


class Lines:
    """The lines of stdin, which need not be a terminal, for questions that can be given up.
    ``turn`` is held by whoever asks one."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self._read = b""

    def next(self, stopping: Callable[[], bool]) -> str | None:
        """Return the next line without its newline, or None at the end of stdin and once
        ``stopping`` returns True."""
        while b"\n" not in self._read:
            if stopping():
                return None
            if select.select([0], [], [], _SLICE)[0]:
                data = os.read(0, 4096)
                if not data:
                    break
                self._read += data
        line, newline, self._read = self._read.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r") if line or newline else None


def _line(device: int, stop: threading.Event) -> str | None:
    """One line, edited by the terminal itself."""
    while not stop.is_set():
        if select.select([device], [], [], _SLICE)[0]:
            data = os.read(device, 4096)
            return data.decode("utf-8", "surrogateescape").rstrip("\r\n") if data else None
    return None
