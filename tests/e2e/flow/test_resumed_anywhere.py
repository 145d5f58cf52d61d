"""A run that is stopped after any event, and resumed, does each step once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.projects import OrchProject
from tests.sshd import SshdServer
from tests.support.stopped_at_event import PAUSED

HOSTS = {"a1": "127.4.1.1", "a2": "127.4.1.2", "a3": "127.4.1.3"}
EVERY_HOST = ("first.1", "first.3", "first.handler", "rolling.1", "rolling.2", "last.1", "last.2")
ONCE = ("once.1", "once.3")
TASKS = {
    "tasks/site.yml": """
        tasks:
          - first
          - shared: {}
            once: true
          - rolling: {}
            batch: 2
          - commit
          - last
    """,
    "tasks/first.yml": """
        steps:
          - run: echo first.1 >> {{ out }}/{{ host.name }}; echo from-{{ host.name }}
            register: told
          - set: {word: "{{ told.stdout }}!"}
          - run: echo first.3 >> {{ out }}/{{ host.name }}
            notify: h
          - run: test {{ word }} = from-{{ host.name }}!
            readonly: true
        handlers:
          h: [{run: "echo first.handler >> {{ out }}/{{ host.name }}"}]
    """,
    "tasks/shared.yml": """
        steps:
          - run: echo once.1 >> {{ out }}/{{ host.name }}; echo shared
            register: shared
          - run: test {{ shared.stdout }} = shared
            readonly: true
          - run: echo once.3 >> {{ out }}/{{ host.name }}
            when: shared.changed
          - run: "true"
            readonly: true
    """,
    "tasks/rolling.yml": """
        steps:
          - run: echo rolling.1 >> {{ out }}/{{ host.name }}; echo x
            register: mark
          - run: echo rolling.2 >> {{ out }}/{{ host.name }}
            when: mark.stdout == 'x'
          - run: test {{ shared.stdout }} = shared
            readonly: true
          - run: echo rolling.never >> {{ out }}/{{ host.name }}
            when: not mark.changed
        rollback:
          - run: echo rolled.back >> {{ out }}/{{ host.name }}
    """,
    "tasks/last.yml": """
        steps:
          - run: "true"
            readonly: true
          - run: echo last.1 >> {{ out }}/{{ host.name }}
            register: end
          - run: test {{ told.stdout }} = from-{{ host.name }}
            readonly: true
          - run: echo last.2 >> {{ out }}/{{ host.name }}
            when: end.changed
    """,
}


@pytest.fixture
def site(project: OrchProject, sshd: SshdServer, tmp_path: Path) -> OrchProject:
    """Create three hosts and a playbook whose steps leave a line each."""
    (tmp_path / "out").mkdir()
    return project.add_sshd_stage(sshd, HOSTS).write(TASKS)


def run_stopped(site: OrchProject, sshd: SshdServer, action: str, number: int) -> bool:
    """Run the playbook and stop it after this event; return False if it ended before.

    `cut` ends the connections of all hosts.
    """
    what = "pause" if action == "cut" else action
    command = [sys.executable, "-m", "tests.support.stopped_at_event", what, str(number)]
    command += ["-C", str(site.root), "-s", "real", "run", "site", "-e", f"out={out_folder(site)}"]
    process = subprocess.Popen(
        command,
        env=site.environ({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None and process.stdin is not None
        errors = ""
        for line in process.stderr:
            errors += line
            if line == PAUSED:
                for pid in sshd.session_processes():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.stdin.write("\n")
                process.stdin.flush()
        code = process.wait(120)
    assert code in (0, 1, 4, 130, -signal.SIGKILL), errors
    return code != 0


def out_folder(site: OrchProject) -> Path:
    return site.root.parent / "out"


def lines_left(site: OrchProject) -> Counter[tuple[str, str]]:
    """Return how often each line was left, by host."""
    found: Counter[tuple[str, str]] = Counter()
    for path in out_folder(site).iterdir():
        found.update((path.name, line) for line in path.read_text().splitlines())
        path.unlink()
    return found


def lost_lines(errors: str) -> set[str]:
    """Return what the steps leave that a resumed run runs again because they were lost."""
    return set(re.findall(r"\| echo (\S+) >>", errors))


def check_resumed(site: OrchProject, number: int) -> None:
    done = site.orch("resume", "--lost", "rerun")
    assert done.code == 0, (number, done.out, done.err)
    found, lost = lines_left(site), lost_lines(done.err)
    wanted = {(host, line) for host in HOSTS for line in EVERY_HOST} | {("a1", o) for o in ONCE}
    assert found.keys() == wanted, (number, found.keys() ^ wanted, done.err)
    repeated = {line for (_, line), count in found.items() if count > 1}
    assert repeated <= lost, (number, repeated, lost, done.out, done.err)
    again = site.orch("resume")
    assert (again.code, "is complete" in again.err) == (0, True), (number, again.err)
    assert not lines_left(site)


EVENTS = 110  # about as many as a run has
SAMPLE = [("kill", 40), ("interrupt", 30), ("cut", 50)]


@pytest.mark.parametrize(("action", "number"), SAMPLE)
def test_stopped_after_an_event_a_run_is_resumed(
    site: OrchProject, sshd: SshdServer, action: str, number: int
) -> None:
    if action != "kill":
        forget_rollback(site)
    assert run_stopped(site, sshd, action, number)
    check_resumed(site, number)


@pytest.mark.long
@pytest.mark.timeout(1800)  # some wait more than a minute for the end of a session
@pytest.mark.parametrize("first", range(1, 11))
@pytest.mark.parametrize("action", ["kill", "interrupt", "cut"])
def test_stopped_after_any_event_a_run_is_resumed(
    site: OrchProject, sshd: SshdServer, action: str, first: int
) -> None:
    if action != "kill":
        forget_rollback(site)
    stopped = 0
    for number in range(first, EVENTS, 10):
        if run_stopped(site, sshd, action, number):
            check_resumed(site, number)
            stopped += 1
        lines_left(site)
    assert stopped > 5


def fail_at_the_end(site: OrchProject) -> None:
    """Let the last task fail, after its commit, until a file exists, and be rolled back."""
    path = site.root / "tasks/last.yml"
    path.write_text(
        f"{textwrap.dedent(TASKS['tasks/last.yml'])}\n"
        f"  - run: test -e {site.root}/ok\n"
        "rollback:\n- run: echo undone >> {{ out }}/{{ host.name }}\n"
    )


def check_rolled_back(site: OrchProject, number: int) -> None:
    """Check that what was undone is done again, and all else once."""
    (site.root / "ok").touch()
    done = site.orch("resume", "--lost", "rerun")
    assert done.code == 0, (number, done.out, done.err)
    found, lost = lines_left(site), lost_lines(done.err)
    for host in HOSTS:
        assert all(found[host, line] == 1 or line in lost for line in EVERY_HOST[:5]), found
        again = found[host, "last.1"] - found[host, "undone"]
        is_cut = "the rollback of last" in done.err or "last.1" in lost
        assert again == 1 or (again == 2 and is_cut), (number, host, found, done.err)
    (site.root / "ok").unlink()


@pytest.mark.parametrize(
    "number",
    [102, *(pytest.param(number, marks=pytest.mark.long) for number in range(60, 130))],
)
def test_killed_in_a_run_that_is_rolled_back_it_is_resumed(
    site: OrchProject, sshd: SshdServer, number: int
) -> None:
    fail_at_the_end(site)
    run_stopped(site, sshd, "kill", number)
    check_rolled_back(site, number)


def forget_rollback(site: OrchProject) -> None:
    """Remove the rollback, which orch would run: what it undoes is done again, and so twice."""
    path = site.root / "tasks/rolling.yml"
    path.write_text(path.read_text().partition("rollback:")[0])
