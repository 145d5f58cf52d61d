"""One token that says: nothing new starts, what runs is ended."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Cancel:
    """Set once, from any thread; whoever is in the middle of something is told at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watching: set[Callable[[], None]] = set()
        self._event = threading.Event()
        self.stopping = False

    def sleep(self, seconds: float) -> None:
        """Wait that long, or until the token is set."""
        self._event.wait(seconds)

    def stop(self) -> None:
        """Nothing new starts from now on; everyone who watches is called."""
        with self._lock:
            self.stopping = True
            self._event.set()
            told = list(self._watching)
        for tell in told:
            tell()

    def watch(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Have ``tell`` called on ``stop`` (at once if that was), until what is returned is
        called. ``tell`` must not block."""
        with self._lock:
            self._watching.add(tell)
            late = self.stopping
        if late:
            tell()
        return lambda: self._watching.discard(tell)
