"""What an SSH connection runs over, whatever carries it: buffered, and never waiting to send."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Cable:
    """A stream of bytes to the peer and back: read by one thread, written by any.

    ``on_idle`` is called each time that ``idle_after`` seconds went by without a byte, and
    ``on_data`` when some came, by the reader; what they raise ends it.
    What there is no room for is kept and sent later, so that nobody who sends ever stops
    reading: two full windows cannot deadlock. ``congested`` says so, and ``on_room`` is called
    once all of it is sent.
    """

    def __init__(self) -> None:
        self.idle_after: float | None = None
        self.on_idle: Callable[[], None] = _nothing
        self.on_room: Callable[[], None] = _nothing
        self.on_data: Callable[[], None] = _nothing
        self._taken = b""
        self._at = 0
        self._unsent = bytearray()
        self._lock = threading.Lock()
        self._closed = False  # read by paramiko under this name

    @property
    def congested(self) -> bool:
        """Whether something sent before still waits for room."""
        return bool(self._unsent)

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
        """Take all of ``data`` without waiting. Raises OSError when the stream is broken."""
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
        self._stuck()
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
        """End the connection and wake the reader, from any thread."""
        with self._lock:
            self._shut()

    def release(self) -> None:
        """Give back what it holds of the system. Only for the reader, once it reads no more."""
        self.close()

    def said(self) -> str:
        """What is known of why it ended, beyond that it did; '' where nothing is."""
        return ""

    @property
    def hopeless(self) -> bool:
        """Whether another attempt would end as this one did."""
        return False

    def _fill(self) -> None:
        while True:
            data = self._pull(self.idle_after)
            if data is not None:
                break
            self.on_idle()
        self._taken, self._at = data, 0
        if data:
            self.on_data()

    def _shut(self) -> None:
        if not self._closed:
            self._closed = True
            self._end()

    # What carries the bytes.

    def _push(self, data: bytes | bytearray) -> int:
        """Send what there is room for, and return how much that was. Raises OSError."""
        raise NotImplementedError

    def _pull(self, seconds: float | None) -> bytes | None:
        """What arrived, b'' at the end, None after so many seconds. Raises OSError."""
        raise NotImplementedError

    def _stuck(self) -> None:
        """Something is kept: see to it that ``flush`` is called when there is room."""
        raise NotImplementedError

    def _end(self) -> None:
        """Have nothing more come or go, and ``_pull`` return."""
        raise NotImplementedError


def _nothing() -> None:
    pass
