"""Calls of one of several tasks, by a name that is known only in the run."""

from __future__ import annotations

import pytest

from orchestrator.planner.plan import ResultGroup
from tests.unit.planner.plan_project import PlanProject, command_of, output, resume_step


@pytest.fixture
def project(plans: PlanProject) -> PlanProject:
    for name in "ab":
        plans.write_task(f"params: {{x: {{}}}}\nsteps: [run: 'echo {name} {{{{ x }}}}']\n", name)
    return plans


def test_only_the_named_task_runs_if_the_name_is_known(project: PlanProject) -> None:
    program = project.program(
        "- call: {task: '{{ n }}', one_of: [a, b], args: {x: 1}}\n  vars: {n: b}\n  register: r\n"
    )
    assert [bool(step.skip) for step in program.steps] == [False, True, False]
    assert command_of(program.steps[2]).text == "echo b 1"
    assert program.result_groups == (ResultGroup("r", ((None, 1, 4),)),)


def test_a_name_made_of_a_result_is_awaited(project: PlanProject) -> None:
    check, a, b = project.steps(
        "- {run: x, register: r}\n- call: {task: '{{ r.stdout }}', one_of: [a, b]}\n"
    )[1:]
    result = output("a")
    assert resume_step(check, r=result).ok  # type: ignore[union-attr]
    assert resume_step(b, r=result) == "when: called_task == 'b'"
    assert resume_step(a, r=result).text == "echo a "  # type: ignore[union-attr]
    assert not resume_step(check, r=output("c")).ok  # type: ignore[union-attr]


def test_a_name_of_none_of_the_tasks_fails_the_step(project: PlanProject) -> None:
    check, *others = project.steps("- call: {task: 'c', one_of: [a, b]}\n")
    assert check.control_action and check.control_action.message == "'c' is not one of a, b"
    assert all(step.skip for step in others)


@pytest.mark.parametrize(
    ("step", "column", "message"),
    [
        ("{call: a}", 10, "call must be a mapping"),
        ("{call: {task: a}}", 10, "call needs `one_of`"),
        ("{call: {one_of: [a]}}", 10, "call needs `task`"),
        ("{call: {task: a, one_of: []}}", 28, "one_of of call is empty"),
        ("{call: {task: a, one_of: [a, zz]}}", 32, "no task 'zz'"),
        ("{call: {task: a, one_of: [a], args: {y: 1}}}", 40, "task 'a' has no param 'y'"),
        ("{call: {task: a, one_of: [a], arg: {y: 1}}}", 33, "unknown key 'arg' in call"),
        ("{call: {task: a, one_of: [a]}, until: x}", 34, "`until` is not allowed on step `call`"),
    ],
)
def test_a_call_in_error_is_refused_where_it_is_written(
    project: PlanProject, step: str, column: int, message: str
) -> None:
    project.write({"tasks/t.yml": f"steps:\n- {step}\n"})
    found = project.only_diagnostic("t")
    assert message in found.message
    assert found.mark and (found.mark.line, found.mark.column) == (2, column)
