"""The question before each task of a run with ``--step``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.sanitize import to_one_line

if TYPE_CHECKING:
    from orchestrator.cli.tty_prompt import StdinLines
    from orchestrator.executor import CancelToken
    from orchestrator.output.plan_step import MaskFunction
    from orchestrator.output.terminal_lock import TerminalLock
    from orchestrator.planner.plan import AppPlan, Plan, PlannedStep, PlannedTask

_MAX_STEPS = 8  # lines of steps in a question
_ANSWERS = {
    **dict.fromkeys(("r", "run", "y", "yes"), "run"),
    **dict.fromkeys(("s", "skip"), "skip"),
    **dict.fromkeys(("c", "continue"), "continue"),
    **dict.fromkeys(("q", "quit", "stop"), "stop"),
    **dict.fromkeys(("?", "d", "details"), "details"),
}


class TaskQuestions:
    """Asks before each task of a plan, on stdin, until the user wants no more questions.

    Apps ask from their own threads, one at a time. ``mask`` hides secrets.
    """

    def __init__(
        self, plan: Plan, terminal_lock: TerminalLock, input_lines: StdinLines, mask: MaskFunction
    ) -> None:
        """Prepare the questions about the tasks of this plan."""
        self._terminal_lock, self._input_lines, self._mask = terminal_lock, input_lines, mask
        self._places = {
            id(planned_task): (app_plan, number)
            for app_plan in plan.app_plans
            for number, planned_task in enumerate(app_plan.planned_tasks, 1)
        }
        self._asks = True

    def ask(self, planned_task: PlannedTask, cancel: CancelToken) -> str:
        """Return ``run``, ``skip`` or ``stop``; ``stop`` if the run is interrupted."""
        with self._input_lines.question_lock:
            if not self._asks:
                return "run"
            with self._terminal_lock.question():
                return self._ask(planned_task, cancel)

    def _ask(self, planned_task: PlannedTask, cancel: CancelToken) -> str:
        app_plan, number = self._places[id(planned_task)]
        for line in self._summary_lines(planned_task, app_plan, number):
            click.echo(line, err=True)
        while True:
            click.echo("run, skip, continue or quit? [r/s/c/q/?] ", err=True, nl=False)
            line_typed = self._input_lines.next_line(lambda: cancel.is_cancelled)
            answer = "stop" if line_typed is None else _ANSWERS.get(line_typed.strip().lower(), "")
            if answer == "details":
                self._print_details(app_plan, number)
            elif answer == "continue":
                self._asks = False
                return "run"
            elif answer:
                return answer
            else:
                click.echo(
                    "  r: run this task; s: skip it; c: run it and all others; "
                    "q: stop here; ?: show its plan",
                    err=True,
                )

    def _summary_lines(
        self, planned_task: PlannedTask, app_plan: AppPlan, number: int
    ) -> Iterator[str]:
        """Yield where the run is, on which hosts the task would run, and the names of its steps."""
        place = f"{number} of {len(app_plan.planned_tasks)}"
        place = f"{app_plan.app}: {place}" if app_plan.app else place
        batch = f", batch {planned_task.batch}" if planned_task.batch else ""
        hosts = fold_hostnames(host.host for host in planned_task.hosts)
        yield to_one_line(f"{place}: {planned_task.task} on {hosts}{batch}")
        lines = list(self._step_lines(planned_task))
        shown = lines if len(lines) <= _MAX_STEPS else lines[: _MAX_STEPS - 1]
        yield from shown
        if len(shown) < len(lines):
            yield f"  … {len(lines) - len(shown)} more steps"

    def _step_lines(self, planned_task: PlannedTask) -> Iterator[str]:
        """Yield the steps that may run; those of a loop, and equal ones of hosts, are one line."""
        by_place: dict[object, list[tuple[str, PlannedStep]]] = {}
        for host in planned_task.hosts:
            for step in host.steps:
                if not step.skip:
                    name = step.name.rpartition(" › ")[0]
                    place = (step.handler, name, step.mark)
                    by_place.setdefault(place, []).append((host.host, step))
        for found in sorted(by_place.values(), key=lambda steps: steps[0][1].number):
            names = dict.fromkeys(step.name for _, step in found)
            first = next(iter(names))
            shown = first if len(names) == 1 else f"{first}, and {len(names) - 1} like it"
            hosts = dict.fromkeys(host for host, _ in found)
            on = f" (on {fold_hostnames(hosts)})" if len(hosts) < len(planned_task.hosts) else ""
            yield f"  - {to_one_line(self._mask(shown + on))}"

    def _print_details(self, app_plan: AppPlan, number: int) -> None:
        from orchestrator.output.console import open_console
        from orchestrator.output.plan_text import planned_task_lines

        out = open_console(sys.stderr, os.environ)
        out.lines(planned_task_lines(app_plan, number, out, self._mask))
