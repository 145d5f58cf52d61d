"""Task files in error: everything is told at once, each with its place and what was meant."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.projects import OrchProject

BROKEN = """\
    desc: Broken
    role: [web]
    params:
      size: {type: integer, help: How many}
      mode: {type: mode, default: 644}
      kind: {choices: [a, b], default: c}
    steps:
      - run: echo hi
        wehn: true
      - rnu: echo hi
      - deploy:publsh: {release: 1}
      - helper: {colour: red, count: many}
      - run: echo "{{ x }"
      - run: 'echo {{ x'
      - run: echo hi
        register: host
      - run: echo hi
        timeout: soon
      - run: echo hi
        become: true
      - run: "{{ command }}"
      - run: echo hi
        readonly: yes
      - run: echo hi
        when: "{{ x }}"
      - playbook
      - run: {cmd: echo hi}
      - run:
"""


@pytest.fixture
def broken_project(project: OrchProject) -> list[str]:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/broken.yml": BROKEN,
            "tasks/deploy/publish.yml": "params: {release: {}}\nsteps: [{run: 'true'}]\n",
            "tasks/helper.yml": "params: {color: {}, count: {type: int}}\nsteps: [{run: 'true'}]\n",
            "tasks/playbook.yml": "tasks: [helper]\n",
        }
    )
    done = project.orch("-s", "dev", "run", "broken")
    assert done.code == 3
    assert done.out == ""
    return done.err.split("\n\n")


@pytest.mark.parametrize(
    ("position", "what", "help_"),
    [
        ("2:1", "unknown key 'role'", "did you mean 'roles'?"),
        ("4:16", "type of param 'size' must be one of", ""),
        ("5:31", "mode must be a file mode", "write '0644' in quotes"),
        ("6:36", "kind must be one of a, b", ""),
        ("9:5", "unknown key 'wehn'", "did you mean 'when'?"),
        ("10:5", "no task 'rnu'", "did you mean 'run'?"),
        ("11:5", "no task 'deploy:publsh'", "did you mean 'deploy:publish'?"),
        ("12:14", "task 'helper' has no param 'colour'", "did you mean 'color'?"),
        ("12:34", "count must be a whole number, found the text 'many'", ""),
        ("14:19", "invalid template", ""),
        ("16:15", "'host' cannot be registered", ""),
        ("18:14", "timeout must be a duration", ""),
        ("23:15", "readonly must be true or false", "write true"),
        ("25:11", "when takes an expression without", "drop the {{ }}"),
        ("26:5", "'playbook' is a playbook", "name it under `tasks:`"),
        ("27:10", "run must be the command's text", "write options beside"),
    ],
)
def test_each_mistake_is_told_at_its_place(
    broken_project: list[str], position: str, what: str, help_: str
) -> None:
    found = [part for part in broken_project if f"tasks/broken.yml:{position}\n" in part]
    assert found, f"nothing at {position} in:\n" + "\n\n".join(broken_project)
    assert any(what in part and help_ in part for part in found), found


def test_a_template_in_error_is_placed_inside_a_block_of_text(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/t.yml": dedent("""\
            steps:
              - run: |
                  true
                  echo $'{{ x }}'
            """)
        }
    )
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert "tasks/t.yml:4:14" in done.err


def test_values_are_refused_in_the_text_of_what_is_no_shell(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/t.yml": "steps:\n- {run: 'print {{ host.name }}', shell: python3}\n",
            "tasks/u.yml": "steps:\n- {run: 'echo {{ host.name }}', shell: /bin/dash}\n",
        }
    )
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert "tasks/t.yml:2:41" in done.err
    assert project.orch("-s", "dev", "run", "u").code == 0


def test_tasks_that_call_each_other_in_a_circle_are_shown_as_one(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/a.yml": "steps: [b]\n",
            "tasks/b.yml": "steps: [c]\n",
            "tasks/c.yml": "steps: [a]\n",
        }
    )
    done = project.orch("-s", "dev", "run", "a")
    assert done.code == 3
    assert "a → b → c → a" in done.err


def test_a_broken_task_keeps_no_other_from_running(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {"tasks/bad.yml": "stps: []\n", "tasks/ok.yml": "steps: [{run: id}]\n"}
    )
    assert project.orch("-s", "dev", "run", "ok").code == 0
    assert "in error: tasks/bad.yml:1:1" in project.orch("tasks").out
    assert project.orch("lint").code == 3


def test_a_name_that_is_orchs_own_cannot_be_a_task(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write({"tasks/run.yml": "steps: [{run: id}]\n"})
    done = project.orch("lint")
    assert done.code == 3
    assert "'run' cannot be a task" in done.err


def test_an_empty_list_of_roles_is_an_error_and_none_means_all_hosts(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {"tasks/t.yml": "roles: []\nsteps: [{run: id}]\n", "tasks/u.yml": "steps: [{run: id}]\n"}
    )
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert "tasks/t.yml:1:8" in done.err
    assert list(project.orch("-s", "dev", "run", "u", "--json").host_rows) == ["a1"]


def test_editor_leftovers_below_tasks_are_no_tasks(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {"tasks/u.yml": "steps: [{run: id}]\n", "tasks/u.yml~": "x", "tasks/.v.yml": "x"}
    )
    assert project.orch("tasks").out.split() == ["TASK", "u"]
