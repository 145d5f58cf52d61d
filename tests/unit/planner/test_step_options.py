"""Become, timeout, retries, environment and folders of a step, and the errors of invalid ones."""

from __future__ import annotations

import math

import pytest

from orchestrator.errors import DefinitionError, SourcePosition
from orchestrator.model.marked_value import HomePath
from orchestrator.planner.plan import CONTROLLER
from orchestrator.planner.step_options import mark_home_path, to_path, to_plain_text
from tests.unit.planner.plan_project import PlanProject, command_of, output, resume_step

HERE = SourcePosition("f", 1, 1)


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), (3, "3"), (1.5, "1.5"), (True, "true"), (False, "false")]
)
def test_texts_numbers_and_booleans_are_plain_text(value: object, text: str) -> None:
    assert to_plain_text(value, "x", HERE) == text


@pytest.mark.parametrize("value", [None, [], ["a"], {}, b"a", "a\0b", "\ud8ff"])
def test_other_values_are_not_plain_text(value: object) -> None:
    with pytest.raises(DefinitionError, match=r"^x ") as caught:
        to_plain_text(value, "x", HERE)
    assert caught.value.diagnostics[0].mark == HERE


@pytest.mark.parametrize("value", ["", " ", "\t\n"])
def test_a_blank_path_is_an_error(value: str) -> None:
    with pytest.raises(DefinitionError, match="chdir is blank"):
        to_path(value, "chdir", HERE)


@pytest.mark.parametrize(
    ("text", "marked"), [("~", True), ("~/a", True), ("~user", False), ("/~/a", False), ("", False)]
)
def test_only_the_own_home_folder_is_marked_as_one(text: str, marked: bool) -> None:
    assert isinstance(mark_home_path(text), HomePath) == marked
    assert mark_home_path(text) == text


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90", 90), ("10s", 10), ("5m", 300), ("1.5", 1.5), ('"{{ patience }}"', 120)],
)
def test_a_timeout_is_a_duration(plans: PlanProject, written: str, seconds: float) -> None:
    plans.variables("patience: 2m")
    assert plans.command(f"- {{run: x, timeout: {written}}}").timeout == seconds


@pytest.mark.parametrize(
    ("value", "message"), [("0", "timeout must be greater than zero"), ("soon", "timeout")]
)
def test_a_timeout_of_zero_or_without_a_number_is_an_error(
    plans: PlanProject, value: str, message: str
) -> None:
    plans.variables(f"patience: {value}")
    problem = plans.refused_steps('- {run: x, timeout: "{{ patience }}"}')
    assert message in problem.message
    assert str(problem.mark) == "tasks/t.yml:2:23"


def test_a_timeout_of_none_is_no_timeout(plans: PlanProject) -> None:
    plans.variables("patience:")
    assert plans.command('- {run: x, timeout: "{{ patience }}"}').timeout is None
    assert plans.command("- run: x").timeout is None


def test_the_innermost_timeout_folder_and_user_count(plans: PlanProject) -> None:
    plans.write_task(
        """
        timeout: 1
        chdir: /task
        become: app
        steps:
          - run: outer
          - block:
              - run: block
              - {run: step, timeout: 3, chdir: /step, become: false}
            timeout: 2
            chdir: /block
            become: true
        """
    )
    (planned,) = plans.planned_tasks("t", limit="web1")
    steps = planned.hosts[0].steps
    found = [(command_of(step).timeout, command_of(step).text, step.user) for step in steps]
    assert found == [
        (1, "cd -- /task\nouter", "app"),
        (2, "cd -- /block\nblock", "root"),
        (3, "cd -- /step\nstep", ""),
    ]


@pytest.mark.parametrize(
    ("written", "user"),
    [("true", "root"), ("false", ""), ("deploy", "deploy"), ('"{{ owner }}"', "www")],
)
def test_become_is_a_user_or_root(plans: PlanProject, written: str, user: str) -> None:
    plans.variables("owner: www")
    assert plans.step(f"- {{run: x, become: {written}}}").user == user


