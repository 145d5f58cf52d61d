"""Steps that give one name of a host different values contradict each other."""

from __future__ import annotations

import pytest

from tests.unit.planner.plan_project import PlanProject, output, resumed_command

SETTING = """
    params: {file: {default: a}, value: {required: true}}
    probe: state value "$(x)"
    want: {value: "{{ value }}"}
    fix: x
    unique: |
      {% for part in value.split() %}
      setting in {{ file }}{{ "\\t" }}{{ part }}
      {% endfor %}
"""
"""A module that gives a file its values; it is given several as words."""


@pytest.fixture
def setting(plans: PlanProject) -> PlanProject:
    """Write the module ``setting``."""
    return plans.write_task(SETTING, "setting")


def test_two_values_for_one_name_are_an_error_at_the_later_step(setting: PlanProject) -> None:
    problem = setting.refused_steps("""
        - setting: {value: x}
        - run: echo between
        - setting: {value: y}
    """)
    assert problem.message == (
        "this step and the step at tasks/t.yml:2:5 set different values for setting in a"
    )
    assert str(problem.mark) == "tasks/t.yml:4:5"
    assert "keep one of them" in problem.hint


@pytest.mark.parametrize(
    "steps",
    [
        "- setting: {value: x}\n- setting: {value: x}\n",
        "- setting: {value: x y}\n- setting: {value: y x}\n",
        "- setting: {value: x}\n- setting: {value: y, file: b}\n",
        "- setting: {value: x}\n- {setting: {value: y}, become: deploy}\n",
        "- setting: {value: x}\n- {setting: {value: y}, delegate_to: db1}\n",
        "- {setting: {value: x}, local: true}\n- setting: {value: y}\n",
        "- setting: {value: x}\n- {setting: {value: y}, when: false}\n",
        "- {run: c, register: r}\n- setting: {value: x}\n- {setting: {value: y}, when: r.changed}\n",
        "- setting: {value: x}\n- block: [run: c]\n  rescue: [setting: {value: y}]\n",
    ],
)
def test_equal_values_other_names_users_hosts_and_optional_steps_do_not_contradict(
    setting: PlanProject, steps: str
) -> None:
    assert setting.steps(steps)


@pytest.mark.parametrize("options", ["become: deploy", "delegate_to: db1", "local: true"])
def test_steps_of_the_same_other_user_or_host_contradict(
    setting: PlanProject, options: str
) -> None:
    problem = setting.refused_steps(
        f"- {{setting: {{value: x}}, {options}}}\n- {{setting: {{value: y}}, {options}}}"
    )
    assert "set different values for setting in a" in problem.message


def test_a_host_does_not_contradict_another(setting: PlanProject) -> None:
    setting.write_task("steps: [setting: {value: '{{ host.name }}'}]\n")
    assert setting.plan("t")


def test_tasks_of_one_run_contradict_each_other(setting: PlanProject) -> None:
    setting.write(
        {
            "tasks/a.yml": "steps: [setting: {value: x}]\n",
            "tasks/b.yml": "steps: [setting: {value: y}]\n",
        }
    )
    problem = setting.only_diagnostic("a", "b")
    assert "set different values" in problem.message
    assert str(problem.mark) == "tasks/b.yml:1:9"


def test_items_of_a_loop_are_named_in_the_contradiction(setting: PlanProject) -> None:
    problem = setting.refused_steps('- {setting: {value: "{{ item }}"}, loop: [x, y]}')
    assert problem.message == (
        "this step and that of the item 'x' set different values for setting in a (item 'y')"
    )


def test_a_handler_may_replace_what_a_step_set(setting: PlanProject) -> None:
    setting.write_task(
        """
        steps: [{setting: {value: x}, notify: h}]
        handlers: {h: [setting: {value: y}]}
        """
    )
    assert setting.plan("t")


def test_a_value_of_a_result_is_not_compared(setting: PlanProject) -> None:
    step = setting.step("""
        - {run: c, register: r}
        - setting: {value: x}
        - setting: {value: "{{ r.stdout }}"}
    """)
    assert resumed_command(step, r=output("y")).desired_state is not None


def test_a_value_is_not_shown_because_it_may_be_secret(setting: PlanProject) -> None:
    problem = setting.refused_steps(
        "- setting: {value: hunter2}\n- setting: {value: hunter3}", host="web1,web2"
    )
    assert "hunter" not in problem.message + problem.hint
    assert problem.message.endswith("(on web[1-2])")
