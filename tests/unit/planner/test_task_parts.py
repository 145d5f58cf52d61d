"""Steps at which hosts wait for each other, and handlers of playbooks."""

from __future__ import annotations

import pytest

from orchestrator.planner.plan import PlannedTask
from tests.unit.planner.plan_project import PlanProject, command_of


def outline(tasks: tuple[PlannedTask, ...]) -> list[tuple[str, str, list[str]]]:
    """Return the name or prompt of each planned task, its hosts, and what the first one runs."""
    return [
        (
            task.prompt or task.task,
            " ".join(host.host for host in task.hosts),
            [f"{s.number} {s.display_text}" for s in (task.hosts[0].steps if task.hosts else ())],
        )
        for task in tasks
    ]


def test_a_task_is_split_where_hosts_wait_and_its_numbers_go_on(plans: PlanProject) -> None:
    plans.write_task(
        """
        roles: [web]
        steps:
        - {run: a, notify: h}
        - {block: [run: b, run: c], once: true}
        - pause: {prompt: sure?}
        - {run: d, notify: h}
        rollback: [run: undo]
        handlers: {h: [run: H]}
        """
    )
    tasks = plans.planned_tasks("t", limit="web1,web2")
    assert outline(tasks) == [
        ("t", "web1 web2", ["1 a"]),
        ("t", "web1", ["2 b", "3 c"]),
        ("sure?", "", []),
        ("t", "web1 web2", ["4 d", "5 H"]),
    ]
    assert [task.once for task in tasks] == [False, True, False, False]
    assert [bool(h.rollback.steps) for t in tasks for h in t.hosts] == [True, True, *[False] * 3]
    (notifies,), handler = tasks[0].hosts[1].steps, tasks[3].hosts[1].steps[1]
    assert notifies.notify_keys == handler.notified_as
    assert handler.notified_by == (4,)
    assert handler.command is None


def test_what_a_once_step_registers_is_known_on_every_host(plans: PlanProject) -> None:
    plans.write_task("steps: [{set: {x: 1}, once: true}, {run: 'echo {{ x }}'}]\n")
    tasks = plans.planned_tasks("t", limit="web1,web2")
    assert [command_of(host.steps[0]).text for host in tasks[1].hosts] == ["echo 1", "echo 1"]


def test_in_batches_a_once_step_runs_for_the_first_one_only(plans: PlanProject) -> None:
    plans.write_task("roles: [web]\nsteps: [{run: a, once: true}, run: b]\n", "inner")
    plans.write_task("tasks: [{inner: {}, batch: 2}]\n")
    assert [(name, hosts) for name, hosts, _ in outline(plans.planned_tasks("t"))] == [
        ("inner", "web1"),
        ("inner", "web1 web2"),
        ("inner", "web3"),
    ]


def test_handlers_that_follow_a_once_step_are_on_every_host(plans: PlanProject) -> None:
    plans.write_task(
        "steps: [{run: a, notify: h}, {run: b, once: true}]\nhandlers: {h: [run: H]}\n"
    )
    assert outline(plans.planned_tasks("t", limit="web1,web2"))[2] == ("t", "web1 web2", ["3 H"])


def test_handlers_of_playbooks_run_at_its_end_at_commits_and_flushes(plans: PlanProject) -> None:
    plans.write_task(
        "steps: [{run: a, notify: [own, outer, news]}]\nhandlers: {own: [run: O]}\n", "a"
    )
    plans.write_task(
        """
        tasks:
        - a
        - commit
        - tasks: [a, flush_handlers]
          handlers: {outer: [run: inner]}
          name: group
        - steps: [{run: b, notify: own}]
          name: last
        handlers:
          own: [run: never by a]
          outer: [run: OUTER]
          more: {listen: news, steps: [run: MORE]}
        """
    )
    assert [(name, steps) for name, _, steps in outline(plans.planned_tasks("t", limit="db1"))] == [
        ("a", ["1 a", "2 O"]),
        ("handlers of t", ["1 OUTER", "2 MORE"]),
        ("commit", []),
        ("a", ["1 a", "2 O"]),
        ("handlers of group", ["1 inner"]),
        ("handlers of t", ["1 MORE"]),
        ("last", ["1 b"]),
        ("handlers of t", ["1 never by a"]),
    ]


