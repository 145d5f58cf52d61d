"""A task on one host, with the task files it calls unfolded into one row of commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.model.host import Host
from orchestrator.model.value import Key, Values
from orchestrator.plan.frame import Frame
from orchestrator.tasks.model import Call, Judgement, Modifiers, Step, Task
from orchestrator.templating import ValueTemplate


@dataclass(frozen=True, slots=True)
class Seen:
    """Something written, with the frame it is seen from."""

    what: ValueTemplate
    frame: Frame


@dataclass(frozen=True, slots=True)
class Around:
    """What a step inherits from all that it stands in, outer first."""

    when: tuple[tuple[Judgement, Frame], ...] = ()
    environment: tuple[tuple[Key, Seen], ...] = ()
    chdir: Seen | None = None
    timeout: Seen | None = None

    def inside(self, mods: Modifiers, frame: Frame) -> Around:
        """What is inherited one step further in."""
        return Around(
            self.when + tuple((judgement, frame) for judgement in mods.when),
            self.environment + tuple((k, Seen(v, frame)) for k, v in mods.environment.items()),
            Seen(mods.chdir, frame) if mods.chdir else self.chdir,
            Seen(mods.timeout, frame) if mods.timeout else self.timeout,
        )


@dataclass(frozen=True, slots=True)
class Flat:
    """One command in the row. ``path`` names the calls it stands in.

    ``mates`` are the numbers of the steps before it in a call whose failure is ignored: once
    one of them failed, it is left out. ``excluded`` says why this host has no part in it.
    ``ends`` are the names registered for whole calls that end here, with their first step.
    """

    number: int
    step: Step
    frame: Frame
    around: Around
    path: tuple[str, ...] = ()
    mates: tuple[int, ...] = ()
    tolerated: bool = False
    excluded: str = ""
    ends: tuple[tuple[str, int], ...] = ()


class Walk:
    """Unfolds one task on one host; numbers count through all it calls."""

    def __init__(self, host: Host, tasks: Mapping[str, Task], defaults: Mapping[str, Values]):
        self.host, self.tasks, self.defaults = host, tasks, defaults
        self.number = 0

    def steps(self, task: Task, frame: Frame, around: Around) -> list[Flat]:
        """Every command of the task, in order."""
        row: list[Flat] = []
        for step in task.steps or ():
            inner = around.inside(step.mods, frame)
            if isinstance(step.does, Call):
                row += self._call(step, step.does, frame, inner)
            else:
                self.number += 1
                row.append(Flat(self.number, step, frame, inner))
        return row

    def _call(self, step: Step, call: Call, frame: Frame, around: Around) -> list[Flat]:
        task = self.tasks[call.task]
        defaults = self.defaults.get(call.task, {})
        callee = Frame(task, frame.host, call.args, frame, None, defaults)
        excluded = ""
        if task.roles is not None and not set(task.roles) & set(self.host.roles):
            excluded = f"'{task.name}' is for {', '.join(task.roles)}"
        first = self.number + 1
        row = self.steps(task, callee, around.inside(task.mods, callee))
        if step.ignore_errors is True:
            row = [
                replace(f, tolerated=True, mates=(*range(first, f.number), *f.mates)) for f in row
            ]
        row = [replace(f, path=(task.name, *f.path), excluded=excluded or f.excluded) for f in row]
        if step.register and row:
            row[-1] = replace(row[-1], ends=(*row[-1].ends, (step.register, first)))
        return row
