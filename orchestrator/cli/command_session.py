"""Connects the standard streams, or the terminal, to a command that runs on a host."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from orchestrator.remote_shell.channel_protocol import (
    CommandChannel,
    ReadChunk,
    Terminal,
    TerminalSize,
)

_INPUT_BYTES = 1 << 16  # bytes of input that are read at once
_MAX_WAITING_BYTES = 1 << 18  # bytes of input that wait for the host
_INTERRUPT_TIMEOUT = 2.0  # seconds for a command to end after an interrupt
_JOIN_TIMEOUT = 1.0  # seconds for the thread that reads stdin to end
_DEFAULT_SIZE = TerminalSize(80, 24)


class LocalTerminal:
    """The terminal that is the standard input."""

    def __init__(self, device: int = 0) -> None:
        """Read its modes."""
        self._device = device
        self._before: list[Any] = termios.tcgetattr(device)
        self._is_raw = False

    def describe(self, kind: str) -> Terminal:
        """Return a terminal like it for a command on a host; ``kind`` is the value of ``TERM``."""
        return Terminal(kind, self.size(), tuple(self._before))

    def size(self) -> TerminalSize:
        """Return its size in characters."""
        with suppress(OSError):
            columns, rows = os.get_terminal_size(self._device)
            if columns > 0 and rows > 0:
                return TerminalSize(columns, rows)
        return _DEFAULT_SIZE

    @contextmanager
    def raw(self) -> Iterator[None]:
        """Pass every key to the host in this context, and restore the terminal afterwards."""
        self._is_raw = True
        try:
            tty.setraw(self._device, termios.TCSADRAIN)
            yield
        finally:
            self.restore()

    def restore(self) -> None:
        """Restore the terminal's modes if they were changed. Safe to call from any thread."""
        if self._is_raw:
            self._is_raw = False
            with suppress(termios.error):  # the terminal was closed
                termios.tcsetattr(self._device, termios.TCSADRAIN, self._before)


class EscapeFilter:
    """Finds ``~.`` at the beginning of a typed line, which ends the session as in ssh.

    ``~~`` there types one ``~``.
    """

    def __init__(self) -> None:
        """Start at the beginning of a line."""
        self._at_line_start, self._has_tilde = True, False

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """Return what to send to the host, and whether the session ends."""
        sent = bytearray()
        for number in typed:
            char = bytes([number])
            if self._has_tilde:
                self._has_tilde = False
                if char == b".":
                    return bytes(sent), True
                sent += b"~" if char == b"~" else b"~" + char
            elif self._at_line_start and char == b"~":
                self._has_tilde = True
            else:
                sent += char
            self._at_line_start = char in b"\r\n"
        return bytes(sent), False


