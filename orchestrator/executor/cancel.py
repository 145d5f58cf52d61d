"""Cancellation of a run: no new step starts, and running steps are ended."""

from __future__ import annotations

import threading
from collections.abc import Callable


class CancelToken:
    """A thread-safe flag that is set once and then calls its callbacks."""

    def __init__(self) -> None:
        """Create a token that is not cancelled."""
        self._lock = threading.Lock()
        self._callbacks: set[Callable[[], None]] = set()
        self._event = threading.Event()
        self.is_cancelled = False

    def sleep(self, seconds: float) -> None:
        """Wait this many seconds, or until the token is cancelled."""
        self._event.wait(seconds)

    def cancel(self) -> None:
        """Set the flag and call every callback."""
        with self._lock:
            self.is_cancelled = True
            self._event.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def add_callback(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Register a callback for ``cancel`` and return a function that removes it.

        The callback is called at once if the token is already cancelled. It must not block.
        """
        with self._lock:
            self._callbacks.add(callback)
            already_cancelled = self.is_cancelled
        if already_cancelled:
            callback()
        return lambda: self._callbacks.discard(callback)
