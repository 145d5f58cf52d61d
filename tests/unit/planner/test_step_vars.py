"""Variables of steps and blocks, and the names that loops define."""

from __future__ import annotations

import pytest

from orchestrator.errors import DefinitionError
from tests.unit.planner.plan_project import PlanProject, command_of, resume_step


def texts(plans: PlanProject, steps: str, **options: object) -> list[str]:
    return [command_of(step).text for step in plans.steps(steps, **options)]


def test_vars_of_a_step_hide_the_hosts_and_end_with_the_step(plans: PlanProject) -> None:
    plans.variables("word: stage")
    steps = """
        - run: echo {{ word }} {{ other }}
          vars: {word: mine, other: "{{ word }}-2"}
        - run: echo {{ word }}
    """
    assert texts(plans, steps) == ["echo mine mine-2", "echo stage"]
    assert texts(plans, steps, extra=["word=E"]) == ["echo E E-2", "echo E"]


def test_what_a_step_set_is_stronger_than_vars(plans: PlanProject) -> None:
    steps = """
        - set: {word: set}
        - run: echo {{ word }}
          vars: {word: mine}
    """
    assert command_of(plans.steps(steps)[1]).text == "echo set"


def test_vars_of_a_block_hold_in_it_and_inner_ones_win(plans: PlanProject) -> None:
    steps = """
        - block:
          - {run: "echo {{ a }} {{ b }}"}
          - {run: "echo {{ a }} {{ b }}", vars: {b: inner}}
          vars: {a: "[{{ b }}]", b: outer}
          when: a == '[outer]'
    """
    assert texts(plans, steps) == ["echo '[outer]' outer", "echo '[inner]' inner"]


def test_vars_of_a_call_are_seen_by_the_called_task_but_not_as_its_params(
    plans: PlanProject,
) -> None:
    plans.write_task(
        'params: {p: {default: none given}}\nsteps: [run: "echo {{ x }} {{ p }}"]\n', "say"
    )
    assert texts(plans, "- say: {}\n  vars: {x: 1, p: no}\n") == ["echo 1 'none given'"]


def test_params_of_the_file_do_not_see_vars_of_a_step(plans: PlanProject) -> None:
    plans.variables("x: stage").write_task(
        """
        params: {p: {default: "{{ x }}"}}
        steps:
        - {run: "echo {{ p }} {{ x }}", vars: {x: mine}}
        """
    )
    (planned,) = plans.planned_tasks("t", limit="web1")
    assert command_of(planned.hosts[0].steps[0]).text == "echo stage mine"


def test_vars_may_use_the_item_also_of_an_inner_loop(plans: PlanProject) -> None:
    steps = """
        - block:
          - {run: "echo {{ w }}", loop: [x, y]}
          loop: [a, b]
          loop_control: {var: outer, index: n}
          vars: {w: "{{ n }}{{ outer }}{{ item }}"}
    """
    assert texts(plans, steps) == ["echo 0ax", "echo 0ay", "echo 1bx", "echo 1by"]


def test_a_loop_over_a_result_takes_its_names_from_loop_control(plans: PlanProject) -> None:
    steps = """
        - {run: ls, register: files}
        - run: echo {{ w }}
          loop: files.stdout.split()
          loop_control: {var: file, index: n}
          vars: {w: "{{ n }} {{ file }}"}
    """
    program = resume_step(plans.step(steps), files="a b")
    assert [command_of(step).text for step in program.steps] == ["echo '0 a'", "echo '1 b'"]


def test_a_variable_made_of_an_item_from_a_host_is_host_text_too(plans: PlanProject) -> None:
    steps = """
        - {run: ls, register: files}
        - run: id
          loop: files.stdout.split()
          vars: {user: "{{ item }}"}
          become: "{{ user }}"
    """
    with pytest.raises(DefinitionError, match=r"made of text from a host \(`user`\)"):
        resume_step(plans.step(steps), files="a b")


def test_the_name_of_a_loop_is_not_taken_for_a_result_of_that_name(plans: PlanProject) -> None:
    steps = """
        - {run: ls, register: file}
        - run: echo {{ file.changed }}
          loop: [{changed: true}]
          loop_control: {var: file}
          when: file.changed
    """
    assert command_of(plans.step(steps)).text == "echo true"


def test_a_pause_stands_between_items_and_not_in_a_check(plans: PlanProject) -> None:
    steps = """
        - {run: "echo {{ item }}", loop: [1, 2, 3], loop_control: {pause: 2s}, when: item != 3}
        - block: [{run: a}, {run: b}]
          loop: [1, 2]
          loop_control: {pause: 1s}
    """
    assert [step.pause for step in plans.steps(steps)] == [0, 2, 0, 0, 0, 1, 0]
    assert not any(step.pause for step in plans.steps(steps, check_mode=True))


@pytest.mark.parametrize(
    ("step", "column", "message"),
    [
        ("{run: id, vars: {p: 1}}", 20, "'p' in vars of a step is a param of the task"),
        (
            "{run: id, vars: [1]}",
            19,
            "vars of a step must be a mapping (name: value), found a list",
        ),
        ("{run: id, vars: {host: 1}}", 20, "'host' in vars of a step cannot name a variable"),
        ("{run: id, loop: [1], loop_control: {var: p}}", 44, "'p' in loop_control is a param"),
        ("{run: id, loop: [1], loop_control: {var: run}}", 44, "`var` cannot be 'run'"),
        ("{run: id, loop: [1], loop_control: {index: item}}", 46, "`index` cannot be 'item'"),
        (
            "{run: id, loop: [1], loop_control: {var: a, index: a}}",
            54,
            "`index` and `var` have the same name",
        ),
        ("{run: id, loop: [1], loop_control: {pause: soon}}", 46, "pause must be a duration"),
        ("{run: id, loop: [1], loop_control: {loop_var: a}}", 39, "unknown key 'loop_var'"),
        ("{block: [run: id], loop_control: {var: a}}", 36, "`loop_control` requires `loop`"),
    ],
)
def test_wrong_names_are_errors_where_they_are_written(
    plans: PlanProject, step: str, column: int, message: str
) -> None:
    plans.write({"tasks/t.yml": f"params: {{p: {{}}}}\nsteps:\n- {step}\n"})
    found = plans.only_diagnostic("t")
    assert message in found.message
    assert found.mark and (found.mark.line, found.mark.column) == (3, column)
