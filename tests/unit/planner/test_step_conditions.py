"""What of a step's conditions is decided while planning, on the host, or with a result."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.command import StepCommand
from orchestrator.model.condition import (
    AllOf,
    AnyOf,
    Condition,
    ConstantCondition,
    ExitStatusCondition,
    NotCondition,
    StepStateCondition,
)
from orchestrator.planner.plan import ControlAction, ResultOverride
from orchestrator.planner.step_conditions import CHANGED_STEPS, NO_MORE_RESULTS, all_of, any_of
from tests.unit.planner.plan_project import (
    PlanProject,
    command_of,
    output,
    resume_step,
    resumed_command,
)

TRUE, FALSE = ConstantCondition(True), ConstantCondition(False)


@pytest.mark.parametrize(
    ("when", "skip"),
    [
        ("true", ""),
        ("false", "when: false"),
        ("host.name == 'web1'", ""),
        ("host.name != 'web1'", "when: host.name != 'web1'"),
        ("host.roles[0] == 'web'", ""),
        ("host.roles[0] == 'db'", "when: host.roles[0] == 'db'"),
        ("size > 3", ""),
        ("size > 5", "when: size > 5"),
        ("missing is defined", "when: missing is defined"),
        ("[size > 3, size > 5, size > 6]", "when: size > 5"),
        ("nothing", "when: nothing"),
    ],
)
def test_what_is_known_is_decided_while_planning(plans: PlanProject, when: str, skip: str) -> None:
    plans.variables("size: 4\nnothing:")
    step = plans.step(f"- run: x\n  when: {when}\n")
    assert step.skip == skip
    assert (step.command is None) == bool(skip)
    if not skip:
        assert command_of(step).when == TRUE


@pytest.mark.parametrize(
    ("when", "condition"),
    [
        ("r.changed", StepStateCondition(1, "changed")),
        ("r.failed", StepStateCondition(1, "failed")),
        ("r.skipped", StepStateCondition(1, "skipped")),
        ("not r.changed", NotCondition(StepStateCondition(1, "changed"))),
        ("r.exit_status == 2", ExitStatusCondition(1, "==", 2)),
        ("r.exit_status > 0", ExitStatusCondition(1, ">", 0)),
        (
            "r.changed or r.exit_status != 3",
            AnyOf((StepStateCondition(1, "changed"), ExitStatusCondition(1, "!=", 3))),
        ),
        (
            "[r.changed, not r.failed]",
            AllOf(
                (StepStateCondition(1, "changed"), NotCondition(StepStateCondition(1, "failed")))
            ),
        ),
        ("[size == 4, r.changed]", StepStateCondition(1, "changed")),
    ],
)
def test_the_state_of_an_earlier_step_is_judged_on_the_host(
    plans: PlanProject, when: str, condition: Condition
) -> None:
    plans.variables("size: 4")
    step = plans.step(f"- {{run: x, register: r}}\n- {{run: y, when: {when}}}")
    assert command_of(step).when == condition
    assert step.awaited_names == ()


@pytest.mark.parametrize("when", ["'a' in r.stdout", "r.stdout", "r.stderr == ''", "r.status"])
def test_output_of_an_earlier_step_is_waited_for(plans: PlanProject, when: str) -> None:
    step = plans.step(f'- {{run: x, register: r}}\n- {{run: y, when: "{when}"}}')
    assert (step.skip, step.command) == ("", None)
    assert step.awaited_names == ("r",)
    assert resumed_command(step, r=output("a", status="ok")).text == "y"


def test_a_condition_over_output_skips_with_the_condition_as_reason(plans: PlanProject) -> None:
    step = plans.step("- {run: x, register: r}\n- {run: y, when: 'r.stdout == \"a\"'}")
    assert resume_step(step, r="b") == 'when: r.stdout == "a"'


def test_a_step_registered_by_an_earlier_task_is_waited_for(plans: PlanProject) -> None:
    """The host's conditions know only the steps of the task that it is in."""
    plans.write(
        {
            "tasks/a.yml": "steps: [{run: x, register: r}]\n",
            "tasks/b.yml": "steps: [{run: y, when: r.changed}]\n",
        }
    )
    (app_plan,) = plans.plan("a", "b", limit="web1").app_plans
    step = app_plan.planned_tasks[1].hosts[0].steps[0]
    assert step.awaited_names == ("r",)
    assert resumed_command(step, r=output(changed=True)).when == TRUE
    assert resume_step(step, r=output()) == "when: r.changed"


def test_the_result_of_a_skipped_step_is_known_while_planning(plans: PlanProject) -> None:
    steps = plans.steps("""
        - {run: x, register: r, when: false}
        - {run: "echo {{ r.stdout }}.", when: r.skipped}
        - {run: y, when: r.changed}
    """)
    assert [step.skip for step in steps] == ["when: false", "", "when: r.changed"]
    assert command_of(steps[1]).text == "echo ''."


