"""The private machine with sshd settings, login shells and home folders as found in practice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.matrix.account_hosts import (
    HOMES,
    SETTINGS,
    SHELLS,
    TRANSPORTS,
    account_inventory,
    common_settings,
    make_tool_folders,
    sshd_settings,
)
from tests.integration.matrix.compact_run import MatrixProject
from tests.integration.matrix.matrix_ground import MatrixGround
from tests.support.sshd_machine import SshdMachine, start_machine

ACCOUNTS = {account.name: account for account in (*SETTINGS, *SHELLS, *HOMES)}
# where the files of the run go that have no home to go to
ELSEWHERE = {"homeless": "/var/tmp", "narrow": "/var/tmp"}
CONNECT = {
    "port": {"port": 2022},
    "narrow": {"port": 2023},
    "full": {"port": 2024},
    "sealed": {"port": 2025},
    "reads": {"timeout": 1},
    "becomes": {"timeout": 1},
}
NARROW_UMASK = "mount -t tmpfs -o ro tmpfs /tmp"
FULL = """
mount -t tmpfs -o size=16k tmpfs /tmp
mount -t tmpfs -o size=16k,mode=777 tmpfs /home/full
cat /dev/zero >/tmp/all 2>/dev/null || :
cat /dev/zero >/home/full/all 2>/dev/null || :
"""
SEALED = "mount -t tmpfs -o ro tmpfs /tmp; mount -t tmpfs -o ro tmpfs /home/sealed"
# what keeps a host from giving us a shell
NO_SHELLS = ("echoes", "files", "leaves", "reads", "becomes", "nologin", "false", "shell-less")
WORKS = tuple((name, each) for name in ACCOUNTS if name not in NO_SHELLS for each in TRANSPORTS)


@contextmanager
def make_accounts(folder: Path) -> Iterator[MatrixGround]:
    with start_machine(folder) as machine:
        make_tool_folders(machine)
        machine.add_accounts([*ACCOUNTS.values()])
        machine.write_file("/etc/ssh/matrix/banner", "Trespassers will be logged\n")
        every = ["ListenAddress 0.0.0.0", "ListenAddress ::"]
        main = ["Port 22", "Port 2022", *every, *sshd_settings([*ACCOUNTS.values()])]
        machine.start_sshd("main", main)
        for port, name, mounts in (
            (2023, "narrow", NARROW_UMASK),
            (2024, "full", FULL),
            (2025, "sealed", SEALED),
        ):
            machine.start_sshd(name, [f"Port {port}"], before=mounts)
        yield MatrixGround(machine, _write_project(machine), WORKS)


def _write_project(machine: SshdMachine) -> MatrixProject:
    project = MatrixProject(machine.folder / "project")
    inventory = account_inventory([*ACCOUNTS.values()], CONNECT)
    inventory["v6"]["address"] = "::1"
    for name, folder in ELSEWHERE.items():
        inventory[name]["vars"] = {"at": folder}
    project.write_project(inventory, common_settings(machine))
    return project
