"""A plan in full, for people: text that is equal for several hosts is shown once.

For programs see ``plan_json``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.sanitize import to_one_line
from orchestrator.output.console import BOLD, CYAN, DIM, YELLOW, TextConsole
from orchestrator.output.plan_json import plan_json
from orchestrator.output.plan_step import MaskFunction, StepTextRenderer, step_group_key
from orchestrator.output.text_width import display_width, wrap_text
from orchestrator.planner.plan import AppPlan, Plan, PlannedStep, PlannedTask, StepProgram, TryBlock


def step_notes(program: StepProgram) -> Mapping[int, tuple[str, ...]]:
    """Return the notes of each step by its number.

    A note says that the step is a rescue, that it always runs, that failures are ignored from it
    on, or that the result of several steps is registered after it.
    """
    found: dict[int, list[str]] = {}
    mark_by_step = {step.number: step.mark for step in program.steps}

    def add(number: int, text: str) -> None:
        found.setdefault(number, []).append(text)

    even: dict[int, set[int]] = {}
    loop: dict[int, set[int]] = {}
    for region in program.try_blocks:
        for number in range(region.body_end, region.rescue_end):
            add(
                number,
                f"rescue: runs only if {_any_of_text(range(region.start, region.body_end))} fails",
            )
        # the items of a loop are the same step again, not its `always`
        again = mark_by_step.get(region.start) == mark_by_step.get(region.rescue_end)
        for number in range(region.rescue_end, region.end):
            into = loop if again else even
            into.setdefault(number, set()).update(range(region.start, region.rescue_end))
        if _ignores_failures(region):
            add(region.start, _ignored_note(range(region.start, region.end)))
    for number, others in even.items():
        add(number, f"always: runs even if {_any_of_text(others)} fails")
    for number, others in loop.items():
        add(number, f"runs even if {_any_of_text(others)} fails")
    for limited in program.throttles:
        limited_steps = range(limited.start, limited.end)
        which = f"steps {number_ranges(limited_steps)}" if len(limited_steps) > 1 else "this step"
        hosts = "one host runs" if limited.limit == 1 else f"{limited.limit} hosts run"
        add(limited.start, f"at most {hosts} {which} at the same time")
    for gather in program.result_groups:
        if numbers := [n for _, start, end in gather.parts for n in range(start, end)]:
            what = "step" if len(numbers) == 1 else "steps"
            add(numbers[-1], f"the result of {what} {number_ranges(numbers)} is `{gather.name}`")
    return {number: tuple(texts) for number, texts in found.items()}


def number_ranges(numbers: Iterable[int]) -> str:
    """Return the numbers as ranges: ``1-3, 5``."""
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in _consecutive_runs(numbers))


def _consecutive_runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    yield from runs


def _any_of_text(numbers: Iterable[int]) -> str:
    which = list(numbers)
    return f"step {which[0]}" if len(which) == 1 else f"one of steps {number_ranges(which)}"


def _ignores_failures(region: TryBlock) -> bool:
    return region.has_rescue and region.body_end == region.end


def _ignored_note(numbers: range) -> str:
    if len(numbers) == 1:
        return "its failure is ignored"
    return f"a failure of steps {number_ranges(numbers)} is ignored"


__all__ = ["plan_json", "plan_lines", "planned_task_lines"]

GroupKey: TypeAlias = tuple[object, ...]
_Programs: TypeAlias = Callable[[PlannedTask], Iterable[tuple[str, StepProgram]]]


def plan_lines(plan: Plan, out: TextConsole, mask: MaskFunction = str) -> Iterator[str]:
    """Yield the plan as lines: apps, their tasks with the hosts, and each step's exact text.

    The rollback of a task follows its steps; the tasks that run on failure come last. A margin
    marks text: ``|`` for commands, ``?`` for a guard that must succeed first, ``<`` for standard
    input, ``=`` for values that are set. Such text is not wrapped; control characters are made
    visible (``plan_json`` has them unchanged). Other text is wrapped to ``out.width``. ``mask``
    hides secrets in any text.
    """
    hosts = f"{len(plan.hosts)} host{'' if len(plan.hosts) == 1 else 's'}"
    about = f"stage {plan.stage}, {' '.join(plan.tasks)} on {hosts}"
    yield out.paint(to_one_line(mask(f"plan {plan.run_id}: {about}")), BOLD)
    for warning in plan.warnings:
        yield out.paint(to_one_line(mask(f"warning: {warning}")), YELLOW)
    for app_plan in plan.app_plans:
        yield from _PlanTextRenderer(app_plan, out, mask).plan_lines()
    if not any(app_plan.planned_tasks for app_plan in plan.app_plans):
        yield "nothing to do"
    elif not plan.changes:
        yield out.paint("no step changes a host", DIM)


def planned_task_lines(
    app_plan: AppPlan, number: int, out: TextConsole, mask: MaskFunction = str
) -> Iterator[str]:
    """Yield the lines of one planned task, as in the whole plan; numbers start at 1."""
    planned_task = app_plan.planned_tasks[number - 1]
    yield from _PlanTextRenderer(app_plan, out, mask).numbered_task_lines(number, planned_task)


class _PlanTextRenderer:
    """A renderer of the plan of one app."""

    def __init__(self, app_plan: AppPlan, out: TextConsole, mask: MaskFunction) -> None:
        self.app_plan, self.out, self.mask = app_plan, out, mask

    def plan_lines(self) -> Iterator[str]:
        if self.app_plan.app is not None:
            yield ""
            yield self.out.paint(to_one_line(f"app {self.app_plan.app}"), BOLD)
        yield from self._task_lines(self.app_plan.planned_tasks)
        for task, planned_tasks in self.app_plan.failed_hooks:
            if planned_tasks:
                yield ""
                yield self.out.paint(to_one_line(f"if {task} fails:"), BOLD)
                yield from self._task_lines(planned_tasks)

    def _task_lines(self, planned_tasks: Iterable[PlannedTask]) -> Iterator[str]:
        for number, planned_task in enumerate(planned_tasks, 1):
            yield ""
            yield from self.numbered_task_lines(number, planned_task)

    def numbered_task_lines(self, number: int, planned_task: PlannedTask) -> Iterator[str]:
        """Yield one planned task with its steps and its rollback."""
        title = self.out.paint(to_one_line(f"{number}. {planned_task.task}"), BOLD)
        if planned_task.prompt:
            yield f"{title}: {to_one_line(planned_task.prompt)}"
        elif planned_task.is_commit:
            hosts = (
                to_one_line(fold_hostnames(planned_task.commit_scope.hosts))
                if planned_task.commit_scope
                else ""
            )
            yield f"{title}: a later failure does not roll back {hosts}".rstrip()
        else:
            yield from self._heading_lines(planned_task, title)
        for row in self._wrapped_lines(", ".join(_task_notes(planned_task)), 3):
            yield f"   {self.out.paint(row, DIM)}"
        yield from self._step_lines(
            planned_task, lambda w: ((h.host, h.program) for h in w.hosts), "   "
        )
        if any(host.rollback.steps for host in planned_task.hosts):
            yield "   rollback if the run fails before a commit:"
            yield from self._step_lines(
                planned_task, lambda w: ((h.host, h.rollback) for h in w.hosts), "     "
            )

    def _heading_lines(self, planned_task: PlannedTask, title: str) -> Iterator[str]:
        """Yield the task with its hosts; the description is on the same line if there is room."""
        names = to_one_line(fold_hostnames(host.host for host in planned_task.hosts)) or "no hosts"
        desc = to_one_line(self.mask(planned_task.desc))
        beside = f"{title} on {names}" + (f"  {self.out.paint(desc, DIM)}" if desc else "")
        taken = display_width(f"000. {planned_task.task} on {names}  {desc}")
        if not desc or self.out.width is None or taken <= self.out.width:
            yield beside
            return
        yield f"{title} on {names}"
        for row in self._wrapped_lines(desc, 3):
            yield f"   {self.out.paint(row, DIM)}"

    def _step_lines(
        self, planned_task: PlannedTask, programs: _Programs, indent: str
    ) -> Iterator[str]:
        """Yield each step once, with the hosts for which it is equal."""
        groups: dict[GroupKey, tuple[PlannedStep, tuple[str, ...], list[str]]] = {}
        for host, program in programs(planned_task):
            known = step_notes(program)
            for step in program.steps:
                remarks = known.get(step.number, ())
                groups.setdefault((step_group_key(step), remarks), (step, remarks, []))[2].append(
                    host
                )
        lines = StepTextRenderer(self.out, self.mask, indent + "   ")
        for step, remarks, hosts in sorted(groups.values(), key=lambda group: group[0].number):
            names = (
                ""
                if len(hosts) == len(planned_task.hosts)
                else f"  on {to_one_line(fold_hostnames(hosts))}"
            )
            name = self.out.paint(to_one_line(self.mask(step.name)), CYAN)
            yield f"{indent}{step.number}  {name}{names}"
            yield from lines.step_lines(step, remarks)

    def _wrapped_lines(self, text: str, indent: int) -> list[str]:
        text = to_one_line(self.mask(text))
        return (
            wrap_text(text, self.out.width - indent if self.out.width else len(text))
            if text
            else []
        )


def _task_notes(planned_task: PlannedTask) -> Iterator[str]:
    """Yield the notes of a planned task besides its name and hosts."""
    kind, _, hooked = planned_task.hooked_to.partition(" ")
    above = [name for name in planned_task.parents if name not in (planned_task.task, hooked)]
    if kind in ("before", "after"):
        yield planned_task.hooked_to
    if above and kind != "failed":
        yield f"in {' › '.join(above)}"
    if planned_task.batch:
        yield f"batch {planned_task.batch}"
    if planned_task.gate and planned_task.gate.pause:
        yield f"after a pause of {planned_task.gate.pause:g} s"
    if planned_task.gate and planned_task.gate.confirm:
        yield "after a confirmation"
    if planned_task.batch_scope:
        yield "a failed batch does not stop the next one"
    if planned_task.once:
        yield "once, on the first of these that is reachable" if planned_task.any_host else "once"
    if planned_task.stops_at_error:
        yield "a failure stops the other hosts"
    if planned_task.max_failures is not None:
        most = planned_task.max_failures.limit
        over = " in all batches" if planned_task.batch else ""
        yield f"at most {most} host{'' if most == 1 else 's'} may fail{over}"
