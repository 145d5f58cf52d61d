"""Several sinks as one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from orchestrator.model.event import Event, Sink


class Tee:
    """Hands every event to each sink, in order.

    A sink that raises keeps the event from no other; the first error is raised when all have
    had it. A sink may emit (a warning) from within its call: that event comes after this one.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)
        self._waiting: deque[Event] = deque()
        self._busy = False

    def __call__(self, event: Event) -> None:
        self._waiting.append(event)
        if self._busy:
            return
        self._busy = True
        errors: list[Exception] = []
        try:
            while self._waiting:
                self._deliver(self._waiting.popleft(), errors)
        finally:
            self._busy = False
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Close every sink, even where one raises; then raise the first error."""
        errors: list[Exception] = []
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _deliver(self, event: Event, errors: list[Exception]) -> None:
        for sink in self._sinks:
            try:
                sink(event)
            except Exception as error:
                errors.append(error)
