"""The server for runs that become other users: accounts, sudoers and shadow of a private machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.scenario import OTHER
from tests.matrix.place import place
from tests.sshd import Sshd, children, free_port, until

PASSWORD = "correct horse"
_USERS = ("alice", "free", OTHER)
_SETUP = f"""
for user in {" ".join(_USERS)}; do useradd -m -s /bin/sh -p '*' $user; done
printf '%s:{PASSWORD}\\n' alice {OTHER} | chpasswd -c SHA256 -s 1000
cat >/etc/sudoers.d/orch <<'END'
alice ALL=(ALL) ALL
free ALL=(ALL) NOPASSWD: ALL
END
printf 'auth required pam_unix.so nodelay\\naccount required pam_unix.so\\n' >/etc/pam.d/sudo
cp /etc/pam.d/sudo /etc/pam.d/su
"""


@dataclass(frozen=True, slots=True)
class Accounts(Sshd):
    """``idle``: the machine's processes while nobody is logged in."""

    idle: frozenset[int] = frozenset()

    def children(self) -> tuple[int, ...]:
        """Whatever runs there: what sudo starts is not sshd's own."""
        return tuple(_running(self.pid) - self.idle)


@contextmanager
def accounts(folder: Path, lines: list[str]) -> Iterator[Accounts]:
    """Run one, in this new folder, with these lines in its configuration; for this thread and
    those that it starts the network is another meanwhile."""
    with place(folder) as here:
        here.sh(_SETUP)
        for each in map(here.at, map(str, folder.parents)):
            each.chmod(each.stat().st_mode | 0o055)
        port = free_port()
        here.serve("sshd", [f"Port {port}", "ListenAddress 0.0.0.0", "UsePAM no", *lines])
        (pid,) = children(here.servers[0].pid)  # nsenter(1) waits for it
        until(lambda: not [*children(pid)], "the first look at it to end")
        idle = frozenset(_running(pid))
        yield Accounts(folder, port, pid, "free", here.key, here.known_hosts, folder, idle)


def _running(pid: int) -> set[int]:
    """The processes in this one's namespace (pid_namespaces(7))."""
    own = _namespace(pid)
    every = (int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal())
    return {each for each in every if _namespace(each) == own}


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return str(pid)  # it has ended
