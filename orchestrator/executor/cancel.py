"""One token that says: nothing new starts, what runs is ended."""

from __future__ import annotations

import threading
from collections.abc import Callable


class CancelToken:
    """Set once, from any thread; whoever is in the middle of something is told at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: set[Callable[[], None]] = set()
        self._event = threading.Event()
        self.is_cancelled = False

    def sleep(self, seconds: float) -> None:
        """Wait that long, or until the token is set."""
        self._event.wait(seconds)

    def cancel(self) -> None:
        """Nothing new starts from now on; everyone who watches is called."""
        with self._lock:
            self.is_cancelled = True
            self._event.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def add_callback(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called on ``cancel`` (at once if that was), until what is returned is
        called. ``callback`` must not block."""
        with self._lock:
            self._callbacks.add(callback)
            already_cancelled = self.is_cancelled
        if already_cancelled:
            callback()
        return lambda: self._callbacks.discard(callback)
