"""SIGKILL of orch: received output is kept, and `@failed` selects the incomplete hosts."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.projects import OrchProject
from tests.sshd import wait_until

HANGS = "sleep 600"  # orch runs the sandbox's processes, so they are killed with it


@pytest.fixture
def hosts(project: OrchProject) -> OrchProject:
    """Create four hosts: two complete, one fails in the middle, one hangs."""
    return project.add_sandbox_stage("a1", "a2", "a3", "a4").write(
        {
            "tasks/one.yml": f"""
                steps:
                  - run: echo hello from {{{{ host.name }}}}; echo oops >&2
                  - run: if [ {{{{ host.name }}}} = a3 ]; then exit 3; fi
                  - run: if [ {{{{ host.name }}}} = a4 ]; then {HANGS}; fi
            """,
            "tasks/two.yml": "steps: [{run: echo two}]\n",
            "tasks/good.yml": "steps: [{run: echo good}]\n",
        }
    )


def run_events(project: OrchProject) -> list[dict[str, object]]:
    (path,) = project.root.glob(".orch/runs/*/events.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_lines(process: subprocess.Popen[str], enough: Callable[[list[str]], bool]) -> list[str]:
    """Read lines of the process's stdout until there are enough."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if enough(lines):
            return lines
    pytest.fail("it ended before")


def kill_orch(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(60)


def failed_hosts(project: OrchProject) -> list[str]:
    done = project.orch("-s", "dev", "run", "good", "-l", "@failed", "--json")
    assert done.code == 0, done.err
    return list(done.host_rows)


def test_all_that_was_told_before_the_kill_is_in_the_journal(hosts: OrchProject) -> None:
    with hosts.start_orch("-s", "dev", "run", "one", "--json") as process:
        lines = read_lines(
            process, lambda lines: sum("host_finished" in line for line in lines) == 3
        )
        kill_orch(process)
    kept = run_events(hosts)
    for line in lines:
        event = json.loads(line)
        same = {key: event[key] for key in ("event", "time", "host", "step") if key in event}
        assert any(same.items() <= each.items() for each in kept), line
    assert failed_hosts(hosts) == ["a3", "a4"]


def test_all_that_was_printed_before_the_kill_is_in_the_hosts_log(hosts: OrchProject) -> None:
    with hosts.start_orch("-s", "dev", "run", "one") as process:
        lines = read_lines(process, lambda lines: sum(" | hello" in line for line in lines) == 4)
        kill_orch(process)
    assert len(lines) >= 4
    for host in ("a1", "a2", "a3", "a4"):
        (log,) = hosts.root.glob(f".orch/runs/*/{host}.log")
        assert f"hello from {host}\n" in log.read_text()


def test_killed_in_the_first_of_two_tasks_no_host_has_completed(hosts: OrchProject) -> None:
    with hosts.start_orch("-s", "dev", "run", "one", "two", "--keep-going", "--json") as process:
        read_lines(process, lambda lines: sum("host_finished" in line for line in lines) == 3)
        kill_orch(process)
    assert failed_hosts(hosts) == ["a1", "a2", "a3", "a4"]


def test_killed_at_a_question_between_two_tasks_no_host_has_completed(
    hosts: OrchProject, tmp_path: Path
) -> None:
    """With --step, the run waits at a barrier for an answer."""
    errors = tmp_path / "errors"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [*hosts.command("-s", "dev", "run", "good", "two", "--step", "--json")],
            cwd=hosts.root,
            env=hosts.environ({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
        )
    with process:
        assert process.stdin is not None
        process.stdin.write("r\n")
        process.stdin.flush()
        wait_until(
            lambda: errors.read_text().count("run, skip, continue or quit?") == 2,
            "the second question",
        )
        kill_orch(process)
    assert failed_hosts(hosts) == ["a1", "a2", "a3", "a4"]


def test_why_at_failed_means_no_host_is_told(hosts: OrchProject) -> None:
    def refused(why: str) -> None:
        done = hosts.orch("-s", "dev", "run", "good", "-l", "@failed:!a1")
        assert (done.code, why in done.err) == (3, True), done.err

    refused("no run of stage 'dev' is recorded")
    assert hosts.orch("-s", "dev", "run", "good", "-l", "a1").code == 0
    refused("every host completed in the last run of stage 'dev' (")
    (record,) = hosts.root.glob(".orch/runs/*/run.json")
    record.write_text(record.read_text().replace('"changed"', '"failed"').replace('"a1"', '"z1"'))
    refused("the hosts that did not complete in the last run (z1) are not in stage 'dev' any more")