class CommandSession:
    """Copies input to a command, and its output to stdout and stderr, until it ends.

    ``terminal`` is the terminal that stdin is, if the command runs on one. ``send_signal`` sends
    the command a signal, like ``INT``. The main thread uses the channel; another one reads stdin
    and waits for signals.
    """

    def __init__(
        self,
        channel: CommandChannel,
        terminal: LocalTerminal | None,
        send_signal: Callable[[str], None],
    ) -> None:
        """Prepare; nothing is read or changed yet."""
        self._channel, self._terminal, self._send_signal = channel, terminal, send_signal
        self._escape = EscapeFilter() if terminal else None
        self._changed = threading.Condition()
        self._input = bytearray()
        self._input_ended = self._resized = self._stopped = self._has_ended = False
        self._disconnect_reason = ""
        self._stop_deadline: float | None = None
        self._ends_line = True
        self._wakeups = os.pipe()
        os.set_blocking(self._wakeups[1], False)

    @property
    def disconnect_reason(self) -> str:
        """Why the session ended before the command, if this side ended it; otherwise ''."""
        return self._disconnect_reason

    def run(self, output: ReadChunk) -> int | None:
        """Write ``output``, and copy until the command ends; return its exit status, if known.

        Raises StdoutError if stdout cannot be written, and ConnectError if the host refuses the
        command late. Call it once.
        """
        reader = threading.Thread(target=self._read_input, name="orch-stdin", daemon=True)
        previous = signal.signal(signal.SIGWINCH, self._on_resize)
        try:
            self._write_output(output)
            reader.start()
            self._copy()
            return self._channel.exit_status()
        finally:
            signal.signal(signal.SIGWINCH, previous)
            self._end_reader(reader)
            self._channel.close()
            if self._terminal and not self._ends_line:
                self._terminal.restore()
                sys.stderr.write("\n")

    def stop(self) -> None:
        """Interrupt the command and end the session soon. Called by another thread."""
        self._stopped = True
        self._channel.wake()

    def _end_reader(self, reader: threading.Thread) -> None:
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
        self._wake_reader(b"q")
        if reader.ident is not None:
            reader.join(_JOIN_TIMEOUT)

    def _copy(self) -> None:
        while True:
            chunk = self._channel.read(self._remaining_time())
            self._write_output(chunk)
            if chunk.eof or self._has_to_leave():
                return
            if self._resized and self._terminal:
                self._resized = False
                self._channel.resize(self._terminal.size())
            self._send_input()

    def _remaining_time(self) -> float | None:
        if self._stop_deadline is None:
            return None
        return max(0.0, self._stop_deadline - time.monotonic())

    def _has_to_leave(self) -> bool:
        """Return True if the session must end before the command does."""
        if self._disconnect_reason:
            return True
        if not self._stopped:
            return False
        if self._terminal is not None:
            return True  # the host's terminal is closed, which ends the command
        if self._stop_deadline is None:
            self._send_signal("INT")
            self._stop_deadline = time.monotonic() + _INTERRUPT_TIMEOUT
        if self._remaining_time() == 0.0:
            self._send_signal("TERM")
            return True
        return False

    def _send_input(self) -> None:
        """Send as much of the waiting input as the host takes, and then its end."""
        with self._changed:
            waiting = bytes(self._input)
        try:
            sent = self._channel.write(waiting) if waiting else 0
        except OSError:  # the command reads no more input, or has ended
            sent = len(waiting)
        with self._changed:
            del self._input[:sent]
            self._changed.notify_all()
            ended = self._input_ended and not self._input
        if ended and self._terminal is None:
            self._channel.close_stdin()

    def _write_output(self, chunk: ReadChunk) -> None:
        for stream, data in ((sys.stdout, chunk.stdout), (sys.stderr, chunk.stderr)):
            if data:
                stream.buffer.write(data)
                stream.buffer.flush()
                self._ends_line = data.endswith(b"\n")

    # Called by the thread that reads stdin.

    def _read_input(self) -> None:
        sources = [0, self._wakeups[0]]
        while True:
            ready = select.select(sources, [], [])[0]
            if self._wakeups[0] in ready:
                requests = os.read(self._wakeups[0], 64)
                if b"q" in requests:
                    return
                self._resized = True
                self._channel.wake()
            if 0 in ready and not self._take_input():
                sources.remove(0)

    def _take_input(self) -> bool:
        """Read stdin and keep it for the main thread. Return False at its end."""
        try:
            data = os.read(0, _INPUT_BYTES)
        except OSError:  # the terminal was closed
            data = b""
        sent, ends_session = self._escape.feed(data) if self._escape else (data, False)
        with self._changed:
            self._changed.wait_for(lambda: len(self._input) < _MAX_WAITING_BYTES or self._has_ended)
            self._input += sent
            self._input_ended = not data
            if ends_session:
                self._disconnect_reason = "you typed ~."
            elif self._terminal and not data:
                self._disconnect_reason = "the terminal was closed"
        self._channel.wake()
        return bool(data) and not ends_session

    def _on_resize(self, _number: int, _frame: FrameType | None) -> None:
        self._wake_reader(b"w")

    def _wake_reader(self, request: bytes) -> None:
        with suppress(BlockingIOError):  # a request is pending
            os.write(self._wakeups[1], request)
