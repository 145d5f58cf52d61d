"""A run: all its lanes, and an honest row for every host."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from msgspec import Struct

from orchestrator.errors import Exit, Mark
from orchestrator.executor.app_runner import LaneRun, Options
from orchestrator.executor.cancel import Cancel
from orchestrator.executor.connection_pool import Connect, Emit, Fleet
from orchestrator.executor.parallel import caught, each
from orchestrator.model.event import Crashed, Event, RunFinished, RunStarted, Warned
from orchestrator.model.host import Connect as Settings
from orchestrator.model.host import Host
from orchestrator.model.step_result import Row, Status
from orchestrator.planner.plan import HERE, Lane, Plan

_WOULD = frozenset({Status.WOULD_CHANGE, Status.WOULD_RUN, Status.UNKNOWN})


class Found(Struct, frozen=True):
    """What lanes came to. ``away``: a host that has no row, since it is only delegated to, is
    unreachable. ``locked``: a lock was somebody else's. ``declined``: the user stopped it at a
    question."""

    rows: tuple[Row, ...]
    away: bool = False
    locked: bool = False
    declined: bool = False


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
    emit(_started(plan, options))
    for warning in plan.warnings:
        emit(Warned(time.time(), warning))
    crashes: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Crashed):
            crashes.append(event.host)
        emit(event)

    here = Host(HERE, Settings(HERE, transport="local"), (), (), Mark(HERE))
    chain = "/".join((*options.within, plan.run))
    fleet = Fleet({**hosts, HERE: here}, connect, hear, cancel, chain)
    found = walk(plan, fleet, hear, options)
    code = exit_code(found.rows, interrupted=cancel.stopping, away=found.away, bug=bool(crashes))
    if code is Exit.OK and found.locked:
        code = Exit.LOCKED
    if code is Exit.OK and found.declined:
        code = Exit.USAGE
    if code is Exit.OK and options.would_exit and {row.status for row in found.rows} & _WOULD:
        code = Exit.WOULD_CHANGE
    emit(RunFinished(time.time(), time.monotonic() - began, code, found.rows))
    return code


def _started(plan: Plan, options: Options) -> RunStarted:
    apps = {lane.app: _hosts(lane, plan) for lane in plan.lanes if lane.app is not None}
    return RunStarted(
        time.time(),
        plan.run,
        stage=plan.stage,
        tasks=plan.tasks,
        hosts=plan.hosts,
        check=plan.check,
        apps=apps,
        within=options.within,
    )


def _hosts(lane: Lane, plan: Plan) -> tuple[str, ...]:
    taking_part = {host.host for wave in lane.waves for host in wave.hosts}
    return tuple(name for name in plan.hosts if name in taking_part)


def walk(plan: Plan, fleet: Fleet, emit: Emit, options: Options) -> Found:
    """Go through the lanes of the plan, side by side."""
    lanes = plan.lanes
    at_once = sum(len({h.host for wave in lane.waves for h in wave.hosts}) for lane in lanes)
    with ThreadPoolExecutor(max(1, min(options.forks, at_once))) as pool:
        ways = [LaneRun(lane, plan, fleet, emit=emit, pool=pool, options=options) for lane in lanes]
        try:
            if len(ways) == 1:
                ways[0].run()
            else:
                with ThreadPoolExecutor(len(ways)) as side_by_side:
                    each(side_by_side, LaneRun.run, ways)
        finally:
            each(pool, partial(_release, fleet, emit), fleet.connected())
    return Found(
        tuple(p.row() for way in ways for p in way.progress.values()),
        any(way.reach.away for way in ways),
        any(way.locked for way in ways),
        any(way.declined for way in ways),
    )


def _release(fleet: Fleet, emit: Emit, name: str) -> None:
    try:
        fleet.release(name)
    except Exception as error:
        caught(error, None, "disconnect", name, emit)


def exit_code(
    rows: Iterable[Row], *, interrupted: bool, away: bool = False, bug: bool = False
) -> Exit:
    """What a run comes to: the worst that happened to any host. ``away``: one that has no row,
    since it is only delegated to, is unreachable. ``bug``: of orch, on any of them."""
    found = {row.status for row in rows}
    if interrupted:
        return Exit.INTERRUPTED
    if bug:
        return Exit.BUG
    if found & {Status.FAILED, Status.TIMED_OUT, Status.KILLED, Status.LOST, Status.CANCELLED}:
        return Exit.FAILED
    return Exit.UNREACHABLE if away or Status.UNREACHABLE in found else Exit.OK
