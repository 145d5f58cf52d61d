"""Pseudo-terminals of this machine, and processes that run on one."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import tty
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from orchestrator.remote_shell.channel_protocol import Terminal, TerminalSize

# A process that becomes the leader of its session gets the terminal as its controlling terminal
# only with this call, which must be made in the process itself. Python code between fork and exec
# may deadlock in a process with threads, so a fresh interpreter makes the call.
_TAKE_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
try:
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error.strerror}")
"""


def open_terminal(terminal: Terminal) -> tuple[int, int]:
    """Open a pseudo-terminal; return our end and the end of the process. Raises OSError."""
    ours, theirs = pty.openpty()
    try:
        if terminal.attributes:
            set_attributes(theirs, terminal.attributes)
        set_size(ours, terminal.size)
    except BaseException:
        os.close(ours)
        os.close(theirs)
        raise
    return ours, theirs


def get_attributes(device: int) -> tuple[Any, ...]:
    """Return the modes of a terminal, as ``termios.tcgetattr`` returns them. Raises OSError."""
    try:
        return tuple(termios.tcgetattr(device))
    except termios.error as error:
        raise OSError(*error.args) from error


def set_attributes(device: int, attributes: Sequence[Any]) -> None:
    """Set the modes of a terminal, as ``termios.tcgetattr`` returns them. Raises OSError."""
    try:
        termios.tcsetattr(device, termios.TCSANOW, list(attributes))
    except termios.error as error:
        raise OSError(*error.args) from error


def set_size(device: int, size: TerminalSize) -> None:
    """Set the size of a terminal, whose foreground processes get SIGWINCH if it changes."""
    with suppress(OSError):  # the other end is closed
        packed = struct.pack("HHHH", size.rows & 0xFFFF, size.columns & 0xFFFF, 0, 0)
        fcntl.ioctl(device, termios.TIOCSWINSZ, packed)


def make_raw(device: int) -> None:
    """Make a terminal pass every byte unchanged. Raises OSError."""
    try:
        tty.setraw(device, termios.TCSANOW)
    except termios.error as error:
        raise OSError(*error.args) from error


def start_on_terminal(
    argv: Sequence[str | bytes], device: int, *, cwd: str, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a program in a new session whose controlling terminal is ``device``. Raises OSError."""
    words: list[str | bytes] = [sys.executable, "-I", "-S", "-c", _TAKE_TERMINAL, *argv]
    return subprocess.Popen(
        words,
        stdin=device,
        stdout=device,
        stderr=device,
        cwd=cwd,
        env=environment,
        start_new_session=True,
    )
