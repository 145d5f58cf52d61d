"""``upload_step``: trees and files, compared by what they consist of, put in place one by one."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import OrchError
from tests.support.machine import ODD_NAMES, ShellMachine, result_message

FolderEdit = Callable[[Path], None]


def fill_folder(folder: Path, files: Mapping[str, str | Path]) -> Path:
    """Text makes a file, a path a link to it."""
    for name, what in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, Path):
            path.symlink_to(what)
        else:
            path.write_text(what)
            path.chmod(0o644)
    return folder


def folder_contents(folder: Path) -> dict[str, str | None]:
    """Return the tree below a folder: texts, None for folders, links as `→ target`."""
    found: dict[str, str | None] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"→ {path.readlink()}"
        else:
            found[name] = None if path.is_dir() else path.read_text()
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    files = {"index": "hello", "css/a": "red", "css/b": "blue", "now": Path("css/a")}
    return fill_folder(tmp_path / "source", files)


@pytest.fixture
def destination(machine: ShellMachine) -> Path:
    return machine.root / "site"


def upload_step(source: Path, destination: Path, **more: Any) -> dict[str, Any]:
    return {"upload": {"src": str(source), "path": str(destination), **more}}


def outcome_states(outcome: Any) -> str | None:
    (change,) = outcome.changes
    assert (change.key, change.after) == ("files", "as given")
    return str(change.before)


def test_names_of_any_kind_arrive(machine: ShellMachine, destination: Path, tmp_path: Path) -> None:
    names = [
        *ODD_NAMES,
        " in front",
        "behind ",
        "a\rb",
        "tab\t",
        "\n",
        "x" * 120,
        "a,b",
        "'",
        "'\\''",
    ]
    source = fill_folder(
        tmp_path / "odd", {**{name: name for name in names}, "d \n/back\\slash": "x"}
    )
    (source / "bytes").write_bytes(bytes(range(256)))
    os.link(source / "bytes", source / os.fsdecode(b"\xff\xfe"))
    for name in names[::3]:
        (source / f"link {name}").symlink_to(f"{name}\n")
    outcome = machine.check_then_run(upload_step(source, destination, delete=True), "changed")
    count = len(list(source.rglob("*"))) + 1
    assert outcome_states(outcome) == f"{count} missing of {count}"
    for path in source.rglob("*"):
        copied = destination / path.relative_to(source)
        if path.is_symlink():
            assert copied.readlink() == path.readlink()
        elif path.is_file():
            assert copied.read_bytes() == path.read_bytes()
    (destination / "behind ").write_text("x")
    (destination / "extra\n").write_text("x")
    (destination / "d \n" / "back\\slash").chmod(0o600)
    outcome = machine.check_then_run(upload_step(source, destination, delete=True), "changed")
    assert "1 different, 1 of another mode, 1 to remove of" in str(outcome_states(outcome))
    assert "./extra%0A" in outcome.diff


@pytest.mark.parametrize("name", ["a\nb", "-n", "it's $(id)", "back\\slash", "~"])
def test_the_place_may_be_called_anything(machine: ShellMachine, source: Path, name: str) -> None:
    location = machine.root / "in" / name
    machine.check_then_run(upload_step(source, location), "changed")
    assert folder_contents(location) == folder_contents(source)
    machine.check_then_run(upload_step(source / "index", location / name), "changed")
    assert (location / name).read_text() == "hello"


@pytest.mark.parametrize("path", ["there", "there/", "link", "link/", "new/inner/"])
def test_a_file_goes_into_a_folder(machine: ShellMachine, source: Path, path: str) -> None:
    (machine.root / "there").mkdir()
    (machine.root / "link").symlink_to("there")
    step = {"upload": {"src": str(source / "index"), "path": f"{machine.root}/{path}"}}
    machine.check_then_run(step, "changed")
    assert (machine.root / path / "index").read_text() == "hello"
    assert (machine.root / "link").is_symlink()


def remove_path(path: Path) -> None:
    path.unlink()


def edit_path(path: Path) -> None:
    path.write_text("edited")


def open_path(path: Path) -> None:
    path.chmod(0o666)


def link_path(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("index", remove_path, "1 missing of 6"),
        ("css/b", edit_path, "1 different of 6"),
        ("css/b", open_path, "1 of another mode of 6"),
        ("css/a", link_path, "1 different of 6"),
        ("now", link_path, "1 different of 6"),
        ("now", remove_path, "1 missing of 6"),
    ],
)
def test_what_differs_is_mended(
    machine: ShellMachine,
    source: Path,
    destination: Path,
    name: str,
    change: FolderEdit,
    message: str,
) -> None:
    machine.run_step(upload_step(source, destination))
    change(destination / name)
    outcome = machine.check_then_run(upload_step(source, destination), "changed")
    assert outcome_states(outcome) == message
    assert folder_contents(destination) == folder_contents(source)
    assert (destination / "css/b").stat().st_mode & 0o7777 == 0o644
    assert f"./{name}" in outcome.diff
    assert "./css\n" not in outcome.diff


def test_what_is_not_brought_stays_unless_it_is_to_go(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    machine.run_step(upload_step(source, destination))
    more: dict[str, str | Path] = {"old/deep/x": "1", "css/c": "2", "away": machine.root / "kept"}
    fill_folder(destination, more)
    fill_folder(machine.root / "kept", {"inside": "3"})
    assert machine.run_step(upload_step(source, destination)).status == "ok"
    outcome = machine.check_then_run(upload_step(source, destination, delete=True), "changed")
    assert outcome_states(outcome) == "5 to remove of 6"
    assert {line for line in outcome.diff.splitlines() if line[:2] == "-."} == {
        "-./old", "-./old/deep", "-./old/deep/x", "-./css/c", "-./away",
    }  # fmt: skip
    assert folder_contents(destination) == folder_contents(source)
    assert (machine.root / "kept/inside").read_text() == "3"


def test_what_is_left_out_is_neither_brought_nor_removed(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    fill_folder(
        source, {"a.pyc": "", "css/b.pyc": "", "logs/x": "", "cache/y": "", "sub/logs/z": "z"}
    )
    fill_folder(destination, {"logs/kept": "1", "old/c.pyc": "2", "old/d": "3", "cache/e": "4"})
    step = upload_step(source, destination, delete=True, exclude=["*.pyc", "logs/*", "cache/"])
    machine.check_then_run(step, "changed")
    left = {"logs", "logs/kept", "old", "old/c.pyc", "cache", "cache/e"}
    brought = {"index", "css", "css/a", "css/b", "now", "logs", "sub", "sub/logs", "sub/logs/z"}
    assert set(folder_contents(destination)) == left | brought


def test_only_what_is_included_is_brought_or_removed(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    for name in ("a.html", "sub/b.html", "sub/c.txt", "img/x.png", "img/in/y", "none/d.txt"):
        fill_folder(source, {name: name})
    kept = {"old.txt": "1", "sub/e.txt": "2", "gone/f.txt": "3", "old/img.txt": "4"}
    removed = {
        "old.html": "5",
        "gone/g.html": "6",
        "img/z": "7",
        "img/deep/w": "8",
        "sub/b2.html": "",
    }
    fill_folder(destination, {**kept, **removed, "sub/b.html": "other"})
    (destination / "empty").mkdir()
    step = upload_step(source, destination, delete=True, include=["*.html", "img/"])
    outcome = machine.check_then_run(step, "changed")
    assert "1 different, 6 to remove of" in str(outcome_states(outcome))
    brought = {"a.html", "sub/b.html", "img/x.png", "img/in/y"}
    files = {name for name, text in folder_contents(destination).items() if text is not None}
    assert files == set(kept) | brought
    folders = {name for name, text in folder_contents(destination).items() if text is None}
    assert folders == {"sub", "img", "img/in", "gone", "old", "empty"}
    nested = upload_step(source, destination / "2", include=["sub/*", "-n"], exclude=["*.txt"])
    machine.check_then_run(nested, "changed")
    assert folder_contents(destination / "2") == {"sub": None, "sub/b.html": "sub/b.html"}


def test_links_are_replaced_by_what_they_lead_to(
    machine: ShellMachine, source: Path, destination: Path, tmp_path: Path
) -> None:
    fill_folder(tmp_path / "far", {"x": "far", "deep/y": "deep"})
    fill_folder(source, {"folder": tmp_path / "far", "again": Path("css")})
    step = upload_step(source, destination, follow=True, delete=True)
    machine.check_then_run(step, "changed")
    assert folder_contents(destination) == {
        **folder_contents(tmp_path / "source"),
        **{"now": "red", "folder": None, "folder/x": "far", "folder/deep": None},
        **{"folder/deep/y": "deep", "again": None, "again/a": "red", "again/b": "blue"},
    }
    fill_folder(tmp_path / "far", {"x": "new"})
    outcome = machine.check_then_run(step, "changed")
    assert str(outcome_states(outcome)).startswith("1 different of ")


def test_times_are_those_of_the_source(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    fill_folder(source, {"odd\n": "x", "sub/back\\slash ": "y"})
    for number, path in enumerate(sorted(source.rglob("*"))):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (5, 1_000_000_000 + number))
    step = upload_step(source, destination, times=True, delete=True)
    machine.check_then_run(step, "changed")

    def times(folder: Path) -> dict[str, int]:
        files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        return {str(path.relative_to(folder)): int(path.stat().st_mtime) for path in files}

    assert times(destination) == times(source)
    inodes = {path: path.stat().st_ino for path in destination.rglob("*")}
    for name in ("index", "odd\n", "css/b"):
        os.utime(destination / name, (5, 7))
    outcome = machine.check_then_run(step, "changed")
    assert outcome_states(outcome) == "3 of another time of 9"
    assert "./css/b (its time)" in outcome.diff
    assert times(destination) == times(source)
    assert {path: path.stat().st_ino for path in destination.rglob("*")} == inodes
    fill_folder(source, {"css/b": "changed", "new": "n"})
    os.utime(source / "css/b", (5, 9))
    os.utime(destination / "index", (5, 7))
    outcome = machine.check_then_run(step, "changed")
    assert outcome_states(outcome) == "1 missing, 1 different, 1 of another time of 10"
    assert times(destination) == times(source)
    os.utime(destination / "index", (5, 7))
    machine.check_then_run(upload_step(source, destination, delete=True), "ok")
    one = upload_step(source / "index", destination / "index", times=True)
    outcome = machine.check_then_run(one, "changed")
    assert outcome_states(outcome) == "1 of another time of 1"
    (destination / "index").write_text("other")
    machine.check_then_run(one, "changed")
    assert times(destination) == times(source)


@pytest.mark.parametrize(
    ("to", "why"),
    [("..", "is a link to a folder that contains it"), ("nothing", "is a dangling link")],
)
def test_a_link_that_cannot_be_followed_is_named(
    machine: ShellMachine, source: Path, destination: Path, to: str, why: str
) -> None:
    (source / "css" / "odd").symlink_to(to)
    with pytest.raises(OrchError, match=f"source/css/odd {why}"):
        machine.run_step(upload_step(source, destination, follow=True))
    machine.check_then_run(upload_step(source, destination), "changed")


def remove_destination(machine: ShellMachine, destination: Path) -> None:
    fill_folder(machine.root / "elsewhere", {"a": "mine"})
    destination.mkdir()
    (destination / "css").symlink_to(machine.root / "elsewhere")


def make_folder(_machine: ShellMachine, destination: Path) -> None:
    (destination / "index").mkdir(parents=True)


def make_file(_machine: ShellMachine, destination: Path) -> None:
    fill_folder(destination, {"css": "a file"})


def link_to_itself(_machine: ShellMachine, destination: Path) -> None:
    destination.write_text("a file")


def make_dangling(_machine: ShellMachine, destination: Path) -> None:
    destination.symlink_to("nothing")


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (remove_destination, "./css is not a directory, but a link"),
        (make_folder, "./index is a directory"),
        (make_file, "./css is not a directory"),
        (link_to_itself, "is not a directory"),
        (make_dangling, "is a dangling link"),
    ],
)
def test_what_is_in_the_way_is_not_written_through(
    machine: ShellMachine,
    source: Path,
    destination: Path,
    before: Callable[[ShellMachine, Path], None],
    why: str,
) -> None:
    before(machine, destination)
    observed = machine.observable_state()
    outcome = machine.check_then_run(upload_step(source, destination, delete=True), "failed")
    assert why in outcome.stderr.text
    assert machine.observable_state() == observed


def test_a_link_to_a_folder_is_replaced_and_not_entered(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    fill_folder(machine.root / "elsewhere", {"a": "mine"})
    destination.mkdir()
    (destination / "index").symlink_to(machine.root / "elsewhere")
    (destination / "now").symlink_to(machine.root / "elsewhere")
    machine.check_then_run(upload_step(source, destination), "changed")
    assert folder_contents(destination) == folder_contents(source)
    assert folder_contents(machine.root / "elsewhere") == {"a": "mine"}


def test_the_place_itself_may_be_a_link(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    real = fill_folder(machine.root / "real", {"x": "1"})
    destination.symlink_to(real)
    machine.check_then_run(upload_step(source, destination, delete=True), "changed")
    assert destination.is_symlink()
    assert folder_contents(real) == folder_contents(source)


@pytest.mark.parametrize("location", ["/", "~", "~/.."])
def test_nothing_is_emptied_that_holds_the_home(
    machine: ShellMachine, source: Path, location: str
) -> None:
    outcome = machine.run_step(upload_step(source, Path(location), delete=True), check=True)
    assert outcome.status == "failed"
    assert "is not removed" in outcome.stderr.text


def test_each_file_is_put_in_place_whole(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    machine.run_step(upload_step(source, destination))
    os.link(destination / "index", machine.root / "reader")
    same = (destination / "css/a").stat().st_ino
    fill_folder(source, {"index": "new"})
    machine.check_then_run(upload_step(source, destination), "changed")
    assert (machine.root / "reader").read_text() == "hello"
    assert (destination / "css/a").stat().st_ino == same
    assert folder_contents(destination) == folder_contents(source)


def test_what_fails_leaves_what_was_there(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    machine.run_step(upload_step(source, destination))
    fill_folder(source, {"index": "new"})
    before = folder_contents(machine.root)
    nobody = upload_step(source, destination, owner="nobody-of-that-name")
    assert "no user nobody" in machine.run_step(nobody, check=True).stderr.text
    outcome = machine.check_then_run(upload_step(source, destination, owner="9" * 20), "failed")
    assert "its fix failed" in outcome.reason
    assert folder_contents(machine.root) == before


def test_owners_are_kept_unless_given(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    machine.run_step(upload_step(source, destination))
    outcome = machine.check_then_run(
        upload_step(source, destination, owner="12345", group=12346), "changed"
    )
    assert outcome_states(outcome) == "5 of another owner of 6"
    owned = [
        (p.lstat().st_uid, p.lstat().st_gid) for p in destination.rglob("*") if not p.is_symlink()
    ]
    assert set(owned) == {(12345, 12346)}
    os.chown(destination / "index", 23456, 23457)
    fill_folder(source, {"index": "new", "more": "x"})
    machine.check_then_run(upload_step(source, destination), "changed")
    assert ((destination / "index").stat().st_uid, (destination / "index").stat().st_gid) == (
        23456,
        23457,
    )
    assert (destination / "more").stat().st_uid == os.getuid()


def test_modes_are_what_git_would_keep_and_private_ones_stay_private(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    modes = {"a": (0o664, 0o644), "b": (0o775, 0o755), "c": (0o600, 0o600), "d": (0o4700, 0o700)}
    for name, (mode, _) in modes.items():
        fill_folder(source, {name: name})
        (source / name).chmod(mode)
    machine.check_then_run(upload_step(source, destination), "changed")
    for name, (_, mode) in modes.items():
        assert (destination / name).stat().st_mode & 0o7777 == mode
    assert (destination / "css").stat().st_mode & 0o7777 == 0o755


def test_one_file_is_compared_where_its_link_leads(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    fill_folder(machine.root, {"real": "old", "site": Path("real")})
    outcome = machine.check_then_run(upload_step(source / "index", destination), "changed")
    assert outcome_states(outcome) == "1 different of 1"
    assert destination.is_symlink()
    assert folder_contents(machine.root) == {"real": "hello", "site": "→ real"}


def long_names(source: Path) -> None:
    fill_folder(source, {"long": "x" * 100_000})


def many_files(source: Path) -> None:
    fill_folder(source, {f"many/{number:03} {'x' * 40}": str(number) for number in range(400)})


@pytest.mark.parametrize("more", [long_names, many_files])
def test_what_is_large_is_sent_only_where_something_differs(
    machine: ShellMachine, source: Path, destination: Path, tmp_path: Path, more: FolderEdit
) -> None:
    temp = tmp_path / "temp"
    temp.mkdir()
    machine.environment["TMPDIR"] = str(temp)
    more(source)
    before = machine.observable_state()
    assert (
        machine.run_step(upload_step(source, destination, delete=True), check=True).status
        == "would_change"
    )
    assert (machine.observable_state(), folder_contents(temp)) == (before, {})
    machine.check_then_run(upload_step(source, destination, delete=True), "changed")
    assert folder_contents(destination) == folder_contents(source)
    assert folder_contents(temp) == {}
    fill_folder(source, {"css/a": "green"})
    outcome = machine.check_then_run(upload_step(source, destination), "changed")
    assert str(outcome_states(outcome)).startswith("1 different of ")
    assert folder_contents(temp) == {}


def test_nothing_is_staged_where_all_is_equal_or_skipped(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    long_names(source)
    machine.run_step(upload_step(source, destination))
    machine.environment |= {"TMPDIR": "/nowhere", "HOME": "/proc"}
    assert machine.run_step(upload_step(source, destination)).status == "ok"
    fill_folder(source, {"css/a": "green"})
    outcome = machine.run_step(upload_step(source, destination))
    assert (outcome.status, "the upload failed" in outcome.reason) == ("failed", True)
    many_files(source)
    run = machine.run_steps(
        [
            {"run": "true", "register": "r"},
            {**upload_step(source, destination), "when": "r.exit_status == 4"},
        ]
    )
    assert run.statuses == ["changed", "skipped"], result_message(run.outcomes[1])


def test_odd_names_may_come_last(machine: ShellMachine, destination: Path, tmp_path: Path) -> None:
    for name in ("z\nz", "z\rz", "z\\z", "z ", "z\n"):
        source = fill_folder(tmp_path / f"odd {name}", {"a": "1", f"d/{name}": name})
        target = destination / name
        machine.check_then_run(upload_step(source, target), "changed")
        assert folder_contents(target) == folder_contents(source)
        (target / "a").write_text("2")
        (target / "d" / name).chmod(0o755)
        outcome = machine.check_then_run(upload_step(source, target), "changed")
        assert outcome_states(outcome) == "1 different, 1 of another mode of 4"
        assert folder_contents(target) == folder_contents(source)


def test_links_lead_anywhere(machine: ShellMachine, source: Path, destination: Path) -> None:
    links = {"abs": "/etc/passwd", "up": "../../x", "long": "/" + "y" * 200, "css/odd": "a\nb \\"}
    fill_folder(source, {name: Path(to) for name, to in links.items()})
    fill_folder(source, {f"{'n' * 130}/{'m' * 130}": "long", "[css]*": "pattern"})
    machine.check_then_run(upload_step(source, destination), "changed")
    assert folder_contents(destination) == folder_contents(source)
    for name in links:
        (destination / name).unlink()
    (destination / "abs").symlink_to("elsewhere")
    (destination / "[css]*").unlink()
    assert (
        outcome_states(machine.check_then_run(upload_step(source, destination), "changed"))
        == "4 missing, 1 different of 13"
    )
    assert folder_contents(destination) == folder_contents(source)


def test_many_files_take_few_processes(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    log = machine.root.parent / "log"
    for tool in ("mv", "ln", "rm", "readlink", "mkdir", "chown", "ls", "rmdir"):
        shim = Path(machine.environment["PATH"].split(":")[0], tool)
        shim.unlink(missing_ok=True)
        applet = "busybox " if machine.shell == "busybox" else ""
        real = "/bin/busybox" if applet else f"/bin/{tool}"
        shim.write_text(
            f'#!/bin/sh\necho {tool} >>{log}\nexec {real} {tool if applet else ""} "$@"\n'
        )
        shim.chmod(0o755)
    many_files(source)
    machine.run_step(upload_step(source, destination))
    assert folder_contents(destination) == folder_contents(source)
    assert len(log.read_text().split()) < 20
    for number in range(400):
        fill_folder(
            source, {f"many/{number:03} {'x' * 40}": f"new {number}", f"more/{number}": "1"}
        )
    fill_folder(destination, {f"old/{number}": "" for number in range(300)})
    log.write_text("")
    machine.run_step(upload_step(source, destination, delete=True))
    assert folder_contents(destination) == folder_contents(source)
    assert len(log.read_text().split()) < 40


def test_new_folders_are_as_those_above_have_them(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    os.chown(machine.root, -1, 4242)
    machine.root.chmod(0o2755)
    for _ in range(2):
        machine.check_then_run(upload_step(source, destination), "changed")
        found = [path.lstat() for path in (destination, destination / "css", destination / "css/a")]
        assert [at.st_gid for at in found] == [4242] * 3
        assert [at.st_mode & 0o7777 for at in found] == [0o2755, 0o2755, 0o644]
        for path in (destination / "css").iterdir():
            path.unlink()
        (destination / "css").rmdir()


def test_only_what_the_host_lacks_is_sent(
    machine: ShellMachine, source: Path, destination: Path
) -> None:
    """The tar of the host notes what is in the archives that it gets."""
    for number in range(9):
        (source / f"large {number}").write_bytes(os.urandom(20_000))
    step = upload_step(source, destination)
    machine.check_then_run(step, "changed")
    log, tools = machine.root.parent / "log", machine.root.parent / f"{machine.root.name}-tools"
    real = (tools / "tar").resolve() if machine.shell == "busybox" else "/usr/bin/tar"
    run = f"{real} tar" if machine.shell == "busybox" else real
    (tools / "tar").unlink(missing_ok=True)
    (tools / "tar").write_text(
        f'#!/bin/sh\nfor each; do case $each in */payload) {run} -tf "$each" >>{log};; esac; done\n'
        f'exec {run} "$@"\n'
    )
    (tools / "tar").chmod(0o755)
    for number in (2, 3, 7):
        (source / f"large {number}").write_bytes(os.urandom(20_000))
    (source / "also").symlink_to("index")
    (destination / "css" / "a").write_text("changed there")
    assert machine.run_step(step).status == "changed"
    assert folder_hashes(destination) == folder_hashes(source)
    assert log.read_text().splitlines() == [
        *("t/css/a", "t/large 2", "t/large 3", "t/large 7", "t/also"),
    ]


def folder_hashes(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize("stays", [True, False])
def test_a_file_that_changes_after_it_was_listed_is_not_taken(
    machine: ShellMachine, source: Path, destination: Path, stays: bool
) -> None:
    """A step before changes it, with its size and its times of before or new ones."""
    large = source / "large"
    large.write_bytes(b"a" * 300_000)
    os.utime(large, (1_000_000_000, 1_000_000_000))
    keep = f"touch -d @1000000000 {large}" if stays else ":"
    change = f"tr a b <{large} >{large}.new; cat {large}.new >{large}; rm {large}.new; {keep}"
    steps = [{"run": change}, upload_step(source, destination)]
    outcome = machine.run_steps(steps).outcomes[-1]
    assert outcome.status == "failed"
    assert "large changed during the run" in outcome.reason
    assert not destination.exists()


def test_a_full_disk_leaves_what_was_there(private: ShellMachine, tmp_path: Path) -> None:
    place = private.root / "small"
    place.mkdir()
    subprocess.run(
        [*private.wrapper, "mount", "-t", "tmpfs", "-o", "size=1m", "x", str(place)], check=True
    )
    for name, size in (("page", 10), ("large", 2_000_000)):
        (tmp_path / name).write_bytes(b"x" * size)
    step = upload_step(tmp_path / "page", place / "file")
    assert private.run_step(step).status == "changed"
    (tmp_path / "page").write_bytes((tmp_path / "large").read_bytes())
    outcome = private.run_step(step)
    assert outcome.status == "failed"
    assert "could not write all files: is the disk full?" in outcome.stderr.text
    show = f"cd {place}; ls -A; wc -c <file"
    shown = subprocess.run(
        [*private.wrapper, "sh", "-c", show], check=True, capture_output=True, text=True
    )
    assert shown.stdout.split() == ["file", "10"]


@pytest.mark.parametrize("keeps", [True, False])
def test_modes_are_kept_or_those_of_any_checkout(
    machine: ShellMachine, tmp_path: Path, destination: Path, keeps: bool
) -> None:
    source = tmp_path / "modes"
    modes = {"a": 0o644, "b": 0o640, "c": 0o600, "d": 0o775, "e": 0o700, "f": 0o444, "p/\n": 0o664}
    for name, mode in modes.items():
        (source / name).parent.mkdir(exist_ok=True, parents=True)
        (source / name).write_text(name)
        (source / name).chmod(mode)
    (source / "p\n").mkdir(mode=0o700)
    (source / "p").chmod(0o700)
    step = upload_step(source, destination, keep_modes=keeps)
    machine.check_then_run(step, "changed")
    others = {"a": 0o644, "b": 0o644, "c": 0o600, "d": 0o755, "e": 0o700, "f": 0o644, "p/\n": 0o644}
    for name, mode in (modes if keeps else others).items():
        assert stat.S_IMODE((destination / name).stat().st_mode) == mode, name
    for name in ("p", "p\n"):
        assert stat.S_IMODE((destination / name).stat().st_mode) == 0o700
    assert stat.S_IMODE(destination.stat().st_mode) == 0o755
    (source / "b").chmod(0o660 if keeps else 0o600)
    assert outcome_states(machine.check_then_run(step, "changed")) == "1 of another mode of 10"
