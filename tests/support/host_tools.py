"""Hosts with a selection of tools."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.machine import ShellMachine

BASE_TOOLS = (
    "sh cat cut date dd env expr grep head id kill ls mkdir mv od printf ps readlink rm rmdir "
)
BASE_TOOLS += (
    "sed setsid sleep sort stat tail tr uname chmod chown cmp cp ln true wc sha256sum gzip tar"
)


def without_applets(machine: ShellMachine, *names: str) -> None:
    """Let a machine with the tools of busybox have these of the system, as far as it has some."""
    for name in names:
        (machine.root.parent / f"{machine.root.name}-tools" / name).unlink(missing_ok=True)


def leave_only(machine: ShellMachine, *names: str, busybox: tuple[str, ...] = ()) -> None:
    """Leave the machine with the basic tools, these of the system, and these of busybox."""
    tools = machine.root.parent / "only"
    tools.mkdir()
    path = machine.environment["PATH"]
    for name in {*BASE_TOOLS.split(), *names}:
        found = shutil.which(name, path=None if name in names else path)
        assert found, f"{name} is missing here"
        target = Path(found).resolve() if name == "sh" else Path(found)
        (tools / name).symlink_to(target)
    for name in busybox:
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(shutil.which("busybox") or "")
    machine.environment["PATH"] = str(tools)
    subprocess.run(["sh", "-c", "sed -n p </dev/null"], env=machine.environment, check=True)
