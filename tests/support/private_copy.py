"""A copy of this machine that a test may change in any way, removed afterwards.

It is an overlay over the machine's root folder, with the upper layer in memory, in its own
namespaces (mount, host name, network, processes). It needs root and CAP_SYS_ADMIN;
``run_inside_copy`` fails without them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.machine import ShellMachine

# $1: an empty folder for the overlay; $2: the test's folder, which is the same inside.
_ENTER = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs tmpfs "$1/root/run"
mount --bind "$2" "$1/root$2"
cd /
exec chroot "$1/root" "$3" -c "$4"
"""
# Process 1 of the new namespace: it reaps orphans. When it ends all processes end.
_WAIT = """
import signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def run_inside_copy(machine: ShellMachine) -> Iterator[ShellMachine]:
    """Run the machine's steps in a private copy; check mode must not change a file of it."""
    folder = machine.root.parent / f"{machine.root.name}-overlay"
    with make_copy(folder, machine.root.parent) as copy:
        machine.wrapper = (*copy.words, f"--wdns={machine.home}")
        machine.watched_paths = (copy.upper,)
        yield machine


@dataclass(frozen=True, slots=True)
class PrivateCopy:
    """A private copy.

    ``first`` is its first process, ``words`` the words that run a command in it, ``upper`` the
    folder with all changes, as seen from outside.
    """

    first: int
    words: tuple[str, ...]
    upper: Path


@contextmanager
def make_copy(folder: Path, shared: Path) -> Iterator[PrivateCopy]:
    """Create a copy, stored in the new ``folder``. ``shared`` is the same folder inside."""
    folder.mkdir()
    unshare = ["unshare", "--mount", "--uts", "--net", "--pid", "--fork", "--kill-child"]
    script = ["sh", "-c", _ENTER, "sh", str(folder), str(shared)]
    holder = subprocess.Popen(
        [*unshare, *script, sys.executable, _WAIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin and holder.stdout
    try:
        assert holder.stdout.readline() == "ready\n", "no private machine: needs root, overlayfs"
        (first,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        words = ("/usr/bin/nsenter", "-t", first, "-m", "-u", "-n", "-p", "-r")
        # as seen by the parent of the first process
        yield PrivateCopy(int(first), words, Path(f"/proc/{holder.pid}/root{folder}/up"))
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()


def run_in_copy(machine: ShellMachine, script: str) -> str:
    """Run a script with this machine's own tools in the private copy and return its stdout.

    Raises CalledProcessError, and prints stderr.
    """
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(
        [*machine.wrapper, "/bin/sh", "-ec", f"cd /\n{script}"],
        env={"PATH": path, "LC_ALL": "C.UTF-8", "HOME": "/root"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return done.stdout.decode("utf-8", "surrogateescape")


def give_own_tmp(machine: ShellMachine) -> None:
    """Mount a new /tmp in the private copy, which nobody watches; the machine's folders stay."""
    shared = machine.root.parent
    run_in_copy(
        machine,
        f"mkdir /run/shared; mount --bind '{shared}' /run/shared; mount -t tmpfs tmpfs /tmp\n"
        f"mkdir -p '{shared}'; mount --bind /run/shared '{shared}'",
    )
