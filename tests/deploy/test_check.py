"""`--check` of a deploy: nothing changes, and what is foretold is what the deploy then does."""

from __future__ import annotations

from typing import Any

from tests.deploy.site import commit, deploy, home, snapshot
from tests.deploy.small import HOSTS, SOURCES, small
from tests.projects import Done, Project

COMES_TRUE = {
    "ok": {"ok"},
    "skipped": {"skipped"},
    "would_change": {"changed"},
    "would_run": {"changed", "ok"},
    "unknown": {"ok", "changed", "skipped"},
}


def steps(done: Done) -> dict[tuple[str, str, str, int], dict[str, Any]]:
    finished = [e for e in done.events if e["event"] == "step_finished"]
    return {(e["app"], e["host"], e["task"], e["step"]): e for e in finished}


def homes(project: Project) -> dict[str, tuple[object, ...]]:
    return {k: v for host in HOSTS for k, v in snapshot(home(project, host)).items()}


def foretold(project: Project) -> dict[tuple[str, str, str, int], dict[str, Any]]:
    """What a check says, after which nothing is changed and all of it comes true."""
    before, here = homes(project), set(project.root.iterdir())
    check = deploy(project, "--check")
    assert check.code == 0, check.out
    assert homes(project) == before
    assert set(project.root.iterdir()) == here
    real = deploy(project)
    assert real.code == 0, real.out
    said, did = steps(check), steps(real)
    assert said.keys() == did.keys()
    wrong = {
        key: (step["name"], step["status"], did[key]["status"])
        for key, step in said.items()
        if did[key]["status"] not in COMES_TRUE[step["status"]]
    }
    assert not wrong
    return said


def names(said: dict[tuple[str, str, str, int], dict[str, Any]], status: str) -> set[str]:
    found = {(key[2], step["name"]) for key, step in said.items() if step["status"] == status}
    return {f"{task}: {name}" for task, name in found}


def test_checks_of_a_first_and_a_second_deploy_change_nothing_and_come_true(
    project: Project,
) -> None:
    project.write({"tasks/uname.yml": "steps: [{run: uname, readonly: true}]\n"})
    small(project, {source: source for source in SOURCES}, linked_files=[])
    assert project.orch("-s", "dev", "run", "uname").code == 0  # makes their homes
    for host in HOSTS:
        for app in SOURCES:
            for folder in ("shared/config/key", "shared/config", "shared", "."):
                path = home(project, host) / app / folder
                path.unlink() if path.is_file() else path.rmdir()
    first = foretold(project)
    assert {key[2] for key in first} >= {"deploy:check", "deploy:update", "deploy:cleanup"}
    page = {"public/index.html": "another\n"}
    commit(project.root / "app", page, "Another")
    second = foretold(project)
    for said in (first, second):  # an archive that is not built, an app that is not restarted
        known = {name.split(" ")[1] for name in names(said, "unknown")}
        assert known <= {"unarchive", "the"}, names(said, "unknown")
