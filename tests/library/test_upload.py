"""``upload``: trees and files, compared by what they consist of, put in place one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.library.machine import ODD, Machine, told

Make = Callable[[Path], None]


def fill(folder: Path, files: Mapping[str, str | Path]) -> Path:
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


def contents(folder: Path) -> dict[str, str | None]:
    """What is below a folder: texts, None for folders, links as `→ target`."""
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
    return fill(tmp_path / "source", files)


@pytest.fixture
def there(machine: Machine) -> Path:
    return machine.root / "site"


def upload(source: Path, there: Path, **more: Any) -> dict[str, Any]:
    return {"upload": {"src": str(source), "path": str(there), **more}}


def states(outcome: Any) -> str | None:
    (change,) = outcome.changes
    assert (change.key, change.after) == ("files", "as given")
    return str(change.before)


def test_names_of_any_kind_arrive(machine: Machine, there: Path, tmp_path: Path) -> None:
    names = [*ODD, " in front", "behind ", "a\rb", "tab\t", "\n", "x" * 120, "a,b", "'", "'\\''"]
    source = fill(tmp_path / "odd", {**{name: name for name in names}, "d \n/back\\slash": "x"})
    (source / "bytes").write_bytes(bytes(range(256)))
    os.link(source / "bytes", source / os.fsdecode(b"\xff\xfe"))
    for name in names[::3]:
        (source / f"link {name}").symlink_to(f"{name}\n")
    outcome = machine.sees(upload(source, there, delete=True), "changed")
    count = len(list(source.rglob("*"))) + 1
    assert states(outcome) == f"{count} missing of {count}"
    for path in source.rglob("*"):
        copied = there / path.relative_to(source)
        if path.is_symlink():
            assert copied.readlink() == path.readlink()
        elif path.is_file():
            assert copied.read_bytes() == path.read_bytes()
    (there / "behind ").write_text("x")
    (there / "extra\n").write_text("x")
    (there / "d \n" / "back\\slash").chmod(0o600)
    outcome = machine.sees(upload(source, there, delete=True), "changed")
    assert "1 different, 1 of another mode, 1 to remove of" in str(states(outcome))
    assert "./extra%0A" in outcome.diff


@pytest.mark.parametrize("name", ["a\nb", "-n", "it's $(id)", "back\\slash", "~"])
def test_the_place_may_be_called_anything(machine: Machine, source: Path, name: str) -> None:
    there = machine.root / "in" / name
    machine.sees(upload(source, there), "changed")
    assert contents(there) == contents(source)
    machine.sees(upload(source / "index", there / name), "changed")
    assert (there / name).read_text() == "hello"


def gone(path: Path) -> None:
    path.unlink()


def edited(path: Path) -> None:
    path.write_text("edited")


def opened(path: Path) -> None:
    path.chmod(0o666)


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("index", gone, "1 missing of 6"),
        ("css/b", edited, "1 different of 6"),
        ("css/b", opened, "1 of another mode of 6"),
        ("css/a", linked, "1 different of 6"),
        ("now", linked, "1 different of 6"),
        ("now", gone, "1 missing of 6"),
    ],
)
def test_what_differs_is_mended(
    machine: Machine, source: Path, there: Path, name: str, change: Make, said: str
) -> None:
    machine.one(upload(source, there))
    change(there / name)
    outcome = machine.sees(upload(source, there), "changed")
    assert states(outcome) == said
    assert contents(there) == contents(source)
    assert (there / "css/b").stat().st_mode & 0o7777 == 0o644
    assert f"./{name}" in outcome.diff
    assert "./css\n" not in outcome.diff


def test_what_is_not_brought_stays_unless_it_is_to_go(
    machine: Machine, source: Path, there: Path
) -> None:
    machine.one(upload(source, there))
    more: dict[str, str | Path] = {"old/deep/x": "1", "css/c": "2", "away": machine.root / "kept"}
    fill(there, more)
    fill(machine.root / "kept", {"inside": "3"})
    assert machine.one(upload(source, there)).status == "ok"
    outcome = machine.sees(upload(source, there, delete=True), "changed")
    assert states(outcome) == "5 to remove of 6"
    assert {line for line in outcome.diff.splitlines() if line[:2] == "-."} == {
        "-./old", "-./old/deep", "-./old/deep/x", "-./css/c", "-./away",
    }  # fmt: skip
    assert contents(there) == contents(source)
    assert (machine.root / "kept/inside").read_text() == "3"


def test_what_is_left_out_is_neither_brought_nor_removed(
    machine: Machine, source: Path, there: Path
) -> None:
    fill(source, {"a.pyc": "", "css/b.pyc": "", "logs/x": "", "cache/y": "", "sub/logs/z": "z"})
    fill(there, {"logs/kept": "1", "old/c.pyc": "2", "old/d": "3", "cache/e": "4"})
    step = upload(source, there, delete=True, exclude=["*.pyc", "logs/*", "cache/"])
    machine.sees(step, "changed")
    left = {"logs", "logs/kept", "old", "old/c.pyc", "cache", "cache/e"}
    brought = {"index", "css", "css/a", "css/b", "now", "logs", "sub", "sub/logs", "sub/logs/z"}
    assert set(contents(there)) == left | brought


def away(machine: Machine, there: Path) -> None:
    fill(machine.root / "elsewhere", {"a": "mine"})
    there.mkdir()
    (there / "css").symlink_to(machine.root / "elsewhere")


def folder(_machine: Machine, there: Path) -> None:
    (there / "index").mkdir(parents=True)


def file(_machine: Machine, there: Path) -> None:
    fill(there, {"css": "a file"})


def itself(_machine: Machine, there: Path) -> None:
    there.write_text("a file")


def dangling(_machine: Machine, there: Path) -> None:
    there.symlink_to("nothing")


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (away, "./css there is no directory, but a link"),
        (folder, "./index there is a directory"),
        (file, "./css there is no directory"),
        (itself, "is no directory"),
        (dangling, "is a link to nothing"),
    ],
)
def test_what_is_in_the_way_is_not_written_through(
    machine: Machine, source: Path, there: Path, before: Callable[[Machine, Path], None], why: str
) -> None:
    before(machine, there)
    seen = machine.seen()
    outcome = machine.sees(upload(source, there, delete=True), "failed")
    assert why in outcome.stderr.text
    assert machine.seen() == seen


def test_a_link_to_a_folder_is_replaced_and_not_entered(
    machine: Machine, source: Path, there: Path
) -> None:
    fill(machine.root / "elsewhere", {"a": "mine"})
    there.mkdir()
    (there / "index").symlink_to(machine.root / "elsewhere")
    (there / "now").symlink_to(machine.root / "elsewhere")
    machine.sees(upload(source, there), "changed")
    assert contents(there) == contents(source)
    assert contents(machine.root / "elsewhere") == {"a": "mine"}


def test_the_place_itself_may_be_a_link(machine: Machine, source: Path, there: Path) -> None:
    real = fill(machine.root / "real", {"x": "1"})
    there.symlink_to(real)
    machine.sees(upload(source, there, delete=True), "changed")
    assert there.is_symlink()
    assert contents(real) == contents(source)


@pytest.mark.parametrize("where", ["/", "~", "~/.."])
def test_nothing_is_emptied_that_holds_the_home(machine: Machine, source: Path, where: str) -> None:
    outcome = machine.one(upload(source, Path(where), delete=True), check=True)
    assert outcome.status == "failed"
    assert "is not removed" in outcome.stderr.text


def test_each_file_is_put_in_place_whole(machine: Machine, source: Path, there: Path) -> None:
    machine.one(upload(source, there))
    os.link(there / "index", machine.root / "reader")
    same = (there / "css/a").stat().st_ino
    fill(source, {"index": "new"})
    machine.sees(upload(source, there), "changed")
    assert (machine.root / "reader").read_text() == "hello"
    assert (there / "css/a").stat().st_ino == same
    assert contents(there) == contents(source)


def test_what_fails_leaves_what_was_there(machine: Machine, source: Path, there: Path) -> None:
    machine.one(upload(source, there))
    fill(source, {"index": "new"})
    before = contents(machine.root)
    nobody = upload(source, there, owner="nobody-of-that-name")
    assert "no user nobody" in machine.one(nobody, check=True).stderr.text
    outcome = machine.sees(upload(source, there, owner="9" * 20), "failed")
    assert "its fix failed" in outcome.reason
    assert contents(machine.root) == before


def test_owners_are_kept_unless_given(machine: Machine, source: Path, there: Path) -> None:
    machine.one(upload(source, there))
    outcome = machine.sees(upload(source, there, owner="12345", group=12346), "changed")
    assert states(outcome) == "5 of another owner of 6"
    owned = [(p.lstat().st_uid, p.lstat().st_gid) for p in there.rglob("*") if not p.is_symlink()]
    assert set(owned) == {(12345, 12346)}
    os.chown(there / "index", 23456, 23457)
    fill(source, {"index": "new", "more": "x"})
    machine.sees(upload(source, there), "changed")
    assert ((there / "index").stat().st_uid, (there / "index").stat().st_gid) == (23456, 23457)
    assert (there / "more").stat().st_uid == os.getuid()


def test_modes_are_what_git_would_keep_and_private_ones_stay_private(
    machine: Machine, source: Path, there: Path
) -> None:
    modes = {"a": (0o664, 0o644), "b": (0o775, 0o755), "c": (0o600, 0o600), "d": (0o4700, 0o700)}
    for name, (mode, _) in modes.items():
        fill(source, {name: name})
        (source / name).chmod(mode)
    machine.sees(upload(source, there), "changed")
    for name, (_, mode) in modes.items():
        assert (there / name).stat().st_mode & 0o7777 == mode
    assert (there / "css").stat().st_mode & 0o7777 == 0o755


def test_one_file_is_compared_where_its_link_leads(
    machine: Machine, source: Path, there: Path
) -> None:
    fill(machine.root, {"real": "old", "site": Path("real")})
    outcome = machine.sees(upload(source / "index", there), "changed")
    assert states(outcome) == "1 different of 1"
    assert there.is_symlink()
    assert contents(machine.root) == {"real": "hello", "site": "→ real"}


def long(source: Path) -> None:
    fill(source, {"long": "x" * 100_000})


def many(source: Path) -> None:
    fill(source, {f"many/{number:03} {'x' * 40}": str(number) for number in range(400)})


@pytest.mark.parametrize("more", [long, many])
def test_what_is_large_is_sent_only_where_something_differs(
    machine: Machine, source: Path, there: Path, tmp_path: Path, more: Make
) -> None:
    temp = tmp_path / "temp"
    temp.mkdir()
    machine.environment["TMPDIR"] = str(temp)
    more(source)
    before = machine.seen()
    assert machine.one(upload(source, there, delete=True), check=True).status == "would_change"
    assert (machine.seen(), contents(temp)) == (before, {})
    machine.sees(upload(source, there, delete=True), "changed")
    assert contents(there) == contents(source)
    assert contents(temp) == {}
    fill(source, {"css/a": "green"})
    outcome = machine.sees(upload(source, there), "changed")
    assert str(states(outcome)).startswith("1 different of ")
    assert contents(temp) == {}


def test_nothing_is_staged_where_all_is_equal_or_skipped(
    machine: Machine, source: Path, there: Path
) -> None:
    long(source)
    machine.one(upload(source, there))
    machine.environment |= {"TMPDIR": "/nowhere", "HOME": "/proc"}
    assert machine.one(upload(source, there)).status == "ok"
    fill(source, {"css/a": "green"})
    outcome = machine.one(upload(source, there))
    assert (outcome.status, "bytes were not sent" in outcome.reason) == ("failed", True)
    many(source)
    run = machine.go(
        [{"run": "true", "register": "r"}, {**upload(source, there), "when": "r.exit_status == 4"}]
    )
    assert run.statuses == ["changed", "skipped"], told(run.outcomes[1])


def test_odd_names_may_come_last(machine: Machine, there: Path, tmp_path: Path) -> None:
    for name in ("z\nz", "z\rz", "z\\z", "z ", "z\n"):
        source = fill(tmp_path / f"odd {name}", {"a": "1", f"d/{name}": name})
        target = there / name
        machine.sees(upload(source, target), "changed")
        assert contents(target) == contents(source)
        (target / "a").write_text("2")
        (target / "d" / name).chmod(0o755)
        outcome = machine.sees(upload(source, target), "changed")
        assert states(outcome) == "1 different, 1 of another mode of 4"
        assert contents(target) == contents(source)


def test_links_lead_anywhere(machine: Machine, source: Path, there: Path) -> None:
    links = {"abs": "/etc/passwd", "up": "../../x", "long": "/" + "y" * 200, "css/odd": "a\nb \\"}
    fill(source, {name: Path(to) for name, to in links.items()})
    fill(source, {f"{'n' * 130}/{'m' * 130}": "long", "[css]*": "pattern"})
    machine.sees(upload(source, there), "changed")
    assert contents(there) == contents(source)
    for name in links:
        (there / name).unlink()
    (there / "abs").symlink_to("elsewhere")
    (there / "[css]*").unlink()
    assert states(machine.sees(upload(source, there), "changed")) == "4 missing, 1 different of 13"
    assert contents(there) == contents(source)


def test_many_files_take_few_processes(machine: Machine, source: Path, there: Path) -> None:
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
    many(source)
    machine.one(upload(source, there))
    assert contents(there) == contents(source)
    assert len(log.read_text().split()) < 20
    for number in range(400):
        fill(source, {f"many/{number:03} {'x' * 40}": f"new {number}", f"more/{number}": "1"})
    fill(there, {f"old/{number}": "" for number in range(300)})
    log.write_text("")
    machine.one(upload(source, there, delete=True))
    assert contents(there) == contents(source)
    assert len(log.read_text().split()) < 40


def test_new_folders_are_as_those_above_have_them(
    machine: Machine, source: Path, there: Path
) -> None:
    os.chown(machine.root, -1, 4242)
    machine.root.chmod(0o2755)
    for _ in range(2):
        machine.sees(upload(source, there), "changed")
        found = [path.lstat() for path in (there, there / "css", there / "css/a")]
        assert [at.st_gid for at in found] == [4242] * 3
        assert [at.st_mode & 0o7777 for at in found] == [0o2755, 0o2755, 0o644]
        for path in (there / "css").iterdir():
            path.unlink()
        (there / "css").rmdir()
