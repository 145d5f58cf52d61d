"""A first deploy that fails, and rolling deploys."""

from __future__ import annotations

import pytest

from tests.projects import OrchProject, OrchResult
from tests.support.deploy_app import (
    APP,
    HOSTS,
    held_locks,
    host_releases,
    live_releases,
    make_small_app,
)
from tests.support.deploy_projects import host_home, next_second, run_deploy, summary_rows

ILL = f"{APP['health_command']} && test ! -e {{{{ deploy_to }}}}/shared/ill"
"""A health command that fails on hosts with such a file."""


def task_order(done: OrchResult, task: str) -> list[list[str]]:
    """Return the hosts of each start of this task."""
    started = [e for e in done.events if e["event"] == "task_started" and e["task"] == task]
    return [e["hosts"] for e in started]


def test_a_first_deploy_that_fails_leaves_nothing_live_and_says_so(project: OrchProject) -> None:
    make_small_app(project, health_command=ILL)
    ill = host_home(project, "web2") / "blog/shared/ill"
    ill.touch()
    done = run_deploy(project)
    assert done.code == 1
    assert set(live_releases(project).values()) == {""}
    for host in HOSTS:
        assert host_releases(project, host) == {}
        output = "".join(step["stdout"] for step in done.host_steps(host))
        assert "Nothing was live here before" in output
        assert "no release to go back to" in output
        log = (host_home(project, host) / "blog/revisions.log").read_text().split()
        assert log[-1] == "undone"
    assert held_locks(project) == []
    ill.unlink()
    assert run_deploy(project).code == 0
    assert "" not in live_releases(project).values()


def test_a_first_deploy_that_fails_before_the_switch_leaves_no_release(
    project: OrchProject,
) -> None:
    make_small_app(project, build=["test {{ host.name }} != web3"])
    assert run_deploy(project).code == 1
    assert set(live_releases(project).values()) == {""}
    assert [host_releases(project, host) for host in HOSTS] == [{}, {}, {}]


def rolling(project: OrchProject) -> OrchProject:
    """Return a deployed project whose next deploy goes host by host and fails on web2."""
    make_small_app(project, health_command=ILL)
    playbook = project.root / "tasks/deploy.yml"
    playbook.write_text(playbook.read_text().replace("batch: [100%]", "batch: [1]"))
    first = run_deploy(project)
    assert first.code == 0, first.out
    assert task_order(first, "deploy:publish") == [["web1"], ["web2"], ["web3"]]
    (host_home(project, "web2") / "blog/shared/ill").touch()
    return project


def test_hosts_that_were_switched_are_switched_back_newest_first(project: OrchProject) -> None:
    rolling(project)
    before = live_releases(project)
    third = (host_home(project, "web3") / "blog/current").lstat()
    done = run_deploy(project)
    assert done.code == 1
    assert task_order(done, "deploy:publish") == [["web1"], ["web2"]]
    assert task_order(done, "rollback of deploy:publish") == [["web2"], ["web1"]]
    assert live_releases(project) == before
    now = (host_home(project, "web3") / "blog/current").lstat()
    assert (now.st_ino, now.st_ctime_ns) == (third.st_ino, third.st_ctime_ns)
    for host in HOSTS:
        assert set(host_releases(project, host)) == {before[host]}
        running = host_home(project, host) / "blog/shared/running"
        assert running.read_text().strip() == before[host]
    found = {host: (row["status"], row["reason"]) for (_, host), row in summary_rows(done).items()}
    assert found["web1"] == (
        "cancelled",
        "web2 failed; 'deploy:publish' is rolled back; 'deploy:update' is rolled back",
    )
    assert found["web2"][0] == "failed"
    assert str(found["web2"][1]).endswith(
        "'the health command succeeds'; "
        "'deploy:publish' is rolled back; 'deploy:update' is rolled back"
    )
    assert found["web3"] == ("cancelled", "web2 failed; 'deploy:update' is rolled back")


@pytest.mark.long
def test_a_release_that_cannot_be_switched_back_is_not_removed(project: OrchProject) -> None:
    rolling(project)
    publish = project.root / "tasks/deploy/publish.yml"
    broken = "rollback:\n  - run: test {{ host.name }} != web1\n"
    publish.write_text(publish.read_text().replace("rollback:\n", broken))
    before = live_releases(project)
    done = run_deploy(project)
    assert done.code == 1
    now = live_releases(project)
    assert now["web1"] > before["web1"]
    assert (now["web2"], now["web3"]) == (before["web2"], before["web3"])
    reason = str(summary_rows(done)["blog", "web1"]["reason"])
    assert "'deploy:publish' is NOT rolled back" in reason
    assert "'deploy:update' is NOT rolled back" in reason
    (host_home(project, "web2") / "blog/shared/ill").unlink()
    assert run_deploy(project).code == 0
    assert len(set(live_releases(project).values())) == 1


def test_a_rollback_that_fails_leaves_what_was_live(project: OrchProject) -> None:
    rolling(project)
    (host_home(project, "web2") / "blog/shared/ill").unlink()
    assert run_deploy(project).code == 0
    before = live_releases(project)
    (host_home(project, "web3") / "blog/shared/ill").touch()
    next_second()
    done = project.orch("-s", "dev", "run", "deploy:rollback", "--app", "blog", "--json")
    assert done.code == 1
    assert live_releases(project) == before
    for host in HOSTS:
        assert len(host_releases(project, host)) == 2


@pytest.mark.long
def test_only_what_was_published_can_be_gone_back_to(project: OrchProject) -> None:
    make_small_app(project)
    assert run_deploy(project).code == 0
    one = live_releases(project)["web1"]
    assert run_deploy(project).code == 0
    folder = host_home(project, "web1") / "blog/releases"
    half, whole = str(int(one) + 0), str(int(live_releases(project)["web1"]) - 1)
    half = f"{one}5"
    for name in (half, whole):
        (folder / name).mkdir(exist_ok=True)
    (folder / whole / ".orch-release").touch()
    message = dict.fromkeys((half, whole), "was never live here")
    message |= {
        "..": "invalid release name '..'",
        "nowhere": "no release nowhere on this host",
    }
    for name, what in message.items():
        refused = project.orch(
            "-s", "dev", "run", "deploy:rollback", f"release={name}", "--app", "blog", "-l", "web1"
        )
        assert refused.code == 1, name
        assert what in refused.out
    assert project.orch("-s", "dev", "run", "deploy:rollback", "--app", "blog").code == 0
    assert set(live_releases(project).values()) == {one}
