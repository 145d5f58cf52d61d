"""A run that stops at a barrier says of each host what it had done by then."""

from __future__ import annotations

import pytest

from tests.projects import Done, Project

HOSTS = ("web1", "web2", "web3")
FAILS = "steps:\n- {run: echo in}\n- {run: exit 5, when: host.name == 'web3'}\n"


def run(project: Project, files: dict[str, str], *words: str, stdin: str = "") -> Done:
    project.sandbox(*HOSTS).write(files)
    return project.orch("-s", "dev", "run", *words, "--json", stdin=stdin)


def standing(done: Done) -> dict[str, tuple[str, str]]:
    return {host: (row["status"], row["reason"]) for host, row in done.rows.items()}


def test_those_that_completed_earlier_tasks_are_stopped_with_their_counts(project: Project) -> None:
    files = {
        "tasks/short.yml": FAILS,
        "tasks/long.yml": "steps: [{run: echo long}]\n",
        "tasks/p.yml": "tasks: [short, long]\n",
    }
    done = run(project, files, "p")
    assert done.code == 1
    why = "stopped before 'long': web3 failed"
    found = standing(done)
    assert {host: found[host] for host in HOSTS[:2]} == dict.fromkeys(HOSTS[:2], ("stopped", why))
    assert found["web3"][0] == "failed"
    row = done.rows["web1"]
    assert (row["changed"], row["skipped"], row["failed"]) == (1, 1, 0)
    again = project.orch("-s", "dev", "run", "long", "-l", "@failed", "--list-hosts")
    assert again.out == "long: web[1-3]\n"
    plain = project.orch("-s", "dev", "run", "p")
    assert "3 hosts: 2 stopped, 1 failed in " in plain.out


def test_those_that_had_done_nothing_are_not_started(project: Project) -> None:
    files = {
        "inventories/dev/roles/some.yml": "[web1, web3]\n",
        "tasks/short.yml": f"roles: [some]\n{FAILS}",
        "tasks/once.yml": "steps: [{run: echo once, when: host.name == 'x'}]\n",
        "tasks/long.yml": "steps: [{run: echo long}]\n",
        "tasks/p.yml": "tasks:\n- short\n- long\n",
        "tasks/q.yml": "tasks:\n- once\n- short\n- long\n",
    }
    done = run(project, files, "p")
    assert {host: status for host, (status, _) in standing(done).items()} == {
        "web1": "stopped",
        "web2": "not_started",
        "web3": "failed",
    }
    assert done.rows["web2"]["reason"] == "'long' was not begun: web3 failed"
    done = run(project, files, "q")  # a step that was left out is told as well
    assert standing(done)["web2"] == ("stopped", "stopped before 'long': web3 failed")
    assert done.rows["web2"]["skipped"] == 1


def test_a_check_that_stops_tells_the_same(project: Project) -> None:
    files = {
        "tasks/short.yml": "steps:\n- {run: exit 5, when: host.name == 'web3', readonly: true}\n"
        "- {file: {path: a}}\n",
        "tasks/long.yml": "steps: [{run: echo long}]\n",
    }
    done = run(project, files, "short", "long", "--check")
    assert done.code == 1
    assert standing(done)["web1"] == ("stopped", "stopped before 'long': web3 failed")
    assert done.rows["web1"]["changed"] == 1


def test_what_is_rolled_back_is_cancelled_as_before(project: Project) -> None:
    files = {
        "tasks/short.yml": FAILS + "rollback: [{run: echo back}]\n",
        "tasks/long.yml": "steps: [{run: echo long}]\n",
    }
    done = run(project, files, "short", "long")
    assert standing(done)["web1"] == ("cancelled", "web3 failed; 'short' is rolled back")


@pytest.mark.parametrize(
    ("answers", "status", "reason"),
    [
        ("q\n", "not_started", "'one' was not begun: stopped by you"),
        ("", "not_started", "'one' was not begun: stopped by you"),
        ("r\nq\n", "stopped", "stopped before 'two': stopped by you"),
        ("r\n", "stopped", "stopped before 'two': stopped by you"),
        ("s\nq\n", "not_started", "'two' was not begun: stopped by you"),
    ],
)
@pytest.mark.parametrize("words", [("--step",), ("--step", "--yes")])
def test_step_that_is_answered_with_stop_or_not_at_all_is_a_question_declined(
    project: Project, words: tuple[str, ...], answers: str, status: str, reason: str
) -> None:
    files = {f"tasks/{name}.yml": "steps: [{run: echo in}]\n" for name in ("one", "two")}
    done = run(project, files, "one", "two", *words, "-l", "web1", stdin=answers)
    assert done.code == 2
    assert standing(done) == {"web1": (status, reason)}


def test_step_that_stops_after_a_failure_has_the_failure_s_code(project: Project) -> None:
    files = {"tasks/one.yml": "steps: [{run: exit 5}]\n", "tasks/two.yml": "steps: [{run: id}]\n"}
    words = ("one", "two", "--step", "--keep-going", "-l", "web1")
    assert run(project, files, *words, stdin="r\nq\n").code == 1
