"""Servers that another tool deployed to: its releases are kept, and a rollback can go to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.projects import OrchProject, OrchResult
from tests.support.deploy_app import APP, make_small_app
from tests.support.deploy_projects import folder_snapshot, host_home, run_deploy

CAPISTRANO, DEPLOYER, NEW = "web1", "web2", "web3"
RELEASES = {CAPISTRANO: ("20250101000000", "20250201000000", "20250301000000"), DEPLOYER: "123"}
BY_HAND = ("backup-by-hand", "lost+found", "-rf", "a\nb")
ILL = f"{APP['health_command']} && test ! -e {{{{ deploy_to }}}}/shared/ill"


def adopted(project: OrchProject) -> OrchProject:
    """Return a project with hosts as Capistrano and Deployer leave them, and an empty host.

    The link to the last release is absolute or relative; there are other files among the releases.
    """
    make_small_app(
        project,
        {"blog": "repository"},
        keep=1,
        health_command=ILL,
        build=['basename "$PWD" >public/revision.txt'],
    )
    for host, names in RELEASES.items():
        folder = host_home(project, host) / "blog"
        for name in names:
            public = folder / "releases" / name / "public"
            public.mkdir(parents=True)
            (public / "revision.txt").write_text(f"{name}\n")
            (public.parent / "REVISION").write_text(f"c0ffee{name}\n")
        for name in BY_HAND:
            (folder / "releases" / name).mkdir()
            (folder / "releases" / name / "precious").touch()
        to = folder / "releases" / names[-1] if host == CAPISTRANO else f"releases/{names[-1]}"
        (folder / "current").symlink_to(to)
        (folder / "shared/running").write_text(f"{names[-1]}\n")
    return project


def run_task(project: OrchProject, task: str, *words: str) -> OrchResult:
    return project.orch("-s", "dev", "run", task, *words, "--app", "blog", "--json")


def release_outputs(done: OrchResult, host: str) -> str:
    assert done.code == 0, done.out
    return "".join(step["stdout"] + step["stderr"] for step in done.host_steps(host))


def release_folders(project: OrchProject, host: str) -> set[str]:
    return {path.name for path in (host_home(project, host) / "blog/releases").iterdir()}


def live_link(project: OrchProject, host: str) -> Path:
    return (host_home(project, host) / "blog/current").readlink()


@pytest.mark.long
def test_what_another_tool_left_stays_and_its_live_release_can_be_gone_back_to(
    project: OrchProject,
) -> None:
    adopted(project)
    status, pending = run_task(project, "deploy:status"), run_task(project, "deploy:pending")
    for host, names in RELEASES.items():
        assert release_outputs(status, host).startswith(f"{names[-1]} c0ffee{names[-1]}")
        assert f"c0ffee{names[-1]} → " in release_outputs(pending, host)
    assert "nothing is live" in release_outputs(pending, NEW)
    before = {host: (release_folders(project, host), live_link(project, host)) for host in RELEASES}
    (host_home(project, NEW) / "blog/shared/ill").touch()
    assert run_deploy(project, "release=zero").code == 1
    for host in RELEASES:
        assert (release_folders(project, host), live_link(project, host)) == before[host]
    (host_home(project, NEW) / "blog/shared/ill").unlink()

    for name, old in (("one", ""), ("two", "one")):
        trees = {host: folder_snapshot(host_home(project, host) / "blog") for host in RELEASES}
        check = run_deploy(project, "--check", f"release={name}")
        for host in RELEASES:
            assert folder_snapshot(host_home(project, host) / "blog") == trees[host]
            (step,) = (s for s in check.host_steps(host) if s["name"] == "deploy:history old")
            assert step["stdout"] == old
            assert "kept, because orch did not make them: -rf, " in step["stderr"]
            assert (f"to remove: {old}" in step["stderr"]) == bool(old)
        done = run_deploy(project, f"release={name}")
        assert done.code == 0, done.out
        for host in RELEASES:
            assert release_folders(project, host) == before[host][0] | {name}
    back = run_task(project, "deploy:rollback", "-l", f"{CAPISTRANO}:{DEPLOYER}")
    assert back.code == 0, back.out
    for host, names in RELEASES.items():
        assert live_link(project, host).name == names[-1]
        running = host_home(project, host) / "blog/shared/running"
        assert running.read_text().strip() == names[-1]
        assert release_folders(project, host) == before[host][0] | {"two"}
    older = ("deploy:rollback", "release=20250101000000", "-l", CAPISTRANO)
    refused = run_task(project, *older)
    assert refused.code == 1
    assert "was never live here: not made by orch" in refused.out
    assert run_task(project, *older, "force=true").code == 0
    assert live_link(project, CAPISTRANO).name == "20250101000000"


def test_a_release_of_another_tool_is_not_written_into_and_not_removed(
    project: OrchProject,
) -> None:
    adopted(project)
    before = folder_snapshot(host_home(project, CAPISTRANO) / "blog/releases")
    words = ("deploy", "release=20250201000000", "-l", CAPISTRANO)
    refused = run_task(project, *words)
    assert refused.code == 1
    assert "release 20250201000000 already exists" in refused.out
    check = project.root / "tasks/deploy/check.yml"
    check.write_text(check.read_text().replace("name: the release is", "when: false\n    name: is"))
    refused = run_task(project, *words)
    assert refused.code == 1
    assert "releases/20250201000000 already exists" in refused.out
    assert folder_snapshot(host_home(project, CAPISTRANO) / "blog/releases") == before
