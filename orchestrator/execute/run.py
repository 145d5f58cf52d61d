"""A run: all its lanes, and an honest row for every host."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from orchestrator.errors import Exit, Mark
from orchestrator.execute.cancel import Cancel
from orchestrator.execute.fleet import Connect, Emit, Fleet
from orchestrator.execute.lane import LaneRun, Options
from orchestrator.execute.pool import each
from orchestrator.model.event import RunFinished, RunStarted, Warned
from orchestrator.model.host import Connect as Settings
from orchestrator.model.host import Host
from orchestrator.model.outcome import Row, Status
from orchestrator.plan.model import HERE, Plan

_WOULD = frozenset({Status.WOULD_CHANGE, Status.WOULD_RUN, Status.UNKNOWN})


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
    emit(RunStarted(time.time(), plan.run, plan.stage, plan.tasks, plan.hosts, plan.check))
    for warning in plan.warnings:
        emit(Warned(time.time(), warning))
    here = Host(HERE, Settings(HERE, transport="local"), (), (), Mark(HERE))
    fleet = Fleet({**hosts, HERE: here}, connect, emit, cancel)
    at_once = sum(len({h.host for wave in lane.waves for h in wave.hosts}) for lane in plan.lanes)
    with ThreadPoolExecutor(max(1, min(options.forks, at_once))) as pool:
        lanes = [
            LaneRun(lane, plan, fleet, emit=emit, pool=pool, options=options) for lane in plan.lanes
        ]
        try:
            if len(lanes) == 1:
                lanes[0].run()
            else:
                with ThreadPoolExecutor(len(lanes)) as side_by_side:
                    each(side_by_side, LaneRun.run, lanes)
        finally:
            each(pool, fleet.release, fleet.connected())
    rows = tuple(p.row() for lane in lanes for p in lane.progress.values())
    away = any(lane.reach.away for lane in lanes)
    code = exit_code(rows, interrupted=cancel.stopping, away=away)
    if code is Exit.OK and any(lane.locked for lane in lanes):
        code = Exit.LOCKED
    if code is Exit.OK and options.would_exit and {row.status for row in rows} & _WOULD:
        code = Exit.WOULD_CHANGE
    emit(RunFinished(time.time(), time.monotonic() - began, code, rows))
    return code


def exit_code(rows: Iterable[Row], *, interrupted: bool, away: bool = False) -> Exit:
    """What a run comes to: the worst that happened to any host. ``away``: one that has no row,
    since it is only delegated to, is unreachable."""
    found = {row.status for row in rows}
    if interrupted:
        return Exit.INTERRUPTED
    if found & {Status.FAILED, Status.TIMED_OUT, Status.KILLED, Status.LOST, Status.CANCELLED}:
        return Exit.FAILED
    return Exit.UNREACHABLE if away or Status.UNREACHABLE in found else Exit.OK
