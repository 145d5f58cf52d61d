"""What the hosts of one task share while they run it: throttles, the first failure, check mode."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from orchestrator.executor.cancel import CancelToken
from orchestrator.planner.plan import ThrottledSteps


class HostLimits:
    """Counts the hosts that run throttled steps. Thread-safe.

    ``stops_at_error``: ``first_failed`` becomes the first host that fails, and no host of the task
    starts another step then, and ``on_first_failure`` is called with it. ``check_mode``: nothing is
    changed. ``key`` is the same for the same task in all processes of a run; None without others.
    """

    def __init__(
        self, cancel: CancelToken, *, stops_at_error: bool = False, check_mode: bool = False
    ) -> None:
        """Start without any host."""
        self.stops_at_error, self.first_failed = stops_at_error, ""
        self.check_mode = check_mode
        self.key: tuple[int, int | str] | None = None
        self.on_first_failure: Callable[[str], object] = lambda _host: None
        self._cancel = cancel
        self._running: dict[str, int] = {}
        self._changed = threading.Condition()

    def note_failure(self, host: str) -> None:
        """Record that a host has failed."""
        if self.stops_at_error:
            with self._changed:
                is_first = not self.first_failed
                self.first_failed = self.first_failed or host
                self._changed.notify_all()
            if is_first:
                self.on_first_failure(host)

    def enter(self, steps: ThrottledSteps) -> bool:
        """Wait until the host may run the steps; return False if the run has ended before."""
        remove_callback = self._cancel.add_callback(self._wake)
        try:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_ended() or self._running.get(steps.origin, 0) < steps.limit
                )
                if self._is_ended():
                    return False
                self._running[steps.origin] = self._running.get(steps.origin, 0) + 1
                return True
        finally:
            remove_callback()

    def leave(self, steps: ThrottledSteps) -> None:
        """Let the next host run the steps."""
        with self._changed:
            self._running[steps.origin] -= 1
            self._changed.notify_all()

    def _is_ended(self) -> bool:
        return self._cancel.is_cancelled or bool(self.first_failed)

    def _wake(self) -> None:
        # another thread, which must not wait for a lock that a signal handler interrupted
        threading.Thread(target=self._notify, daemon=True).start()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


class HeldSlots:
    """The throttled steps that one host runs now, outer ones first."""

    def __init__(self, limits: HostLimits) -> None:
        """Hold nothing."""
        self._limits = limits
        self.throttles: list[ThrottledSteps] = []

    def change(self, needed: Sequence[ThrottledSteps]) -> None:
        """Leave what is not needed any more, and wait for the rest; outer steps come first.

        All hosts wait in the same order, so that none waits for another in a circle.
        """
        for steps in [each for each in self.throttles if each not in needed]:
            self.throttles.remove(steps)
            self._limits.leave(steps)
        for steps in sorted(needed, key=lambda each: (each.start, -each.end)):
            if steps not in self.throttles and self._limits.enter(steps):
                self.throttles.append(steps)
        self.throttles.sort(key=needed.index)

    def release(self) -> None:
        """Leave everything."""
        self.change(())
