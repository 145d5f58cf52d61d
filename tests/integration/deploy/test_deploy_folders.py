"""``deploy:check`` checks every folder that a deploy writes to, on whatever mount it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.deploy_story import run_recipe
from tests.support.machine import ShellMachine
from tests.support.private_copy import run_in_copy


def check_failure(machine: ShellMachine, to: Path, **args: object) -> str:
    """Return the error of the check, or '' if it passes."""
    outcome = run_recipe(machine, [{"deploy:check": {"deploy_to": str(to), **args}}]).outcomes[0]
    assert outcome.status in ("ok", "failed"), outcome
    assert (outcome.status == "failed") is bool(outcome.stderr.text)
    return outcome.stderr.text


@pytest.mark.parametrize("part", ["", "releases", "shared"])
def test_what_is_in_the_way_is_named(machine: ShellMachine, part: str) -> None:
    to = machine.root / "an app" / "blog"
    assert check_failure(machine, to) == ""
    assert list(machine.root.iterdir()) == []
    to.mkdir(parents=True)
    assert check_failure(machine, to) == ""
    location = to / part
    if not part:
        to.rmdir()
    location.touch()
    assert check_failure(machine, to).strip() == f"{location} is not a folder"
    location.unlink()
    location.symlink_to("nowhere")
    assert check_failure(machine, to).strip() == f"{location} is a dangling link"
    location.unlink()
    elsewhere = machine.root / "elsewhere"
    elsewhere.mkdir()
    location.symlink_to(elsewhere)
    assert check_failure(machine, to) == ""


def test_each_mount_needs_room_of_its_own(private: ShellMachine) -> None:
    to = private.root / "it's an app"
    for part in ("releases", "shared"):
        (to / part).mkdir(parents=True)
    run_in_copy(private, f'mount -t tmpfs -o size=20m,nr_inodes=50 x "{to}/releases"')
    run_in_copy(private, f'mount -t tmpfs -o size=40m,nr_inodes=9000 "a b" "{to}/shared"')
    assert check_failure(private, to, space=10, inodes=40) == ""
    lines = check_failure(private, to, space=30, inodes=40).splitlines()
    assert lines == [f"only 20 MiB are free on {to}/releases, less than 30"]
    lines = check_failure(private, to, space=50, inodes=1000).splitlines()
    assert lines[0] == f"only 20 MiB are free on {to}/releases, less than 50"
    assert lines[1] == f"only 40 MiB are free on {to}/shared, less than 50"
    assert lines[2].startswith("only 4")
    assert lines[2].endswith(f" more files can be created on {to}/releases, less than 1000")
    assert len(lines) == 3
    run_in_copy(private, f'mount -o remount,ro "{to}/shared"')
    assert check_failure(private, to, space=10, inodes=40).startswith(
        f"cannot write to {to}/shared"
    )
