"""The one place through which every event passes on its way to the sinks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.model.event import Event, RunFinished, Sink


class Emitter:
    """Hands events to the sinks, one at a time, in the order they come.

    ``log`` tells where the run is kept; the last event carries it. When a sink can show
    nothing more (its reader is gone, its disk full), ``gone`` is called and the run goes on to
    its proper end.
    """

    def __init__(
        self, sinks: Sequence[Sink], log: Callable[[], str], gone: Callable[[], None]
    ) -> None:
        self._sinks, self._log, self._gone = sinks, log, gone
        self._lock = threading.RLock()  # a sink may warn while it takes an event

    def __call__(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, RunFinished):
                event = replace(event, log=self._log())
            for sink in self._sinks:
                try:
                    sink(event)
                except OSError:
                    self._gone()

    def close(self) -> None:
        """Nothing more will come."""
        with self._lock:
            for sink in self._sinks:
                try:
                    sink.close()
                except OSError:
                    self._gone()
