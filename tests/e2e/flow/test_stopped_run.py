"""A run that stops at a barrier reports what each host has done."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult

HOSTS = ("web1", "web2", "web3")
FAILS = dedent("""\
    steps:
    - {run: echo in}
    - {run: exit 5, when: host.name == 'web3'}
    """)


def run_task(
    project: OrchProject, files: dict[str, str], *words: str, stdin: str = ""
) -> OrchResult:
    project.add_sandbox_stage(*HOSTS).write(files)
    return project.orch("-s", "dev", "run", *words, "--json", stdin=stdin)


def host_statuses(done: OrchResult) -> dict[str, tuple[str, str]]:
    return {host: (row["status"], row["reason"]) for host, row in done.host_rows.items()}


def test_those_that_completed_earlier_tasks_are_stopped_with_their_counts(
    project: OrchProject,
) -> None:
    files = {
        "tasks/short.yml": FAILS,
        "tasks/long.yml": "steps: [{run: echo long}]\n",
        "tasks/p.yml": "tasks: [short, long]\n",
    }
    done = run_task(project, files, "p")
    assert done.code == 1
    why = "stopped before 'long': web3 failed"
    found = host_statuses(done)
    assert {host: found[host] for host in HOSTS[:2]} == dict.fromkeys(HOSTS[:2], ("stopped", why))
    assert found["web3"][0] == "failed"
    row = done.host_rows["web1"]
    assert (row["changed"], row["skipped"], row["failed"]) == (1, 1, 0)
    again = project.orch("-s", "dev", "run", "long", "-l", "@failed", "--list-hosts")
    assert again.out == "long: web[1-3]\n"
    plain = project.orch("-s", "dev", "run", "p")
    assert "3 hosts: 2 stopped, 1 failed in " in plain.out


def test_those_that_had_done_nothing_are_not_started(project: OrchProject) -> None:
    files = {
        "inventories/dev/roles/some.yml": "[web1, web3]\n",
        "tasks/short.yml": f"roles: [some]\n{FAILS}",
        "tasks/once.yml": "steps: [{run: echo once, when: host.name == 'x'}]\n",
        "tasks/long.yml": "steps: [{run: echo long}]\n",
        "tasks/p.yml": dedent("""\
            tasks:
            - short
            - long
            """),
        "tasks/q.yml": dedent("""\
            tasks:
            - once
            - short
            - long
            """),
    }
    done = run_task(project, files, "p")
    assert {host: status for host, (status, _) in host_statuses(done).items()} == {
        "web1": "stopped",
        "web2": "not_started",
        "web3": "failed",
    }
    assert done.host_rows["web2"]["reason"] == "'long' was not started: web3 failed"
    done = run_task(project, files, "q")  # a skipped step is reported as well
    assert host_statuses(done)["web2"] == ("stopped", "stopped before 'long': web3 failed")
    assert done.host_rows["web2"]["skipped"] == 1


def test_a_check_that_stops_tells_the_same(project: OrchProject) -> None:
    files = {
        "tasks/short.yml": dedent("""\
            steps:
            - {run: exit 5, when: host.name == 'web3', readonly: true}
            - {file: {path: a}}
            """),
        "tasks/long.yml": "steps: [{run: echo long}]\n",
    }
    done = run_task(project, files, "short", "long", "--check")
    assert done.code == 1
    assert host_statuses(done)["web1"] == ("stopped", "stopped before 'long': web3 failed")
    assert done.host_rows["web1"]["changed"] == 1


def test_what_is_rolled_back_is_cancelled_as_before(project: OrchProject) -> None:
    files = {
        "tasks/short.yml": FAILS + "rollback: [{run: echo back}]\n",
        "tasks/long.yml": "steps: [{run: echo long}]\n",
    }
    done = run_task(project, files, "short", "long")
    assert host_statuses(done)["web1"] == ("cancelled", "web3 failed; 'short' is rolled back")


@pytest.mark.parametrize(
    ("answers", "status", "reason"),
    [
        ("q\n", "not_started", "'one' was not started: stopped by you"),
        ("", "not_started", "'one' was not started: stopped by you"),
        ("r\nq\n", "stopped", "stopped before 'two': stopped by you"),
        ("r\n", "stopped", "stopped before 'two': stopped by you"),
        ("s\nq\n", "not_started", "'two' was not started: stopped by you"),
    ],
)
@pytest.mark.parametrize("words", [("--step",), ("--step", "--yes")])
def test_step_that_is_answered_with_stop_or_not_at_all_is_a_question_declined(
    project: OrchProject, words: tuple[str, ...], answers: str, status: str, reason: str
) -> None:
    files = {f"tasks/{name}.yml": "steps: [{run: echo in}]\n" for name in ("one", "two")}
    done = run_task(project, files, "one", "two", *words, "-l", "web1", stdin=answers)
    assert done.code == 2
    assert host_statuses(done) == {"web1": (status, reason)}


def test_step_that_stops_after_a_failure_has_the_failure_s_code(project: OrchProject) -> None:
    files = {"tasks/one.yml": "steps: [{run: exit 5}]\n", "tasks/two.yml": "steps: [{run: id}]\n"}
    words = ("one", "two", "--step", "--keep-going", "-l", "web1")
    assert run_task(project, files, *words, stdin="r\nq\n").code == 1
