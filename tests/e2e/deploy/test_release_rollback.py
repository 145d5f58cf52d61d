"""The targets of rollbacks over several deploys: never a release that is known to be bad."""

from __future__ import annotations

import pytest

from tests.projects import OrchProject, OrchResult
from tests.support.deploy_app import APP, HOSTS, live_releases, make_small_app
from tests.support.deploy_projects import host_home, run_deploy

OWN = {"build": ['basename "$PWD" >public/revision.txt']}
"""Releases that are called by hand say so on their page."""


def run_task(project: OrchProject, task: str, *words: str) -> OrchResult:
    return project.orch("-s", "dev", "run", task, *words, "--app", "blog", "--json")


def listed_releases(project: OrchProject, host: str) -> list[str]:
    """Return the output of deploy:releases for each release, without times."""
    done = run_task(project, "deploy:releases", "-l", host)
    assert done.code == 0, done.out
    lines = "".join(step["stdout"] for step in done.host_steps(host)).splitlines()
    return [" ".join(word for word in line.split() if not word.startswith("202")) for line in lines]


@pytest.mark.long
def test_a_bad_release_is_never_gone_back_to_and_each_host_decides_for_itself(
    project: OrchProject,
) -> None:
    make_small_app(project, keep=3, **OWN)
    for words in (("v8",), ("v9", "-l", "web1:web2"), ("v10",)):
        done = run_deploy(project, f"release={words[0]}", *words[1:])
        assert done.code == 0, done.out
    before = {"web1": "v9", "web2": "v9", "web3": "v8"}
    assert run_task(project, "deploy:rollback").code == 0
    assert live_releases(project) == before
    assert run_deploy(project, "release=v11").code == 0
    assert run_task(project, "deploy:rollback").code == 0
    assert live_releases(project) == before
    assert listed_releases(project, "web2") == [
        "v8 - by root: good, live and healthy",
        "v9 - by root: good, live and healthy (live)",
        "v10 - by root: rolled back",
        "v11 - by root: rolled back",
    ]
    refused = run_task(project, "deploy:rollback", "release=v10")
    assert refused.code == 1
    assert "release v10 is not good: rolled back" in refused.out
    assert live_releases(project) == before
    forced = run_task(project, "deploy:rollback", "release=v10", "force=true")
    assert forced.code == 0, forced.out
    assert set(live_releases(project).values()) == {"v10"}
    assert run_task(project, "deploy:rollback").code == 0
    assert live_releases(project) == before
    again = run_task(project, "deploy:rollback", "-l", "web1:web2")
    assert again.code == 0
    assert live_releases(project, hosts=("web1", "web2")) == {"web1": "v8", "web2": "v8"}
    last = run_task(project, "deploy:rollback", "-l", "web1")
    assert last.code == 1
    assert "no good release before v8 on this host" in last.out


def test_a_deploy_that_fails_is_recorded_and_its_name_can_be_used_again(
    project: OrchProject,
) -> None:
    ill = f"{APP['health_command']} && test ! -e {{{{ deploy_to }}}}/shared/ill"
    make_small_app(project, health_command=ill, **OWN)
    assert run_deploy(project, "release=v1").code == 0
    mark = host_home(project, "web2") / "blog/shared/ill"
    mark.touch()
    assert run_deploy(project, "release=v2").code == 1
    mark.unlink()
    for host in HOSTS:
        lines = (host_home(project, host) / "blog/.orch-releases").read_text().splitlines()
        events = [line.split()[1] for line in lines if line.endswith(" v2/")]
        undone = [] if host == "web2" else ["undone"]
        assert events == ["begun", "switched", *undone, "failed"]
    assert listed_releases(project, "web1")[-1] == "v2 - by -: failed removed"
    assert run_deploy(project, "release=v2").code == 0
    deployed = run_deploy(project, "release=v2")
    assert deployed.code == 1
    assert "release v2 already exists" in deployed.out
    assert run_task(project, "deploy:rollback").code == 0
    assert set(live_releases(project).values()) == {"v1"}