def test_a_selected_handler_of_a_playbook_runs_alone(plans: PlanProject) -> None:
    plans.write_task("steps: [{run: a, notify: h}]\n", "a")
    plans.write_task("tasks: [a]\nhandlers: {h: [run: H], g: [run: G]}\n")
    found = plans.planned_tasks("t", limit="db1", handlers=("h",))
    assert [(name, steps) for name, _, steps in outline(found) if steps] == [
        ("handlers of t", ["1 H"])
    ]


def test_a_handler_of_a_playbook_that_is_not_run_is_an_error(plans: PlanProject) -> None:
    plans.write_task("steps: [{run: a, notify: h}]\n", "a")
    plans.write_task("tasks: [a]\nhandlers: {h: [run: H]}\n", "x")
    plans.write_task("tasks: [a, {x: {}, tags: never}]\n")
    found = plans.only_diagnostic("t", limit="db1")
    assert "no handler 'h' is in reach" in found.message
    assert found.mark and (found.mark.line, found.mark.column) == (1, 26)


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("steps:\n- block: [{run: a, once: true}]", 2, "`once` is not allowed here"),
        ("steps:\n- block: [pause: {prompt: x}]", 2, "`pause` is not allowed here"),
        ("steps: [run: a]\nrollback: [{run: a, once: true}]", 2, "`once` is not allowed here"),
        ("steps: [run: a]\nhandlers: {h: [{run: a, once: true}]}", 2, "`once` is not allowed"),
        ("steps:\n- inner: {}", 2, "has a step with `once`, and cannot be called as a step"),
        ("steps:\n- pause: 10s", 2, "pause must be a mapping with the keys"),
        ("steps:\n- pause: {}", 2, "pause needs `prompt`"),
        ("steps:\n- pause: {prompt: '{{ x }}'}", 2, "prompt of pause cannot have values of hosts"),
        ("tasks:\n- pause: {prompt: x, y: z}", 2, "unknown key 'y' in pause"),
        ("tasks:\n- pause: {seconds: 1}", 2, "unknown key 'seconds' in pause"),
        ("steps:\n- pause: {seconds: x}", 2, "wait must be a duration"),
        ("steps:\n- pause: {seconds: 1, prompt: x}", 2, "unknown key 'seconds' in pause"),
        ("tasks:\n- {pause: {prompt: x}, when: y}", 2, "unknown key 'when' in a pause"),
        ("steps:\n- {pause: {prompt: x}, when: y}", 2, "`when` is not allowed on step `pause`"),
        ("tasks: [inner]\nrollback: [run: a]", 2, "`rollback` is not allowed on a playbook"),
    ],
)
def test_hosts_cannot_wait_everywhere(
    plans: PlanProject, task: str, line: int, message: str
) -> None:
    plans.write_task("steps: [{run: a, once: true}]\n", "inner")
    plans.write({"tasks/t.yml": task + "\n"})
    found = plans.diagnostics("t")[0]
    assert message in found.message
    assert found.mark and found.mark.line == line


def test_a_task_in_which_hosts_wait_cannot_start_at_a_step(plans: PlanProject) -> None:
    plans.write_task("steps: [run: a, {run: b, once: true}]\n")
    found = plans.only_diagnostic("t", start_at="t", start_step="2")
    assert "--start-step cannot be used with 't', in which hosts wait" in found.message


@pytest.mark.parametrize(("check", "seconds"), [(False, 300.0), (True, 0.0)])
def test_a_pause_of_some_seconds_is_a_wait(plans: PlanProject, check: bool, seconds: float) -> None:
    step = plans.step("- {pause: {seconds: 5m}, when: true}", check_mode=check)
    assert step.control_action and step.control_action.seconds == seconds
