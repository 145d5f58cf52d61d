"""A TCP socket as an SSH connection needs it: quick, buffered, and never waiting to send."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable

from orchestrator.errors import ConnectError
from orchestrator.transport.flusher import Flusher

READ = 1 << 17
QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
NO_SIGNAL: int = getattr(socket, "MSG_NOSIGNAL", 0)


class Wire:
    """One connected socket: read by one thread, written by any.

    Nagle's algorithm is off and, on Linux, so are delayed ACKs: the kernel forgets the latter,
    so they are switched off again after each read. Together they halve the time of a connect.
    ``silences`` is how often in a row ``idle_after`` seconds went by without a byte.
    What the kernel has no room for is kept and sent by the run's flusher, so that nobody who
    sends ever stops reading: two full windows cannot deadlock. ``congested`` says so.
    """

    def __init__(self, sock: socket.socket, flusher: Flusher) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.idle_after: float | None = None
        self.on_idle: Callable[[], None] = _nothing
        self.on_room: Callable[[], None] = _nothing
        self.silences = 0
        self._sock, self._flusher = sock, flusher
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)
        self._taken = b""
        self._at = 0
        self._unsent = bytearray()
        self._lock = threading.Lock()
        self._closed = False  # read by paramiko under this name

    @property
    def congested(self) -> bool:
        """Whether something sent before still waits for room in the kernel."""
        return bool(self._unsent)

    def fileno(self) -> int:
        """The socket's descriptor, -1 once released."""
        return self._sock.fileno()

    def recv(self, size: int) -> bytes:
        """Up to ``size`` bytes, at least one; b'' at the end. Calls ``on_idle`` after each
        ``idle_after`` seconds of silence; it may raise. Raises OSError when the peer resets.
        """
        if self._at == len(self._taken):
            self._fill()
        start = self._at
        taken = self._taken[start : start + size]
        self._at = start + len(taken)
        return taken

    def line(self, limit: int) -> bytes:
        """The next line with its newline; less at the end or when ``limit`` bytes hold none."""
        found = b""
        while len(found) < limit and not found.endswith(b"\n"):
            byte = self.recv(1)
            if not byte:
                break
            found += byte
        return found

    def send(self, data: bytes) -> int:
        """Take all of ``data`` without waiting. Raises OSError when the socket is broken."""
        with self._lock:
            if self._closed:
                raise BrokenPipeError("the connection is closed")
            if self._unsent:
                self._unsent += data
                return len(data)
            sent = self._push(data)
            if sent == len(data):
                return sent
            self._unsent += memoryview(data)[sent:]
        self._flusher.add(self)
        return len(data)

    def flush(self) -> bool:
        """Send more of what is kept. True while some is left."""
        with self._lock:
            if self._closed:
                return False
            try:
                del self._unsent[: self._push(self._unsent)]
            except OSError:
                self._shut()  # the reader finds out and tells why
                return False
            left = bool(self._unsent)
        if not left:
            self.on_room()
        return left

    def settimeout(self, seconds: float | None) -> None:
        """Nothing: paramiko asks for a wake-up each 0.1 s, which ``close`` makes needless."""

    def close(self) -> None:
        """End the connection and wake the reader, from any thread. The descriptor stays taken
        until ``release``, since closing it under a reader lets another socket have its number.
        """
        with self._lock:
            self._shut()

    def release(self) -> None:
        """Give the descriptor back. Only for the reader, once it reads no more."""
        with self._lock:
            self._shut()
            self._sock.close()

    def _push(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data, NO_SIGNAL)
        except BlockingIOError:
            return 0

    def _shut(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # the peer was quicker

    def _fill(self) -> None:
        wait = None if self.idle_after is None else self.idle_after * 1000
        while True:
            if not self._poller.poll(wait):
                self.silences += 1
                self.on_idle()
                continue
            try:
                self._taken, self._at = self._sock.recv(READ), 0
            except BlockingIOError:
                continue
            break
        self.silences = 0
        if QUICKACK is not None and self._taken:
            self._sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)


def _nothing() -> None:
    pass


def open_files(error: OSError) -> ConnectError:
    """What to say when this process has no descriptor left for a socket or a shell."""
    return ConnectError(
        "connect", f"no descriptor is left ({error.strerror})", "raise the limit: `ulimit -n 65536`"
    )
