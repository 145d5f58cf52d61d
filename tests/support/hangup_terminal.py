"""A process whose controlling terminal can be closed while it runs."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

_START = """
import fcntl, signal, termios

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
for number in {ignored}:
    signal.signal(number, signal.SIG_IGN)
{script}
"""

MAIN = """
from orchestrator.cli.main import main

main()
"""
"""The script that runs `orch`."""


@dataclass
class HangupTerminal:
    """A process whose stdin is its controlling terminal; its stdout may be another one.

    ``keys`` is the side of the terminal at which keys are typed, and ``shown`` that at which output
    is read; the same descriptor, if there is only one terminal.
    """

    process: subprocess.Popen[bytes]
    keys: int
    shown: int

    def type(self, keys: bytes) -> None:
        os.write(self.keys, keys)

    def wait_for(self, text: bytes) -> None:
        """Read the output until this text is shown."""
        output, until = b"", time.monotonic() + 30
        while text not in output:
            assert select.select([self.shown], [], [], until - time.monotonic())[0], output
            output += os.read(self.shown, 4096)

    def hang_up(self) -> None:
        """Close the terminal at which output is shown."""
        os.close(self.shown)
        if self.keys == self.shown:
            self.keys = -1
        self.shown = -1

    def exit_code(self) -> int:
        return self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for descriptor in {self.keys, self.shown} - {-1}:
            with suppress(OSError):
                os.close(descriptor)


def start_on_terminal(
    script: str,
    words: Sequence[str],
    environ: Mapping[str, str],
    *,
    terminals: int = 1,
    ignored: Sequence[signal.Signals] = (),
    cwd: str | None = None,
) -> HangupTerminal:
    """Run a Python script with these arguments; signals that are ``ignored`` stay so in it."""
    pairs = [pty.openpty() for _ in range(terminals)]
    (keys, stdin), (shown, stdout) = pairs[0], pairs[-1]
    text = _START.format(ignored=[int(number) for number in ignored], script=script)
    process = subprocess.Popen(
        [sys.executable, "-c", text, *words],
        cwd=cwd,
        env=dict(environ),
        stdin=stdin,
        stdout=stdout,
        stderr=stdin,
        start_new_session=True,
    )
    for _, theirs in pairs:
        os.close(theirs)
    return HangupTerminal(process, keys, shown)
