"""A real terminal (tmux, on its own server) in which a command runs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DRIVE = [sys.executable, "-m", "tests.support.event_replay"]


def wait_until(what: str, condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until the condition is true; fail after a timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.03)


class TmuxTerminal:
    """A terminal of a given size, whose screen can be read."""

    def __init__(self, socket: Path, width: int, height: int, command: list[str]) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        env = ["env", "-u", "CI", "-u", "NO_COLOR", "-u", "COLUMNS", "-u", "LINES"]
        line = shlex.join([*env, "TERM=xterm-256color", "LC_ALL=C.UTF-8", *command])
        size = ["-x", str(width), "-y", str(height)]
        self._run("set-option", "-g", "history-limit", "20000", ";", "new-session", "-d", *size,
                  "-c", str(ROOT), f"{line}; echo THE END $?; exec sleep 600")  # fmt: skip

    def screen(self, *, joined: bool = False, history: bool = False) -> list[str]:
        """Return the lines without trailing spaces; ``joined`` joins wrapped ones."""
        more = [*(["-J"] if joined else []), *(["-S", "-"] if history else [])]
        lines = self._run("capture-pane", "-p", *more).split("\n")
        return [line.rstrip() for line in lines]

    def type(self, text: str, *keys: str) -> None:
        """Type a literal text, and then keys (``Enter``, ``C-c``)."""
        if text:
            self._run("send-keys", "-l", text)
        self._run("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def cursor_shown(self) -> bool:
        return self._run("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def is_echoing(self) -> bool:
        """Return True if typed text is shown."""
        name = self._run("display-message", "-p", "#{pane_tty}").strip()
        device = os.open(name, os.O_RDWR | os.O_NOCTTY)
        try:
            return bool(termios.tcgetattr(device)[3] & termios.ECHO)
        finally:
            os.close(device)

    def close(self) -> None:
        self._run("kill-server")

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments], capture_output=True, encoding="utf-8", timeout=20, check=True
        )
        return done.stdout
