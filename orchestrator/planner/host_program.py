"""From a row of steps on one host to the program that its worker walks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Mark, Problem
from orchestrator.model.condition import Always
from orchestrator.model.host import Host
from orchestrator.model.marked_value import Values
from orchestrator.model.registered_result import Result
from orchestrator.model.sanitize import quote
from orchestrator.model.step_number import SPAN, first_within
from orchestrator.modules import FOLDER
from orchestrator.planner.host_diagnostics import HostProblems
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.plan import Gather, PlannedStep, Program, Region, Results
from orchestrator.planner.request import Ask
from orchestrator.planner.step_conditions import Standing
from orchestrator.planner.step_planner import StepPlanner
from orchestrator.planner.task_expander import Around, Flat, Row, Seen, Walk, loop_items
from orchestrator.planner.task_scope import Frame, any_from_host
from orchestrator.playbook.model import Control, Module, Step, Task
from orchestrator.yamlio.local_files import show

SKIPPED = Result("skipped", skipped=True)


class OnHost(Struct):
    """A host on its way through the plan: what is registered and settled there by now.

    ``made``: the names that were registered since the scheduler last emptied it. ``by_set``: those
    that a `set` gave a value, which may be anything. ``own``: the settled ones whose values no host
    had a part in; ``clean``: the others that will be such, as far as names tell. ``unique``: what
    steps give the names that can have one value, and where.
    """

    host: Host
    scope: HostScope
    environment: Mapping[str, Seen]
    defaults: Mapping[str, Values]
    registered: dict[str, tuple[int, ...]] = field(default_factory=dict)
    settled: dict[str, object] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    by_set: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    clean: frozenset[str] = frozenset()
    unique: dict[str, tuple[str, Mark]] = field(default_factory=dict)

    def register(self, name: str, numbers: tuple[int, ...] = ()) -> None:
        """These steps of the task at hand will give the name its meaning; without numbers it
        has to be there before a condition over it can be judged."""
        self.registered = {**self.registered, name: numbers}
        self.settled.pop(name, None)
        self.own -= {name}
        self.clean -= {name}
        self.made.add(name)

    def settle(self, name: str, value: object, *, own: bool = True) -> None:
        """The name has this value from here on; ``own``: no host had a part in it."""
        self.register(name)
        self.settled[name] = value
        self.own |= {name} if own else frozenset()


class RowPlanner:
    """Plans rows of one host; what is wrong goes to ``problems``."""

    def __init__(self, on: OnHost, ask: Ask, problems: HostProblems) -> None:
        self.on, self.ask, self.problems = on, ask, problems

    def task(self, task: Task, frame: Frame, around: Around) -> tuple[Program, Walk]:
        """The task's program, handlers at its end, and the walk that knows what undoes it."""
        self._rules(task, frame)
        walk = self._walk(1, self.on)
        try:
            row = walk.with_handlers(walk.task(task, frame, around))
        except DefinitionError as error:  # of a loop: its steps cannot be known
            self.problems.on(self.on.host.name, error, task.mark)
            self._register(task.all_steps())
            return Program(), walk
        return self.program(row), walk

    def _register(self, steps: Iterable[Step]) -> None:
        """Take what steps in error would register for known: it is no error of its own that it
        is missing."""
        for step in steps:
            sets = step.does.names if isinstance(step.does, Control) else ()
            for name in (step.register, *sets):
                if name:
                    self.on.register(name)

    def _rules(self, task: Task, frame: Frame) -> None:
        """Hold the params' rules against the params, also those that no step of it names."""
        place = frame.host.place
        place.registered, place.results = self.on.registered, self.on.settled
        for rule in task.rules:
            try:
                frame.obey(rule)
            except DefinitionError as error:
                self.problems.on(self.on.host.name, error, task.mark)

    def rollback(self, walk: Walk) -> Program:
        """What undoes the task of the walk. To be asked once all of the run is planned: it sees
        what any task of the run registers, and none where that never came."""
        kept = self.on.registered, dict(self.on.settled), self.on.own, self.on.clean
        lenient = frozenset(kept[0])
        self.on.registered = dict.fromkeys(lenient, ())  # their numbers mean nothing by then
        program = self.program(walk.rollback(), lenient)
        self.on.registered, self.on.settled, self.on.own, self.on.clean = kept
        return program

    def _walk(self, first: int, on: OnHost, most: int | None = None) -> Walk:
        return Walk(
            on.host,
            self.ask.tasks,
            on.defaults,
            first,
            registered=on.registered,
            settled=on.settled,
            most=most,
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
                self.on.settle(gather.name, SKIPPED)
        planned: list[PlannedStep] = []
        for flat in row.steps:
            maybe = any(_may_be_left_out(flat.number, region) for region in row.regions)
            try:
                planned.append(self.step(flat, lenient, maybe=maybe))
            except DefinitionError as error:
                found = _in_project(error, (*flat.around.calls, flat.step.mark))
                self.problems.on(self.on.host.name, found, flat.step.mark)
                self._register([flat.step])
            for gather in ends.get(flat.number, ()):
                numbers = tuple(n for _, start, end in gather.parts for n in range(start, end))
                again = maybe and gather.name in self.on.registered
                self.on.register(gather.name, () if again else numbers)
        return Program(tuple(planned), tuple(row.regions), tuple(row.gathers))

    def step(self, flat: Flat, lenient: frozenset[str], *, maybe: bool = False) -> PlannedStep:
        """One step, at this place of the host's way; ``maybe``: the way may lead around it, and
        what it would register is known only once those after it are come to."""
        on = self.on
        if isinstance(flat.step.does, Control):
            on.by_set |= set(flat.step.does.names)
        settled = dict(on.settled)
        standing = Standing(
            flat.frame.host.place,
            on.registered,
            settled=settled,
            lenient=lenient,
            made=on.by_set,
            own=on.own,
            clean=on.clean,
        )
        if not self.ask.tags.chosen(flat.around.tags):
            flat = replace(flat, around=replace(flat.around, excluded="its tags are not chosen"))
        planner = StepPlanner(flat, standing, on.environment, self.ask, self._unfold(standing))
        step = planner.plan()
        if not maybe and step.command is not None and step.command.when == Always(True):
            self._check_unique(flat)
        if step.ruling and step.ruling.kind == "set" and not maybe:
            for name, value in step.ruling.values.items():
                on.settle(name, value, own=step.ruling.own)
        elif (step.ruling or step.later) and isinstance(flat.step.does, Control):
            clean = not any_from_host(flat.step.does.value, flat.frame)
            for name in flat.step.does.names:
                fits = clean and (name not in on.registered or name in on.own | on.clean)
                on.register(name)
                on.clean |= {name} if fits else frozenset()
        if step.register and maybe and step.register in on.registered:
            on.register(step.register)
        elif step.register and step.skip and not maybe:
            on.settle(step.register, SKIPPED)
        elif step.register:
            on.register(step.register, (step.number,))
        return step

    def _check_unique(self, flat: Flat) -> None:
        """Raise DefinitionError where an earlier step gives another value to what can have one:
        each would replace the other's, in every run."""
        module = flat.step.does
        if not isinstance(module, Module) or module.unique is None or flat.handler:
            return
        mark = flat.around.calls[-1] if flat.around.calls else flat.step.mark
        values: dict[str, list[str]] = {}
        for line in str(module.unique.render(flat.frame)).splitlines():
            name, tab, value = line.partition("\t")
            if tab:
                values.setdefault(name, []).append(value)
        for name, written in values.items():
            value = "\n".join(sorted(written))
            known, place = self.on.unique.setdefault(name, (value, mark))
            if known != value:
                where = "another item of its loop" if place == mark else f"the step at {place}"
                what = f"this step and {where} want different things of {name}"
                hint = f"each would replace the other in every run: {quote(known)}, {quote(value)}"
                raise DefinitionError(Problem(what, mark, hint))

    def _unfold(self, standing: Standing) -> Callable[[Flat, Results], Program]:
        def unfold(flat: Flat, results: Results) -> Program:
            first, place = first_within(flat.number), flat.frame.host.place
            later = OnHost(
                self.on.host,
                self.on.scope,
                environment=self.on.environment,
                defaults=self.on.defaults,
                registered=dict.fromkeys(standing.registered, ()),
                settled={**standing.settled, **results},
                by_set=self.on.by_set,
                own=place.own,
                clean=self.on.clean,
            )
            walk, heard = self._walk(first, later, most=SPAN), place.heard
            items = loop_items(flat.step, flat.frame)
            row = _unfolded(walk, flat, items, heard=place.heard != heard)
            problems = HostProblems(1)
            program = RowPlanner(later, self.ask, problems).program(row)
            problems.raise_any()
            return program

        return unfold


def _unfolded(walk: Walk, flat: Flat, items: list[object], *, heard: bool) -> Row:
    """The row of a loop over a result. Raises DefinitionError where its numbers do not suffice."""
    first = walk.next
    if len(items) <= SPAN:
        row = walk.items(flat.step, items, flat.frame, flat.around, heard=heard)
        if walk.next - first <= SPAN:
            return row
    what = f"`loop` gives more than {SPAN} steps"
    raise DefinitionError(Problem(what, flat.step.mark, "loop over fewer items"))


def _may_be_left_out(number: int, region: Region) -> bool:
    """Whether steps behind the region may be come to without this one, which is in it."""
    tried = region.forgives and region.start <= number < region.body
    return tried or region.body <= number < region.rescue


def _in_project(error: DefinitionError, calls: Sequence[Mark]) -> DefinitionError:
    """Return the error with the place of the innermost of the project's ``calls`` for each place
    within the modules that ship."""
    library = show(FOLDER) + "/"
    ours = [mark for mark in calls if not mark.path.startswith(library)]

    def placed(problem: Problem) -> Problem:
        inside = problem.mark is None or problem.mark.path.startswith(library)
        return replace(problem, mark=ours[-1]) if inside and ours else problem

    return DefinitionError(*map(placed, error.problems))
