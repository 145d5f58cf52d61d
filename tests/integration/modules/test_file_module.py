"""``file`` and ``touch``: what there is of a file, without its contents."""

from __future__ import annotations

import os

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import (
    WITHOUT_POWERS,
    build_start,
    check_refuses,
    file_mode,
    folder_contents,
    odd_names,
    outcome_changes,
)


def test_files_of_any_name_are_made_and_removed(machine: ShellMachine) -> None:
    for path in odd_names(machine, lambda p: {"file": {"path": str(p), "mode": "0640"}}):
        assert (path.read_bytes(), file_mode(path)) == (b"", "0640")
    steps = [{"file": {"path": str(p), "state": "absent"}} for p in machine.root.iterdir()]
    assert set(machine.run_steps(steps).statuses) == {"changed"}
    assert folder_contents(machine.root) == []
    assert set(machine.run_steps(steps).statuses) == {"ok"}


def test_contents_and_whatever_is_not_given_stay(machine: ShellMachine) -> None:
    path = machine.root / "it"
    path.write_text("text")
    path.chmod(0o604)
    os.chown(path, 7, 8)
    machine.check_then_run({"file": {"path": str(path)}}, "ok")
    outcome = machine.check_then_run({"file": {"path": str(path), "mode": "600"}}, "changed")
    assert outcome_changes(outcome) == {"mode": ("0604", "0600")}
    at = path.stat()
    assert (path.read_text(), at.st_uid, at.st_gid) == ("text", 7, 8)


def test_owner_and_group_are_compared_by_number(machine: ShellMachine) -> None:
    path = machine.root / "it"
    step = {"file": {"path": str(path), "mode": "4755", "owner": "daemon", "group": 12345}}
    outcome = machine.check_then_run(step, "changed")
    assert outcome.changes[-1].after == "12345"
    assert (path.stat().st_uid, path.stat().st_gid, file_mode(path)) == (1, 12345, "4755")
    machine.check_then_run({"file": {"path": str(path), "owner": 1}}, "ok")
    outcome = machine.check_then_run(
        {"file": {"path": str(path), "owner": "root", "mode": "4755"}}, "changed"
    )
    assert outcome_changes(outcome) == {"owner": ("1", "root")}
    assert (path.stat().st_uid, file_mode(path)) == (0, "4755")


def test_the_umask_has_the_mode_of_a_new_file(machine: ShellMachine) -> None:
    os.umask(before := os.umask(0))
    machine.check_then_run({"file": {"path": str(machine.root / "a/b")}}, "changed")
    assert file_mode(machine.root / "a/b") == f"{0o666 & ~before:04o}"


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"it": "/"}, "it is a directory"),
        ({"it": ">gone"}, "is a link to gone, which does not exist"),
        ({"it": ">it"}, "is a link to it, which does not exist"),
        ({"it": ">dir", "dir": "/"}, "it is a directory"),
    ],
)
def test_what_is_no_file_is_refused(
    machine: ShellMachine, start: dict[str, str], message: str
) -> None:
    build_start(machine.root, start)
    check_refuses(machine, {"file": {"path": str(machine.root / "it")}}, message)


def test_what_is_neither_file_nor_directory_is_refused(machine: ShellMachine) -> None:
    os.mkfifo(machine.root / "it")
    check_refuses(machine, {"file": {"path": str(machine.root / "it")}}, "is not a regular file")
    machine.check_then_run(
        {"file": {"path": str(machine.root / "it"), "state": "absent"}}, "changed"
    )


def test_links_are_followed_to_the_file(machine: ShellMachine) -> None:
    build_start(machine.root, {"d": "/", "d/to": "x", "d/two": ">./to", "it": ">d/two"})
    machine.check_then_run({"file": {"path": str(machine.root / "it"), "mode": "0600"}}, "changed")
    assert file_mode(machine.root / "d/to") == "0600"
    assert (machine.root / "it").is_symlink()


def test_absent_removes_a_link_and_never_what_it_leads_to(machine: ShellMachine) -> None:
    build_start(machine.root, {"d": "/", "d/in": "x", "it": ">d", "gone": ">nothing"})
    step = {"file": {"path": f"{machine.root}/it/", "state": "absent", "recurse": True}}
    assert outcome_changes(machine.check_then_run(step, "changed")) == {"state": ("link", "absent")}
    machine.check_then_run(
        {"file": {"path": str(machine.root / "gone"), "state": "absent"}}, "changed"
    )
    assert (folder_contents(machine.root), folder_contents(machine.root / "d")) == (["d"], ["in"])


