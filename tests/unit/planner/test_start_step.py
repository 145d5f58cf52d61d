"""Starting at a step of a task: which steps are skipped, and what needs their results."""

from __future__ import annotations

import pytest

from tests.unit.planner.plan_project import PlanProject, output, resumed_command

STEPS = """
- {run: echo one, register: one, name: First}
- {set: {x: y}}
- {name: Third, run: echo three, register: three}
- inner: {}
- block: [run: echo body]
  rescue: [run: echo rescue]
- {run: echo five, notify: restart, name: twice}
- {run: 'echo {{ item }}', loop: [a, b], name: Loop}
- {run: echo last, name: twice}
"""
INNER = "steps: [{name: Inner, run: echo inner}, {name: Other, run: echo other}]\n"
TASK = f"steps:{STEPS}handlers: {{restart: [run: echo handler]}}\n"


@pytest.fixture
def task(plans: PlanProject) -> PlanProject:
    """Write the task `t`: its steps are 1 to 11, and 12 is that of a handler."""
    return plans.write_task(TASK).write_task(INNER, "inner")


@pytest.mark.parametrize(
    ("start_step", "first"),
    [
        ("1", 1),
        ("3", 3),
        ("Third", 3),
        ("Inner", 4),
        ("inner › Other", 5),
        ("echo body", 6),
        ("Loop", 9),
        ("11", 11),
    ],
)
def test_the_steps_before_it_are_skipped_in_the_task_of_start_at(
    task: PlanProject, start_step: str, first: int
) -> None:
    task.write_task("tasks: [inner, t, t]\n", "p")
    planned = task.planned_tasks("p", start_at="t", start_step=start_step)
    assert [each.task for each in planned] == ["t", "t"]
    for host in planned[0].hosts:
        assert {s.number for s in host.steps if s.skip == "it is before --start-step"} == {
            *range(1, first)
        }
    assert not any(step.skip for host in planned[1].hosts for step in host.steps)


@pytest.mark.parametrize(
    ("start_step", "message", "hint"),
    [
        ("99", "task 't' has no step 99 (on", "its last step is 12; see `orch plan` for"),
        ("Thrid", "task 't' has no step named 'Thrid'", "did you mean 'Third'?"),
        ("twice", "several steps of 't' are named 'twice': 8, 11", "give its number"),
        ("12", "step 12 is of the handler 'restart', which runs if", "use `--handler restart`"),
        ("7", "step 7 is in a `rescue`, which runs only after a failure", "start at step 6"),
    ],
)
def test_a_step_that_cannot_be_the_start_is_an_error(
    task: PlanProject, start_step: str, message: str, hint: str
) -> None:
    found = task.only_diagnostic("t", start_at="t", start_step=start_step)
    assert found.message.startswith(message.removesuffix(" (on"))
    assert found.hint.startswith(hint)
    assert str(found.mark) == "--start-step"


def test_a_number_that_is_another_step_on_another_host_is_an_error(plans: PlanProject) -> None:
    plans.write_task(
        """
        steps:
          - {run: 'echo {{ item }}', loop: "{{ [1, 2] if host.name == 'web1' else [1] }}"}
          - run: echo a
          - run: echo b
        """
    )
    options = {"start_at": "t", "limit": "web1,web2"}
    assert plans.only_diagnostic("t", start_step="2", **options).message == (
        "step 2 of 't' is not the same on every host: "
        "'echo a' on web2 and 'echo {{ item }} (2)' on web1"
    )
    assert plans.only_diagnostic("t", start_step="4", **options).message == (
        "task 't' has no step 4 on web2"
    )
    planned = plans.planned_tasks("t", start_step="echo a", **options)
    skipped = [[step.number for step in host.steps if step.skip] for host in planned[0].hosts]
    assert skipped == [[1, 2], [1]]


