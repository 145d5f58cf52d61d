"""A private machine with accounts and sshds of its own, on a network of its own.

Its passwd, shadow and pam.d are its own, too (tests/library/private.py). Whoever is inside
``place`` has its network in place of the real one: 127.0.0.0/8 and ::1, every port free.
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

from tests.library.private import Copy, copied
from tests.sshd import PATIENCE, SSHD, keygen, until

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
class Account:
    """A login. ``files`` are in its home. ``secret`` is a crypt(3) hash, ``dates`` the rest of
    its line in shadow(5), and ``match`` what sshd is told of it alone."""

    name: str
    shell: str = "/bin/dash"
    home: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    secret: str = "*"
    dates: str = "20000:0:99999:7:::"
    match: Sequence[str] = ()

    @property
    def folder(self) -> str:
        return self.home or f"/home/{self.name}"


class Place:
    """The machine. ``key`` is let in everywhere; ``host_key`` is every server's."""

    def __init__(self, folder: Path, copy: Copy) -> None:
        self.folder, self.words = folder, copy.words
        self.key, self.host_key = keygen(folder / "key"), keygen(folder / "host_key")
        self.servers: list[subprocess.Popen[bytes]] = []
        self._root = Path(f"/proc/{copy.first}/root")
        self.sh(f"{_LO_UP}; mkdir -p /run/sshd; mkdir {CONFIG}")
        self.write("/etc/pam.d/sshd", _PAM)
        self.write("/etc/motd", "The message of the day\n")
        self.write(f"{CONFIG}/keys", Path(f"{self.key}.pub").read_text())
        self.write(f"{CONFIG}/host_key", self.host_key.read_text()).chmod(0o600)
        kind, key = Path(f"{self.host_key}.pub").read_text().split()[:2]
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(f"* {kind} {key}\n")

    def at(self, path: str) -> Path:
        """Where a path of its is seen from here. Not for absolute links."""
        return self._root / path.lstrip("/")

    def write(self, path: str, text: str) -> Path:
        """Make a file of its, and the folders above it."""
        file = self.at(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def share(self, path: Path) -> None:
        """Have a folder of this machine there as well; an overlay leaves out what is mounted."""
        if not self.at(str(path)).is_dir() or not any(self.at(str(path)).iterdir()):
            there = f"{self.folder}/overlay/root{path}"
            script = 'mkdir -p "$2"; exec mount --rbind "$1" "$2"'
            words = [*self.words[:4], "sh", "-ec", script, "sh", str(path), there]
            subprocess.run(words, check=True)

    def sh(self, script: str) -> str:
        """Run it there as root; its stdout."""
        done = subprocess.run(
            [*self.words, "--wdns=/", "/bin/sh", "-ec", script], stdout=subprocess.PIPE, check=True
        )
        return done.stdout.decode()

    def add(self, accounts: Sequence[Account]) -> None:
        """Make logins with homes."""
        with self.at("/etc/passwd").open("a") as passwd, self.at("/etc/shadow").open("a") as shadow:
            for uid, one in enumerate(accounts, FIRST_UID):
                passwd.write(f"{one.name}:x:{uid}:100::{one.folder}:{one.shell}\n")
                shadow.write(f"{one.name}:{one.secret}:{one.dates}\n")
                self._home(one, uid)

    def _home(self, one: Account, uid: int) -> None:
        if one.folder.startswith("/proc/"):
            return  # there is to be none
        home = self.at(one.folder)
        home.mkdir(mode=0o755, parents=True)
        for name, text in one.files.items():
            self.write(f"{one.folder}/{name}", text)
        for each in (home, *home.rglob("*")):
            os.chown(each, uid, 100)

    def serve(self, name: str, lines: Sequence[str], *, before: str = "") -> None:
        """Start an sshd with these lines and the usual ones. ``before``: what is done ahead, in
        mounts of its own."""
        assert SSHD, "these tests need OpenSSH's sshd: install openssh-server"
        port = next((line.split()[1] for line in lines if line.startswith("Port ")), "22")
        config = f"{CONFIG}/{name}.conf"
        self.write(config, "\n".join((*_first(lines), *_USUAL, *_matches(lines), "")))
        unshare = ["unshare", "--mount", "sh", "-ec", f'{before}\nexec "$@"', "sh"]
        with self.log(name).open("wb") as log:
            server = subprocess.Popen(
                [*self.words, *(unshare if before else ()), SSHD, "-D", "-e", "-f", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
            )
        self.servers.append(server)
        until(lambda: server.poll() is not None or _answers(int(port)), f"sshd {name}")
        assert server.poll() is None, self.log(name).read_text()

    def log(self, name: str) -> Path:
        """What that sshd says."""
        return self.folder / f"{name}.log"

    def fingerprint(self, key: Path) -> str:
        """SHA256:… of a key."""
        said = subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, check=True)
        return said.stdout.decode().split()[1]


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


def _first(lines: Sequence[str]) -> list[str]:
    """sshd takes the first value of most keywords."""
    return [line for line in lines if not line.startswith("Match ")]


def _matches(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.startswith("Match ")]


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as probe:
            return probe.recv(4) == b"SSH-"
    except OSError:
        return False


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    """Make one, with this new folder for its files, and be on its network meanwhile."""
    folder.mkdir()
    assert shutil.which("unshare"), "these tests need util-linux"
    made: Place | None = None
    try:
        with copied(folder / "overlay", folder) as copy, _network_of(copy.first):
            made = Place(folder, copy)
            yield made
    finally:
        for server in made.servers if made else ():
            server.wait()  # its namespace's end was its own


@contextmanager
def _network_of(pid: int) -> Iterator[None]:
    """This thread, and those that it starts, use the network of that process."""
    own = Path("/proc/thread-self/ns/net")
    with own.open() as ours, Path(f"/proc/{pid}/ns/net").open() as theirs:
        _enter(theirs.fileno())
        try:
            yield
        finally:
            _enter(ours.fileno())


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
