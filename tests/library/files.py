"""What the tests of modules for files share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.model.step_result import Outcome
from tests.library.machine import ODD, Machine, snapshot, told

WITHOUT_POWERS = ("/usr/bin/setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""Words before a command that take from root all that another user could not do."""


def without_powers(machine: Machine) -> None:
    """Have root there be as another user, who owns what root does. busybox's shell believes that
    root may write anything: with its tools dash runs then."""
    machine.within = WITHOUT_POWERS
    if machine.shell == "busybox":
        shell = Path(machine.environment["PATH"].split(":")[0], "sh")
        shell.unlink()
        shell.symlink_to("/usr/bin/dash")


def refuses(machine: Machine, step: Any, said: str, **more: Any) -> Outcome:
    """Check and run: both fail with this message, and nothing changes anywhere."""
    before = snapshot(machine.root)
    for check in (True, False):
        outcome = machine.one(step, check=check, **more)
        assert outcome.status == "failed", told(outcome)
        assert said in told(outcome)
    assert snapshot(machine.root) == before
    return outcome


def odd_names(machine: Machine, make: Callable[[Path], Any]) -> Iterator[Path]:
    """The paths of all odd names, once ``make``'s steps for them were seen to be foretold, to
    change each, and then to find nothing to do."""
    paths = [machine.root / name for name in ODD]
    steps = [make(path) for path in paths]
    before = snapshot(machine.root)
    asked = machine.go(steps, check=True)
    assert snapshot(machine.root) == before
    assert asked.statuses == ["would_change"] * len(ODD), list(map(told, asked.outcomes))
    done = machine.go(steps)
    assert done.statuses == ["changed"] * len(ODD), list(map(told, done.outcomes))
    assert [o.changes for o in asked.outcomes] == [o.changes for o in done.outcomes]
    assert machine.go(steps).statuses == ["ok"] * len(ODD)
    assert sorted(listed(machine.root)) == sorted(ODD)
    return iter(paths)


def listed(folder: Path) -> list[str]:
    """What is in a folder: what a fix left behind is seen."""
    return sorted(path.name for path in folder.iterdir())


def changes(outcome: Outcome) -> dict[str, tuple[str | None, str]]:
    """What it said to be different: before and after, by key."""
    return {change.key: (change.before, change.after) for change in outcome.changes}


def mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o7777:04o}"


@contextmanager
def nothing_left_in(folder: Path, machine: Machine) -> Iterator[None]:
    """Have the machine's temporary files made here, and see that none stays."""
    folder.mkdir()
    machine.environment["TMPDIR"] = str(folder)
    yield
    assert listed(folder) == []


def build(root: Path, start: Mapping[str, str]) -> None:
    """Make what a test begins with: ``/`` a directory, ``>TO`` a link, else a text."""
    for name, what in start.items():
        path = root / name
        if what == "/":
            path.mkdir()
        elif what.startswith(">"):
            path.symlink_to(what[1:])
        else:
            path.write_text(what)
