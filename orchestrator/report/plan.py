"""A plan in full: for people, equal text folded over hosts; for programs, host by host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from orchestrator.plan.model import Lane, Plan, PlannedStep, Wave
from orchestrator.report.clean import one_line, visible
from orchestrator.report.fold import fold
from orchestrator.report.out import BOLD, CYAN, DIM, YELLOW, Out

Mask: TypeAlias = Callable[[str], str]


def plan_lines(plan: Plan, out: Out, mask: Mask = str) -> Iterator[str]:
    """The plan as lines: lanes, their waves with the hosts, each step's exact text.

    Text stands behind a margin ``|``, a guard that must succeed first behind ``?``, standard
    input behind ``<``. Nothing is wrapped; control characters are made visible (``plan_json``
    has them as they are). ``mask`` hides secrets in any text.
    """
    hosts = f"{len(plan.hosts)} host{'' if len(plan.hosts) == 1 else 's'}"
    about = f"stage {plan.stage}, {' '.join(plan.tasks)} on {hosts}"
    yield out.paint(one_line(mask(f"plan {plan.run}: {about}")), BOLD)
    for warning in plan.warnings:
        yield out.paint(one_line(mask(f"warning: {warning}")), YELLOW)
    for lane in plan.lanes:
        yield from _lane(lane, out, mask)
    if not any(lane.waves for lane in plan.lanes):
        yield "nothing to do"
    elif not plan.changes:
        yield out.paint("nothing in it changes a host", DIM)


def plan_json(plan: Plan, mask: Mask = str) -> dict[str, Any]:
    """The plan as plain data, with the exact text per host and step. ``mask`` as above."""
    return {
        "run": plan.run,
        "stage": plan.stage,
        "tasks": list(plan.tasks),
        "hosts": list(plan.hosts),
        "changes": plan.changes,
        "warnings": [mask(warning) for warning in plan.warnings],
        "lanes": [
            {"app": lane.app, "waves": [_wave_json(wave, mask) for wave in lane.waves]}
            for lane in plan.lanes
        ],
    }


def _lane(lane: Lane, out: Out, mask: Mask) -> Iterator[str]:
    if lane.app is not None:
        yield ""
        yield out.paint(one_line(f"app {lane.app}"), BOLD)
    for number, wave in enumerate(lane.waves, 1):
        yield ""
        desc = f"  {out.paint(one_line(mask(wave.desc)), DIM)}" if wave.desc else ""
        names = one_line(fold(host.host for host in wave.hosts)) or "no hosts"
        yield f"{out.paint(one_line(f'{number}. {wave.task}'), BOLD)} on {names}{desc}"
        yield from _wave(wave, out, mask)


def _wave(wave: Wave, out: Out, mask: Mask) -> Iterator[str]:
    """Each step once, with the hosts for which it is the same."""
    groups: dict[tuple[Any, ...], tuple[PlannedStep, list[str]]] = {}
    for host in wave.hosts:
        for step in host.steps:
            same = (step.number, step.name, step.skip, step.shown, step.when, step.waits)
            key = (*same, step.register, step.readonly, *_around(step))
            groups.setdefault(key, (step, []))[1].append(host.host)
    for step, hosts in sorted(groups.values(), key=lambda group: group[0].number):
        names = "" if len(hosts) == len(wave.hosts) else f"  on {one_line(fold(hosts))}"
        yield f"   {step.number}  {out.paint(one_line(mask(step.name)), CYAN)}{names}"
        yield from _step(step, out, mask)


def _step(step: PlannedStep, out: Out, mask: Mask) -> Iterator[str]:
    if step.skip:
        yield f"      skipped: {one_line(mask(step.skip))}"
        return
    if step.when:
        yield f"      when: {one_line(mask(step.when))}"
    if step.waits:
        yield f"      waits for {', '.join(f'`{one_line(name)}`' for name in step.waits)}"
    guard, stdin, shell, timeout = _around(step)
    said = ["read-only"] if step.readonly else []
    said += [f"by {one_line(shell)}"] if shell != "sh" else []
    said += [f"at most {timeout:g} s"] if timeout is not None else []
    said += [f"its result is `{one_line(step.register)}`"] if step.register else []
    if said:
        yield out.paint(f"      {', '.join(said)}", DIM)
    yield from _exact(mask(guard), "?", out)
    yield from _exact(mask(step.shown), "|", out)
    yield from _exact(mask(stdin), "<", out)


def _exact(text: str, margin: str, out: Out) -> Iterator[str]:
    """Each line behind the margin; one final newline shows as nothing."""
    lines = visible(text.removesuffix("\n")).split("\n") if text else ()
    for line in lines:
        yield (
            f"      {out.paint(margin, DIM)} {line}" if line else f"      {out.paint(margin, DIM)}"
        )


def _around(step: PlannedStep) -> tuple[str, str, str, float | None]:
    """A step's guard, standard input, shell and timeout, as far as they are known."""
    command = step.command
    if command is None:
        return "", "", "sh", None
    return command.guard, command.stdin or "", command.shell, command.timeout


def _wave_json(wave: Wave, mask: Mask) -> dict[str, Any]:
    return {
        "task": wave.task,
        "desc": mask(wave.desc),
        "changes": wave.changes,
        "hosts": [
            {"host": host.host, "steps": [_step_json(step, mask) for step in host.steps]}
            for host in wave.hosts
        ],
    }


def _step_json(step: PlannedStep, mask: Mask) -> dict[str, Any]:
    command = step.command
    return {
        "number": step.number,
        "name": mask(step.name),
        "at": str(step.mark),
        "text": mask(step.shown),
        "when": mask(step.when),
        "skip": mask(step.skip),
        "waits": _masked(step.waits, mask),
        "register": step.register,
        "readonly": step.readonly,
        "guard": mask(command.guard) if command else "",
        "shell": command.shell if command else None,
        "timeout": command.timeout if command else None,
        "stdin": None if command is None or command.stdin is None else mask(command.stdin),
    }


def _masked(texts: Sequence[str], mask: Mask) -> list[str]:
    return [mask(text) for text in texts]
