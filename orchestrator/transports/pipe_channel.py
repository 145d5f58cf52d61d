"""Our ends of the three pipes of a shell that somebody else runs."""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from orchestrator.remote_shell.channel_protocol import Chunk

_PIECE = 65536  # bytes a read takes at most
_IN_PIPES = 1 << 20  # bytes that can still be on their way when the shell is gone
Three: TypeAlias = tuple[int, int, int]


class PipedChannel:
    """What ``session.channel.Channel`` asks for, but ``exit_status``, over pipes. ``start`` is
    given the shell's ends (stdin, stdout, stderr), which are closed once it has returned.
    """

    def __init__(self, start: Callable[[Three], None]) -> None:
        near, far = _three()
        try:
            start(far)
        except BaseException:
            _close(*near)
            raise
        finally:
            _close(*far)
        self._stdin: int | None = near[0]
        self._outputs = near[1:]
        self._open_outputs = set(self._outputs)
        self._waker, self._woken = os.pipe()
        for fd in (*near, self._waker, self._woken):
            os.set_blocking(fd, False)
        self._full = False
        self._left = _IN_PIPES
        self._closed = False
        self._using = threading.Lock()  # held while the file descriptors are in use
        self._waking = threading.Lock()

    def write(self, data: bytes | memoryview) -> int:
        """As ``Channel.write``."""
        with self._using:
            if self._stdin is None:
                raise BrokenPipeError("the shell's stdin is closed")
            try:
                written = os.write(self._stdin, data)
            except BlockingIOError:
                written = 0
            self._full = written < len(data)
            return written

    def read(self, timeout: float | None) -> Chunk:
        """As ``Channel.read``."""
        with self._using:
            if self._closed:
                return Chunk(eof=True)
            gone = self._is_gone()
            ready = self._wait(0 if gone else timeout)
            if self._waker in ready:
                os.read(self._waker, _PIECE)
            if self._closed:
                return Chunk(eof=True)
            self._notice(ready)
            stdout, stderr = (self._take(fd) if fd in ready else b"" for fd in self._outputs)
            if gone:
                self._left -= len(stdout) + len(stderr)
            # who else has the pipes may keep them for ever
            return Chunk(stdout, stderr, gone and (self._left < 0 or not (stdout or stderr)))

    def wake(self) -> None:
        """As ``Channel.wake``."""
        with self._waking:
            if not self._closed:
                self._wake()

    def close_stdin(self) -> None:
        """As ``Channel.close_stdin``."""
        with self._using:
            self._drop_stdin()

    def cause(self) -> str:
        """As ``Channel.cause``: nobody knows."""
        return ""

    def close(self) -> None:
        """The shell is over and gone, and so are its pipes."""
        with self._waking:
            if self._closed:
                return
            self._closed = True
            self._wake()
        with self._using:
            self._drop_stdin()
            _close(*self._outputs)
            self._open_outputs.clear()
            self._end()
            _close(self._waker, self._woken)

    def _is_gone(self) -> bool:
        """Whether nobody writes to the pipes any more who should."""
        raise NotImplementedError

    def _end(self) -> None:
        """Have the shell over, whose pipes are closed."""
        raise NotImplementedError

    def _watched(self) -> tuple[int, ...]:
        """What else a read is to wait for."""
        return ()

    def _notice(self, ready: set[int]) -> None:
        """What there is to do for these file descriptors, maybe of those watched."""

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # full, so it is awake
            os.write(self._woken, b".")

    def _wait(self, timeout: float | None) -> set[int]:
        """The file descriptors with something to do."""
        with selectors.DefaultSelector() as selector:
            for fd in (*self._open_outputs, self._waker, *self._watched()):
                selector.register(fd, selectors.EVENT_READ)
            if self._full and self._stdin is not None:
                selector.register(self._stdin, selectors.EVENT_WRITE)
            return {key.fd for key, _ in selector.select(timeout)}

    def _take(self, fd: int) -> bytes:
        data = os.read(fd, _PIECE)
        if not data:
            self._open_outputs.discard(fd)
        return data

    def _drop_stdin(self) -> None:
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None


def _three() -> tuple[Three, Three]:
    """Our ends and the others', for stdin, stdout and stderr. Raises OSError."""
    made: list[int] = []
    try:
        for _ in range(3):
            made += os.pipe()
    except OSError:
        _close(*made)
        raise
    into, stdin, stdout, out, stderr, err = made
    return (stdin, stdout, stderr), (into, out, err)


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
