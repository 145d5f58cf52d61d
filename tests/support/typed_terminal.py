"""A process on a terminal of its own, that a test types on and whose output it reads."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

WAIT_TIMEOUT = 30.0
_TAKE_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
os.close(int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""


class TypedTerminal:
    """The terminal of ``process``, whose controlling terminal and stdin it is.

    ``output`` is everything that was read from it so far.
    """

    def __init__(self, device: int, slave: int, process: subprocess.Popen[bytes]) -> None:
        self._device, self._slave, self.process = device, slave, process
        self.output = b""
        self._searched = 0

    def type(self, text: str) -> None:
        """Type keys; Enter is ``\\r``."""
        os.write(self._device, text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the next match of a regular expression in the output; fail after a timeout."""
        deadline = time.monotonic() + WAIT_TIMEOUT
        while True:
            text = self.output[self._searched :].decode("utf-8", "replace")
            if found := re.search(pattern, text):
                self._searched += len(text[: found.end()].encode())
                return found
            assert time.monotonic() < deadline, f"no {pattern!r} in {text!r}"
            has_ended = self.process.poll() is not None
            if not self._read(min(deadline, time.monotonic() + 0.1)):
                assert not has_ended, f"ended without {pattern!r}: {text!r}"

    def wait_exit(self) -> int:
        """Read to the end, and return the exit status."""
        deadline = time.monotonic() + WAIT_TIMEOUT
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"does not end: {self.output!r}"
            self._read(min(deadline, time.monotonic() + 0.1))
        while self._read(time.monotonic()):
            pass
        return self.process.returncode

    def resize(self, columns: int, rows: int) -> None:
        """Change the size, which sends SIGWINCH."""
        fcntl.ioctl(self._device, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def modes(self) -> list[Any]:
        """Return the modes, as ``termios.tcgetattr`` does."""
        return termios.tcgetattr(self._slave)

    def is_raw(self) -> bool:
        """Return True if keys are passed on one by one."""
        return not self.modes()[3] & termios.ICANON

    def _read(self, deadline: float) -> bool:
        """Read what there is, or comes before the deadline. Return False if there was nothing."""
        timeout = max(0.0, deadline - time.monotonic())
        if not select.select([self._device], [], [], timeout)[0]:
            return False
        with suppress(OSError):
            data = os.read(self._device, 1 << 16)
            self.output += data
            return bool(data)
        return False


@contextmanager
def on_terminal(
    command: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    *,
    columns: int = 80,
    rows: int = 24,
    stdout: int | None = None,
) -> Iterator[TypedTerminal]:
    """Start a process on a terminal; kill it at the end. ``stdout`` replaces only its stdout."""
    device, slave = pty.openpty()
    fcntl.ioctl(device, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _TAKE_TERMINAL, str(slave), *command],
        cwd=cwd,
        env={"TERM": "xterm-256color", **environment},
        stdin=slave,
        stdout=slave if stdout is None else stdout,
        stderr=slave,
        start_new_session=True,
        pass_fds=[slave],
    )
    try:
        yield TypedTerminal(device, slave, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(device)
        os.close(slave)
