"""The byte stream below an SSH connection: buffered, and never blocking to send.

``SocketStream`` is a stream over a socket; ``WriteFlusher`` sends what sockets had no room for.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import Protocol


class ByteStream:
    """A stream of bytes to and from the peer. One thread reads; any thread may write.

    The reader calls ``on_idle`` after each ``idle_timeout`` seconds without a byte, and ``on_data``
    after a read; an exception that they raise ends the connection.
    Data that does not fit is queued and sent later, so that a sender never stops reading: two full
    windows cannot deadlock. ``is_congested`` is True meanwhile, and ``on_writable`` is called when
    the queue has been sent.
    """

    def __init__(self) -> None:
        self.idle_timeout: float | None = None
        self.on_idle: Callable[[], None] = _do_nothing
        self.on_writable: Callable[[], None] = _do_nothing
        self.on_data: Callable[[], None] = _do_nothing
        self._taken = b""
        self._at = 0
        self._unsent = bytearray()
        self._lock = threading.Lock()
        self._closed = False  # paramiko reads this attribute

    @property
    def is_congested(self) -> bool:
        """Whether data is queued."""
        return bool(self._unsent)

    def recv(self, size: int) -> bytes:
        """Return up to ``size`` bytes, at least one; b'' at the end.

        Calls ``on_idle`` after each ``idle_timeout`` seconds of silence, which may raise. Raises
        OSError if the peer resets the connection.
        """
        if self._at == len(self._taken):
            self._fill_buffer()
        start = self._at
        taken = self._taken[start : start + size]
        self._at = start + len(taken)
        return taken

    def read_line(self, limit: int) -> bytes:
        """Return a line with its newline, or what is there at the end or after ``limit`` bytes."""
        found = b""
        while len(found) < limit and not found.endswith(b"\n"):
            byte = self.recv(1)
            if not byte:
                break
            found += byte
        return found

    def send(self, data: bytes) -> int:
        """Send or queue all of ``data`` without waiting. Raises OSError if the stream is broken."""
        with self._lock:
            if self._closed:
                raise BrokenPipeError("the connection is closed")
            if self._unsent:
                self._unsent += data
                return len(data)
            sent = self._write_some(data)
            if sent == len(data):
                return sent
            self._unsent += memoryview(data)[sent:]
        self._schedule_flush()
        return len(data)

    def flush(self) -> bool:
        """Send queued data. Return True if some is left."""
        with self._lock:
            if self._closed:
                return False
            try:
                del self._unsent[: self._write_some(self._unsent)]
            except OSError:
                self._shut_once()  # the reader will see the end and report it
                return False
            is_left = bool(self._unsent)
        if not is_left:
            self.on_writable()
        return is_left

    def settimeout(self, seconds: float | None) -> None:
        """Do nothing: paramiko sets 0.1 s to poll for its end, but ``close`` wakes the reader."""

    def close(self) -> None:
        """Close the stream and wake the reader. Safe from any thread."""
        with self._lock:
            self._shut_once()

    def release(self) -> None:
        """Release system resources. Only the reader calls this, when it has stopped reading."""
        self.close()

    def failure_details(self) -> str:
        """Return details of why the stream ended, or '' if none are known."""
        return ""

    @property
    def is_permanent_failure(self) -> bool:
        """Whether another attempt would fail in the same way."""
        return False

    def _fill_buffer(self) -> None:
        while True:
            data = self._read_some(self.idle_timeout)
            if data is not None:
                break
            self.on_idle()
        self._taken, self._at = data, 0
        if data:
            self.on_data()

    def _shut_once(self) -> None:
        if not self._closed:
            self._closed = True
            self._shut_down()

    # To be implemented by subclasses.

    def _write_some(self, data: bytes | bytearray) -> int:
        """Send what fits and return the number of bytes. Raises OSError."""
        raise NotImplementedError

    def _read_some(self, seconds: float | None) -> bytes | None:
        """Return data, b'' at the end, or None after ``seconds`` without data. Raises OSError."""
        raise NotImplementedError

    def _schedule_flush(self) -> None:
        """Arrange that ``flush`` is called when there is room for queued data."""
        raise NotImplementedError

    def _shut_down(self) -> None:
        """Stop both directions, so that ``_read_some`` returns."""
        raise NotImplementedError


def _do_nothing() -> None:
    pass


class PendingWrites(Protocol):
    """A stream with queued data that its socket had no room for."""

    def fileno(self) -> int: ...

    def flush(self) -> bool:
        """Send queued data. Return True if some is left."""


class WriteFlusher:
    """Flushes streams when their sockets have room.

    The thread starts with the first congested stream, which short runs never have. ``close`` ends
    it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[PendingWrites] = set()
        self._wake_pipe: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def add(self, stream: PendingWrites) -> None:
        """Flush this stream until nothing is queued."""
        with self._lock:
            self._waiting.add(stream)
            if self._is_closed:
                return
            if self._wake_pipe is None:
                self._wake_pipe = _make_wake_pipe()
                self._thread = threading.Thread(
                    target=self._run, args=(self._wake_pipe[0],), name="orch-flush", daemon=True
                )
                self._thread.start()
            self._wake()

    def close(self) -> None:
        """End the thread. Data that is still queued is not sent."""
        with self._lock:
            self._is_closed = True
            self._wake()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        with self._lock:
            wake_pipe, self._wake_pipe = self._wake_pipe, None
        for end in wake_pipe or ():
            os.close(end)

    def _wake(self) -> None:
        if self._wake_pipe is not None:
            with contextlib.suppress(BlockingIOError):  # the pipe is full: a wake-up is pending
                os.write(self._wake_pipe[1], b".")

    def _run(self, wake_reader: int) -> None:
        while not self._is_closed:
            with self._lock:
                waiting = {number: b for b in self._waiting if (number := b.fileno()) >= 0}
                self._waiting = set(waiting.values())
            poller = select.poll()
            poller.register(wake_reader, select.POLLIN)
            for number in waiting:
                poller.register(number, select.POLLOUT)
            for number, _ in poller.poll():
                if number == wake_reader:
                    os.read(wake_reader, 4096)
                else:
                    self._flush(waiting[number])

    def _flush(self, stream: PendingWrites) -> None:
        with self._lock:
            self._waiting.discard(stream)  # before the flush, because a sender may add it again
        if stream.flush():
            with self._lock:
                self._waiting.add(stream)