def test_a_name_registered_twice_means_the_latest_step(plans: PlanProject) -> None:
    steps = plans.steps("""
        - {run: x, register: r}
        - {run: y, register: r}
        - {run: z, when: r.changed}
    """)
    assert command_of(steps[2]).when == StepStateCondition(2, "changed")


def test_the_common_result_of_several_steps_is_waited_for(plans: PlanProject) -> None:
    plans.write_task("steps: [run: x, run: y]\n", "two")
    for step in ("{run: x, loop: [a, b], register: r}", "{two: {}, register: r}"):
        last = plans.step(f"- {step}\n- {{run: z, when: r.changed}}\n")
        assert last.awaited_names == ("r",)
    only_item = "- {run: x, loop: [a], register: r}\n- {run: z, when: r.changed}\n"
    assert plans.command(only_item).when == StepStateCondition(1, "changed")


@pytest.mark.parametrize("step", ["{run: y, register: r}", "{run: y, loop: [a], register: r}"])
def test_a_name_that_a_skippable_step_registers_again_is_waited_for(
    plans: PlanProject, step: str
) -> None:
    steps = plans.steps(f"""
        - {{run: x, register: r}}
        - block: [run: "false", {step}]
          rescue: [run: "true"]
        - {{run: z, when: r.changed}}
    """)
    assert steps[-1].awaited_names == ("r",)


@pytest.mark.parametrize("option", ["delegate_to: db1", "local: true"])
def test_another_host_knows_no_result_of_this_one(plans: PlanProject, option: str) -> None:
    step = plans.step(f"- {{run: x, register: r}}\n- {{run: y, when: r.changed, {option}}}")
    assert step.awaited_names == ("r",)
    assert resumed_command(step, r=output(changed=True)).when == TRUE


@pytest.mark.parametrize("step", ["{run: x, local: true}", "{run: x, delegate_to: db1}", "fail: x"])
def test_a_handler_that_runs_elsewhere_waits_to_know_whether_it_was_notified(
    plans: PlanProject, step: str
) -> None:
    plans.write_task(f"steps: [{{run: x, notify: h}}]\nhandlers: {{h: [{step}]}}\n")
    (planned,) = plans.planned_tasks("t", limit="web1")
    handler = planned.hosts[0].steps[1]
    assert (handler.command, handler.control_action, handler.skip) == (None, None, "")
    assert resume_step(handler, **{CHANGED_STEPS: lambda *_: False}) == "when"
    action = resume_step(handler, **{CHANGED_STEPS: lambda numbers, _: numbers == (1,)})
    assert isinstance(action, StepCommand | ControlAction)


def test_when_of_a_task_a_block_and_a_step_must_all_hold(plans: PlanProject) -> None:
    plans.write_task(
        """
        when: a
        steps:
          - block:
              - {run: x, when: c}
            when: b
        """
    )
    for false in "abc":
        plans.variables("\n".join(f"{name}: {str(name != false).lower()}" for name in "abc"))
        (planned,) = plans.planned_tasks("t", limit="web1")
        (step,) = planned.hosts[0].steps
        assert (step.skip, step.when) == (f"when: {false}", "a and b and c")


def test_a_condition_is_read_in_the_scope_that_it_is_written_in(plans: PlanProject) -> None:
    plans.write(
        {
            "tasks/u.yml": """
                params: {x: {default: inner}}
                steps: [{run: u, when: x == 'inner'}]
            """,
            "tasks/t.yml": """
                params: {x: {default: outer}}
                steps: [{u: {}, when: x == 'outer'}]
            """,
        }
    )
    (planned,) = plans.planned_tasks("t", limit="web1")
    assert [step.skip for step in planned.hosts[0].steps] == [""]


@pytest.mark.parametrize(
    ("options", "failed", "changed"),
    [
        ("", None, TRUE),
        ("readonly: true", None, FALSE),
        ("changed_when: false", None, FALSE),
        ("changed_when: result.exit_status == 2", None, ExitStatusCondition(2, "==", 2)),
        ("failed_when: false", FALSE, TRUE),
        ("failed_when: result.exit_status > 1", ExitStatusCondition(2, ">", 1), TRUE),
        (
            "failed_when: [result.exit_status > 1, r.changed]",
            AllOf((ExitStatusCondition(2, ">", 1), StepStateCondition(1, "changed"))),
            TRUE,
        ),
    ],
)
def test_conditions_over_the_exit_status_are_judged_on_the_host(
    plans: PlanProject, options: str, failed: Condition | None, changed: Condition
) -> None:
    step = plans.step(f"- {{run: w, register: r}}\n- {{run: x, {options}}}")
    assert command_of(step).failed_condition == failed
    assert command_of(step).changed_condition == changed
    assert step.evaluate_result is None
    assert not step.flush_after


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ("", TRUE),
        ("changed_when: false", FALSE),
        ("changed_when: result.exit_status == 2", TRUE),
        ("changed_when: \"'new' in result.stdout\"", TRUE),
    ],
)
def test_a_command_that_check_mode_does_not_run_would_change_something_unless_it_never_does(
    plans: PlanProject, options: str, changed: Condition
) -> None:
    command = plans.command(f"- {{run: x, {options}}}", check_mode=True)
    assert command.changed_condition == changed
    assert command.failed_condition is None


