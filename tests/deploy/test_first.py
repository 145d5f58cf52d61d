"""A first deploy that fails, and releases that go over the hosts bit by bit."""

from __future__ import annotations

from tests.deploy.site import deploy, home, next_second, rows
from tests.deploy.small import APP, HOSTS, live, locks, releases, small
from tests.projects import Done, Project

ILL = f"{APP['health_command']} && test ! -e {{{{ deploy_to }}}}/shared/ill"
"""A health command that fails on hosts with such a file."""


def order(done: Done, task: str) -> list[list[str]]:
    """The hosts of each time that this task began."""
    begun = [e for e in done.events if e["event"] == "task_started" and e["task"] == task]
    return [e["hosts"] for e in begun]


def test_a_first_deploy_that_fails_leaves_nothing_live_and_says_so(project: Project) -> None:
    small(project, health_command=ILL)
    ill = home(project, "web2") / "blog/shared/ill"
    ill.touch()
    done = deploy(project)
    assert done.code == 1
    assert set(live(project).values()) == {""}
    for host in HOSTS:
        assert releases(project, host) == {}
        said = "".join(step["stdout"] for step in done.steps(host))
        assert "Nothing was live here before" in said
        assert "none to go back to" in said
        log = (home(project, host) / "blog/revisions.log").read_text().split()
        assert log[-1] == "undone"
    assert locks(project) == []
    ill.unlink()
    assert deploy(project).code == 0
    assert "" not in live(project).values()


def test_a_first_deploy_that_fails_before_the_switch_leaves_no_release(project: Project) -> None:
    small(project, build=["test {{ host.name }} != web3"])
    assert deploy(project).code == 1
    assert set(live(project).values()) == {""}
    assert [releases(project, host) for host in HOSTS] == [{}, {}, {}]


def rolling(project: Project) -> Project:
    """One release is live everywhere; the next goes host by host, and web2 will be ill."""
    small(project, health_command=ILL)
    playbook = project.root / "tasks/deploy.yml"
    playbook.write_text(playbook.read_text().replace("batch: [100%]", "batch: [1]"))
    first = deploy(project)
    assert first.code == 0, first.out
    assert order(first, "deploy:publish") == [["web1"], ["web2"], ["web3"]]
    (home(project, "web2") / "blog/shared/ill").touch()
    return project


def test_hosts_that_were_switched_are_switched_back_newest_first(project: Project) -> None:
    rolling(project)
    before = live(project)
    third = (home(project, "web3") / "blog/current").lstat()
    done = deploy(project)
    assert done.code == 1
    assert order(done, "deploy:publish") == [["web1"], ["web2"]]
    assert order(done, "rollback of deploy:publish") == [["web2"], ["web1"]]
    assert live(project) == before
    now = (home(project, "web3") / "blog/current").lstat()
    assert (now.st_ino, now.st_ctime_ns) == (third.st_ino, third.st_ctime_ns)
    for host in HOSTS:
        assert set(releases(project, host)) == {before[host]}
        running = home(project, host) / "blog/shared/running"
        assert running.read_text().strip() == before[host]
    found = {host: (row["status"], row["reason"]) for (_, host), row in rows(done).items()}
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


def test_a_release_that_cannot_be_switched_back_is_not_removed(project: Project) -> None:
    rolling(project)
    publish = project.root / "tasks/deploy/publish.yml"
    broken = "rollback:\n  - run: test {{ host.name }} != web1\n"
    publish.write_text(publish.read_text().replace("rollback:\n", broken))
    before = live(project)
    done = deploy(project)
    assert done.code == 1
    now = live(project)
    assert now["web1"] > before["web1"]
    assert (now["web2"], now["web3"]) == (before["web2"], before["web3"])
    reason = str(rows(done)["blog", "web1"]["reason"])
    assert "'deploy:publish' is NOT rolled back" in reason
    assert "'deploy:update' is NOT rolled back" in reason
    (home(project, "web2") / "blog/shared/ill").unlink()
    assert deploy(project).code == 0
    assert len(set(live(project).values())) == 1


def test_a_rollback_that_fails_leaves_what_was_live(project: Project) -> None:
    rolling(project)
    (home(project, "web2") / "blog/shared/ill").unlink()
    assert deploy(project).code == 0
    before = live(project)
    (home(project, "web3") / "blog/shared/ill").touch()
    next_second()
    done = project.orch("-s", "dev", "run", "deploy:rollback", "--app", "blog", "--json")
    assert done.code == 1
    assert live(project) == before
    for host in HOSTS:
        assert len(releases(project, host)) == 2


def test_only_what_was_published_can_be_gone_back_to(project: Project) -> None:
    small(project)
    assert deploy(project).code == 0
    one = live(project)["web1"]
    assert deploy(project).code == 0
    folder = home(project, "web1") / "blog/releases"
    half, whole = str(int(one) + 0), str(int(live(project)["web1"]) - 1)
    half = f"{one}5"
    for name in (half, whole):
        (folder / name).mkdir(exist_ok=True)
    (folder / whole / ".orch-release").touch()
    told = dict.fromkeys((half, whole), "was never live here")
    told |= {"..": "no release can be called '..'", "nowhere": "there is no release nowhere here"}
    for name, what in told.items():
        refused = project.orch(
            "-s", "dev", "run", "deploy:rollback", f"release={name}", "--app", "blog", "-l", "web1"
        )
        assert refused.code == 1, name
        assert what in refused.out
    assert project.orch("-s", "dev", "run", "deploy:rollback", "--app", "blog").code == 0
    assert set(live(project).values()) == {one}
