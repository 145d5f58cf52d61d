"""From a row of steps on one host to the program that its worker walks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.errors import DefinitionError
from orchestrator.model.host import Host
from orchestrator.model.result import Result
from orchestrator.model.value import Values
from orchestrator.plan.conditions import Standing
from orchestrator.plan.frame import Frame
from orchestrator.plan.model import Gather, PlannedStep, Program, Results
from orchestrator.plan.problems import HostProblems
from orchestrator.plan.scope import HostScope
from orchestrator.plan.steps import StepPlanner
from orchestrator.plan.tags import Tags
from orchestrator.plan.walk import Around, Flat, Row, Seen, Walk, loop_items
from orchestrator.tasks.model import Control, Task

SKIPPED = Result("skipped", skipped=True)
SPAN = 100_000
"""How many steps one loop over a result may unfold into; their numbers begin behind it."""


@dataclass(slots=True)
class OnHost:
    """A host on its way through the plan: what is registered and settled there by now."""

    host: Host
    scope: HostScope
    environment: Mapping[str, Seen]
    defaults: Mapping[str, Values]
    registered: dict[str, tuple[int, ...]] = field(default_factory=dict)
    settled: dict[str, object] = field(default_factory=dict)


class RowPlanner:
    """Plans rows of one host; what is wrong goes to ``problems``."""

    def __init__(
        self, on: OnHost, tasks: Mapping[str, Task], problems: HostProblems, tags: Tags
    ) -> None:
        self.on, self.tasks, self.problems, self.tags = on, tasks, problems, tags

    def task(self, task: Task, frame: Frame, around: Around) -> tuple[Program, Walk]:
        """The task's program, handlers at its end, and the walk that knows what undoes it."""
        walk = self._walk(1, self.on)
        row = walk.with_handlers(walk.task(task, frame, around))
        return self.program(row), walk

    def rollback(self, walk: Walk) -> Program:
        """What undoes the task of the walk. To be asked once all of the run is planned: it sees
        what any task of the run registers, and none where that never came."""
        kept = self.on.registered, dict(self.on.settled)
        lenient = frozenset(kept[0])
        self.on.registered = dict.fromkeys(lenient, ())  # their numbers mean nothing by then
        program = self.program(walk.rollback(), lenient)
        self.on.registered, self.on.settled = kept
        return program

    def _walk(self, first: int, on: OnHost) -> Walk:
        return Walk(
            on.host, self.tasks, on.defaults, first, registered=on.registered, settled=on.settled
        )

    def handlers(self, task: Task, frame: Frame, around: Around, names: Collection[str]) -> Program:
        """Only these of the task's handlers, as if they were notified."""
        walk = self._walk(1, self.on)
        walk.task(task, frame, around)
        walk.next = 1
        row = Row([], [], [])
        for name, steps, seen, outside in walk.handlers:
            if name in names:
                row.add(walk.steps(steps, seen, replace(outside, notify=())))
        return self.program(row)

    def program(self, row: Row, lenient: frozenset[str] = frozenset()) -> Program:
        """The row's steps, planned one after another."""
        ends: dict[int, list[Gather]] = {}
        for gather in row.gathers:
            if gather.parts:
                ends.setdefault(gather.parts[-1][2] - 1, []).append(gather)
            else:
                self._settle(gather.name, Result("skipped", skipped=True))
        planned: list[PlannedStep] = []
        for flat in row.steps:
            try:
                step = self.step(flat, lenient)
            except DefinitionError as error:
                self.problems.on(self.on.host.name, error, flat.step.mark)
                continue
            planned.append(step)
            for gather in ends.get(flat.number, ()):
                numbers = tuple(n for _, start, end in gather.parts for n in range(start, end))
                self.on.registered = {**self.on.registered, gather.name: numbers}
                self.on.settled.pop(gather.name, None)
        return Program(tuple(planned), tuple(row.regions), tuple(row.gathers))

    def step(self, flat: Flat, lenient: frozenset[str]) -> PlannedStep:
        """One step, at this place of the host's way."""
        on = self.on
        standing = Standing(flat.frame.host.place, on.registered, dict(on.settled), lenient)
        if not self.tags.chosen(flat.around.tags):
            flat = replace(flat, around=replace(flat.around, excluded="its tags are not chosen"))
        planner = StepPlanner(flat, standing, on.environment, self._unfold(standing))
        step = planner.plan()
        if step.ruling and step.ruling.kind == "set":
            for name, value in step.ruling.values.items():
                self._settle(name, value)
        elif step.later and isinstance(flat.step.does, Control):
            on.registered = {**on.registered, **dict.fromkeys(flat.step.does.names, ())}
        if step.register:
            on.registered = {**on.registered, step.register: (step.number,)}
            on.settled.pop(step.register, None)
            if step.skip:
                self._settle(step.register, SKIPPED)
        return step

    def _settle(self, name: str, value: object) -> None:
        self.on.registered = {**self.on.registered, name: ()}
        self.on.settled[name] = value

    def _unfold(self, standing: Standing) -> Callable[[Flat, Results], Program]:
        def unfold(flat: Flat, results: Results) -> Program:
            first = flat.number * SPAN
            later = OnHost(
                self.on.host,
                self.on.scope,
                self.on.environment,
                self.on.defaults,
                dict.fromkeys(standing.registered, ()),
                {**standing.settled, **results},
            )
            walk = self._walk(first, later)
            items = loop_items(flat.step, flat.frame)
            row = walk.items(flat.step, items, flat.frame, flat.around)
            problems = HostProblems(1)
            program = RowPlanner(later, self.tasks, problems, self.tags).program(row)
            problems.raise_any()
            return program

        return unfold
