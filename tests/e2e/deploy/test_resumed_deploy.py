"""A deploy that failed or was killed is resumed with the same release."""

from __future__ import annotations

import signal

import pytest

from tests.projects import OrchProject
from tests.sshd import wait_until
from tests.support.deploy_app import HOSTS, held_locks, live_releases, make_small_app
from tests.support.deploy_projects import host_home, run_deploy


def write_hook(project: OrchProject, run: str) -> None:
    """Write a task that runs after the publishing, in the app's folder."""
    text = "after: [deploy:publish]\nsteps:\n  - run: |\n      cd -- {{ deploy_to }}\n"
    text += "".join(f"      {line}\n" for line in run.splitlines())
    project.write({"tasks/hook.yml": text})


def releases(project: OrchProject) -> set[str]:
    return set(live_releases(project).values())


def test_after_a_failure_and_its_rollback_the_release_is_made_again(project: OrchProject) -> None:
    make_small_app(project)
    assert run_deploy(project).code == 0
    before = releases(project)
    write_hook(project, "[ -e ok ]")
    failed = run_deploy(project)
    assert (failed.code, releases(project)) == (1, before)
    for host in HOSTS:
        (host_home(project, host) / "blog/ok").touch()
    done = project.orch("resume")
    assert done.code == 0, done.out + done.err
    run = failed.events[0]["run"]
    assert releases(project) == {run[:14]}
    assert held_locks(project) == []


@pytest.mark.long
def test_after_a_kill_the_deploy_goes_on(project: OrchProject) -> None:
    make_small_app(project)
    write_hook(project, "[ -e ok ] || { touch begun; sleep 600; }")
    with project.start_orch("-s", "dev", "run", "deploy", "--app", "blog", "--yes") as process:
        paths = [host_home(project, host) / "blog/begun" for host in HOSTS]
        wait_until(lambda: all(path.exists() for path in paths), "the hook on all hosts")
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    for host in HOSTS:
        (host_home(project, host) / "blog/ok").touch()
    done = project.orch("resume", "--lost", "rerun")
    assert done.code == 0, done.out + done.err
    assert len(releases(project)) == 1
    assert held_locks(project) == []
