"""A machine to test modules on: the local one, with one of the shells, in a folder."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import playbook
from orchestrator.errors import ExitCode
from orchestrator.executor import CancelToken, RunOptions, execute_plan
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.model.event import RunEvent, StepFinished
from orchestrator.model.step_result import StepResult
from orchestrator.planner.plan_builder import build_plan
from orchestrator.planner.request import PlanRequest
from orchestrator.planner.template_objects import run_view
from orchestrator.transports.local import LocalConnection
from tests.support.parsed_modules import load_tasks

ODD_NAMES = [
    "plain",
    "with space",
    "it's",
    'say "hi"',
    "$(id)",
    "`id`",
    "a\nb",
    "-n",
    "--help",
    "über",
    "*",
    "%41",
    "a=b",
    "back\\slash",
    "#x",
    "~",
]
"""Names that break wrong quoting."""
_OF_EACH_KIND = ("it's", "$(id)", "a\nb", "-n", "*", "back\\slash")
ODD_NAME_CASES = [
    name if name in _OF_EACH_KIND else pytest.param(name, marks=pytest.mark.long)
    for name in ODD_NAMES
]
"""Parameters: in the short run a name of each kind, where every name takes runs of its own."""


@dataclass
class ShellMachine:
    """A machine with one shell: dash, bash or busybox, the last with busybox's tools first in PATH.

    ``root`` is a new folder for the test's files, ``home`` the home folder of the session.
    """

    shell: str
    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()
    """Words before a command that run it elsewhere (private_copy.py)."""
    watched_paths: tuple[Path, ...] = ()
    """Paths that check mode must not change, in addition to ``root``."""

    def __post_init__(self) -> None:
        tools = self.root.parent / f"{self.root.name}-tools"
        tools.mkdir()
        if self.shell == "busybox":
            subprocess.run(["busybox", "--install", "-s", str(tools)], check=True)
            for name in ("ssh", "su", "login", "passwd", "mount", "umount"):
                (tools / name).unlink(missing_ok=True)
        else:
            (tools / "sh").symlink_to(f"/usr/bin/{self.shell}")
        home = self.root.parent / f"{self.root.name}-home"
        home.mkdir()
        self.environment = {
            "PATH": f"{tools}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
        }

    @property
    def home(self) -> Path:
        return Path(self.environment["HOME"])

    def run_steps(
        self,
        steps: Sequence[Any],
        *,
        check: bool = False,
        diff: bool = True,
        files: Mapping[str, str] | None = None,
        variables: Mapping[str, Any] | None = None,
        run_id: str = "r",
    ) -> MachineRun:
        """Run these steps as one task: ``{"link": {"path": …, "to": …}}`` and so on.

        ``files`` are written to ``tasks/`` (modules of the test, templates).
        """
        project = self.root.parent / f"{self.root.name}-project"
        folder = project / "inventories" / "dev"
        folder.mkdir(parents=True, exist_ok=True)
        stage = {"vars": dict(variables or {})}
        (folder / "stage.yml").write_text(yaml.safe_dump(stage, allow_unicode=True))
        (folder / "hosts.yml").write_text("one: {}\n")
        (project / "tasks").mkdir(exist_ok=True)
        text = yaml.safe_dump({"steps": list(steps)}, allow_unicode=True, sort_keys=False)
        for name, content in {"it.yml": text, **(files or {})}.items():
            (project / "tasks" / name).write_text(content)
        loaded = load_tasks(project, ["it"])
        context = load_stage(project, "dev")
        ask = PlanRequest(
            context,
            tuple(context.hosts.values()),
            (playbook.TaskRequest("it"),),
            loaded.by_name,
            run_view(run_id, "tester", 0.0),
            check_mode=check,
            show_diff=diff,
            root=str(project),
        )
        events: list[RunEvent] = []
        connection = LocalConnection(shlex.join([*self.wrapper, "sh"]), self.environment)
        code = execute_plan(
            build_plan(ask),
            context.hosts,
            lambda _host: connection,
            events.append,
            options=RunOptions(),
            cancel=CancelToken(),
        )
        return MachineRun(code, [e for e in events if isinstance(e, StepFinished)])

    def observable_state(self) -> list[dict[str, tuple[Any, ...]]]:
        """Return everything that check mode must not change."""
        return [tree_snapshot(path) for path in (self.root, *self.watched_paths)]

    def run_step(self, step: Any, **more: Any) -> StepResult:
        """Run one step and return its result."""
        return self.run_steps([step], **more).outcomes[0]

    def check_then_run(self, step: Any, status: str, **more: Any) -> StepResult:
        """Check, run, and run again.

        Verify that the check predicts the changes and makes none, and that the second run has
        nothing to change. ``status``: ok, changed or failed.
        """
        before = self.observable_state()
        foretold = self.run_step(step, check=True, **more)
        assert self.observable_state() == before, "the check changed something"
        outcome = self.run_step(step, **more)
        assert outcome.status == status, result_message(outcome)
        if status == "failed":
            return outcome
        assert str(foretold.status).replace("would_change", "changed") == status, result_message(
            foretold
        )
        assert foretold.changes == outcome.changes
        again = self.run_step(step, **more)
        assert again.status == "ok", result_message(again)
        return outcome


@dataclass
class MachineRun:
    """The result of a run: its exit code, and each step."""

    code: ExitCode
    steps: list[StepFinished]

    @property
    def outcomes(self) -> list[StepResult]:
        return [step.outcome for step in self.steps]

    @property
    def statuses(self) -> list[str]:
        return [str(step.outcome.status) for step in self.steps]


def result_message(outcome: StepResult) -> str:
    return f"{outcome.status}: {outcome.reason}\n{outcome.stderr.text}\n{outcome.stdout.text}"


def tree_snapshot(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return every byte, mode, owner, mtime and ctime below a folder."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        at = path.lstat()
        if stat.S_ISLNK(at.st_mode):
            content: object = path.readlink()
        else:
            content = path.read_bytes() if stat.S_ISREG(at.st_mode) else None
        times = (at.st_mtime_ns, at.st_ctime_ns)
        found[str(path)] = (at.st_mode, at.st_uid, at.st_gid, *times, content)
    return found
