"""`--check` of a deploy: it changes nothing and predicts what the deploy does."""

from __future__ import annotations

from typing import Any

from tests.projects import OrchProject, OrchResult
from tests.support.deploy_app import HOSTS, SOURCES, make_small_app
from tests.support.deploy_projects import commit_files, folder_snapshot, host_home, run_deploy

COMES_TRUE = {
    "ok": {"ok"},
    "skipped": {"skipped"},
    "would_change": {"changed"},
    "would_run": {"changed", "ok"},
    "unknown": {"ok", "changed", "skipped"},
}


def step_statuses(done: OrchResult) -> dict[tuple[str, str, str, int], dict[str, Any]]:
    finished = [e for e in done.events if e["event"] == "step_finished"]
    return {(e["app"], e["host"], e["task"], e["step"]): e for e in finished}


def home_snapshots(project: OrchProject) -> dict[str, tuple[object, ...]]:
    return {k: v for host in HOSTS for k, v in folder_snapshot(host_home(project, host)).items()}


def check_and_run(project: OrchProject) -> dict[tuple[str, str, str, int], dict[str, Any]]:
    """Check that a check changes nothing and predicts the deploy; return its steps."""
    before, local = home_snapshots(project), set(project.root.iterdir())
    check = run_deploy(project, "--check")
    assert check.code == 0, check.out
    assert home_snapshots(project) == before
    assert set(project.root.iterdir()) == local
    real = run_deploy(project)
    assert real.code == 0, real.out
    output, did = step_statuses(check), step_statuses(real)
    assert output.keys() == did.keys()
    wrong = {
        key: (step["name"], step["status"], did[key]["status"])
        for key, step in output.items()
        if did[key]["status"] not in COMES_TRUE[step["status"]]
    }
    assert not wrong
    return output


def steps_with_status(
    message: dict[tuple[str, str, str, int], dict[str, Any]], status: str
) -> set[str]:
    found = {(key[2], step["name"]) for key, step in message.items() if step["status"] == status}
    return {f"{task}: {name}" for task, name in found}


def test_checks_of_a_first_and_a_second_deploy_change_nothing_and_come_true(
    project: OrchProject,
) -> None:
    project.write({"tasks/uname.yml": "steps: [{run: uname, readonly: true}]\n"})
    make_small_app(project, {source: source for source in SOURCES}, linked_files=[])
    assert project.orch("-s", "dev", "run", "uname").code == 0  # makes their homes
    for host in HOSTS:
        for app in SOURCES:
            for folder in ("shared/config/key", "shared/config", "shared", "."):
                path = host_home(project, host) / app / folder
                path.unlink() if path.is_file() else path.rmdir()
    first = check_and_run(project)
    assert {key[2] for key in first} >= {"deploy:check", "deploy:update", "deploy:cleanup"}
    page = {"public/index.html": "another\n"}
    commit_files(project.root / "app", page, "Another")
    second = check_and_run(project)
    for output in (first, second):  # an archive that is not built, an app that is not restarted
        known = {name.split(" ")[1] for name in steps_with_status(output, "unknown")}
        assert known <= {"unarchive", "the"}, steps_with_status(output, "unknown")
