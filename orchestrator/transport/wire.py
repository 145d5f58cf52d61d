"""A socket as an SSH connection needs it: quick, buffered, and never waiting to send."""

from __future__ import annotations

import select
import socket

from orchestrator.errors import ConnectError
from orchestrator.transport.cable import Cable
from orchestrator.transport.flusher import Flusher

READ = 1 << 17
QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
NO_SIGNAL: int = getattr(socket, "MSG_NOSIGNAL", 0)


class Wire(Cable):
    """One connected socket.

    Of TCP, Nagle's algorithm is off and, on Linux, so are delayed ACKs: the kernel forgets the
    latter, so they are switched off again after each read. Together they halve the time of a
    connect. What the kernel has no room for is sent by the run's flusher.
    """

    def __init__(self, sock: socket.socket, flusher: Flusher) -> None:
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
            self._shut()
            self._sock.close()

    def _push(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data, NO_SIGNAL)
        except BlockingIOError:
            return 0

    def _stuck(self) -> None:
        self._flusher.add(self)

    def _end(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the peer was quicker

    def _pull(self, seconds: float | None) -> bytes | None:
        wait = None if seconds is None else seconds * 1000
        while self._poller.poll(wait):
            try:
                data = self._sock.recv(READ)
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
