"""The one place through which every event passes on its way to the sinks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from orchestrator.app.masking import Masking
from orchestrator.model.event import Event, RunFinished, Sink
from orchestrator.model.masks import Masks


class Emitter:
    """Hands events to the sinks, one at a time, in the order they come, without the secrets that
    ``masks`` knows.

    ``log`` tells where the run is kept; the last event, RunFinished, carries it, and nobody is
    told of what comes behind it (an interrupt). When a sink can show nothing more (its reader is
    gone, its disk full), ``gone`` is called and the run goes on to its proper end. So it does after
    a bug in a sink, which ``close`` raises.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        log: Callable[[], str],
        gone: Callable[[], None],
        masks: Masks | None = None,
    ) -> None:
        self._masking = Masking(Masks() if masks is None else masks)
        self._sinks, self._log, self._gone = sinks, log, gone
        self._lock = threading.RLock()  # a sink may warn while it takes an event
        self._over = False
        self._bug: Exception | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._over:
                return
            if isinstance(event, RunFinished):
                event = replace(event, log=self._log())
            for masked in self._masking(event):
                self._tell(masked)
            self._over = isinstance(event, RunFinished)

    def _tell(self, event: Event) -> None:
        for sink in self._sinks:
            try:
                sink(event)
            except Exception as error:  # a sink's bug fails no host
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, OSError):
            self._gone()
        else:
            self._bug = self._bug or error

    def close(self) -> None:
        """Nothing more will come; what does is not told. Raises the first error of a sink that is
        not an OSError."""
        with self._lock:
            for rest in self._masking.rest(time.time(), None):
                self._tell(rest)
            for sink in self._sinks:
                try:
                    sink.close()
                except Exception as error:  # so that the others are closed
                    self._fail(error)
            self._over = True
        if self._bug is not None:
            raise self._bug
