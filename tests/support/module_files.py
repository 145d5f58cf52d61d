"""Helpers for tests of modules for files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.model.step_result import StepResult
from tests.support.machine import ODD_NAMES, ShellMachine, result_message, tree_snapshot

WITHOUT_POWERS = ("/usr/bin/setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""Words before a command that remove the privileges of root."""


def without_powers(machine: ShellMachine) -> None:
    """Give root the permissions of a normal user who owns the same files.

    busybox's shell assumes that root may write anything: with its tools dash runs instead.
    """
    machine.wrapper = WITHOUT_POWERS
    if machine.shell == "busybox":
        shell = Path(machine.environment["PATH"].split(":")[0], "sh")
        shell.unlink()
        shell.symlink_to("/usr/bin/dash")


def check_refuses(machine: ShellMachine, step: Any, message: str, **more: Any) -> StepResult:
    """Check and run: both must fail with this message, and nothing may change anywhere."""
    before = tree_snapshot(machine.root)
    for check in (True, False):
        outcome = machine.run_step(step, check=check, **more)
        assert outcome.status == "failed", result_message(outcome)
        assert message in result_message(outcome)
    assert tree_snapshot(machine.root) == before
    return outcome


def odd_names(machine: ShellMachine, make: Callable[[Path], Any]) -> Iterator[Path]:
    """Return the paths of all odd names, after testing ``make``'s steps with them.

    The steps must be predicted by a check, change each path, and then have nothing to do.
    """
    paths = [machine.root / name for name in ODD_NAMES]
    steps = [make(path) for path in paths]
    before = tree_snapshot(machine.root)
    asked = machine.run_steps(steps, check=True)
    assert tree_snapshot(machine.root) == before
    assert asked.statuses == ["would_change"] * len(ODD_NAMES), list(
        map(result_message, asked.outcomes)
    )
    done = machine.run_steps(steps)
    assert done.statuses == ["changed"] * len(ODD_NAMES), list(map(result_message, done.outcomes))
    assert [o.changes for o in asked.outcomes] == [o.changes for o in done.outcomes]
    assert machine.run_steps(steps).statuses == ["ok"] * len(ODD_NAMES)
    assert sorted(folder_contents(machine.root)) == sorted(ODD_NAMES)
    return iter(paths)


def folder_contents(folder: Path) -> list[str]:
    """Return the names in a folder, so that files left by a fix are seen."""
    return sorted(path.name for path in folder.iterdir())


def outcome_changes(outcome: StepResult) -> dict[str, tuple[str | None, str]]:
    """Return the reported changes: before and after, by key."""
    return {change.key: (change.before, change.after) for change in outcome.changes}


def file_mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o7777:04o}"


@contextmanager
def check_nothing_left(folder: Path, machine: ShellMachine) -> Iterator[None]:
    """Create the machine's temporary files in this folder, and check that none remains."""
    folder.mkdir()
    machine.environment["TMPDIR"] = str(folder)
    yield
    assert folder_contents(folder) == []


def build_start(root: Path, start: Mapping[str, str]) -> None:
    """Create the initial state of a test: ``/`` a directory, ``>TO`` a link, else a text."""
    for name, what in start.items():
        path = root / name
        if what == "/":
            path.mkdir()
        elif what.startswith(">"):
            path.symlink_to(what[1:])
        else:
            path.write_text(what)
