"""Events without secrets: every text in them has ``‹name›`` in a secret's place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from msgspec.structs import replace

from orchestrator.model.event import (
    ConnectFinished,
    Crashed,
    Event,
    HostFinished,
    RunFinished,
    StepFinished,
    StepOutput,
    StepStarted,
    Warned,
)
from orchestrator.model.masks import Masks, Stream
from orchestrator.model.outcome import Captured, Change, Outcome, Row

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
