"""The progress of a run, counted from its events at a cost that does not grow with its hosts."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from msgspec import Struct, field

from orchestrator.model.byte_size import format_size
from orchestrator.model.event import (
    BatchPaused,
    ConnectFinished,
    ConnectStarted,
    HostFinished,
    RunEvent,
    RunStarted,
    StepFinished,
    StepOutput,
    StepStarted,
    TaskFinished,
    TaskStarted,
    TransferProgress,
)
from orchestrator.model.sanitize import decode_sanitized, to_one_line
from orchestrator.model.step_number import number_parts
from orchestrator.model.text_encoding import trim_partial_characters
from orchestrator.output.event_lines import host_label
from orchestrator.output.step_lines import StepPosition

_TAIL_BYTES = 1024


class HostActivity(Struct):
    """The current activity of one host, with its start (epoch seconds) and its last bytes.

    ``reached`` is the last step of the task that it has passed; ``transfer`` is the progress of the
    transfer that it makes.
    """

    host_label: str
    since: float
    action: str
    tail: bytes = b""
    reached: StepPosition = ()
    transfer: str = ""

    @property
    def last_line(self) -> str:
        """Return its transfer, its last line of output, sanitized, or its activity without one."""
        if self.transfer:
            return self.transfer
        tail = trim_partial_characters(self.tail, start=len(self.tail) >= _TAIL_BYTES, end=True)
        lines = (" ".join(line.split()) for line in reversed(decode_sanitized(tail).split("\n")))
        return next(filter(None, lines), f"({to_one_line(self.action)})")


class TaskProgress(Struct):
    """The task that runs for one app: the task ``number`` of ``total``, with ``steps`` steps."""

    task: str
    app: str | None
    since: float
    hosts: int
    steps: int = 0
    number: int = 0
    total: int = 0
    done: int = 0
    failed: int = 0
    running: dict[str, HostActivity] = field(default_factory=dict)
    is_finished: bool = False

    @property
    def label(self) -> str:
        return f"{self.app} {self.task}" if self.app else self.task

    @property
    def reached(self) -> StepPosition:
        """Return the last step that all hosts have passed."""
        if self.done + len(self.running) < self.hosts or not self.running:
            return ()
        return min(work.reached for work in self.running.values())

    @property
    def steps_done(self) -> int:
        """Return the number of steps that hosts have passed; an ended host has passed them all."""
        running = sum(work.reached[0] for work in self.running.values() if work.reached)
        return min(running, self.steps * len(self.running)) + self.done * self.steps


class RunProgress(Struct):
    """The progress of a run. Each event costs a few dict operations for any number of hosts."""

    hosts: int = 0
    connected: int = 0
    unreachable: int = 0
    since: float = 0.0
    connecting: dict[str, HostActivity] = field(default_factory=dict)
    apps: dict[str | None, TaskProgress] = field(default_factory=dict)
    app_order: dict[str | None, int] = field(default_factory=dict)

    def count_event(self, event: RunEvent) -> None:
        """Count one event."""
        match event:
            case StepOutput(app=app, host=host, data=data):
                if work := self._work(app, host):
                    work.tail = (work.tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            case TransferProgress(app=app, host=host, done=done, total=total):
                if work := self._work(app, host):
                    is_over = 0 < total <= done
                    work.transfer = "" if is_over else transfer_text(done, total, event.seconds)
            case StepStarted():
                self._on_step_started(event)
            case StepFinished(app=app, host=host, step=step):
                if work := self._work(app, host):
                    work.reached = number_parts(step)
            case HostFinished(app=app, host=host):
                if task := self.apps.get(app):
                    task.running.pop(host, None)
                    task.done += 1
                    task.failed += event.outcome.status.is_failure
            case TaskStarted(app=app, task=name):
                self.apps[app] = TaskProgress(
                    name,
                    app,
                    event.time,
                    hosts=len(event.hosts),
                    steps=event.steps,
                    number=event.number,
                    total=event.total,
                )
            case TaskFinished(app=app):
                if (task := self.apps.get(app)) and task.number < task.total:
                    task.is_finished = True  # until the next one begins, or the view would jump
                else:
                    self.apps.pop(app, None)
            case BatchPaused(app=app):
                what = f"pause before batch {event.batch}"
                self.apps[app] = TaskProgress(what, app, event.time, hosts=0)
            case ConnectStarted(host=host):
                self.connecting[host] = HostActivity(host, event.time, "connecting")
            case ConnectFinished(host=host):
                self.connecting.pop(host, None)
                self.connected += not event.error
                self.unreachable += bool(event.error)
            case RunStarted():
                self.hosts, self.since = len(event.hosts), event.time
                self.app_order = {app: place for place, app in enumerate(event.apps)}

    def reached(self) -> Mapping[str | None, StepPosition]:
        """Return, for each app with a running task, the last step that all hosts have passed."""
        return {app: task.reached for app, task in self.apps.items() if not task.is_finished}

    def tasks(self) -> list[TaskProgress]:
        """Return the task of each app, in the order of the apps."""
        return sorted(self.apps.values(), key=lambda task: self.app_order.get(task.app, 0))

    def slowest_hosts(self, count: int, since: float) -> list[HostActivity]:
        """Return the hosts whose current step (or connection attempt) has taken longest.

        Only those that have been at it since ``since`` (epoch seconds) or longer.
        """
        slow = (work for work in self._active_hosts() if work.since <= since)
        return heapq.nsmallest(count, slow, key=lambda work: work.since)

    def _active_hosts(self) -> Iterator[HostActivity]:
        yield from self.connecting.values()
        for task in self.apps.values():
            yield from task.running.values()

    def _work(self, app: str | None, host: str) -> HostActivity | None:
        task = self.apps.get(app)
        return task.running.get(host) if task else None

    def _on_step_started(self, event: StepStarted) -> None:
        task = self.apps.get(event.app)
        if task is None:
            return
        work = task.running.get(event.host)
        if work is None:
            who = host_label(event.host, event.app)
            task.running[event.host] = HostActivity(who, event.time, event.name)
        else:
            work.since, work.action, work.tail = event.time, event.name, b""


def transfer_text(done: int, total: int, seconds: float) -> str:
    """Return the progress of a transfer, like ``34 %  68.0 MB of 200.0 MB  12.0 MB/s``."""
    amount = (
        f"{100 * done // total} %  {format_size(done)} of {format_size(total)}"
        if total
        else (format_size(done))
    )
    return f"{amount}  {format_size(done / seconds)}/s" if seconds else amount
