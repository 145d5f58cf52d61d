"""Connection deadline and cancellation."""

from __future__ import annotations

import threading
import time

from orchestrator.errors import ConnectError


class CancelledError(ConnectError):
    """The run was cancelled while this connection was pending."""

    def __init__(self) -> None:
        super().__init__("connect", "cancelled")


class Deadline:
    """A point in time, ``timeout`` seconds after creation, by which a connection must be made.

    ``extend`` moves it. ``stop`` is set when the run is cancelled.
    """

    def __init__(self, timeout: float, stop: threading.Event) -> None:
        self.timeout, self.stop = timeout, stop
        self.end = time.monotonic() + timeout

    def remaining(self) -> float:
        """Return the seconds left, at least 0. Raises CancelledError if the run was cancelled."""
        if self.stop.is_set():
            raise CancelledError
        return max(0.0, self.end - time.monotonic())

    def extend(self, seconds: float) -> None:
        """Move the deadline, for time that was spent waiting for somebody else."""
        self.end += seconds

    def pause(self, seconds: float) -> None:
        """Sleep until the deadline at most. Raises CancelledError if the run was cancelled."""
        self.stop.wait(min(seconds, self.remaining()))
        self.remaining()

    def timeout_error(self, phase: str, activity: str) -> ConnectError:
        """Return the error for a deadline that passed in this phase."""
        return ConnectError(
            phase,
            f"timed out after {self.timeout:g} s {activity}",
            "is the host up? `connect: {timeout: …}` allows more",
        )
