"""``acl``: entries of access control lists, as getfacl shows them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.host_tools import leave_only
from tests.support.machine import ODD_NAMES, ShellMachine
from tests.support.module_files import check_refuses, outcome_changes


def entries(path: Path) -> list[str]:
    done = subprocess.run(
        ["getfacl", "-pnEc", "--", path], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def acl_step(path: Path, **more: Any) -> dict[str, Any]:
    return {"acl": {"path": str(path), "entity": "daemon", "permissions": "xr", **more}}


def test_an_entry_is_set_changed_and_removed(machine: ShellMachine) -> None:
    path = machine.root / "it"
    path.write_text("")
    path.chmod(0o640)
    outcome = machine.check_then_run(acl_step(path), "changed")
    assert outcome_changes(outcome) == {"acl": ("absent", "as given")}
    assert "user:1:r-x" in entries(path)
    machine.check_then_run(acl_step(path, entity="1", permissions="r-x"), "ok")
    outcome = machine.check_then_run(acl_step(path, permissions=""), "changed")
    assert outcome_changes(outcome) == {"acl": ("r-x", "as given")}
    assert "user:1:---" in entries(path)
    machine.check_then_run(acl_step(path, etype="group", entity="4321"), "changed")
    machine.check_then_run(acl_step(path, etype="mask", entity=None, permissions="r"), "changed")
    assert {"group:4321:r-x", "mask::r--"} <= set(entries(path))
    machine.check_then_run(acl_step(path, etype="other", entity=None, permissions="r"), "changed")
    assert path.stat().st_mode & 0o7 == 4
    machine.check_then_run(acl_step(path, state="absent"), "changed")
    assert not [entry for entry in entries(path) if entry.startswith("user:1:")]


def test_everything_in_a_directory_has_the_entry(machine: ShellMachine) -> None:
    folder = machine.root / "-n it's"
    for name in ODD_NAMES:
        (folder / "sub" / name).mkdir(parents=True)
        (folder / "sub" / name / "file").write_text("")
    outside = machine.home / "outside"
    outside.write_text("")
    (folder / "link").symlink_to(outside)
    machine.check_then_run(acl_step(folder, recurse=True), "changed")
    inside = [path for path in folder.rglob("*") if not path.is_symlink()]
    assert all("user:1:r-x" in entries(path) for path in [folder, *inside])
    assert "user:1:r-x" not in entries(outside)
    subprocess.run(["setfacl", "-x", "u:1", "--", inside[-1]], check=True)
    machine.check_then_run(acl_step(folder, recurse=True), "changed")
    machine.check_then_run(acl_step(folder, recurse=True, default=True), "changed")
    for path in inside:
        assert ("default:user:1:r-x" in entries(path)) == path.is_dir()
    machine.check_then_run(acl_step(folder, default=True, state="absent"), "changed")
    assert "default:user:1:r-x" not in entries(folder)
    assert "default:user:1:r-x" in entries(folder / "sub")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"permissions": None}, "`present` requires `permissions`"),
        ({"permissions": "rwX"}, "are letters of rwx"),
        ({"entity": "nobody such"}, "there is no user nobody such"),
        ({"etype": "other"}, "is for users and groups"),
        ({"entity": None, "state": "absent"}, "every file has that entry"),
        ({"default": True}, "is not a directory"),
        ({"path": "/no/such"}, "there is no /no/such"),
    ],
)
def test_what_makes_no_sense_is_refused(
    machine: ShellMachine, params: dict[str, Any], message: str
) -> None:
    (machine.root / "it").write_text("")
    check_refuses(machine, {"acl": {**acl_step(machine.root / "it")["acl"], **params}}, message)


def test_a_host_without_the_tools_says_so(machine: ShellMachine) -> None:
    leave_only(machine, "find", "awk", "id", "grep")
    check_refuses(machine, acl_step(machine.root), "this host has no getfacl")