def test_conditions_over_the_output_are_judged_here_before_the_next_step(
    plans: PlanProject,
) -> None:
    step = plans.step("""
        - run: x
          failed_when: "'error' in result.stdout"
          changed_when: "'new' in result.stdout"
    """)
    command = command_of(step)
    assert (command.failed_condition, command.changed_condition) == (FALSE, FALSE)
    assert step.flush_after
    assert step.evaluate_result is not None
    assert step.evaluate_result({}, output("new")) == ResultOverride(failed=False, changed=True)
    assert step.evaluate_result({}, output("error")) == ResultOverride(failed=True, changed=False)


@pytest.mark.parametrize(
    ("more", "flushed"), [("", False), ("register: r", True), ("failed_when: false", False)]
)
def test_later_steps_wait_for_a_change_only_if_its_result_is_used(
    plans: PlanProject, more: str, flushed: bool
) -> None:
    changed = "changed_when: \"'new' in result.stdout\""
    assert plans.step(f"- {{run: x, {changed}, {more}}}").flush_after == flushed


def test_a_condition_on_the_result_can_compare_it_with_an_earlier_one(plans: PlanProject) -> None:
    step = plans.step("""
        - {run: x, register: before}
        - {run: x, changed_when: result.stdout != before.stdout}
    """)
    assert step.evaluate_result is not None
    known = {"before": output("1")}
    assert step.evaluate_result(known, output("1")).changed is False
    assert step.evaluate_result(known, output("2")).changed is True


@pytest.mark.parametrize("key", ["when", "changed_when", "failed_when", "until"])
def test_an_undefined_name_in_a_condition_is_an_error_at_its_place(
    plans: PlanProject, key: str
) -> None:
    plans.variables("colour: red")
    problem = plans.refused_steps(f"- run: x\n  {key}: colur == 'red'\n")
    assert problem.message == "'colur' is undefined"
    assert problem.hint == "did you mean 'colour'?"
    assert str(problem.mark) == f"tasks/t.yml:3:{5 + len(key) + 2}"


@pytest.mark.parametrize(
    ("field", "hint"),
    [("stdou", "did you mean 'stdout'?"), ("rc", "write r.exit_status"), ("zzz", "available: ")],
)
def test_a_field_that_no_result_has_is_an_error(plans: PlanProject, field: str, hint: str) -> None:
    problem = plans.refused_steps(f"- {{run: x, register: r}}\n- {{run: y, when: r.{field}}}")
    assert problem.message == f"'r.{field}' is undefined"
    assert hint in problem.hint


def test_a_result_that_was_never_produced_is_the_variable_of_that_name(plans: PlanProject) -> None:
    plans.variables("r: of the stage")
    steps = plans.steps("""
        - block:
            - {run: x}
            - {run: x, register: r}
          rescue: [run: "true"]
        - run: echo {{ r }}
    """)
    found = resume_step(steps[-1], **{NO_MORE_RESULTS: True})
    assert getattr(found, "text", found) == "echo 'of the stage'"


CONDITIONS = st.lists(
    st.sampled_from(
        [TRUE, FALSE, StepStateCondition(1, "changed"), ExitStatusCondition(2, "==", 0)]
    ),
    max_size=5,
)


def is_true(condition: Condition, truth: dict[Condition, bool]) -> bool:
    if isinstance(condition, AllOf):
        return all(is_true(each, truth) for each in condition.conditions)
    if isinstance(condition, AnyOf):
        return any(is_true(each, truth) for each in condition.conditions)
    return condition.value if isinstance(condition, ConstantCondition) else truth[condition]


@given(CONDITIONS, st.booleans(), st.booleans())
def test_a_simplified_conjunction_is_true_for_the_same_hosts(
    conditions: list[Condition], first: bool, second: bool
) -> None:
    truth: dict[Condition, bool] = {
        StepStateCondition(1, "changed"): first,
        ExitStatusCondition(2, "==", 0): second,
    }
    expected = [is_true(each, truth) for each in conditions]
    assert is_true(all_of(conditions), truth) == all(expected)
    if conditions:
        assert is_true(any_of(conditions), truth) == any(expected)
