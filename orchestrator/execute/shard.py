"""A run in several processes: which plans can be, how many, and which hosts go together."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable, Iterable

from msgspec.structs import replace

from orchestrator.execute.lane import Options
from orchestrator.plan.model import Lane, Plan

LEAST = 1000  # hosts: below that, one process is done before another is worth its start
EACH = 500  # hosts that a process is worth
MOST = 4  # since one process hears what all of them tell


def shards_for(plan: Plan, options: Options) -> int:
    """In how many processes to go about the plan: 1 where only one can, or nothing is gained."""
    if options.shards == 1 or not _divisible(plan, options):
        return 1
    most = min(options.forks, len(plan.hosts))
    if options.shards is not None:
        return min(options.shards, most)
    if len(plan.hosts) < LEAST or sys.platform != "linux":  # elsewhere libraries do not bear forks
        return 1
    return min(len(os.sched_getaffinity(0)), MOST, len(plan.hosts) // EACH, most)


def _divisible(plan: Plan, options: Options) -> bool:
    """Whether no host has to do with another but at the barriers: no app has its locks taken, no
    task runs once for all, nothing is delegated or runs here, nobody is asked between tasks."""
    if not hasattr(os, "fork") or len(plan.lanes) != 1 or options.ask is not None:
        return False
    lane = plan.lanes[0]
    if lane.failed or (lane.locks and plan.changes and not plan.check):
        return False
    if any(wave.once or wave.anyone for wave in lane.waves):
        return False
    programs = (p for w in lane.waves for h in w.hosts for p in (h.program, h.rollback))
    return not any(step.on for program in programs for step in program.steps)


def divided(
    hosts: Iterable[str], count: int, together: Callable[[str], Hashable]
) -> list[frozenset[str]]:
    """The hosts in at most so many parts, about as large as one another; those stay together for
    which ``together`` is the same."""
    groups: dict[Hashable, list[str]] = {}
    for name in hosts:
        groups.setdefault(together(name), []).append(name)
    parts: list[set[str]] = [set() for _ in range(min(count, len(groups)))]
    for group in sorted(groups.values(), key=len, reverse=True):
        min(parts, key=len).update(group)
    return [frozenset(part) for part in parts]


def part_of(lane: Lane, hosts: frozenset[str]) -> Lane:
    """The lane as it is for some of its hosts: all its waves, some of which may have none."""
    return replace(
        lane,
        waves=tuple(
            replace(wave, hosts=tuple(host for host in wave.hosts if host.host in hosts))
            for wave in lane.waves
        ),
    )
