"""`--start-step` on the command line."""

from __future__ import annotations

from tests.projects import OrchProject

TASK = """
steps:
- {name: Pull the code, run: echo pulled, register: pulled}
- {name: Build it, run: echo built}
- {name: Switch, run: echo switched}
"""


def test_a_run_and_its_plan_start_at_the_step_of_the_only_task(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write({"tasks/t.yml": TASK, "tasks/u.yml": TASK})
    plan = project.orch("-s", "dev", "plan", "t", "--start-step", "Build it")
    assert "1  Pull the code\n      skipped: it is before --start-step" in plan.out
    done = project.orch("-s", "dev", "run", "t", "--start-step", "2", "--json")
    assert done.code == 0
    assert [step["status"] for step in done.host_steps("a1")] == ["skipped", "changed", "changed"]
    done = project.orch(
        "-s", "dev", "run", "t", "u", "--start-at", "u", "--start-step", "3", "--json"
    )
    assert [step["status"] for step in done.host_steps("a1")] == ["skipped", "skipped", "changed"]
    for words, message in (
        (("t", "u"), "--start-step requires --start-at if several tasks are named"),
        (("t", "--handler", "x"), "--start-step and --handler exclude each other"),
    ):
        wrong = project.orch("-s", "dev", "run", *words, "--start-step", "2")
        assert wrong.code == 2
        assert message in wrong.err
