"""``link``: what it finds, what it makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.machine import ShellMachine
from tests.support.module_files import (
    build_start,
    check_refuses,
    folder_contents,
    odd_names,
    outcome_changes,
)

STARTS = {
    "nothing": {},
    "the link": {"it": ">to"},
    "another link": {"it": ">other"},
    "a link to a directory": {"dir": "/", "dir/in": "x", "it": ">dir"},
    "a file": {"it": "text"},
    "an empty directory": {"it": "/"},
    "a full directory": {"it": "/", "it/in": "x"},
}


def test_links_of_any_name_to_any_name_are_made_and_seen(machine: ShellMachine) -> None:
    for path in odd_names(machine, lambda p: {"link": {"path": str(p), "to": f"{p.name}\n"}}):
        assert str(path.readlink()) == f"{path.name}\n"


@pytest.mark.parametrize("start", ["nothing", "the link", "another link", "a link to a directory"])
def test_links_are_made_and_replaced(machine: ShellMachine, start: str) -> None:
    build_start(machine.root, STARTS[start])
    path = machine.root / "it"
    before = str(path.readlink()) if path.is_symlink() else None
    outcome = machine.check_then_run(
        {"link": {"path": str(path), "to": "to"}}, "ok" if before == "to" else "changed"
    )
    assert outcome_changes(outcome) == ({} if before == "to" else {"to": (before, "to")})
    assert str(path.readlink()) == "to"
    rest = ["dir"] if start == "a link to a directory" else []
    assert folder_contents(machine.root) == [*rest, "it"]
    assert not rest or folder_contents(machine.root / "dir") == ["in"]


@pytest.mark.parametrize("start", ["a file", "an empty directory"])
def test_only_force_replaces_what_is_no_link(machine: ShellMachine, start: str) -> None:
    build_start(machine.root, STARTS[start])
    path, kind = machine.root / "it", start.rsplit(maxsplit=1)[-1]
    check_refuses(machine, {"link": {"path": str(path), "to": "to"}}, f"is a {kind}: `force: true`")
    outcome = machine.check_then_run(
        {"link": {"path": str(path), "to": "to", "force": True}}, "changed"
    )
    assert outcome_changes(outcome) == {"state": (kind, "link"), "to": (None, "to")}
    assert folder_contents(machine.root) == ["it"]


def test_not_even_force_replaces_a_directory_with_something_in_it(machine: ShellMachine) -> None:
    build_start(machine.root, STARTS["a full directory"])
    step = {"link": {"path": str(machine.root / "it"), "to": "to", "force": True}}
    check_refuses(machine, step, "is not empty")


@pytest.mark.parametrize("perl", [True, False])
def test_a_link_to_a_directory_is_replaced_where_mv_cannot_do_that(
    machine: ShellMachine, perl: bool
) -> None:
    build_start(machine.root, STARTS["a link to a directory"])
    tools = machine.root.parent / f"{machine.root.name}-tools"
    real = "busybox mv" if machine.shell == "busybox" else "/bin/mv"
    shims = {"mv": f'case $1 in -f[Th]) exit 1;; esac; exec {real} "$@"'}
    if not perl:
        shims["perl"] = "exit 127"
    for name, text in shims.items():
        (tools / name).unlink(missing_ok=True)
        (tools / name).write_text(f"#!/bin/dash\n{text}\n")
        (tools / name).chmod(0o755)
    machine.check_then_run({"link": {"path": str(machine.root / "it"), "to": "to"}}, "changed")
    assert (folder_contents(machine.root), folder_contents(machine.root / "dir")) == (
        ["dir", "it"],
        ["in"],
    )


def test_paths_in_the_home(machine: ShellMachine) -> None:
    machine.check_then_run({"link": {"path": "~/a b", "to": "~/über"}}, "changed")
    assert (machine.home / "a b").readlink() == machine.home / "über"
    machine.check_then_run({"link": {"path": "rel", "to": "~"}}, "changed")
    assert (machine.home / "rel").readlink() == Path(f"{machine.home}")


def test_directories_above_are_made_and_anything_else_there_is_told(machine: ShellMachine) -> None:
    machine.check_then_run({"link": {"path": str(machine.root / "a/b/it"), "to": "to"}}, "changed")
    assert (machine.root / "a/b/it").is_symlink()
    (machine.root / "file").write_text("")
    step = {"link": {"path": str(machine.root / "file/it"), "to": "to"}}
    check_refuses(machine, step, "file is not a directory")


def test_a_slash_at_the_end_does_not_lead_into_what_the_link_points_to(
    machine: ShellMachine,
) -> None:
    build_start(machine.root, STARTS["a link to a directory"])
    machine.check_then_run({"link": {"path": f"{machine.root}/it/", "to": "to"}}, "changed")
    assert folder_contents(machine.root / "dir") == ["in"]


def test_a_link_to_what_it_would_replace_is_refused(machine: ShellMachine) -> None:
    for path in (machine.root / "file", machine.root / "folder"):
        path.write_text("x") if path.name == "file" else path.mkdir()
        for to in (str(path), path.name, f"./{path.name}", f"../{path.parent.name}/{path.name}"):
            step = {"link": {"path": str(path), "to": to, "force": True}}
            check_refuses(machine, step, "is what the link would point to")


def test_an_absent_link_is_removed_wherever_it_leads_to(machine: ShellMachine) -> None:
    root = machine.root
    (root / "dir").mkdir()
    (root / "dir/in").write_text("x")
    for name, to in (("-n it's", "dir"), ("dangling", "nowhere"), ("loop", "loop")):
        (root / name).symlink_to(to)
        step = {
            "link": {"path": str(root / name), "to": "other", "state": "absent", "mode": "0600"}
        }
        outcome = machine.check_then_run(step, "changed")
        assert outcome_changes(outcome) == {"state": ("link", "absent")}
        assert not (root / name).is_symlink()
        assert machine.check_then_run(step, "ok").status == "ok"
    assert folder_contents(root / "dir") == ["in"]
    (root / "slash").symlink_to("dir")
    step = {"link": {"path": f"{root}/slash/", "to": "x", "state": "absent"}}
    machine.check_then_run(step, "changed")
    assert folder_contents(root) == ["dir"]


@pytest.mark.parametrize("start", ["a file", "an empty directory"])
@pytest.mark.parametrize("force", [False, True])
def test_only_a_symbolic_link_is_removed(machine: ShellMachine, start: str, force: bool) -> None:
    build_start(machine.root, STARTS[start])
    step = {"path": str(machine.root / "it"), "to": "to", "state": "absent", "force": force}
    check_refuses(machine, {"link": step}, "not a symbolic link")
    check_refuses(machine, {"link": {**step, "hard": True}}, "is for symbolic links")


@pytest.mark.parametrize("hard", [False, True])
def test_the_mode_is_that_of_what_it_leads_to(machine: ShellMachine, hard: bool) -> None:
    root = machine.root
    (root / "sub").mkdir()
    (root / "file").write_text("content")
    (root / "file").chmod(0o644)
    (root / "other").symlink_to("file")
    for name, to, mode, expected in (
        ("sub/it", "../file", "0600", 0o600),
        ("it", str(root / "file"), "g=r,o=", 0o640),
        ("again", "other", "0604", 0o604),
    ):
        step = {"link": {"path": str(root / name), "to": to, "mode": mode, "hard": hard}}
        outcome = machine.check_then_run(step, "changed")
        assert outcome_changes(outcome)["mode"][1] == mode
        assert (root / "file").stat().st_mode & 0o7777 == expected
        assert (root / name).samefile(root / "file")
        machine.check_then_run(step, "ok")
    (root / "file").chmod(0o666)
    outcome = machine.check_then_run(step, "changed")
    assert outcome_changes(outcome) == {"mode": ("0666", "0604")}


def test_a_mode_requires_something_that_the_link_leads_to(machine: ShellMachine) -> None:
    step = {"link": {"path": str(machine.root / "it"), "to": "nothing", "mode": "0600"}}
    assert machine.run_step(step, check=True).status == "would_change"
    outcome = machine.run_step(step)
    assert outcome.status == "failed"
    assert "leads to nothing whose mode could be set" in outcome.stderr.text
    (machine.root / "nothing").mkdir(mode=0o755)
    machine.check_then_run(step, "changed")
    assert (machine.root / "nothing").stat().st_mode & 0o7777 == 0o600


def test_hard_links_are_made_and_replaced(machine: ShellMachine) -> None:
    root = machine.root
    (root / "file").write_text("content")
    (root / "to").symlink_to("file")
    (root / "own").write_text("own")
    (root / "soft").symlink_to("file")
    for name, to, more in (
        ("-n it's", str(root / "file"), {}),
        ("sub/new", "../file", {}),
        ("by link", "to", {}),
        ("own", "file", {"force": True}),
        ("soft", "file", {}),
    ):
        step = {"link": {"path": str(root / name), "to": to, "hard": True, **more}}
        (root / "sub").mkdir(exist_ok=True)
        outcome = machine.check_then_run(step, "changed")
        assert outcome_changes(outcome)["to"][1] == to
        assert (root / name).samefile(root / "file") and not (root / name).is_symlink()
    assert (root / "file").stat().st_nlink == 6
    (root / "own").unlink()
    (root / "own").write_text("own")
    for name, to, message in (
        ("own", "file", "is a file: `force: true` replaces it"),
        ("new", "none", "there is no file none to link to"),
        ("new", str(root / "sub"), "is not a regular file"),
        ("new", "/proc/self/environ", "is on another file system"),
    ):
        refused = {"link": {"path": str(root / name), "to": to, "hard": True}}
        check_refuses(machine, refused, message)


def test_the_owner_is_that_of_the_link_itself(machine: ShellMachine) -> None:
    (machine.root / "to").write_text("")
    for hard in (False, True):
        path = machine.root / f"it {hard}"
        step = {"path": str(path), "to": "to", "hard": hard, "owner": "daemon", "group": "4321"}
        outcome = machine.check_then_run({"link": step}, "changed")
        assert outcome_changes(outcome)["owner"] == (None, "daemon")
        at = path.lstat()
        assert (at.st_uid, at.st_gid) == (1, 4321)
        assert (machine.root / "to").stat().st_uid == (1 if hard else 0)
