"""An SSH server for runs with become: accounts, sudoers and shadow of a private machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.faults.scenarios import OTHER
from tests.sshd import SshdServer, child_processes, free_port, wait_until
from tests.support.sshd_machine import start_machine

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
class BecomeSshd(SshdServer):
    """A running server. ``idle`` are the processes of the machine while nobody is logged in."""

    idle: frozenset[int] = frozenset()

    def session_processes(self) -> tuple[int, ...]:
        """Return all processes of the machine; those that sudo starts are not children of sshd."""
        return tuple(_processes_in_namespace(self.pid) - self.idle)


@contextmanager
def start_become_server(folder: Path, lines: list[str]) -> Iterator[BecomeSshd]:
    """Start a server in a new folder, with these lines in its configuration.

    The calling thread, and threads that it starts, are in another network namespace meanwhile.
    """
    with start_machine(folder) as machine:
        machine.run_as_root(_SETUP)
        for each in map(machine.outside_path, map(str, folder.parents)):
            each.chmod(each.stat().st_mode | 0o055)
        port = free_port()
        machine.start_sshd("sshd", [f"Port {port}", "ListenAddress 0.0.0.0", "UsePAM no", *lines])
        (pid,) = child_processes(machine.servers[0].pid)  # nsenter(1) waits for it
        wait_until(lambda: not [*child_processes(pid)], "the first look at it to end")
        idle = frozenset(_processes_in_namespace(pid))
        yield BecomeSshd(folder, port, pid, "free", machine.key, machine.known_hosts, folder, idle)


def _processes_in_namespace(pid: int) -> set[int]:
    """Return the processes in the namespace of this process (pid_namespaces(7))."""
    own = _pid_namespace(pid)
    every = (int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal())
    return {each for each in every if _pid_namespace(each) == own}


def _pid_namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return str(pid)  # it has ended
