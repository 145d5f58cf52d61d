"""``swap``: real swap files, used by this machine while a test runs, and entries of an fstab."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import ShellMachine
from tests.support.module_files import check_refuses, outcome_changes

FSTAB = "# all\n/dev/sda1 / ext4 defaults 0 1\n/dev/sdb1 none swap sw 0 0\n"
KIB = 1024
SWAPS = r"""
: >/run/swaps
mount --bind /run/swaps /proc/swaps
printf '%s\n' '#!/bin/sh' 'for file; do :; done' 'case $1 in --help) echo " -p"; exit;; esac' \
  'printf "%s file 1 0 10\n" "$file" >/run/swaps' >/usr/sbin/swapon
printf '#!/bin/sh\ntruncate -s "$2" "$3"\n' >/usr/bin/fallocate
chmod 755 /usr/sbin/swapon /usr/bin/fallocate
"""
"""For a private copy, whose file system takes no swap: a swapon that only says so."""


@pytest.fixture
def host(machine: ShellMachine) -> Iterator[ShellMachine]:
    (machine.root / "fstab").write_text(FSTAB)
    yield machine
    for path in (machine.root / "a b", machine.root / "swap"):
        if used(path):
            subprocess.run(["swapoff", path], check=True)


def swap_step(machine: ShellMachine, **more: Any) -> dict[str, Any]:
    params = {"path": f"{machine.root}/a b", "fstab": f"{machine.root}/fstab", **more}
    return {"swap": params}


def used(path: Path) -> list[str]:
    """Return size in KiB and priority of a swap file that is in use."""
    for line in Path("/proc/swaps").read_text().splitlines()[1:]:
        name, _, size, _, priority = line.split()
        if name == str(path).replace(" ", "\\040"):
            return [size, priority]
    return []


def entries(machine: ShellMachine) -> str:
    return (machine.root / "fstab").read_text().removeprefix(FSTAB)


WITH_PRIORITIES = pytest.mark.parametrize("machine", ["dash", "bash"], indirect=True)
"""Debian's busybox has a swapon without them."""


@WITH_PRIORITIES
def test_a_swap_file_is_made_used_changed_and_removed(host: ShellMachine) -> None:
    path = host.root / "a b"
    entry = f"{host.root}/a\\040b none swap sw"
    outcome = host.check_then_run(swap_step(host, size="128K"), "changed")
    assert outcome_changes(outcome)["size"] == (None, "128K")
    assert path.stat().st_size == 128 * KIB and path.stat().st_mode & 0o777 == 0o600
    assert used(path)[0] == "124"
    assert entries(host) == f"{entry} 0 0\n"
    outcome = host.check_then_run(swap_step(host, size=256 * KIB, priority=7), "changed")
    assert used(path) == ["252", "7"]
    assert entries(host) == f"{entry},pri=7 0 0\n"
    assert set(outcome_changes(outcome)) == {"size", "priority", "entry"}
    host.check_then_run(swap_step(host), "ok")
    outcome = host.check_then_run(swap_step(host, size="256k", priority=0), "changed")
    assert outcome_changes(outcome)["priority"] == ("7", "0")
    assert used(path) == ["252", "0"]
    subprocess.run(["swapoff", path], check=True)
    path.chmod(0o644)
    outcome = host.check_then_run(swap_step(host), "changed")
    assert outcome_changes(outcome) == {"mode": ("0644", "0600"), "active": ("false", "true")}
    host.check_then_run(swap_step(host, state="absent"), "changed")
    assert not used(path) and not path.exists()
    assert (host.root / "fstab").read_text() == FSTAB
    assert sorted(each.name for each in host.root.iterdir()) == ["fstab"]


@WITH_PRIORITIES
def test_an_entry_keeps_its_options(host: ShellMachine) -> None:
    path = host.root / "swap"
    step = swap_step(host, path=str(path), size="64K")
    host.check_then_run(step, "changed")
    line = f"{path}\tnone swap nofail,pri=3,discard 0 0\n"
    (host.root / "fstab").write_text(FSTAB + line)
    host.check_then_run(step, "ok")
    step["swap"]["priority"] = 5
    outcome = host.check_then_run(step, "changed")
    assert outcome_changes(outcome)["entry"] == (line.strip(), "as given")
    assert entries(host) == f"{path} none swap nofail,discard,pri=5 0 0\n"
    (host.root / "fstab").write_text(FSTAB + line + line)
    host.check_then_run(step, "changed")
    assert entries(host) == f"{path} none swap nofail,discard,pri=5 0 0\n"


def test_a_file_system_without_fallocate_gets_a_file_of_zeros(host: ShellMachine) -> None:
    tools = Path(host.environment["PATH"].split(":")[0])
    (tools / "fallocate").unlink(missing_ok=True)
    (tools / "fallocate").write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    (tools / "fallocate").chmod(0o755)
    host.check_then_run(swap_step(host, size="64K"), "changed")
    assert used(host.root / "a b")[0] == "60"


def test_what_is_no_swap_file_is_never_overwritten(host: ShellMachine) -> None:
    (host.root / "a b").write_text("data\n" * 20000)
    for state in ("present", "absent"):
        check_refuses(host, swap_step(host, size="64K", state=state), "is not a swap file")
    (host.root / "a b").unlink()
    for params, message in (
        ({}, "give its `size`"),
        ({"size": "2 G"}, "`size` must be like 512M or 2G"),
        ({"size": "10"}, "`size` must be 40K at least"),
        ({"size": "1M", "priority": -2}, "`priority` must be 0 to 32767"),
        ({"size": "1M", "path": str(host.root)}, "is a directory"),
        ({"size": "1M", "path": "/dev/null"}, "is not a regular file"),
        ({"size": "1M", "path": f"{host.root}/a\nb"}, "must be in one line"),
    ):
        check_refuses(host, swap_step(host, **params), message)


def test_a_file_that_has_no_room_is_refused_and_the_old_one_stays(host: ShellMachine) -> None:
    host.check_then_run(swap_step(host, size="64K"), "changed")
    check_refuses(host, swap_step(host, size="900T"), " MiB are free in ")
    check_refuses(
        host, swap_step(host, size="900T", path=f"{host.root}/new/a"), " MiB are free in "
    )
    assert used(host.root / "a b")[0] == "60"


@pytest.mark.parametrize("machine", ["busybox"], indirect=True)
def test_a_swapon_without_priorities_is_named(host: ShellMachine) -> None:
    host.check_then_run(swap_step(host, size="64K"), "changed")
    step = swap_step(host, size="64K", priority=3)
    check_refuses(host, step, "this host has no swapon with the option -p")
    host.check_then_run(swap_step(host, state="absent"), "changed")
    assert (host.root / "fstab").read_text() == FSTAB
