"""A plan in full, for programs: host by host, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.model.command import Fetch, Wanted
from orchestrator.output.plan_step import Mask
from orchestrator.planner.plan import Again, HostPlan, Plan, PlannedStep, Program, Ruling, Wave


def plan_json(plan: Plan, mask: Mask = str) -> dict[str, Any]:
    """The plan as plain data, with the exact text per host and step. ``mask`` hides secrets.

    Keys are always there; what does not apply is None, '' or empty. Of ``regions``, the steps
    ``tried``, those that run where one of these fails (``rescue``), and those that run in any
    case (``always``) stand as numbers; ``forgives``: the failure is then made up for.
    """
    return {
        "run": plan.run,
        "stage": plan.stage,
        "tasks": list(plan.tasks),
        "hosts": list(plan.hosts),
        "changes": plan.changes,
        "warnings": [mask(warning) for warning in plan.warnings],
        "lanes": [
            {
                "app": lane.app,
                "waves": _waves(lane.waves, mask),
                "failed": [
                    {"task": task, "waves": _waves(waves, mask)} for task, waves in lane.failed
                ],
            }
            for lane in plan.lanes
        ],
    }


def _waves(waves: Iterable[Wave], mask: Mask) -> list[dict[str, Any]]:
    return [_wave(wave, mask) for wave in waves]


def _wave(wave: Wave, mask: Mask) -> dict[str, Any]:
    return {
        "task": wave.task,
        "desc": mask(wave.desc),
        "changes": wave.changes,
        "within": list(wave.within),
        "batch": wave.batch,
        "once": wave.once,
        "any": wave.anyone,
        "max_failures": wave.tolerance.most if wave.tolerance else None,
        "hook": wave.hook,
        "commit": wave.commit,
        "commits": list(wave.commits.hosts) if wave.commits else [],
        "hosts": [_host(host, mask) for host in wave.hosts],
    }


def _host(host: HostPlan, mask: Mask) -> dict[str, Any]:
    return {
        "host": host.host,
        **_program(host.program, mask),
        "rollback": _program(host.rollback, mask),
    }


def _program(program: Program, mask: Mask) -> dict[str, Any]:
    return {
        "steps": [_step(step, mask) for step in program.steps],
        "regions": [
            {
                "tried": list(range(region.start, region.body)),
                "rescue": list(range(region.body, region.rescue)),
                "always": list(range(region.rescue, region.end)),
                "forgives": region.forgives,
            }
            for region in program.regions
        ],
        "gathers": [
            {
                "register": gather.name,
                "loop": gather.loop,
                "parts": [
                    {"item": _plain(item, mask), "steps": list(range(start, end))}
                    for item, start, end in gather.parts
                ],
            }
            for gather in program.gathers
        ],
    }


def _step(step: PlannedStep, mask: Mask) -> dict[str, Any]:
    command = step.command
    return {
        "number": step.number,
        "name": mask(step.name),
        "at": str(step.mark),
        "text": mask(step.shown),
        "when": mask(step.when),
        "skip": mask(step.skip),
        "waits": [mask(name) for name in step.waits],
        "register": step.register,
        "readonly": step.readonly,
        "notify": list(step.notify),
        "handler": step.handler,
        "delegate_to": step.on,
        "become": step.user,
        "again": _again(step.again, mask) if step.again else None,
        "judged_here": step.judge is not None,
        "ruling": _ruling(step.ruling, mask) if step.ruling else None,
        "wants": _wants(command.wanted, mask)
        if command and command.wanted and not command.fetches
        else None,
        "downloads": _fetches(command.fetches, mask) if command and command.fetches else None,
        "script": mask(command.text) if command and command.wanted else None,
        "guard": mask(command.guard) if command else "",
        "shell": command.shell if command else None,
        "timeout": command.timeout if command else None,
        "stdin": None if command is None or command.stdin is None else mask(command.stdin),
        "ignore_errors": command.ignore if command else None,
    }


def _wants(wanted: Wanted, mask: Mask) -> dict[str, str]:
    return {key: mask(value) for key, value in wanted.states.items()}


def _fetches(fetch: Fetch, mask: Mask) -> dict[str, str]:
    return {"path": mask(fetch.path), "to": mask(str(fetch.to))}


def _again(again: Again, mask: Mask) -> dict[str, Any]:
    return {"until": mask(again.said), "retries": again.retries, "delay": again.delay}


def _ruling(ruling: Ruling, mask: Mask) -> dict[str, Any]:
    """``ok`` and ``message`` are those of an assert or fail."""
    return {
        "kind": ruling.kind,
        "ok": ruling.ok,
        "message": mask(ruling.message),
        "seconds": ruling.seconds,
        "values": _plain(ruling.values, mask),
    }


def _plain(value: object, mask: Mask) -> Any:
    """A template's value as JSON has it; what JSON has no word for is its text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {mask(str(key)): _plain(inner, mask) for key, inner in value.items()}
    if isinstance(value, (list, tuple, range, set, frozenset)):
        return [_plain(inner, mask) for inner in value]
    return mask(str(value))
