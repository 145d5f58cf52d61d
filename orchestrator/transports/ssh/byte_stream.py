"""What an SSH connection runs over, whatever carries it: buffered, and never waiting to send.

One thread that sends what sockets had no room for.

A socket as an SSH connection needs it: quick, buffered, and never waiting to send.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from orchestrator.errors import ConnectError


class ByteStream:
    """A stream of bytes to the peer and back: read by one thread, written by any.

    ``on_idle`` is called each time that ``idle_timeout`` seconds went by without a byte, and
    ``on_data`` when some came, by the reader; what they raise ends it.
    What there is no room for is kept and sent later, so that nobody who sends ever stops
    reading: two full windows cannot deadlock. ``is_congested`` says so, and ``on_writable`` is called
    once all of it is sent.
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
        self._closed = False  # read by paramiko under this name

    @property
    def is_congested(self) -> bool:
        """Whether something sent before still waits for room."""
        return bool(self._unsent)

    def recv(self, size: int) -> bytes:
        """Up to ``size`` bytes, at least one; b'' at the end. Calls ``on_idle`` after each
        ``idle_timeout`` seconds of silence; it may raise. Raises OSError when the peer resets.
        """
        if self._at == len(self._taken):
            self._fill_buffer()
        start = self._at
        taken = self._taken[start : start + size]
        self._at = start + len(taken)
        return taken

    def read_line(self, limit: int) -> bytes:
        """The next line with its newline; less at the end or when ``limit`` bytes hold none."""
        found = b""
        while len(found) < limit and not found.endswith(b"\n"):
            byte = self.recv(1)
            if not byte:
                break
            found += byte
        return found

    def send(self, data: bytes) -> int:
        """Take all of ``data`` without waiting. Raises OSError when the stream is broken."""
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
        """Send more of what is kept. True while some is left."""
        with self._lock:
            if self._closed:
                return False
            try:
                del self._unsent[: self._write_some(self._unsent)]
            except OSError:
                self._shut_once()  # the reader finds out and tells why
                return False
            left = bool(self._unsent)
        if not left:
            self.on_writable()
        return left

    def settimeout(self, seconds: float | None) -> None:
        """Nothing: paramiko asks for a wake-up each 0.1 s, which ``close`` makes needless."""

    def close(self) -> None:
        """End the connection and wake the reader, from any thread."""
        with self._lock:
            self._shut_once()

    def release(self) -> None:
        """Give back what it holds of the system. Only for the reader, once it reads no more."""
        self.close()

    def failure_details(self) -> str:
        """What is known of why it ended, beyond that it did; '' where nothing is."""
        return ""

    @property
    def is_permanent_failure(self) -> bool:
        """Whether another attempt would end as this one did."""
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

    # What carries the bytes.

    def _write_some(self, data: bytes | bytearray) -> int:
        """Send what there is room for, and return how much that was. Raises OSError."""
        raise NotImplementedError

    def _read_some(self, seconds: float | None) -> bytes | None:
        """What arrived, b'' at the end, None after so many seconds. Raises OSError."""
        raise NotImplementedError

    def _schedule_flush(self) -> None:
        """Something is kept: see to it that ``flush`` is called when there is room."""
        raise NotImplementedError

    def _shut_down(self) -> None:
        """Have nothing more come or go, and ``_read_some`` return."""
        raise NotImplementedError


def _do_nothing() -> None:
    pass


class PendingWrites(Protocol):
    """Something with bytes that its socket had no room for."""

    def fileno(self) -> int: ...

    def flush(self) -> bool:
        """Send more; True while some is left."""


class WriteFlusher:
    """Flushes the backlogs given to it as their sockets find room.

    The thread starts with the first backlog, which short runs never have, and ends with
    ``close``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[PendingWrites] = set()
        self._wake_pipe: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def add(self, stream: PendingWrites) -> None:
        """Flush this one from now on, until nothing of it is left."""
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
        """End the thread. What is still kept is not sent."""
        with self._lock:
            self._is_closed = True
            self._wake()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        with self._lock:
            bell, self._wake_pipe = self._wake_pipe, None
        for end in bell or ():
            os.close(end)

    def _wake(self) -> None:
        if self._wake_pipe is not None:
            with contextlib.suppress(BlockingIOError):  # full: it rings already
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
            self._waiting.discard(stream)  # before the flush: whoever sends now adds it again
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
    """One connected socket.

    Of TCP, Nagle's algorithm is off and, on Linux, so are delayed ACKs: the kernel forgets the
    latter, so they are switched off again after each read. Together they halve the time of a
    connect. What the kernel has no room for is sent by the run's flusher.
    """

    def __init__(self, sock: socket.socket, flusher: WriteFlusher) -> None:
        super().__init__()
        sock.setblocking(False)
        self._tcp = sock.family != socket.AF_UNIX
        if self._tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock, self._flusher = sock, flusher
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)

    def fileno(self) -> int:
        """The socket's descriptor, -1 once released."""
        return self._sock.fileno()

    def release(self) -> None:
        """Give the descriptor back. It stays taken until then, since closing it under a reader
        lets another socket have its number.
        """
        with self._lock:
            self._shut_once()
            self._sock.close()

    def _write_some(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data, NO_SIGNAL)
        except BlockingIOError:
            return 0

    def _schedule_flush(self) -> None:
        self._flusher.add(self)

    def _shut_down(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the peer was quicker

    def _read_some(self, seconds: float | None) -> bytes | None:
        wait = None if seconds is None else seconds * 1000
        while self._poller.poll(wait):
            try:
                data = self._sock.recv(READ_BYTES)
            except BlockingIOError:
                continue
            if QUICKACK is not None and self._tcp and data:
                self._sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
            return data
        return None


def open_files(error: OSError) -> ConnectError:
    """What to say when this process has no descriptor left for a socket or a shell."""
    return ConnectError(
        "connect", f"no descriptor is left ({error.strerror})", "raise the limit: `ulimit -n 65536`"
    )
