"""``download`` of folders: byte for byte under each shell, and only what differs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import ODD_NAMES, ShellMachine, result_message

SMALL = 1 << 18


def download_step(source: Path | str, target: Path | str) -> dict[str, Any]:
    return {"download": {"path": str(source), "to": str(target)}}


def folder_bytes(folder: Path) -> dict[str, bytes | str | None]:
    """Return the tree below a folder: contents, None for folders, links as text."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = None if path.is_dir() else path.read_bytes()
    return found


@pytest.fixture
def source(machine: ShellMachine) -> Path:
    folder = machine.root / "source"
    (folder / "inner" / "empty").mkdir(parents=True)
    (folder / "inner" / "a").write_text("a")
    (folder / "b").write_text("b")
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    (folder / "large").write_bytes(os.urandom(SMALL + 1))
    (folder / "now").symlink_to("inner/a")
    return folder


@pytest.fixture
def target(machine: ShellMachine) -> Path:
    return machine.root.parent / "target"


def test_names_and_contents_of_any_kind_arrive(machine: ShellMachine, target: Path) -> None:
    source = machine.root / "odd"
    source.mkdir()
    names = [
        *ODD_NAMES, " in front", "behind ", "a\rb", "tab\t", "\n", "x" * 255, "total", "12 total",
        "'\\''", os.fsdecode(b"\xff\xfe"), os.fsdecode(b"\xe9\n"), "d .x", ".hidden", "a*b?[c]",
    ]  # fmt: skip
    for number, name in enumerate(names):
        (source / name).write_bytes(bytes(range(256)) * (number % 3) + os.fsencode(name))
        (source / f"in {name}"[:255]).mkdir()
        (source / f"in {name}"[:255] / name).write_bytes(b"")
    for name in names[::3]:
        (source / f"to {name}"[:255]).symlink_to(name)
    for size in (SMALL - 1, SMALL, SMALL + 1):
        (source / f"size {size}").write_bytes(os.urandom(size))
        (source / f"size {size}\n").write_bytes(os.urandom(size))
    outcome = machine.check_then_run(download_step(source, target), "changed")
    assert folder_bytes(target) == folder_bytes(source)
    (change,) = outcome.changes
    assert change.before is None


def test_only_what_differs_is_replaced(machine: ShellMachine, source: Path, target: Path) -> None:
    step = download_step(source, target)
    machine.check_then_run(step, "changed")
    assert not os.access(target / "b", os.X_OK)
    assert os.access(target / "run", os.X_OK)
    before = {path: path.lstat().st_ino for path in target.rglob("*")}
    (target / "inner" / "a").write_text("A")  # of the same size
    (target / "b").unlink()
    (target / "run").chmod(0o600)
    (target / "now").unlink()
    (target / "now").symlink_to("b")
    (target / "mine").write_text("mine")
    outcome = machine.check_then_run(step, "changed")
    (change,) = outcome.changes
    assert change.before == "1 missing, 2 different, 1 of another mode"
    assert (target / "mine").read_text() == "mine"
    (target / "mine").unlink()
    assert folder_bytes(target) == folder_bytes(source)
    after = {path: path.lstat().st_ino for path in target.rglob("*")}
    assert {path for path in after if after[path] == before[path]} == {
        *(target / name for name in ("inner", "inner/empty", "run", "large"))
    }


def test_an_empty_folder_is_made(machine: ShellMachine, target: Path) -> None:
    (machine.root / "empty").mkdir()
    machine.check_then_run(download_step(machine.root / "empty", f"{target}/"), "changed")
    assert folder_bytes(target) == {"empty": None}


def test_links_out_of_the_folder_and_devices_are_left_out(
    machine: ShellMachine, source: Path, target: Path
) -> None:
    (source / "out").symlink_to("/etc/passwd")
    (source / "up").symlink_to("../other")
    os.mkfifo(source / "pipe")
    machine.check_then_run(download_step(source, target), "changed")
    assert not {"out", "up", "pipe"} & folder_bytes(target).keys()
    assert (target / "now").readlink() == Path("inner/a")


def test_a_link_that_is_here_is_not_followed(
    machine: ShellMachine, source: Path, target: Path
) -> None:
    outside = target.with_name("outside")
    outside.mkdir()
    target.mkdir()
    (target / "inner").symlink_to(outside)
    outcome = machine.run_step(download_step(source, target))
    assert outcome.status == "failed"
    assert "is not a folder, and a folder on the host" in outcome.reason
    assert list(outside.iterdir()) == []
    assert list(target.iterdir()) == [target / "inner"]


@pytest.mark.parametrize("size", [10, 3 * SMALL])
def test_a_file_that_grows_is_taken_as_it_was(
    machine: ShellMachine, source: Path, target: Path, size: int
) -> None:
    """Another line arrives between the listing and each read, as in a log."""
    log, real = source / "log", "/usr/bin/head"
    log.write_bytes(b"x" * size)
    for name in ("cat", "head"):
        real = next(
            str(path)
            for folder in machine.environment["PATH"].split(":")
            if (path := Path(folder) / name).exists()
        )
        script = machine.root.parent / f"{machine.root.name}-tools" / name
        copy = script.with_name(f"real-{name}")
        copy.symlink_to(Path(real).resolve())
        run = f"busybox {name}" if machine.shell == "busybox" else str(copy)
        script.unlink(missing_ok=True)
        script.write_text(f'#!/bin/sh\necho more >>{log}\n{run} "$@"\n')
        script.chmod(0o755)
    outcome = machine.run_step(download_step(source, target))
    assert outcome.status == "changed", result_message(outcome)
    content = (target / "log").read_bytes()
    assert content.startswith(b"x" * size)
    assert log.read_bytes().startswith(content)
    (source / "log").unlink()
    (target / "log").unlink()
    assert folder_bytes(target) == folder_bytes(source)


def test_a_host_without_a_tool_says_so(machine: ShellMachine, source: Path, target: Path) -> None:
    step = {**download_step(source, target), "environment": {"PATH": "/nowhere"}}
    outcome = machine.run_step(step)
    assert outcome.status == "failed"
    assert not target.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_what_the_user_cannot_read_is_named(machine: ShellMachine, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="orch-test-") as name:
        source = Path(name)
        source.chmod(0o755)
        for file in ("open", "secret", "secret\n", "inner/x"):
            (source / file).parent.mkdir(exist_ok=True)
            (source / file).write_text("x")
            (source / file).chmod(0o600 if "secret" in file else 0o644)
        machine.wrapper = ("/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        outcome = machine.run_step(download_step(source, target))
        assert outcome.status == "failed"
        assert "'secret', 'secret' cannot be read; `become: true` reads as" in outcome.reason
        (source / "inner").chmod(0o700)
        for file in ("secret", "secret\n"):
            (source / file).unlink()
        outcome = machine.run_step(download_step(source, target))
        assert outcome.status == "failed"
        assert "ermission denied" in outcome.reason
        assert not target.exists()
