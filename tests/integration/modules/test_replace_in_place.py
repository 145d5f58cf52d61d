"""What a file has beside its bytes when it is replaced, and files that cannot be."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.host_tools import leave_only
from tests.support.machine import ShellMachine
from tests.support.module_files import (
    check_nothing_left,
    check_refuses,
    file_mode,
    folder_contents,
    outcome_changes,
    without_powers,
)

TEXT = "one\n"
MODULES = ["copy", "template", "line", "text_block"]
MOUNTED = ("/usr/bin/unshare", "--mount", "/bin/sh", "-c")
"""Words before a command, a script and its arguments, that let it mount what nobody else sees."""


def change_step(module: str, path: Path, **more: Any) -> dict[str, Any]:
    """Something that changes a file with TEXT."""
    params: dict[str, Any] = {
        "copy": {"content": "new\n"},
        "template": {"src": "it.j2"},
        "line": {"line": "new"},
        "text_block": {"block": "new"},
    }[module]
    return {module: {"path": str(path), **params, **more}}


def template(module: str) -> dict[str, Any]:
    return {"files": {"it.j2": "new\n"}} if module == "template" else {}


def extended_attributes(path: Path) -> str:
    """Its ACL and extended attributes, as the tools for them show them."""
    shown = ""
    for command in (["getfacl", "-pc"], ["getfattr", "-d", "-m", "-", "--absolute-names"]):
        shown += subprocess.run(
            [*command, path], check=True, capture_output=True, text=True
        ).stdout.replace(str(path), "")
    return shown


def mark_file(path: Path) -> str:
    path.write_text(TEXT)
    path.chmod(0o640)
    subprocess.run(["setfacl", "-m", "u:daemon:rw,g:bin:r", path], check=True)
    subprocess.run(["setfattr", "-n", "user.of", "-v", 'a "b"\\c', path], check=True)
    return extended_attributes(path)


@pytest.mark.parametrize("module", MODULES)
def test_acl_and_attributes_stay(machine: ShellMachine, module: str) -> None:
    path = machine.root / "it's"
    before = mark_file(path)
    inode, old = path.stat().st_ino, path.stat().st_mtime
    outcome = machine.check_then_run(change_step(module, path), "changed", **template(module))
    assert (extended_attributes(path), outcome.stderr.text) == (before, "")
    assert path.stat().st_ino != inode
    assert path.stat().st_mtime > old
    machine.check_then_run(
        change_step(module, path, mode="0600", owner="daemon"), "changed", **template(module)
    )
    assert (file_mode(path), path.stat().st_uid) == ("0600", 1)
    assert "user:daemon:rw-" in extended_attributes(path)


def test_what_is_lost_is_said(machine: ShellMachine) -> None:
    path = machine.root / "it"
    mark_file(path)
    leave_only(machine, "ls", busybox=("cp",))
    outcome = machine.run_step(change_step("copy", path))
    assert outcome.status == "changed"
    assert f"{path} loses its ACL" in outcome.stderr.text
    plain = machine.root / "plain"
    plain.write_text(TEXT)
    assert machine.run_step(change_step("copy", plain)).stderr.text == ""


@pytest.mark.parametrize("module", MODULES)
def test_a_file_that_is_a_mount_is_written_into(
    machine: ShellMachine, tmp_path: Path, module: str
) -> None:
    path = machine.root / "in a\\dir" / "a b"
    path.parent.mkdir()
    path.write_text(TEXT)
    script = 'mount --bind "$0" "$0"; exec "$@"'
    machine.wrapper = (*MOUNTED, script, str(path))
    more = template(module)
    outcome = check_refuses(machine, change_step(module, path), "mounted by itself", **more)
    assert "`in_place: true` writes into the file" in outcome.stderr.text
    inode = path.stat().st_ino
    with check_nothing_left(tmp_path / "temp", machine):
        outcome = machine.check_then_run(
            change_step(module, path, in_place=True), "changed", **more
        )
    assert "new\n" in path.read_text()
    assert path.stat().st_ino == inode
    # another path of that name, and what only lies on the same file system, are no mounts
    beside = path.parent / "a"
    beside.write_text(TEXT)
    machine.check_then_run(change_step(module, beside), "changed", **more)


@pytest.mark.parametrize("module", MODULES)
def test_a_file_in_a_closed_folder_is_written_into(machine: ShellMachine, module: str) -> None:
    without_powers(machine)
    folder = machine.root / "closed"
    folder.mkdir()
    path = folder / "it"
    path.write_text(TEXT)
    folder.chmod(0o555)
    more = template(module)
    outcome = check_refuses(machine, change_step(module, path), f"cannot write to {folder}", **more)
    assert "`in_place: true` writes into the file" in outcome.stderr.text
    outcome = machine.check_then_run(
        change_step(module, path, in_place=True, mode="0600"), "changed", **more
    )
    assert outcome_changes(outcome)["mode"] == ("0644", "0600")
    assert (folder_contents(folder), file_mode(folder), file_mode(path)) == (["it"], "0555", "0600")
    assert "new\n" in path.read_text()
    path.chmod(0o444)
    path.write_text(TEXT)
    check_refuses(
        machine, change_step(module, path, in_place=True), f"cannot write to {path}", **more
    )


def test_a_file_of_another_in_a_sticky_folder_is_written_into(machine: ShellMachine) -> None:
    # daemon, who gets to where the test is
    powers = [f"--{sort}-caps=-all,+dac_read_search" for sort in ("inh", "ambient")]
    machine.wrapper = ("/usr/bin/setpriv", "--reuid=1", "--clear-groups", *powers)
    machine.root.chmod(0o1777)
    path = machine.root / "it"
    path.write_text(TEXT)
    path.chmod(0o666)
    outcome = check_refuses(machine, change_step("copy", path), "only its owner can do that")
    assert "`in_place: true`" in outcome.stderr.text
    machine.check_then_run(change_step("copy", path, in_place=True), "changed")
    os.chown(path, 1, -1)
    machine.check_then_run(change_step("copy", path, content="newer\n"), "changed")


def test_what_was_there_before_it_was_written_into_is_kept(machine: ShellMachine) -> None:
    path = machine.root / "it"
    path.write_text(TEXT)
    machine.check_then_run(change_step("copy", path, in_place=True, backup=True), "changed")
    (kept,) = (machine.root / name for name in folder_contents(machine.root) if name != "it")
    assert (kept.read_text(), path.read_text()) == (TEXT, "new\n")
    new = machine.root / "new"
    machine.check_then_run(change_step("copy", new, in_place=True), "changed")
    assert new.read_text() == "new\n"
