"""Keywords that limit steps: throttle, any_errors, secret, and where they are refused."""

from __future__ import annotations

import pytest

from orchestrator.planner.plan import ThrottledSteps
from tests.unit.planner.plan_project import PlanProject


def test_a_throttle_is_a_range_of_steps(plans: PlanProject) -> None:
    plans.write_task("throttle: 2\nsteps: [run: x, run: y]\n", "inner")
    program = plans.program(
        """
        - run: a
        - {run: "echo {{ item }}", loop: [1, 2], throttle: 1}
        - inner: {}
        """
    )
    ranges = [(each.start, each.end, each.limit) for each in program.throttles]
    assert ranges == [(2, 4, 1), (4, 6, 2)]
    assert all(
        isinstance(each, ThrottledSteps) and ":" in each.origin for each in program.throttles
    )


def test_everything_in_a_secret_block_or_task_is_secret(plans: PlanProject) -> None:
    plans.write_task("secret: true\nsteps: [run: x]\n", "inner")
    steps = plans.steps(
        "- block: [{run: a, secret: false}]\n  secret: true\n- inner: {}\n- run: b\n"
    )
    assert [step.hide_result is not None for step in steps] == [True, True, False]


def test_an_item_inside_one_that_stops_at_errors_does_too(plans: PlanProject) -> None:
    plans.write_task("steps: [run: x]\n", "a")
    plans.write_task("tasks: [{tasks: [a], any_errors: stop}, a]\n")
    assert [task.stops_at_error for task in plans.planned_tasks("t")] == [True, False]


@pytest.mark.parametrize(
    ("task", "position", "message"),
    [
        ("steps:\n- {run: id, throttle: 0}", (2, 23), "throttle must be between 1 and"),
        ("throttle: all\nsteps: [run: id]", (1, 11), "throttle must be a whole number"),
        ("steps:\n- {run: id, secret: 1}", (2, 21), "secret must be true or false"),
        ("steps:\n- {set: {a: 1}, secret: true}", (2, 17), "`secret` is not allowed on step `set`"),
        ("steps:\n- {set: {a: 1}, throttle: 1}", (2, 17), "`throttle` is not allowed on step"),
        ("tasks:\n- {steps: [run: id], any_errors: never}", (2, 34), "one of finish, stop"),
        (
            "tasks:\n- {steps: [run: id], any_errors: stop, max_failures: 1}",
            (2, 34),
            "`any_errors: stop` and `max_failures` exclude each other",
        ),
        ("steps:\n- {run: id, environment: text}", (2, 26), "environment must be a mapping"),
        (
            "steps:\n- {run: id, environment: '{{ [1] }}'}",
            (2, 26),
            "environment must be a mapping, found [1]",
        ),
    ],
)
def test_wrong_limits_are_errors_where_they_are_written(
    plans: PlanProject, task: str, position: tuple[int, int], message: str
) -> None:
    plans.write({"tasks/t.yml": task + "\n"})
    found = plans.only_diagnostic("t")
    assert message in found.message
    assert found.mark and (found.mark.line, found.mark.column) == position


@pytest.mark.parametrize(
    ("step", "timeout", "delay"),
    [
        ("wait_for_connection", 600.0, 0.0),
        ("wait_for_connection:", 600.0, 0.0),
        ("wait_for_connection: {timeout: 5m, delay: 10s}", 300.0, 10.0),
    ],
)
def test_a_wait_for_a_connection_has_a_timeout_and_a_delay(
    plans: PlanProject, step: str, timeout: float, delay: float
) -> None:
    action = plans.step(f"- {step}\n").control_action
    assert action and (action.timeout, action.seconds) == (timeout, delay)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("steps: [wait_for_connection: {timeout: x}]", "timeout must be a duration"),
        ("steps: [wait_for_connection: {port: 22}]", "unknown key 'port' in wait_for_connection"),
        ("steps: [{wait_for_connection: , become: true}]", "`become` is not allowed on step"),
        ("probe: state a b\nneeds: [nothing]", "no task 'nothing'"),
        ("steps: [run: id]\nneeds: [copy]", "`needs` requires `probe`"),
    ],
)
def test_wrong_connections_and_needs_are_errors(
    plans: PlanProject, task: str, message: str
) -> None:
    plans.write({"tasks/t.yml": task + "\n"})
    assert message in plans.diagnostics("t")[0].message
