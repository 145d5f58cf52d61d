"""A private machine with its own accounts, sshds and network.

Its passwd, shadow and pam.d are its own, too (tests/support/private_copy.py). Code inside
``start_machine`` uses the machine's network instead of the real one: 127.0.0.0/8 and ::1, with
every port free.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.sshd import SSHD, START_TIMEOUT, generate_key, wait_until
from tests.support.private_copy import PrivateCopy, make_copy

CONFIG = "/etc/ssh/matrix"
FIRST_UID = 7000
_PAM = """\
auth required pam_unix.so
account required pam_unix.so
session optional pam_motd.so
session required pam_permit.so
"""
_LO_UP = "busybox ip link set lo up; echo 0 >/proc/sys/net/ipv6/conf/lo/disable_ipv6"
_CLONE_NEWNET = 0x40000000  # setns(2)


@dataclass(frozen=True, slots=True)
class LoginAccount:
    """A login account.

    ``files`` are created in its home. ``password_hash`` is a crypt(3) hash, ``shadow_dates`` the
    rest of its line in shadow(5), and ``match_lines`` are sshd options for this user only.
    """

    name: str
    shell: str = "/bin/dash"
    home: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    password_hash: str = "*"
    shadow_dates: str = "20000:0:99999:7:::"
    match_lines: Sequence[str] = ()

    @property
    def home_folder(self) -> str:
        return self.home or f"/home/{self.name}"


class SshdMachine:
    """The machine; every account accepts ``key``, and ``host_key`` is the key of every server."""

    def __init__(self, folder: Path, copy: PrivateCopy) -> None:
        self.folder, self.words = folder, copy.words
        self.key, self.host_key = generate_key(folder / "key"), generate_key(folder / "host_key")
        self.servers: list[subprocess.Popen[bytes]] = []
        self._root = Path(f"/proc/{copy.first}/root")
        self.run_as_root(f"{_LO_UP}; mkdir -p /run/sshd; mkdir {CONFIG}")
        self.write_file("/etc/pam.d/sshd", _PAM)
        self.write_file("/etc/motd", "The message of the day\n")
        self.write_file(f"{CONFIG}/keys", Path(f"{self.key}.pub").read_text())
        self.write_file(f"{CONFIG}/host_key", self.host_key.read_text()).chmod(0o600)
        kind, key = Path(f"{self.host_key}.pub").read_text().split()[:2]
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(f"* {kind} {key}\n")

    def outside_path(self, path: str) -> Path:
        """Return the path outside of a file inside; not for absolute links."""
        return self._root / path.lstrip("/")

    def write_file(self, path: str, text: str) -> Path:
        """Create a file inside, with its parent folders."""
        file = self.outside_path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def share_folder(self, path: Path) -> None:
        """Share a folder with the machine; an overlay does not include mounted folders."""
        if not self.outside_path(str(path)).is_dir() or not any(
            self.outside_path(str(path)).iterdir()
        ):
            overlay_path = f"{self.folder}/overlay/root{path}"
            script = 'mkdir -p "$2"; exec mount --rbind "$1" "$2"'
            words = [*self.words[:4], "sh", "-ec", script, "sh", str(path), overlay_path]
            subprocess.run(words, check=True)

    def run_as_root(self, script: str) -> str:
        """Run a command inside as root and return its stdout."""
        done = subprocess.run(
            [*self.words, "--wdns=/", "/bin/sh", "-ec", script], stdout=subprocess.PIPE, check=True
        )
        return done.stdout.decode()

    def add_accounts(self, accounts: Sequence[LoginAccount]) -> None:
        """Create accounts with homes."""
        with (
            self.outside_path("/etc/passwd").open("a") as passwd,
            self.outside_path("/etc/shadow").open("a") as shadow,
        ):
            for uid, one in enumerate(accounts, FIRST_UID):
                passwd.write(f"{one.name}:x:{uid}:100::{one.home_folder}:{one.shell}\n")
                shadow.write(f"{one.name}:{one.password_hash}:{one.shadow_dates}\n")
                self._make_home(one, uid)

    def _make_home(self, one: LoginAccount, uid: int) -> None:
        if one.home_folder.startswith("/proc/"):
            return  # the account has no home folder
        home = self.outside_path(one.home_folder)
        home.mkdir(mode=0o755, parents=True)
        for name, text in one.files.items():
            self.write_file(f"{one.home_folder}/{name}", text)
        for each in (home, *home.rglob("*")):
            os.chown(each, uid, 100)

    def start_sshd(self, name: str, lines: Sequence[str], *, before: str = "") -> None:
        """Start an sshd with these lines and the usual ones.

        ``before`` runs first, in a separate mount namespace.
        """
        assert SSHD, "these tests need OpenSSH's sshd: install openssh-server"
        port = next((line.split()[1] for line in lines if line.startswith("Port ")), "22")
        config = f"{CONFIG}/{name}.conf"
        self.write_file(
            config, "\n".join((*_first_values(lines), *_USUAL, *_match_blocks(lines), ""))
        )
        unshare = ["unshare", "--mount", "sh", "-ec", f'{before}\nexec "$@"', "sh"]
        with self.sshd_log(name).open("wb") as log:
            server = subprocess.Popen(
                [*self.words, *(unshare if before else ()), SSHD, "-D", "-e", "-f", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
            )
        self.servers.append(server)
        wait_until(lambda: server.poll() is not None or _is_answering(int(port)), f"sshd {name}")
        assert server.poll() is None, self.sshd_log(name).read_text()

    def sshd_log(self, name: str) -> Path:
        """Return the log of this sshd."""
        return self.folder / f"{name}.log"

    def key_fingerprint(self, key: Path) -> str:
        """Return the SHA256:… fingerprint of a key."""
        output = subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, check=True)
        return output.stdout.decode().split()[1]


_USUAL = (
    f"HostKey {CONFIG}/host_key",
    f"AuthorizedKeysFile {CONFIG}/keys",
    "PidFile none",
    "StrictModes no",
    "UsePAM yes",
    "UseDNS no",
    "PasswordAuthentication no",
    "KbdInteractiveAuthentication no",
    "LogLevel VERBOSE",
)


def _first_values(lines: Sequence[str]) -> list[str]:
    """Keep the first value of each keyword, as sshd does for most."""
    return [line for line in lines if not line.startswith("Match ")]


def _match_blocks(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.startswith("Match ")]


def _is_answering(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), START_TIMEOUT) as probe:
            return probe.recv(4) == b"SSH-"
    except OSError:
        return False


@contextmanager
def start_machine(folder: Path) -> Iterator[SshdMachine]:
    """Create a machine in this new folder, and use its network during the block."""
    folder.mkdir()
    assert shutil.which("unshare"), "these tests need util-linux"
    machine: SshdMachine | None = None
    try:
        with make_copy(folder / "overlay", folder) as copy, _join_network(copy.first):
            machine = SshdMachine(folder, copy)
            yield machine
    finally:
        for server in machine.servers if machine else ():
            server.wait()  # the end of its namespace ended it


@contextmanager
def _join_network(pid: int) -> Iterator[None]:
    """Make this thread, and those that it starts, use the network of that process."""
    own = Path("/proc/thread-self/ns/net")
    with own.open() as ours, Path(f"/proc/{pid}/ns/net").open() as theirs:
        _enter_namespace(theirs.fileno())
        try:
            yield
        finally:
            _enter_namespace(ours.fileno())


def _enter_namespace(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
