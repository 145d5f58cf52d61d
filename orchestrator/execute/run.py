"""Walking the plan: waves with barriers, and an honest row for every host."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.errors import ConnectError, Exit
from orchestrator.execute.cancel import Cancel
from orchestrator.execute.fleet import Connect, Emit, Fleet
from orchestrator.execute.host import HostTask
from orchestrator.execute.progress import Progress
from orchestrator.model.event import (
    HostFinished,
    RunFinished,
    RunStarted,
    TaskFinished,
    TaskStarted,
    Warned,
)
from orchestrator.model.host import Host
from orchestrator.model.outcome import Outcome, Row, Status
from orchestrator.plan.model import HostPlan, Lane, Plan, Wave

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """``forks``: hosts worked on at a time. ``keep_going``: a failed host does not stop the
    others at the barrier. ``skip_unreachable``: hosts that cannot be reached are left out of a
    run that changes something, instead of stopping it before it begins."""

    forks: int = 100
    keep_going: bool = False
    skip_unreachable: bool = False


def run(
    plan: Plan,
    hosts: Mapping[str, Host],
    connect: Connect,
    emit: Emit,
    *,
    options: Options,
    cancel: Cancel,
) -> Exit:
    """Do what the plan says; the exit code that it comes to. Every host gets its row."""
    began = time.monotonic()
    emit(RunStarted(time.time(), plan.run, plan.stage, plan.tasks, plan.hosts))
    for warning in plan.warnings:
        emit(Warned(time.time(), warning))
    fleet = Fleet(hosts, connect, emit, cancel)
    with ThreadPoolExecutor(max(1, min(options.forks, len(plan.hosts)))) as pool:
        lanes = [LaneRun(lane, plan, fleet, emit, pool, options) for lane in plan.lanes]
        try:
            for lane in lanes:
                lane.run()
        finally:
            _each(pool, fleet.release, plan.hosts)
    rows = tuple(p.row() for lane in lanes for p in lane.progress.values())
    code = exit_code(rows, interrupted=cancel.stopping)
    emit(RunFinished(time.time(), time.monotonic() - began, code, rows))
    return code


def exit_code(rows: Iterable[Row], *, interrupted: bool) -> Exit:
    """What a run comes to: the worst that happened to any host."""
    found = {row.status for row in rows}
    if interrupted:
        return Exit.INTERRUPTED
    if found & {Status.FAILED, Status.TIMED_OUT, Status.KILLED, Status.LOST, Status.CANCELLED}:
        return Exit.FAILED
    return Exit.UNREACHABLE if Status.UNREACHABLE in found else Exit.OK


class LaneRun:
    """One lane on its way: its hosts' progress and its barriers."""

    def __init__(
        self,
        lane: Lane,
        plan: Plan,
        fleet: Fleet,
        emit: Emit,
        pool: ThreadPoolExecutor,
        options: Options,
    ) -> None:
        self.lane, self.fleet, self.emit, self.pool = lane, fleet, emit, pool
        self.options, self.changes = options, plan.changes
        taking_part = {h.host for wave in lane.waves for h in wave.hosts}
        self.progress = {
            name: Progress(fleet.hosts[name], lane.app)
            for name in plan.hosts
            if name in taking_part
        }
        self.last = {h.host: n for n, wave in enumerate(lane.waves) for h in wave.hosts}

    def run(self) -> None:
        """Every wave in order, until one fails or the run is cancelled."""
        if self.changes and not self._preflight():
            return
        for number, wave in enumerate(self.lane.waves):
            if self.fleet.cancel.stopping:
                self._stop(number, Status.CANCELLED, "interrupted")
                return
            self._wave(number, wave)
            bad = [p for p in self.progress.values() if self._stops(p)]
            if bad and not self.options.keep_going and number + 1 < len(self.lane.waves):
                first = bad[0].host.name
                self._stop(number + 1, Status.NOT_STARTED, f"{first} {bad[0].status}")
                return

    def _stops(self, progress: Progress) -> bool:
        """Whether what became of a host stops the others at the next barrier."""
        return progress.stopped and progress.status is not Status.UNREACHABLE

    def _stop(self, number: int, status: Status, why: str) -> None:
        """Say of every host what it will not come to, from this wave on."""
        for wave in self.lane.waves[number:]:
            for host in wave.hosts:
                progress = self.progress[host.host]
                if not progress.stopped:
                    progress.worst(status, f"'{wave.task}' was not begun: {why}")

    def _preflight(self) -> bool:
        """Connect every host before anything is touched; whether the run can begin."""
        _each(self.pool, self._reach, self.progress.values())
        away = [p for p in self.progress.values() if p.status is Status.UNREACHABLE]
        if self.fleet.cancel.stopping:
            self._stop(0, Status.NOT_STARTED, "interrupted")
            return False
        if away and not self.options.skip_unreachable:
            self._stop(0, Status.NOT_STARTED, f"{away[0].host.name} is unreachable")
            return False
        return True

    def _reach(self, progress: Progress) -> bool:
        if self.fleet.cancel.stopping:
            return False
        try:
            self.fleet.connect(progress.host.name)
        except ConnectError as error:
            self._unreachable(progress, error)
            return False
        return True

    def _unreachable(self, progress: Progress, error: ConnectError) -> None:
        if self.fleet.cancel.stopping:
            progress.worst(Status.CANCELLED, "interrupted while connecting")
        else:
            progress.worst(Status.UNREACHABLE, error.problems[0].what, error.problems[0].hint)

    def _wave(self, number: int, wave: Wave) -> None:
        began = time.monotonic()
        names = tuple(host.host for host in wave.hosts)
        steps = max((len(host.steps) for host in wave.hosts), default=0)
        self.emit(TaskStarted(time.time(), self.lane.app, wave.task, names, steps))
        _each(self.pool, lambda host: self._host(number, wave, host), wave.hosts)
        seconds = time.monotonic() - began
        self.emit(TaskFinished(time.time(), self.lane.app, wave.task, seconds))

    def _host(self, number: int, wave: Wave, plan: HostPlan) -> None:
        progress = self.progress[plan.host]
        if progress.stopped:
            return
        if self.fleet.cancel.stopping:
            progress.worst(Status.CANCELLED, f"'{wave.task}' was not begun: interrupted")
            return
        before, seconds = dict(progress.counts), progress.seconds
        task = HostTask(self.fleet, progress, wave.task, self.emit)
        try:
            task.run(plan)
        except ConnectError as error:
            self._unreachable(progress, error)
        if progress.status is None:
            progress.worst(Status.SKIPPED)
        self._finished(wave, progress, before, progress.seconds - seconds)
        if self.last[plan.host] == number or progress.stopped:
            self.fleet.release(plan.host)

    def _finished(
        self, wave: Wave, progress: Progress, before: Mapping[str, int], seconds: float
    ) -> None:
        """Tell how the host came through this task: the worst that it counted in it."""
        here = {what for what, count in progress.counts.items() if count > before[what]}
        status = next((Status(s) for s in ("changed", "ok", "skipped") if s in here), Status.OK)
        if progress.stopped and progress.status is not None:
            status = progress.status
        outcome = Outcome(status, seconds=seconds, reason=progress.reason)
        host, app = progress.host.name, self.lane.app
        self.emit(HostFinished(time.time(), app, wave.task, host, outcome))


def _each(pool: ThreadPoolExecutor, do: Callable[[T], object], items: Iterable[T]) -> None:
    """Do it for every item, many at a time; what one of them raises is raised after all."""
    futures = [pool.submit(do, item) for item in items]
    wait(futures)
    for future in futures:
        future.result()
