"""The one place through which every event passes on its way to the sinks.

Events without secrets: every text in them has ``‹name›`` in a secret's place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from orchestrator.model.event import (
    ConnectFinished,
    Crashed,
    Event,
    HostFinished,
    RunFinished,
    Sink,
    StepFinished,
    StepOutput,
    StepStarted,
    Warned,
)
from orchestrator.model.secret_masking import Masks, Stream
from orchestrator.model.step_result import Captured, Change, Outcome, Row


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


_Place: TypeAlias = "tuple[str, str | None, str, int, str]"


class Masking:
    """Masks events. Of what a step wrote, the possible beginning of a secret waits for the next
    bytes of that stream, or for the next other event of its host."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._streams: dict[_Place, Stream] = {}

    def __call__(self, event: Event) -> Iterator[Event]:
        """What is to be told instead of the event: where there are no secrets, the event."""
        if not self._masks:
            yield event
            return
        if isinstance(event, StepOutput):
            yield from self._output(event)
            return
        host = getattr(event, "host", None)
        if host is not None or isinstance(event, RunFinished):
            yield from self.rest(event.time, host)
        yield self._masked(event)

    def rest(self, time: float, host: str | None) -> Iterator[Event]:
        """What still waits, of this host or (None) of any."""
        for place in [place for place in self._streams if host in (None, place[0])]:
            data = self._streams.pop(place).end()
            if data:
                name, app, task, step, stream = place
                yield StepOutput(
                    time, app, task=task, step=step, host=name, stream=stream, data=data
                )

    def _output(self, event: StepOutput) -> Iterator[Event]:
        place = (event.host, event.app, event.task, event.step, event.stream)
        if place not in self._streams:
            self._streams[place] = self._masks.stream()
        data = self._streams[place].feed(event.data)
        if data:
            yield replace(event, data=data)

    def _masked(self, event: Event) -> Event:
        text = self._masks.text
        match event:
            case ConnectFinished():
                return replace(event, error=text(event.error), hint=text(event.hint))
            case StepStarted():
                return replace(event, name=text(event.name))
            case StepFinished():
                return replace(event, name=text(event.name), outcome=self._outcome(event.outcome))
            case HostFinished():
                return replace(event, outcome=self._outcome(event.outcome))
            case Warned():
                return replace(event, text=text(event.text))
            case Crashed():
                return replace(event, error=text(event.error), traceback=text(event.traceback))
            case RunFinished():
                return replace(event, rows=tuple(map(self._row, event.rows)))
        return event

    def _outcome(self, outcome: Outcome) -> Outcome:
        text = self._masks.text
        return replace(
            outcome,
            stdout=self._captured(outcome.stdout),
            stderr=self._captured(outcome.stderr),
            reason=text(outcome.reason),
            changes=tuple(map(self._change, outcome.changes)),
            diff=text(outcome.diff),
        )

    def _captured(self, captured: Captured) -> Captured:
        if not captured.dropped:
            whole = captured.head + captured.tail
            masked = self._masks.data(whole)
            return captured if masked == whole else Captured(masked)
        return Captured(*self._masks.ends(captured.head, captured.tail), captured.dropped)

    def _change(self, change: Change) -> Change:
        text = self._masks.text
        before = None if change.before is None else text(change.before)
        return Change(text(change.key), before, text(change.after))

    def _row(self, row: Row) -> Row:
        text = self._masks.text
        stderr = text(f"…{row.stderr}")[1:]  # its first line may be the rest of a longer one
        return replace(row, reason=text(row.reason), hint=text(row.hint), stderr=stderr)
