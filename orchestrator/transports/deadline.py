"""How long an attempt to connect may still take, and whether anyone still wants it."""

from __future__ import annotations

import threading
import time

from orchestrator.errors import ConnectError


class CancelledError(ConnectError):
    """The run no longer wants this connection."""

    def __init__(self) -> None:
        super().__init__("connect", "cancelled")


class Deadline:
    """Ends ``timeout`` seconds after it is made; time spent in a queue can be given back.

    ``stop`` is set when the run is cancelled.
    """

    def __init__(self, timeout: float, stop: threading.Event) -> None:
        self.timeout, self.stop = timeout, stop
        self.end = time.monotonic() + timeout

    def remaining(self) -> float:
        """Seconds, not below 0. Raises CancelledError where the run is."""
        if self.stop.is_set():
            raise CancelledError
        return max(0.0, self.end - time.monotonic())

    def extend(self, seconds: float) -> None:
        """What was spent waiting for others does not count."""
        self.end += seconds

    def pause(self, seconds: float) -> None:
        """Wait, at most until the deadline. Raises CancelledError where the run is."""
        self.stop.wait(min(seconds, self.remaining()))
        self.remaining()

    def timeout_error(self, phase: str, activity: str) -> ConnectError:
        """The error for a deadline that passed in this phase."""
        return ConnectError(
            phase,
            f"timed out after {self.timeout:g} s {activity}",
            "is it up? `connect: {timeout: …}` allows more",
        )