@pytest.mark.parametrize("value", ["", '""', '" "'])
def test_an_empty_user_is_an_error_and_not_the_login_user(plans: PlanProject, value: str) -> None:
    plans.variables(f"owner: {value}")
    problem = plans.refused_steps('- {run: x, become: "{{ owner }}"}')
    assert problem.message == "`become` is empty"
    assert str(problem.mark) == "tasks/t.yml:2:22"


@pytest.mark.parametrize(
    ("option", "consequence"), [("become", "any user"), ("delegate_to", "any host")]
)
def test_text_from_a_host_chooses_no_user_and_no_host(
    plans: PlanProject, option: str, consequence: str
) -> None:
    problem = plans.refused_steps(
        f'- {{run: id -un, register: me}}\n- {{run: x, {option}: "{{{{ me.stdout }}}}"}}'
    )
    assert f"`{option}` is made of text from a host (`me`)" in problem.message
    assert consequence in problem.message


def test_a_host_may_decide_between_users_of_the_task_only_before_the_run(
    plans: PlanProject,
) -> None:
    problem = plans.refused_steps("""
        - {run: "true", register: r}
        - {run: x, become: "{{ 'a' if r.failed else 'b' }}"}
    """)
    assert problem.message == "`become` depends on `r`, but must be known before the run starts"


def test_a_step_is_delegated_to_a_host_of_the_stage_with_its_own_values(
    plans: PlanProject,
) -> None:
    step = plans.step('- {run: "echo {{ host.name }}", delegate_to: db1}')
    assert step.delegate_to == "db1"
    assert step.display_text == "echo web1"


def test_delegation_to_an_unknown_host_is_an_error_with_the_nearest(plans: PlanProject) -> None:
    problem = plans.refused_steps("- {run: x, delegate_to: bd1}")
    assert problem.message == "delegate_to: no host 'bd1' in this stage"
    assert problem.hint == "did you mean 'db1'?"
    assert str(problem.mark) == "tasks/t.yml:2:27"


def test_a_local_step_runs_in_the_folder_of_the_project(plans: PlanProject) -> None:
    steps = plans.steps("""
        - {run: make, local: true}
        - {run: make, local: true, chdir: sub}
        - {run: make, local: true, chdir: /abs}
        - {run: make, local: true, chdir: ~/build dir}
        - {run: make, local: true, chdir: "~"}
    """)
    assert {step.delegate_to for step in steps} == {CONTROLLER}
    assert [command_of(step).text.splitlines()[0] for step in steps] == [
        f"cd -- {plans.root}/",
        f"cd -- {plans.root}/sub",
        "cd -- /abs",
        "cd -- ~/'build dir'",
        "cd -- ~",
    ]


def test_a_step_in_a_local_block_can_be_delegated(plans: PlanProject) -> None:
    steps = plans.steps("""
        - local: true
          block: [run: here, {run: there, delegate_to: db1}]
    """)
    assert [step.delegate_to for step in steps] == [CONTROLLER, "db1"]


def test_environment_is_merged_inner_over_outer_and_null_removes(plans: PlanProject) -> None:
    plans.write(
        {
            "inventories/dev/stage.yml": "environment: {A: stage, B: stage, C: stage}\n",
            "tasks/t.yml": """
                environment: {B: task, D: "{{ host.name }}"}
                steps: [{run: x, environment: {C: null, E: it's}}]
            """,
        }
    )
    (planned,) = plans.planned_tasks("t", limit="web1")
    lines = command_of(planned.hosts[0].steps[0]).text.splitlines()
    assert lines[:4] == [
        "export A=stage",
        "export B=task",
        "export D=web1",
        "export E='it'\"'\"'s'",
    ]
    assert lines[4:] == ["x"]


def test_a_value_without_text_is_not_an_environment_variable(plans: PlanProject) -> None:
    plans.variables("many: [a]")
    problem = plans.refused_steps('- {run: x, environment: {A: "{{ many }}"}}')
    assert problem.message == "environment variable 'A' must be text, found ['a']"


def test_folders_and_stdin_are_sent_as_they_are(plans: PlanProject) -> None:
    command = plans.command("""
        - {run: cat, chdir: ~/my dir, stdin: "{{ host.name }}\\n$(id)"}
    """)
    assert command.text == "cd -- ~/'my dir'\ncat"
    assert command.stdin == "web1\n$(id)"


