"""A small project whose tasks are planned in this process, for the tests of the planner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from orchestrator.commands.cli_args import parse_extra_variables
from orchestrator.errors import DefinitionError, Diagnostic
from orchestrator.inventory.limit import select_hosts
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.model.command import StepCommand
from orchestrator.model.registered_result import RegisteredResult
from orchestrator.model.step_result import CapturedOutput
from orchestrator.planner.plan import ControlAction, Plan, PlannedStep, PlannedTask, StepProgram
from orchestrator.planner.plan_builder import build_plan
from orchestrator.planner.request import PlanRequest
from orchestrator.planner.template_objects import run_view
from orchestrator.playbook import TaskRequest, check_task_requests
from tests.support.parsed_modules import load_tasks

INVENTORY = {
    "inventories/dev/stage.yml": "{}",
    "inventories/dev/hosts.yml": "web1:\nweb2:\nweb3:\ndb1:\n",
    "inventories/dev/roles.yml": "web: [web1, web2, web3]\ndb: [db1]\n",
}
"""The stage ``dev`` of every project, unless a test writes other files."""


class PlanProject:
    """A project in a folder: ``write`` its files, then plan its tasks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write(INVENTORY)

    def write(self, files: Mapping[str, str]) -> PlanProject:
        """Write the files, dedented, and return the project."""
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))
        return self

    def variables(self, text: str) -> PlanProject:
        """Give the stage these variables, and return the project."""
        body = indent(dedent(text).strip("\n"), "  ")
        return self.write({"inventories/dev/stage.yml": f"vars:\n{body}\n"})

    def plan(
        self,
        *tasks: str,
        args: Mapping[str, str] | None = None,
        limit: str | None = None,
        apps: Sequence[str] = (),
        extra: Sequence[str] = (),
        **options: Any,
    ) -> Plan:
        """Plan these tasks; ``args`` are the arguments of the first one."""
        stage = load_stage(self.root, "dev")
        requests = [TaskRequest(name, {} if n else args or {}) for n, name in enumerate(tasks)]
        loaded = load_tasks(self.root, tasks)
        check_task_requests(requests, loaded)
        return build_plan(
            PlanRequest(
                stage,
                select_hosts(stage, limit),
                requests=tuple(requests),
                tasks=loaded.by_name,
                run=run_view("r1", "me", 0.0),
                extra_variables=parse_extra_variables(extra),
                apps=tuple(stage.apps[name] for name in apps),
                root=str(self.root),
                **options,
            )
        )

    def planned_tasks(self, task: str, **options: Any) -> tuple[PlannedTask, ...]:
        """Return the planned tasks of the only app plan."""
        (app_plan,) = self.plan(task, **options).app_plans
        return app_plan.planned_tasks

    def hosts_of(self, task: str, **options: Any) -> list[tuple[str, list[str]]]:
        """Return the name of each planned task, with its hosts."""
        return [
            (planned.task, [host.host for host in planned.hosts])
            for planned in self.planned_tasks(task, **options)
        ]

    def write_task(self, text: str, name: str = "t") -> PlanProject:
        """Write one task file, and return the project."""
        return self.write({f"tasks/{name}.yml": text})

    def program(self, steps: str, host: str = "web1", **options: Any) -> StepProgram:
        """Return the program of a task with these steps on one host."""
        self.write_task("steps:\n" + indent(dedent(steps).strip("\n"), "  ") + "\n")
        (planned,) = self.planned_tasks("t", limit=host, **options)
        return planned.hosts[0].program

    def steps(self, steps: str, host: str = "web1", **options: Any) -> tuple[PlannedStep, ...]:
        """Return the planned steps of a task with these steps on one host."""
        return self.program(steps, host, **options).steps

    def step(self, steps: str, host: str = "web1", **options: Any) -> PlannedStep:
        """Return the last planned step of a task with these steps on one host."""
        return self.steps(steps, host, **options)[-1]

    def command(self, steps: str, host: str = "web1", **options: Any) -> StepCommand:
        """Return the command of the last step of a task with these steps on one host."""
        return command_of(self.step(steps, host, **options))

    def diagnostics(self, *tasks: str, **options: Any) -> tuple[Diagnostic, ...]:
        """Return the diagnostics of tasks that cannot be planned."""
        with pytest.raises(DefinitionError) as caught:
            self.plan(*tasks, **options)
        return caught.value.diagnostics

    def only_diagnostic(self, *tasks: str, **options: Any) -> Diagnostic:
        """Return the only diagnostic of tasks that cannot be planned."""
        (found,) = self.diagnostics(*tasks, **options)
        return found

    def refused_steps(self, steps: str, host: str = "web1", **options: Any) -> Diagnostic:
        """Return the only diagnostic of a task with these steps on one host."""
        self.write_task("steps:\n" + indent(dedent(steps).strip("\n"), "  ") + "\n")
        return self.only_diagnostic("t", limit=host, **options)


def command_of(step: PlannedStep) -> StepCommand:
    """Return the command of a step that is known completely."""
    assert step.command is not None, step
    return step.command


def resume_step(
    step: PlannedStep, **results: object
) -> StepCommand | ControlAction | StepProgram | str:
    """Return what a waiting step becomes with these results; a text is the output of a step."""
    assert step.resume is not None, step
    return step.resume(
        {name: output(v) if isinstance(v, str) else v for name, v in results.items()}
    )


def resumed_command(step: PlannedStep, **results: object) -> StepCommand:
    """Return the command that a waiting step becomes with these results."""
    found = resume_step(step, **results)
    assert isinstance(found, StepCommand), found
    return found


def output(stdout: str = "", **fields: Any) -> RegisteredResult:
    """Return the result of a step with this output."""
    captured = CapturedOutput(stdout.encode("utf-8", "surrogateescape"))
    return RegisteredResult(fields.pop("status", "ok"), captured, **fields)
