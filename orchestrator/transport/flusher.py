"""One thread that sends what sockets had no room for."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from typing import Protocol


class Backlog(Protocol):
    """Something with bytes that its socket had no room for."""

    def fileno(self) -> int: ...

    def flush(self) -> bool:
        """Send more; True while some is left."""


class Flusher:
    """Flushes the backlogs given to it as their sockets find room.

    The thread starts with the first backlog, which short runs never have, and ends with
    ``close``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[Backlog] = set()
        self._bell: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None
        self._over = False

    def add(self, backlog: Backlog) -> None:
        """Flush this one from now on, until nothing of it is left."""
        with self._lock:
            self._waiting.add(backlog)
            if self._over:
                return
            if self._bell is None:
                self._bell = _bell()
                self._thread = threading.Thread(
                    target=self._run, args=(self._bell[0],), name="orch-flush", daemon=True
                )
                self._thread.start()
            self._ring()

    def close(self) -> None:
        """End the thread. What is still kept is not sent."""
        with self._lock:
            self._over = True
            self._ring()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        with self._lock:
            bell, self._bell = self._bell, None
        for end in bell or ():
            os.close(end)

    def _ring(self) -> None:
        if self._bell is not None:
            with contextlib.suppress(BlockingIOError):  # full: it rings already
                os.write(self._bell[1], b".")

    def _run(self, bell: int) -> None:
        while not self._over:
            with self._lock:
                waiting = {number: b for b in self._waiting if (number := b.fileno()) >= 0}
                self._waiting = set(waiting.values())
            poller = select.poll()
            poller.register(bell, select.POLLIN)
            for number in waiting:
                poller.register(number, select.POLLOUT)
            for number, _ in poller.poll():
                if number == bell:
                    os.read(bell, 4096)
                else:
                    self._flush(waiting[number])

    def _flush(self, backlog: Backlog) -> None:
        with self._lock:
            self._waiting.discard(backlog)  # before the flush: whoever sends now adds it again
        if backlog.flush():
            with self._lock:
                self._waiting.add(backlog)


def _bell() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends
