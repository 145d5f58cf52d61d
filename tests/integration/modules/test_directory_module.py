"""``directory``: what it finds, what it makes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.machine import ShellMachine
from tests.support.module_files import (
    build_start,
    check_refuses,
    file_mode,
    folder_contents,
    odd_names,
    outcome_changes,
)


def test_directories_of_any_name_are_made_and_removed(machine: ShellMachine) -> None:
    for path in odd_names(machine, lambda p: {"directory": {"path": str(p), "mode": "0710"}}):
        assert path.is_dir()
        assert file_mode(path) == "0710"
    steps = [{"directory": {"path": str(p), "state": "absent"}} for p in machine.root.iterdir()]
    assert set(machine.run_steps(steps).statuses) == {"changed"}
    assert folder_contents(machine.root) == []
    assert set(machine.run_steps(steps).statuses) == {"ok"}


def test_those_above_get_the_usual_mode(machine: ShellMachine) -> None:
    os.umask(umask := os.umask(0))
    path = machine.root / "a" / "b" / "c"
    outcome = machine.check_then_run({"directory": {"path": f"{path}/", "mode": "0700"}}, "changed")
    assert outcome_changes(outcome) == {"state": ("absent", "directory"), "mode": (None, "0700")}
    assert [file_mode(p) for p in (path, path.parent)] == ["0700", f"{0o777 & ~umask:04o}"]


@pytest.mark.parametrize(
    ("before", "expected"), [("2755", "0755"), ("0755", "2775"), ("0777", "1777"), ("7777", "0000")]
)
def test_set_id_and_sticky_bits_are_as_wanted(
    machine: ShellMachine, before: str, expected: str
) -> None:
    path = machine.root / "d"
    path.mkdir()
    path.chmod(int(before, 8))
    outcome = machine.check_then_run(
        {"directory": {"path": str(path), "mode": expected}}, "changed"
    )
    assert outcome_changes(outcome) == {"mode": (before, expected)}
    assert file_mode(path) == expected


def test_in_a_directory_that_hands_its_group_down_the_mode_is_still_as_wanted(
    machine: ShellMachine,
) -> None:
    machine.root.chmod(0o2775)
    path = machine.root / "d"
    machine.check_then_run({"directory": {"path": str(path), "mode": "0750"}}, "changed")
    assert file_mode(path) == "0750"


def test_a_link_to_a_directory_is_followed_and_to_nothing_refused(machine: ShellMachine) -> None:
    build_start(machine.root, {"d": "/", "it": ">d", "gone": ">nothing", "file": "x"})
    machine.check_then_run(
        {"directory": {"path": str(machine.root / "it"), "mode": "0700"}}, "changed"
    )
    assert file_mode(machine.root / "d") == "0700"
    assert (machine.root / "it").is_symlink()
    check_refuses(
        machine, {"directory": {"path": str(machine.root / "gone")}}, "which does not exist"
    )
    check_refuses(machine, {"directory": {"path": str(machine.root / "file")}}, "is a file, not")
    check_refuses(
        machine, {"directory": {"path": str(machine.root / "file/x")}}, "is not a directory"
    )


def test_absent_removes_only_directories_and_full_ones_if_told_to(machine: ShellMachine) -> None:
    build_start(
        machine.root, {"d": "/", "d/-rf": "x", "d/out": ">../keep", "keep": "k", "it": ">d"}
    )
    step = {"path": str(machine.root / "d"), "state": "absent"}
    check_refuses(machine, {"directory": step}, "is not empty")
    for name, kind in (("it", "link"), ("keep", "file")):
        other = {"directory": {**step, "path": str(machine.root / name), "recurse": True}}
        check_refuses(machine, other, f"is a {kind}, not a directory")
    machine.check_then_run({"directory": {**step, "recurse": True}}, "changed")
    assert folder_contents(machine.root) == ["it", "keep"]
    machine.check_then_run({"directory": {**step, "path": str(machine.root / "a/b")}}, "ok")


def test_recurse_gives_all_that_is_in_it_to_the_owner(machine: ShellMachine) -> None:
    build_start(machine.root, {"out": "x", "d": "/", "d/a\nb": "x", "d/l": ">../out", "d/e": "/"})
    path = machine.root / "d"
    os.chown(path, 1, 12345)
    step = {"path": str(path), "owner": "daemon", "group": 12345}
    machine.check_then_run({"directory": step}, "ok")
    outcome = machine.check_then_run({"directory": {**step, "recurse": True}}, "changed")
    assert outcome_changes(outcome) == {
        "owner": ("various", "daemon"),
        "group": ("various", "12345"),
    }
    found = {(p.lstat().st_uid, p.lstat().st_gid) for p in [path, *path.rglob("*")]}
    assert found == {(1, 12345)}
    assert (machine.root / "out").stat().st_uid == 0


def test_recurse_gives_modes_to_all_that_is_in_it(machine: ShellMachine) -> None:
    root = machine.root / "it"

    def build() -> None:
        for name in ("a", "-n b/c d", "b/run", "b/q\nr"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("")
            (root / name).chmod(0o640)
        (root / "b/run").chmod(0o700)
        (root / "b").chmod(0o2700)
        (root / "link").unlink(missing_ok=True)
        (root / "link").symlink_to("/etc/passwd")

    before = Path("/etc/passwd").stat().st_mode
    for more, folders, runs, others in (
        ({"mode": "u=rwX,go=rX"}, ("0755", "2755"), "0755", "0644"),
        ({"mode": "0750"}, ("0750", "0750"), "0750", "0750"),
        ({"mode": "0750", "file_mode": "0640"}, ("0750", "0750"), "0640", "0640"),
        ({"file_mode": "g-r,o+w"}, ("0755", "2700"), "0702", "0602"),
    ):
        build()
        root.chmod(0o755)
        (root / "-n b").chmod(0o755)
        step = {"directory": {"path": str(root), "recurse": True, **more}}
        machine.check_then_run(step, "changed")
        assert (file_mode(root), file_mode(root / "b")) == folders
        assert file_mode(root / "b/run") == runs
        assert {file_mode(root / name) for name in ("a", "-n b/c d", "b/q\nr")} == {others}
    assert Path("/etc/passwd").stat().st_mode == before
    new = {"directory": {"path": f"{root}/new", "recurse": True, "mode": "0700"}}
    machine.check_then_run(new, "changed")
    step = {"directory": {"path": str(root), "file_mode": "0600"}}
    check_refuses(machine, step, "`file_mode` requires `recurse: true`")
