"""``attributes`` (chattr) and times of ``file``, ``touch``, ``directory``, ``copy`` and ``template``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.host_tools import leave_only
from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import (
    WITHOUT_POWERS,
    check_refuses,
    file_mode,
    folder_contents,
    outcome_changes,
)

NOON = 1769860800
"""2026-01-31T12:00:00Z"""


def flags(path: Path) -> set[str]:
    """Return the attributes of a file that can be set, without e (extents)."""
    listed = subprocess.run(["lsattr", "-d", path], check=True, capture_output=True, text=True)
    return set(listed.stdout.split()[0]) - {"-", "e"}


@pytest.fixture
def root(machine: ShellMachine) -> Iterator[Path]:
    yield machine.root
    subprocess.run(["chattr", "-R", "-f", "-ia", machine.root], check=False)


def steps_of(path: Path, attributes: str) -> list[dict[str, Any]]:
    """Return a step of each module that has attributes."""
    common = {"path": str(path), "attributes": attributes}
    return [{"file": common}, {"copy": {**common, "content": "text"}}]


def test_attributes_are_added_removed_and_exactly_those(machine: ShellMachine, root: Path) -> None:
    path = root / "it"
    path.write_text("text")
    for step, before, after in (
        *((step, "none", {"i"}) for step in steps_of(path, "+i")),
        *((step, "i", {"i", "A"}) for step in steps_of(path, "+Ai")),
        *((step, "iA", {"A"}) for step in steps_of(path, "-i")),
        *((step, "A", {"d", "a"}) for step in steps_of(path, "=da")),
        *((step, "ad", {"i"}) for step in steps_of(path, "i")),
        *((step, "i", set[str]()) for step in steps_of(path, "=")),
    ):
        subprocess.run(["chattr", "-iadA", path], check=True)
        subprocess.run(["chattr", f"+{before}", path], check=before != "none", capture_output=True)
        outcome = machine.check_then_run(step, "changed")
        (change,) = outcome.changes
        shown = "none" if change.before == "e" else str(change.before).replace("e", "")
        assert (change.key, set(shown)) == ("attributes", set(before))
        assert flags(path) == after, step
    assert path.read_text() == "text"


def test_what_is_immutable_changes_and_is_immutable_again(
    machine: ShellMachine, root: Path
) -> None:
    path = root / "it"
    step = {"path": str(path), "content": "1", "attributes": "+i", "mode": "0640"}
    outcome = machine.check_then_run({"copy": step}, "changed")
    assert outcome_changes(outcome)["attributes"] == (None, "+i")
    assert flags(path) == {"i"}
    outcome = machine.check_then_run({"copy": {**step, "content": "2", "mode": "0600"}}, "changed")
    assert list(outcome_changes(outcome)) == ["contents", "mode"]
    assert (path.read_text(), file_mode(path), flags(path)) == ("2", "0600", {"i"})
    in_place = {**step, "content": "3", "mode": None, "in_place": True}
    machine.check_then_run({"copy": in_place}, "changed")
    machine.check_then_run(
        {"file": {"path": str(path), "owner": "daemon", "attributes": "=i"}}, "changed"
    )
    assert (path.read_text(), path.stat().st_uid, flags(path)) == ("3", 1, {"i"})
    machine.check_then_run({"copy": {**step, "content": "4", "attributes": "-i"}}, "changed")
    assert (path.read_text(), flags(path)) == ("4", set())
    assert folder_contents(root) == ["it"]


def test_what_is_immutable_is_not_changed_unless_attributes_say_so(
    machine: ShellMachine, root: Path
) -> None:
    path = root / "it"
    path.write_text("text")
    (root / "d").mkdir()
    subprocess.run(["chattr", "+i", path, root / "d"], check=True)
    why = "it has the attribute i, which forbids changes: `attributes: -i` removes it"
    for step in (
        {"copy": {"path": str(path), "content": "new"}},
        {"copy": {"path": str(path), "content": "text", "mode": "0600"}},
        {"copy": {"path": str(path), "content": "new", "attributes": "+A"}},
        {"file": {"path": str(path), "owner": "daemon"}},
        {"file": {"path": str(path), "state": "absent"}},
        {"file": {"path": str(path), "modification_time": "1000"}},
        {"directory": {"path": str(root / "d"), "mode": "0700"}},
        {"directory": {"path": str(root / "d"), "state": "absent"}},
    ):
        check_refuses(machine, step, why.replace("it ", "d ") if "directory" in step else why)
    for module, name in (("file", "it"), ("directory", "d")):
        step = {module: {"path": str(root / name), "state": "absent", "attributes": "-i"}}
        machine.check_then_run(step, "changed")
    assert folder_contents(root) == []


def test_what_fails_leaves_the_attributes(machine: ShellMachine, root: Path) -> None:
    path = root / "it"
    path.write_text("text")
    subprocess.run(["chattr", "+i", path], check=True)
    step = {"path": str(path), "attributes": "+i", "owner": "9" * 20}
    outcome = machine.check_then_run({"file": step}, "failed")
    assert "its fix failed" in outcome.reason
    assert flags(path) == {"i"}


def test_directories_have_attributes_of_their_own(machine: ShellMachine, root: Path) -> None:
    path = root / "a b"
    step = {"path": str(path), "attributes": "+a", "mode": "0750"}
    machine.check_then_run({"directory": step}, "changed")
    (path / "file").write_text("")
    more = {**step, "mode": "0700", "recurse": True, "owner": "daemon"}
    subprocess.run(["chattr", "+A", path], check=True)
    machine.check_then_run({"directory": more}, "changed")
    assert (flags(path), file_mode(path), flags(path / "file")) == ({"a", "A"}, "0700", set())
    assert (path / "file").stat().st_uid == 1


def test_attributes_of_links_are_those_of_what_they_lead_to(
    machine: ShellMachine, root: Path
) -> None:
    (root / "to").write_text("")
    (root / "link").symlink_to("to")
    step = {"path": str(root / "link"), "attributes": "+A"}
    machine.check_then_run({"file": step}, "changed")
    assert flags(root / "to") == {"A"}
    check_refuses(machine, {"file": {**step, "follow": False}}, "those of a file")


def test_who_cannot_set_attributes_is_told_in_a_check(machine: ShellMachine, root: Path) -> None:
    path = root / "it"
    path.write_text("")
    version = {"file": {"path": "/proc/version", "attributes": "+i"}}
    check_refuses(machine, version, "the file system of /proc/version has no attributes")
    check_refuses(machine, {"file": {"path": str(path), "attributes": "+iQ"}}, "letters of chattr")
    wrapper = (
        "/usr/bin/setpriv",
        "--bounding-set",
        "-linux_immutable",
        "--inh-caps",
        "-linux_immutable",
    )
    machine.wrapper = wrapper
    check_refuses(machine, {"file": {"path": str(path), "attributes": "+i"}}, "lacks the capab")
    machine.check_then_run({"file": {"path": str(path), "attributes": "+A"}}, "changed")
    machine.wrapper = WITHOUT_POWERS
    check_refuses(
        machine, {"file": {"path": str(path), "attributes": "+i"}}, "lacks the capability"
    )


@pytest.mark.parametrize("machine", ["dash"], indirect=True)
def test_a_host_without_lsattr_is_told(machine: ShellMachine, root: Path) -> None:
    leave_only(machine)
    step = {"copy": {"path": str(root / "it"), "content": "x"}}
    assert machine.run_step(step).status == "changed"
    outcome = machine.run_step({"copy": {**step["copy"], "attributes": "+i"}})
    assert "this host has no lsattr" in result_message(outcome)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        (NOON, NOON),
        ("1970-01-01T00:00:00Z", 0),
        ("0", 0),
        ("2024-02-29T23:59:59Z", 1709251199),
        ("2000-12-31T08:09:00Z", 978250140),
        ("2100-03-01T00:00:01Z", 4107542401),
        ("1999-10-08T09:08:07Z", 939373687),
    ],
)
def test_times_are_set_once(
    machine: ShellMachine, root: Path, written: object, seconds: int
) -> None:
    path = root / "-a b"
    machine.environment["TZ"] = "America/New_York"
    step = {"file": {"path": str(path), "modification_time": written, "mode": "0600"}}
    machine.check_then_run(step, "changed")
    assert path.stat().st_mtime == seconds
    os.utime(path, (5, 1700000000))
    outcome = machine.check_then_run(step, "changed")
    before = "2023-11-14T22:13:20Z" if str(written).endswith("Z") else "1700000000"
    assert outcome_changes(outcome) == {"modification_time": (before, str(written))}
    assert path.stat().st_mtime == seconds


def test_both_times_and_those_of_touch(machine: ShellMachine, root: Path) -> None:
    path = root / "it"
    times = {"modification_time": "1000", "access_time": "2026-01-31T12:00:00Z"}
    machine.check_then_run({"file": {"path": str(path), **times}}, "changed")
    assert (path.stat().st_mtime, path.stat().st_atime) == (1000, NOON)
    os.utime(path, (7, 8))
    run = machine.run_steps([{"touch": {"path": str(path), **times}}])
    assert run.statuses == ["changed", "skipped"]
    assert (path.stat().st_mtime, path.stat().st_atime) == (1000, NOON)
    assert machine.run_steps([{"touch": {"path": str(path), **times}}]).statuses[0] == "ok"
    mixed = {"modification_time": "2000", "access_time": "now"}
    run = machine.run_steps([{"touch": {"path": str(path), **mixed}}])
    assert run.statuses == ["changed", "changed"]
    assert path.stat().st_mtime == 2000 and path.stat().st_atime > NOON
    kept = {"modification_time": "preserve", "access_time": "preserve"}
    machine.check_then_run({"file": {"path": str(path), **kept}}, "ok")


@pytest.mark.parametrize(
    "time",
    [
        *("now", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01", "-1", "12.5"),
        *(
            "2026-01-01T25:00:00Z",
            "1969-12-31T23:59:59Z",
            "$(id)",
            "99999999999999",
            "2026-1-1T1:1:1Z",
        ),
    ],
)
@pytest.mark.parametrize("machine", ["dash"], indirect=True)
def test_what_is_not_a_time_is_refused(machine: ShellMachine, root: Path, time: str) -> None:
    step = {"file": {"path": str(root / "it"), "modification_time": time}}
    check_refuses(machine, step, "is not a time since 1970")
