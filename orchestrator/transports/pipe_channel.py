"""A channel over the stdin, stdout and stderr pipes of a child process, or over its terminal."""

from __future__ import annotations

import errno
import os
import selectors
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from orchestrator.remote_shell.channel_protocol import ReadChunk, Terminal, TerminalSize
from orchestrator.transports.pseudo_terminal import open_terminal, set_size

_READ_BYTES = 65536  # bytes a read takes at most
_MAX_PIPED_BYTES = 1 << 20  # bytes that may still be in the pipes after the shell has exited
StdioFds: TypeAlias = tuple[int, int, int]


class PipeChannel:
    """A ``Channel`` over pipes or a terminal; subclasses add ``exit_status``.

    ``start_shell`` receives the shell's ends of the pipes (stdin, stdout, stderr), which are
    closed after it has returned; with ``terminal`` all of them are a new terminal.
    """

    def __init__(
        self, start_shell: Callable[[StdioFds], None], terminal: Terminal | None = None
    ) -> None:
        ours, theirs = _make_terminal_ends(terminal) if terminal else _make_stdio_pipes()
        try:
            start_shell(theirs)
        except BaseException:
            _close_fds(*ours)
            raise
        finally:
            _close_fds(*theirs)
        self._stdin: int | None = ours[0]
        self._outputs = ours[1:]
        self._open_outputs = set(self._outputs)
        self._waker, self._woken = os.pipe()
        for fd in (*ours, self._waker, self._woken):
            os.set_blocking(fd, False)
        self._is_full = False
        self._remaining_bytes = _MAX_PIPED_BYTES
        self._closed = False
        self._fds_lock = threading.Lock()  # held while the file descriptors are in use
        self._wake_lock = threading.Lock()

    def write(self, data: bytes | memoryview) -> int:
        """Implement ``Channel.write``."""
        with self._fds_lock:
            if self._stdin is None:
                raise BrokenPipeError("the shell's stdin is closed")
            try:
                written = os.write(self._stdin, data)
            except BlockingIOError:
                written = 0
            self._is_full = written < len(data)
            return written

    def read(self, timeout: float | None) -> ReadChunk:
        """Implement ``Channel.read``."""
        with self._fds_lock:
            if self._closed:
                return ReadChunk(eof=True)
            exited = self._has_exited()
            ready = self._wait_ready(0 if exited else timeout)
            if self._waker in ready:
                os.read(self._waker, _READ_BYTES)
            if self._closed:
                return ReadChunk(eof=True)
            self._handle_ready(ready)
            stdout, *others = (self._read_fd(fd) if fd in ready else b"" for fd in self._outputs)
            stderr = others[0] if others else b""
            if exited:
                self._remaining_bytes -= len(stdout) + len(stderr)
            # another process may hold the pipes open for ever
            return ReadChunk(
                stdout, stderr, exited and (self._remaining_bytes < 0 or not (stdout or stderr))
            )

    def wake(self) -> None:
        """Implement ``Channel.wake``."""
        with self._wake_lock:
            if not self._closed:
                self._write_wake()

    def close_stdin(self) -> None:
        """Implement ``Channel.close_stdin``."""
        with self._fds_lock:
            self._close_stdin_fd()

    def resize(self, size: TerminalSize) -> None:
        """Implement ``CommandChannel.resize``."""
        with self._fds_lock:
            if not self._closed:
                set_size(self._outputs[0], size)

    def cause(self) -> str:
        """Return '': a pipe gives no cause."""
        return ""

    def prepared_shell(self) -> None:
        """Return None: a shell starts with its channel."""

    def close(self) -> None:
        """End the shell and close its pipes. Safe to call twice."""
        with self._wake_lock:
            if self._closed:
                return
            self._closed = True
            self._write_wake()
        with self._fds_lock:
            self._close_stdin_fd()
            _close_fds(*self._outputs)
            self._open_outputs.clear()
            self._end_shell()
            _close_fds(self._waker, self._woken)

    def _has_exited(self) -> bool:
        """Return True if the shell has exited, even if other processes hold its pipes."""
        raise NotImplementedError

    def _end_shell(self) -> None:
        """Wait for the shell to exit, after its pipes are closed; kill it if it does not."""
        raise NotImplementedError

    def _extra_fds(self) -> tuple[int, ...]:
        """Return further file descriptors that a read waits for."""
        return ()

    def _handle_ready(self, ready: set[int]) -> None:
        """Handle the file descriptors of ``_extra_fds`` that are ready."""

    def _write_wake(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full, so a wake-up is pending
            os.write(self._woken, b".")

    def _wait_ready(self, timeout: float | None) -> set[int]:
        """Wait up to ``timeout`` seconds and return the file descriptors that are ready."""
        with selectors.DefaultSelector() as selector:
            for fd in (*self._open_outputs, self._waker, *self._extra_fds()):
                selector.register(fd, selectors.EVENT_READ)
            if self._is_full and self._stdin is not None:
                selector.register(self._stdin, selectors.EVENT_WRITE)
            return {key.fd for key, _ in selector.select(timeout)}

    def _read_fd(self, fd: int) -> bytes:
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.EIO:  # no process has the terminal any more
                raise
            data = b""
        if not data:
            self._open_outputs.discard(fd)
        return data

    def _close_stdin_fd(self) -> None:
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None


def _make_terminal_ends(terminal: Terminal) -> tuple[tuple[int, ...], StdioFds]:
    """Open a terminal; return our ends, to write and to read, and the child's. Raises OSError."""
    ours, theirs = open_terminal(terminal)
    fds = [ours, theirs]
    try:
        for end in (ours, theirs, theirs):
            fds.append(os.dup(end))
    except OSError:
        _close_fds(*fds)
        raise
    return (fds[2], ours), (theirs, fds[3], fds[4])


def _make_stdio_pipes() -> tuple[tuple[int, ...], StdioFds]:
    """Make pipes for stdin, stdout and stderr; return our ends and the child's. Raises OSError."""
    fds: list[int] = []
    try:
        for _ in range(3):
            fds += os.pipe()
    except OSError:
        _close_fds(*fds)
        raise
    into, stdin, stdout, out, stderr, err = fds
    return (stdin, stdout, stderr), (into, out, err)


def _close_fds(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
