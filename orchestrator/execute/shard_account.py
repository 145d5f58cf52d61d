"""What is known of the hosts of one worker process, should it end before they do."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from orchestrator.execute.progress import COUNTED
from orchestrator.model.event import (
    ConnectFinished,
    ConnectStarted,
    Event,
    HostFinished,
    StepFinished,
    StepStarted,
    TaskStarted,
)
from orchestrator.model.host import Host
from orchestrator.model.outcome import Outcome, Row, Status


class Account:
    """Takes the events of some hosts of a lane, in order."""

    def __init__(self, hosts: Collection[str], app: str | None) -> None:
        self.hosts, self._app = hosts, app
        self._connecting: dict[str, float] = {}
        self._steps: dict[str, StepStarted] = {}
        self._tasks: dict[str, str] = {}
        self._bad: dict[str, Outcome] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def take(self, event: Event) -> None:
        """Something happened on one of the hosts, or began for some."""
        if isinstance(event, StepStarted):
            self._steps[event.host] = event
        elif isinstance(event, StepFinished):
            self._steps.pop(event.host, None)
            outcome = event.outcome
            if outcome.status is not Status.CANCELLED:
                self._counts[event.host, "ok" if outcome.ignored else COUNTED[outcome.status]] += 1
        elif isinstance(event, HostFinished):
            self._tasks.pop(event.host, None)
            if event.outcome.status.bad:
                self._bad[event.host] = event.outcome
        elif isinstance(event, TaskStarted):
            self._tasks = {name: event.task for name in event.hosts if name in self.hosts}
        elif isinstance(event, ConnectStarted):
            self._connecting[event.host] = event.time
        elif isinstance(event, ConnectFinished):
            self._connecting.pop(event.host, None)

    def rest(self, why: str) -> Iterator[Event]:
        """The ends of all that is begun: nobody knows how they were."""
        now = time.time()
        for host, began in self._connecting.items():
            yield ConnectFinished(now, host, now - began, why)
        for host, step in self._steps.items():
            outcome = Outcome(Status.LOST, seconds=now - step.time, reason=why)
            yield StepFinished(now, step.app, step.task, step.step, step.name, host, outcome)
        for host, task in self._tasks.items():
            yield HostFinished(now, self._app, task, host, Outcome(Status.LOST, reason=why))

    def rows(self, hosts: Mapping[str, Host], why: str) -> Iterator[Row]:
        """Where each host stands: in the bad state that was told of it, or lost."""
        for name in self.hosts:
            ended = self._bad.get(name, Outcome(Status.LOST))
            yield Row(
                host=name,
                app=self._app,
                status=ended.status,
                reason="; ".join(part for part in (ended.reason, why) if part),
                roles=hosts[name].roles,
                ok=self._counts[name, "ok"],
                changed=self._counts[name, "changed"],
                failed=self._counts[name, "failed"],
                skipped=self._counts[name, "skipped"],
            )