def test_absent_removes_directories_only_if_told_to(machine: ShellMachine) -> None:
    build_start(machine.root, {"d": "/", "d/-n": "x"})
    step = {"path": str(machine.root / "d"), "state": "absent"}
    check_refuses(machine, {"file": step}, "`recurse: true` removes it")
    machine.check_then_run({"file": {**step, "recurse": True}}, "changed")
    assert folder_contents(machine.root) == []


def test_nothing_is_not_there_below_what_is_not_there(machine: ShellMachine) -> None:
    machine.check_then_run({"file": {"path": str(machine.root / "a/b/c"), "state": "absent"}}, "ok")


@pytest.mark.parametrize(
    "path", ["/", "//", "/.", "/..", "~", "~/", "~/..", ".", "./", "..", "/tmp"]
)
def test_what_all_or_the_home_is_in_is_never_removed(machine: ShellMachine, path: str) -> None:
    home = machine.home / "a"
    home.mkdir()
    machine.environment["HOME"] = str(home)
    for module in ("file", "directory"):
        step = {module: {"path": path, "state": "absent", "recurse": True}}
        outcome = machine.run_step(step, check=True)  # only: it must not come to a run
        assert outcome.status == "failed", result_message(outcome)
        assert "is not removed" in result_message(outcome)


def test_what_may_not_be_done_fails_with_the_tools_words(machine: ShellMachine) -> None:
    machine.wrapper = WITHOUT_POWERS
    path = machine.root / "it"
    outcome = machine.run_step({"file": {"path": str(path), "owner": "daemon"}})
    assert outcome.status == "failed"
    assert "chown" in result_message(outcome)
    assert folder_contents(machine.root) == []
    (machine.root / "d").mkdir(mode=0)
    check_refuses(machine, {"file": {"path": str(machine.root / "d/x/y")}}, "cannot look into")
    step = {"file": {"path": str(machine.root / "d/x/y"), "state": "absent"}}
    check_refuses(machine, step, "cannot look into")


def test_touch_makes_a_file_and_then_sets_its_time(machine: ShellMachine) -> None:
    path = machine.root / "-a b"
    step = {"touch": {"path": str(path), "mode": "0600"}}
    assert machine.run_steps([step], check=True).statuses == ["would_change", "would_run"]
    assert folder_contents(machine.root) == []
    assert machine.run_steps([step]).statuses == ["changed", "changed"]
    assert file_mode(path) == "0600"
    os.utime(path, (1, 1))
    assert machine.run_steps([step]).statuses == ["ok", "changed"]
    assert path.stat().st_mtime > 1


def test_without_follow_a_link_has_an_owner_of_its_own(machine: ShellMachine) -> None:
    (machine.root / "to").write_text("")
    (machine.root / "link").symlink_to("to")
    step = {"path": str(machine.root / "link"), "follow": False, "owner": "daemon"}
    machine.check_then_run({"file": step}, "changed")
    assert (machine.root / "link").lstat().st_uid == 1
    assert (machine.root / "to").stat().st_uid == 0
    check_refuses(machine, {"file": {**step, "mode": "0600"}}, "has no mode of its own")
    machine.check_then_run({"file": {**step, "path": str(machine.root / "to")}}, "changed")


def test_touch_can_preserve_times(machine: ShellMachine) -> None:
    path = machine.root / "-n it"
    kept = {"modification_time": "preserve", "access_time": "preserve"}
    run = machine.run_steps([{"touch": {"path": str(path), **kept, "mode": "u=rw,go="}}])
    assert run.statuses == ["changed", "skipped"] and file_mode(path) == "0600"
    for some, changed in (
        (kept, ()),
        ({"access_time": "preserve"}, ("st_mtime",)),
        ({"modification_time": "preserve"}, ("st_atime",)),
        ({}, ("st_atime", "st_mtime")),
    ):
        os.utime(path, (1000, 1000))
        run = machine.run_steps([{"touch": {"path": str(path), **some}}])
        assert run.code == 0
        times = {each: getattr(path.stat(), each) for each in ("st_atime", "st_mtime")}
        assert {each for each, at in times.items() if at != 1000} == set(changed)
