"""A deploy that fails or is interrupted at any step of the recipe leaves working hosts.

For every step there is an app whose deploy fails right before it on one of three hosts; all apps
are deployed in one run, in parallel.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.projects import OrchProject, OrchResult
from tests.support.deploy_app import (
    HOSTS,
    SOURCES,
    held_locks,
    host_releases,
    live_releases,
    make_small_app,
)
from tests.support.deploy_projects import (
    WAIT_TIMEOUT,
    host_home,
    next_second,
    run_deploy,
    summary_rows,
    wait_until,
)

pytestmark = pytest.mark.long
PRIMARY, VICTIM = HOSTS[0], HOSTS[1]
ORCH = (sys.executable, "-m", "orchestrator")


@dataclass(frozen=True)
class DeployFault:
    """A step by its position; the ``app`` whose deploy fails there, on ``host``."""

    app: str
    host: str
    task: str
    file: str
    line: int
    is_committed: bool
    source: str

    def __str__(self) -> str:
        return f"{self.task}, before {self.file}:{self.line} on {self.host} ({self.app})"


@dataclass(frozen=True)
class DeployMatrix:
    """A project with a deployed app for each fault."""

    project: OrchProject
    faults: tuple[DeployFault, ...]

    def set_fault_kind(self, kind: str) -> None:
        """Set what happens at the faults: fail, wait or none."""
        (self.project.root / "kind").write_text(kind)
        for path in (self.project.root / "reached").iterdir():
            path.unlink()

    def reached_faults(self) -> bool:
        target = {path.name for path in (self.project.root / "reached").iterdir()}
        return target == {fault.app for fault in self.faults}

    def live_releases(self) -> dict[str, dict[str, str]]:
        return {fault.app: live_releases(self.project, fault.app) for fault in self.faults}

    def running_releases(self, app: str) -> dict[str, str]:
        """Return the release that was last restarted on each host."""
        files = {host: host_home(self.project, host) / app / "shared/running" for host in HOSTS}
        return {host: file.read_text().strip() for host, file in files.items()}


def recipe_steps(root: Path) -> tuple[DeployFault, ...]:
    """Return every step that the recipe runs for an app from any source."""
    project = make_small_app(OrchProject(root), {source: source for source in SOURCES})
    done = project.orch("-s", "dev", "plan", "deploy", "--app", "all", "--json")
    assert done.code == 0, done.err
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for lane in json.loads(done.out)["lanes"]:
        committed = False
        for wave in lane["waves"]:
            committed = committed or wave["commit"]
            for step in wave["hosts"][0]["steps"] if wave["hosts"] else ():
                file, line, _ = step["at"].split(":")
                about = {"task": wave["task"], "once": wave["once"], "committed": committed}
                if not step["skip"]:
                    known = found.setdefault((file, int(line)), {**about, "sources": []})
                    known["sources"].append(lane["app"])
    return tuple(
        DeployFault(
            app=f"s{number:02}",
            host=PRIMARY if about["once"] else VICTIM,
            task=about["task"],
            file=file,
            line=line,
            is_committed=about["committed"],
            source=about["sources"][number % len(about["sources"])],
        )
        for number, ((file, line), about) in enumerate(found.items())
    )


def inject_faults(project: OrchProject, faults: tuple[DeployFault, ...]) -> None:
    """Insert before each of these steps one that does what ``set_fault_kind`` says."""
    root = project.root
    project.write({"kind": "none", "reached/.keep": "", "fault": SCRIPT.format(root=root)})
    (root / "reached/.keep").unlink()
    for fault in sorted(faults, key=lambda fault: -fault.line):
        path = root / fault.file
        lines = path.read_text().splitlines()
        lines[fault.line - 1 : fault.line - 1] = [
            f"  - when: app.name == '{fault.app}' and host.name == '{fault.host}'",
            f"    run: sh {root}/fault {fault.app}",
        ]
        path.write_text("\n".join([*lines, ""]))


SCRIPT = """\
    # What happens at a step: it waits for its end once, or fails each time.
    kind=$(cat {root}/kind) reached={root}/reached/$1
    case $kind in
    fail) : >"$reached"; exit 1;;
    wait) [ -e "$reached" ] || {{ : >"$reached"; while :; do sleep 1; done; }};;
    esac
    """


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployMatrix]:
    folder = tmp_path_factory.mktemp("matrix")
    faults = recipe_steps(folder / "listed/project")
    apps = {fault.app: fault.source for fault in faults}
    project = make_small_app(OrchProject(folder / "project"), apps)
    inject_faults(project, faults)
    first = run_deploy(project)
    assert first.code == 0, first.out
    yield DeployMatrix(project, faults)


def interrupt_deploy(matrix: DeployMatrix, number: int) -> int:
    """Send a signal to a deploy when every app is at its fault; return the exit code."""
    next_second()
    log = matrix.project.root / "screen"
    with log.open("wb") as screen:
        process = subprocess.Popen(
            [*ORCH, "-s", "dev", "run", "deploy", "--app", "all"],
            cwd=matrix.project.root,
            env=matrix.project.environ({}),
            stdin=subprocess.DEVNULL,
            stdout=screen,
            stderr=screen,
        )
    try:
        wait_until(lambda: matrix.reached_faults() or process.poll() is not None, "all faults")
        assert process.poll() is None, log.read_text()
        process.send_signal(number)
        return process.wait(WAIT_TIMEOUT)
    finally:
        process.kill()
        process.wait()


def check_next_deploy(matrix: DeployMatrix) -> None:
    """Check that the next deploy brings a new release to all hosts and leaves nothing else."""
    matrix.set_fault_kind("none")
    before = matrix.live_releases()
    done = run_deploy(matrix.project)
    assert done.code == 0, done.out
    for fault in matrix.faults:
        now = matrix.live_releases()[fault.app]
        (new,) = set(now.values())
        assert new not in before[fault.app].values(), fault
        assert matrix.running_releases(fault.app) == now, fault
        for host in HOSTS:
            assert set(host_releases(matrix.project, host, fault.app).values()) == {"published"}, (
                fault
            )


def check_undone(matrix: DeployMatrix, before: dict[str, dict[str, str]]) -> None:
    """Check the state of all hosts after the rollback.

    Before the commit the old releases are live and run, after it the new ones. Nothing else of the
    new releases is left, and no lock.
    """
    for fault in matrix.faults:
        now = matrix.live_releases()[fault.app]
        assert (now == before[fault.app]) is not fault.is_committed, fault
        assert len(set(now.values())) == 1, fault
        assert matrix.running_releases(fault.app) == now, fault
        for host in HOSTS:
            left = host_releases(matrix.project, host, fault.app)
            assert set(left.values()) == {"published"}, (fault, left)
            assert max(left) == now[host], (fault, left)
    assert held_locks(matrix.project) == []


def test_every_step_of_the_recipe_is_met(matrix: DeployMatrix) -> None:
    files = {fault.file for fault in matrix.faults}
    assert {Path(file).stem for file in files} == {
        *("build", "check", "cleanup", "finish", "healthy", "log", "migrate", "publish"),
        *("restart", "revision", "setup", "template", "update"),
    }
    assert len(matrix.faults) > 20


def test_a_deploy_that_fails_at_any_step_leaves_the_old_release_live(matrix: DeployMatrix) -> None:
    before = matrix.live_releases()
    matrix.set_fault_kind("fail")
    done = run_deploy(matrix.project)
    assert done.code == 1
    assert matrix.reached_faults()
    for fault in matrix.faults:
        assert summary_rows(done)[fault.app, fault.host]["status"] == "failed", fault
    check_undone(matrix, before)
    check_next_deploy(matrix)


def test_a_deploy_that_is_interrupted_at_any_step_leaves_the_old_release_live(
    matrix: DeployMatrix,
) -> None:
    before = matrix.live_releases()
    matrix.set_fault_kind("wait")
    assert interrupt_deploy(matrix, signal.SIGINT) == 130
    check_undone(matrix, before)
    check_next_deploy(matrix)


def test_a_deploy_that_dies_at_any_step_leaves_whole_releases_and_stale_locks(
    matrix: DeployMatrix,
) -> None:
    before = matrix.live_releases()
    matrix.set_fault_kind("wait")
    assert interrupt_deploy(matrix, signal.SIGKILL) == -signal.SIGKILL
    orch = matrix.project.orch
    wait_until(
        lambda: check_stale(matrix, orch("-s", "dev", "lock", "status", "--app", "all", "--json")),
        "it",
    )
    matrix.set_fault_kind("none")
    for fault in matrix.faults:
        now = matrix.live_releases()[fault.app]
        if "publish" not in fault.file and not has_switched(fault):
            assert now == before[fault.app], fault
        ran = matrix.running_releases(fault.app)
        for host in HOSTS:
            assert ran[host] in (before[fault.app][host], now[host]), fault
            states = host_releases(matrix.project, host, fault.app)
            assert states[now[host]] in ("complete", "published"), fault
    refused = run_deploy(matrix.project)
    assert refused.code == 5
    assert {row["status"] for row in summary_rows(refused).values()} == {"not_started"}
    assert all("stale" in str(row["reason"]) for row in summary_rows(refused).values())
    assert orch("-s", "dev", "lock", "release", "--app", "all").code == 0
    assert held_locks(matrix.project) == []
    check_next_deploy(matrix)
    back = orch("-s", "dev", "run", "deploy:rollback", "--app", "all", "--json")
    assert back.code == 0, back.out
    for fault in matrix.faults:
        for host, release in live_releases(matrix.project, fault.app).items():
            assert host_releases(matrix.project, host, fault.app)[release] == "published", fault


def has_switched(fault: DeployFault) -> bool:
    """Return True if a host has switched to the new release when a deploy reaches this step."""
    return Path(fault.file).stem in ("restart", "healthy", "finish", "log", "cleanup")


def check_stale(matrix: DeployMatrix, status: OrchResult) -> bool:
    output = [e["stdout"] for e in status.events if e["event"] == "step_finished"]
    assert len(output) == len(matrix.faults) * len(HOSTS)
    return all("stale by" in each for each in output)