def test_an_item_of_a_loop_over_a_result_cannot_be_the_start(plans: PlanProject) -> None:
    steps = """
        - {run: echo 1 2, register: r}
        - {run: 'echo {{ item }}', loop: r.stdout.split()}
    """
    found = plans.refused_steps(steps, start_at="t", start_step="2.1")
    assert found.message == "'2.1' is an item of a loop, whose items only the run knows"
    assert found.hint == "start at step 2"


@pytest.mark.parametrize(
    "user",
    [
        "run: echo {{ one.stdout }}",
        "run: echo {{ three.stdout }} {{ one.stdout }}",
        "{run: echo, when: one.changed}",
        "{run: 'echo {{ derived }}'}",
        "{run: echo, loop: one.stdout.split()}",
        "run: echo {{ x }}",
        "run: echo {{ all.items | length }}",
    ],
)
def test_a_later_step_that_needs_a_skipped_result_is_an_error_that_names_its_step(
    plans: PlanProject, user: str
) -> None:
    plans.variables("derived: '{{ one.stdout }}'")
    steps = f"""
        - {{run: echo one, register: one}}
        - {{set: {{x: y}}}}
        - {{run: echo, loop: [1, 2], register: all}}
        - {{run: echo three, register: three}}
        - {user}
    """
    found = plans.refused_steps(steps, start_at="t", start_step="5")
    if "three" in user:
        found = plans.refused_steps(steps, start_at="t", start_step="2")
    name, number = ("x", 2) if "x }}" in user else ("all", 3) if "all" in user else ("one", 1)
    assert found.message == f"'{name}' comes from step {number}, which --start-step skips"
    assert found.hint == f"start at step {number}"
    assert str(found.mark).startswith("tasks/t.yml:")


def test_a_later_step_gets_the_results_after_the_start_and_a_rollback_none_of_before(
    plans: PlanProject,
) -> None:
    plans.write_task(
        """
        steps:
          - {run: echo one, register: one}
          - {run: echo two, register: two}
          - run: echo {{ two.stdout }}
        rollback:
          - {run: 'echo back {{ one.stdout }}', when: one.stdout}
        """
    )
    (planned,) = plans.planned_tasks("t", limit="web1", start_at="t", start_step="2")
    (host,) = planned.hosts
    assert host.steps[0].register == ""
    assert resumed_command(host.steps[2], two=output("x")).text == "echo x"
    assert host.rollback.steps[0].awaited_names == ("one",)


def test_a_task_that_any_host_runs_once_can_start_at_a_step(plans: PlanProject) -> None:
    plans.write_task("steps: [{run: echo one, register: one}, {run: echo two}]\n")
    plans.write_task("steps: [{run: 'echo {{ one.stdout }}'}]\n", "u")
    item = "{t: {}, once: true, on: any}"
    plans.write_task(f"tasks: [{item}]\n", "p")
    (planned,) = plans.planned_tasks("p", start_at="t", start_step="2")
    assert [[step.skip != "" for step in host.steps] for host in planned.hosts] == [
        [True, False]
    ] * 4
    plans.write_task(f"tasks: [{item}, u]\n", "p")
    found = plans.only_diagnostic("p", start_at="t", start_step="2")
    assert found.message == "'one' comes from step 1, which --start-step skips (on web[1-3],db1)"


def test_only_the_first_batch_starts_at_the_step(task: PlanProject) -> None:
    task.write_task("tasks: [{t: {}, batch: 1}]\n", "p")
    planned = task.planned_tasks("p", limit="web1,web2", start_at="t", start_step="3")
    assert [any(s.skip for h in each.hosts for s in h.steps) for each in planned] == [True, False]


def test_a_playbook_has_no_steps_to_start_at(task: PlanProject) -> None:
    task.write_task("tasks: [t]\n", "p")
    found = task.only_diagnostic("p", start_at="p", start_step="1")
    assert found.message == "--start-step needs a task with steps, and 'p' is a playbook"