def _make_wake_pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


READ_BYTES = 1 << 17
QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
NO_SIGNAL: int = getattr(socket, "MSG_NOSIGNAL", 0)


class SocketStream(ByteStream):
    """A byte stream over a connected socket.

    For TCP, Nagle's algorithm is turned off and, on Linux, delayed ACKs as well. The kernel turns
    the latter on again, so they are turned off after each read. Together this halves the time of
    a connect. The run's flusher sends what the kernel has no room for.
    """

    def __init__(self, sock: socket.socket, flusher: WriteFlusher) -> None:
        super().__init__()
        # The reader waits in recv itself, with a timeout of the kernel's: a poll before it would
        # take the interpreter's lock once more for each read.
        sock.setblocking(True)
        self._tcp = sock.family != socket.AF_UNIX
        if self._tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock, self._flusher = sock, flusher
        self._recv_timeout: float | None = None

    def fileno(self) -> int:
        """Return the socket's file descriptor; -1 after ``release``."""
        return self._sock.fileno()

    def release(self) -> None:
        """Close the socket.

        Not done earlier, because another socket could get the descriptor while the reader uses it.
        """
        with self._lock:
            self._shut_once()
            self._sock.close()

    def _write_some(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data, NO_SIGNAL | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def _schedule_flush(self) -> None:
        self._flusher.add(self)

    def _shut_down(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the peer has closed it

    def _read_some(self, seconds: float | None) -> bytes | None:
        if seconds != self._recv_timeout:
            self._recv_timeout = seconds
            # a timeval (socket(7)); 0 waits for ever
            whole, part = divmod(seconds or 0.0, 1)
            limit = struct.pack("ll", int(whole), int(part * 1_000_000))
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return None
        if QUICKACK is not None and self._tcp and data:
            self._sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
        return data