def test_a_step_without_options_is_its_command_alone(plans: PlanProject) -> None:
    command = plans.command("- run: uname -a")
    assert (command.text, command.shell, command.guard, command.stdin) == (
        "uname -a",
        "sh",
        "",
        None,
    )
    assert not command.ignore_failure
    assert plans.command("- {run: x, shell: bash}").shell == "bash"


def test_retries_end_when_until_is_true(plans: PlanProject) -> None:
    step = plans.step("""
        - {run: curl x, until: "'ok' in result.stdout", retries: 7, delay: 2s}
    """)
    assert step.retry is not None
    assert (step.retry.retries, step.retry.delay) == (7, 2.0)
    assert step.retry.condition_text == "'ok' in result.stdout"
    assert step.retry.is_done({}, output("all ok"))
    assert not step.retry.is_done({}, output("no", failed=True))
    assert not step.retry.is_done({}, output("no"))


def test_retries_without_until_end_with_the_first_success(plans: PlanProject) -> None:
    step = plans.step("- {run: x, retries: 2}")
    assert step.retry is not None
    assert step.retry.condition_text == "not result.failed"
    assert step.retry.is_done({}, output())
    assert not step.retry.is_done({}, output(failed=True))
    assert plans.step("- run: x").retry is None


def test_until_can_use_earlier_results(plans: PlanProject) -> None:
    step = plans.step("""
        - {run: date, register: first}
        - {run: date, until: result.stdout != first.stdout}
    """)
    assert step.retry is not None
    assert not step.retry.is_done({"first": output("1")}, output("1"))
    assert step.retry.is_done({"first": output("1")}, output("2"))


def test_errors_are_ignored_if_the_expression_is_true_on_this_host(plans: PlanProject) -> None:
    step = "- {run: x, ignore_errors: host.name == 'web1'}"
    assert plans.command(step).ignore_failure
    assert not plans.command(step, host="web2").ignore_failure


def test_actions_of_orch_itself_are_not_commands(plans: PlanProject) -> None:
    steps = plans.steps("""
        - set: {a: 1, b: "{{ host.name }}"}
        - wait: 10s
        - assert: a == 1
        - assert: [a == 1, b == 'web2']
        - fail: "stop {{ b }}"
    """)
    actions = [step.control_action for step in steps]
    assert all(step.command is None and step.readonly for step in steps)
    assert [action and (action.kind, action.ok) for action in actions] == [
        *(("set", True), ("wait", True), ("assert", True), ("assert", False), ("fail", False)),
    ]
    assert actions[0] is not None
    assert dict(actions[0].values) == {"a": 1, "b": "web1"}
    assert steps[0].variables_set == ("a", "b")
    assert actions[1] is not None
    assert math.isclose(actions[1].seconds, 10)
    assert actions[3] is not None
    assert actions[3].message == "b == 'web2' is false"
    assert actions[4] is not None
    assert actions[4].message == "stop web1"


def test_check_mode_does_not_wait(plans: PlanProject) -> None:
    action = plans.step("- wait: 10s", check_mode=True).control_action
    assert action is not None
    assert action.seconds == 0


def test_check_mode_sends_no_change_and_marks_it(plans: PlanProject) -> None:
    steps = plans.steps(
        """
        - {run: rm x, retries: 3, failed_when: "'a' in result.stdout"}
        - {run: ls, readonly: true, retries: 3}
        """,
        check_mode=True,
    )
    assert [command_of(step).check_mode for step in steps] == [True, False]
    assert [step.retry is None for step in steps] == [True, False]
    assert [step.evaluate_result is None for step in steps] == [True, True]


def test_a_pending_option_is_rendered_when_its_result_is_known(plans: PlanProject) -> None:
    step = plans.step("""
        - {run: cat dir, register: dir}
        - {run: ls, chdir: "{{ dir.stdout }}", environment: {A: "{{ dir.stdout }}"}}
    """)
    assert step.awaited_names == ("dir",)
    command = resume_step(step, dir="/a b; rm")
    assert getattr(command, "text", "") == "cd -- '/a b; rm'\nexport A='/a b; rm'\nls"
