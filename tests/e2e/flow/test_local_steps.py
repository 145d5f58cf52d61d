"""``local: true``: steps on the controller, in the project's folder."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult


@pytest.fixture
def two(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1", "a2")


def run_task(project: OrchProject, task: str, *args: str) -> OrchResult:
    project.write({"tasks/t.yml": task})
    done = project.orch("-s", "dev", "run", "t", *args, "--json")
    assert done.events, done.err
    return done


def test_a_local_step_runs_here_in_the_projects_folder_with_the_hosts_values(
    two: OrchProject,
) -> None:
    done = run_task(
        two,
        """
        steps:
          - {run: "pwd; echo {{ host.name }}", local: true, register: here}
          - {run: "echo {{ here.stdout.splitlines()[1] }}; pwd"}
          - {run: pwd, local: true, chdir: tasks}
        """,
    )
    for host in ("a1", "a2"):
        outs = [s["stdout"].split() for s in done.host_steps(host)]
        assert outs[0] == [str(two.root), host]
        assert outs[1][0] == host
        assert outs[1][1] != str(two.root)
        assert outs[2] == [str(two.root / "tasks")]


def test_a_local_step_is_not_run_by_a_check(two: OrchProject) -> None:
    task = dedent("""\
            steps:
            - {run: touch built, local: true}
            - {run: echo hi, local: true, readonly: true}
            """)
    done = run_task(two, task, "--check", "-l", "a1")
    assert [s["status"] for s in done.host_steps("a1")] == ["would_run", "ok"]
    assert not (two.root / "built").exists()


def test_a_block_is_local_and_once_is_once(two: OrchProject) -> None:
    done = run_task(
        two,
        """
        tasks:
          - once: true
            steps:
              - local: true
                block:
                  - run: echo x >>built
                  - {run: echo {{ host.name }}, delegate_to: a2}
        """.replace("echo {{ host.name }}", "'pwd'"),
    )
    assert done.code == 0
    assert (two.root / "built").read_text() == "x\n"
    assert done.host_steps("a1")[1]["stdout"].strip() != str(two.root)


def test_local_and_delegate_to_exclude_each_other(two: OrchProject) -> None:
    two.write({"tasks/t.yml": "steps:\n- {run: id, local: true, delegate_to: a1}\n"})
    done = two.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert "exclude each other" in done.err
