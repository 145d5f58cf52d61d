"""``mount``: entries of an fstab, and what is mounted, in a private copy of this machine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import check_refuses, outcome_changes
from tests.support.private_copy import run_in_copy

FSTAB = "# all\n/dev/sda1 / ext4 defaults 0 1\n\n/dev/sdb1\t/srv/x/  xfs noatime\nproc /proc proc\n"


def mount_step(**more: Any) -> dict[str, Any]:
    return {"mount": {"path": "/srv/x", "src": "tmpfs", "fstype": "tmpfs", **more}}


ENTRIES: list[tuple[dict[str, Any], str]] = [
    ({"src": "/dev/sdb1", "fstype": "xfs", "opts": "noatime"}, FSTAB),
    ({"src": "/dev/sdb1", "fstype": "xfs", "opts": "noatime", "path": "/srv/x//"}, FSTAB),
    ({}, FSTAB.replace("/dev/sdb1\t/srv/x/  xfs noatime", "tmpfs /srv/x tmpfs defaults 0 0")),
    ({"path": "/new", "dump": 1, "passno": 2}, f"{FSTAB}tmpfs /new tmpfs defaults 1 2\n"),
    ({"path": "/a b\\c", "src": "//s/a b"}, f"{FSTAB}//s/a\\040b /a\\040b\\134c tmpfs defaults 0 0\n"),
    ({"path": "none", "src": "/swap", "fstype": "swap"}, f"{FSTAB}/swap none swap defaults 0 0\n"),
    ({"path": "none", "src": "/swap", "state": "absent"}, FSTAB),
    ({"path": "/nowhere", "state": "absent"}, FSTAB),
]  # fmt: skip


@pytest.mark.parametrize(("params", "expected"), ENTRIES)
def test_an_entry_of_the_fstab_is_as_given(
    machine: ShellMachine, params: dict[str, Any], expected: str
) -> None:
    file = machine.root / "-n tab"
    file.write_text(FSTAB)
    file.chmod(0o640)
    step = mount_step(**{"state": "present", "fstab": str(file), **params})
    machine.check_then_run(step, "ok" if expected == FSTAB else "changed")
    assert file.read_text() == expected and file.stat().st_mode & 0o777 == 0o640
    if expected not in (FSTAB, "") and params:
        machine.check_then_run(mount_step(**{**step["mount"], "state": "absent"}), "changed")
        assert file.read_text() == FSTAB


def test_what_makes_no_sense_is_refused(machine: ShellMachine) -> None:
    for params, message in (
        ({"path": "relative"}, "`path` must be absolute"),
        ({"path": "/"}, "`path` must be absolute"),
        ({"src": None}, "`mounted` requires `src` and `fstype`"),
        ({"opts": "a b"}, "must not contain blanks"),
        ({"opts": ""}, "`opts` is empty"),
        ({"path": "/a\nb"}, "must be in one line"),
        ({"path": "none"}, "nothing is mounted at none"),
        ({"src": "/dev/none"}, "there is no /dev/none to mount"),
        ({"state": "remounted"}, "nothing is mounted at /srv/x"),
    ):
        step = mount_step(**{"fstab": str(machine.root / "tab"), **params})
        check_refuses(machine, step, message)


@pytest.mark.parametrize("module", ["mount", "swap"])
def test_an_fstab_that_is_a_link_to_nowhere_is_refused(machine: ShellMachine, module: str) -> None:
    (machine.root / "tab").symlink_to("nowhere")
    params: dict[str, Any] = {"state": "present", "fstab": str(machine.root / "tab")}
    params |= {"path": f"{machine.root}/swap", "size": "64K"} if module == "swap" else {}
    step = mount_step(**params) if module == "mount" else {"swap": params}
    check_refuses(machine, step, "which does not exist")


def is_mounted(machine: ShellMachine, path: str) -> list[str]:
    found = run_in_copy(machine, "cat /proc/self/mounts")
    return [line.split()[0] for line in found.splitlines() if line.split()[1] == path]


def test_it_is_mounted_changed_and_unmounted(private: ShellMachine) -> None:
    run_in_copy(private, "mkdir -p /srv/own; echo x >/srv/own/file; echo '# mine' >/etc/fstab")
    path = "/srv/new/a b"
    coded = path.replace(" ", "\\040")
    step = mount_step(path=path, opts="size=64k")
    outcome = private.check_then_run(step, "changed")
    assert outcome_changes(outcome)["state"] == ("unmounted", "mounted")
    assert is_mounted(private, coded) == ["tmpfs"]
    line = f"tmpfs {coded} tmpfs size=64k 0 0\n"
    assert run_in_copy(private, "cat /etc/fstab") == f"# mine\n{line}"
    outcome = private.check_then_run(mount_step(path=path, opts="size=128k,noexec"), "changed")
    assert outcome_changes(outcome) == {
        "entry": (line.removesuffix("\n"), "as given"),
    }
    assert "noexec" in run_in_copy(private, f"grep -F '{coded}' /proc/self/mounts")
    bound = mount_step(path=path, src="/srv/own", fstype="none", opts="bind")
    private.check_then_run(bound, "changed")
    assert run_in_copy(private, f"cat '{path}/file'") == "x\n"
    again = private.run_step(mount_step(path=path, state="remounted"))
    assert again.status == "changed", result_message(again)
    private.check_then_run(mount_step(path=path, state="unmounted"), "changed")
    assert is_mounted(private, coded) == []
    private.check_then_run(bound, "changed")
    private.check_then_run(mount_step(path=path, state="absent"), "changed")
    assert run_in_copy(private, "cat /etc/fstab; ls /srv/new") == "# mine\n"
    private.check_then_run(mount_step(path=path, state="ephemeral"), "changed")
    assert run_in_copy(private, "cat /etc/fstab") == "# mine\n"
    assert is_mounted(private, coded) == ["tmpfs"]
