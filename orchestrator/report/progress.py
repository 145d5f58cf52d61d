"""How far a run is, counted from its events: what the live view shows, without the showing."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from msgspec import Struct, field

from orchestrator.model.clean import decode, one_line
from orchestrator.model.event import (
    ConnectFinished,
    ConnectStarted,
    Event,
    HostFinished,
    RunStarted,
    StepOutput,
    StepStarted,
    TaskFinished,
    TaskStarted,
)
from orchestrator.model.text import whole_characters
from orchestrator.report.lines import target

_TAIL = 1024


class Work(Struct):
    """What one host does now: since when (seconds since the epoch), and its latest bytes."""

    who: str
    since: float
    doing: str
    tail: bytes = b""

    @property
    def said(self) -> str:
        """The last line that it printed, clean, or what it does where it printed none."""
        tail = whole_characters(self.tail, start=len(self.tail) >= _TAIL, end=True)
        lines = (" ".join(line.split()) for line in reversed(decode(tail).split("\n")))
        return next(filter(None, lines), f"({one_line(self.doing)})")


class Lane(Struct):
    """The task that runs in one lane."""

    task: str
    app: str | None
    since: float
    hosts: int
    done: int = 0
    failed: int = 0
    running: dict[str, Work] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.app} {self.task}" if self.app else self.task


class Progress(Struct):
    """All of it. Each event costs a few dict operations, whatever the number of hosts."""

    hosts: int = 0
    connected: int = 0
    unreachable: int = 0
    since: float = 0.0
    connecting: dict[str, Work] = field(default_factory=dict)
    lanes: dict[str | None, Lane] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Count one event."""
        match event:
            case StepOutput(app=app, host=host, data=data):
                self._printed(app, host, data)
            case StepStarted(app=app, host=host):
                self._began(event)
            case HostFinished(app=app, host=host):
                if lane := self.lanes.get(app):
                    lane.running.pop(host, None)
                    lane.done += 1
                    lane.failed += event.outcome.status.bad
            case TaskStarted(app=app):
                self.lanes[app] = Lane(event.task, app, event.time, len(event.hosts))
            case TaskFinished(app=app):
                self.lanes.pop(app, None)
            case ConnectStarted(host=host):
                self.since = self.since or event.time
                self.connecting[host] = Work(host, event.time, "connecting")
            case ConnectFinished(host=host):
                self.connecting.pop(host, None)
                self.connected += not event.error
                self.unreachable += bool(event.error)
            case RunStarted():
                self.hosts = len(event.hosts)

    def slowest(self, count: int) -> list[Work]:
        """The hosts that have been at their step (or at connecting) for longest."""
        return heapq.nsmallest(count, self._working(), key=lambda work: work.since)

    def _working(self) -> Iterator[Work]:
        yield from self.connecting.values()
        for lane in self.lanes.values():
            yield from lane.running.values()

    def _began(self, event: StepStarted) -> None:
        lane = self.lanes.get(event.app)
        if lane is None:
            return
        work = lane.running.get(event.host)
        if work is None:
            who = target(event.host, event.app)
            lane.running[event.host] = Work(who, event.time, event.name)
        else:
            work.since, work.doing = event.time, event.name

    def _printed(self, app: str | None, host: str, data: bytes) -> None:
        lane = self.lanes.get(app)
        work = lane.running.get(host) if lane else None
        if work is not None:
            work.tail = (work.tail + data[-_TAIL:])[-_TAIL:]
