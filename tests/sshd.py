"""A real OpenSSH server for tests, run by the tester's user.

It listens on every address, so that each 127.x.y.z is a host. It has its own configuration, host
key, client key and HOME for sessions; it reads nothing outside its folder, except what sshd
requires (its privilege separation folder, if run as root). With the user's own HOME, bash would
read its .bashrc, because it detects sshd: with pyenv in it that takes 80 ms of CPU for each
session.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.errors import SourcePosition
from orchestrator.model.host import ConnectionOptions, Host

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/sbin")
START_TIMEOUT = 20.0  # timeout in seconds of every wait
ATTEMPTS = 5  # another process may take the free port first


@dataclass(frozen=True, slots=True)
class SshdServer:
    """A running server.

    ``folder`` holds its files; ``key`` is the private key that it accepts. ``known_hosts`` has its
    host key for every address at its port. ``home`` is the HOME of its sessions, which start in
    another folder: sshd changes to the account's home.
    """

    folder: Path
    port: int
    pid: int
    user: str
    key: Path
    known_hosts: Path
    home: Path

    @property
    def host_key(self) -> str:
        """Return its public host key: type and base64."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def connect_options(
        self,
        address: str = "127.0.0.1",
        *,
        user: str | None = None,
        identity: tuple[str, ...] | None = None,
        identities_only: bool | None = True,
        known_hosts: tuple[str, ...] | None = None,
        host_keys: str = "strict",
        timeout: float = START_TIMEOUT,
        retries: int = 2,
        keepalive: float = 15.0,
        shell: str = "sh",
    ) -> ConnectionOptions:
        """Return working options to log in to this server, with these arguments replaced."""
        return ConnectionOptions(
            address,
            self.port,
            user or self.user,
            (str(self.key),) if identity is None else identity,
            identities_only,
            known_hosts=(str(self.known_hosts),) if known_hosts is None else known_hosts,
            host_keys=host_keys,
            timeout=timeout,
            retries=retries,
            keepalive=keepalive,
            shell=shell,
        )

    def inventory_host(
        self, address: str = "127.0.0.1", connect: ConnectionOptions | None = None
    ) -> Host:
        """Return an inventory host at this server."""
        return Host(
            address, connect or self.connect_options(address), (), (), SourcePosition("test")
        )

    def session_processes(self) -> tuple[int, ...]:
        """Return its processes for connections, which are the parents of the sessions."""
        return tuple(child_processes(self.pid))

    def log(self) -> str:
        """Return its log so far."""
        return (self.folder / "log").read_text("utf-8", "replace")


@contextmanager
def serve_sshd(
    folder: Path,
    lines: Sequence[str] = (),
    *,
    wrapper: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[SshdServer]:
    """Run a server in ``folder``, and end it with all of its processes.

    ``lines`` are added to its configuration and override the usual ones. ``wrapper`` is a script
    that every session runs instead of the requested command, which is in ``$SSH_ORIGINAL_COMMAND``.
    ``environment`` is set in the sessions; values must not contain spaces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for name in ("host_key", "client_key"):
        if not (folder / name).exists():
            generate_key(folder / name)
    (folder / "authorized_keys").write_bytes((folder / "client_key.pub").read_bytes())
    if wrapper is not None:
        script = folder / "wrapper"
        script.write_text(wrapper)
        script.chmod(0o755)
        lines = [*lines, f"ForceCommand {script}"]
    home = folder / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    settings = {"HOME": str(home), **(environment or {})}
    lines = [*lines, "SetEnv " + " ".join(f"{name}={text}" for name, text in settings.items())]
    server, port = _start_server(folder, lines)
    kind, key = (folder / "host_key.pub").read_text().split()[:2]
    known = folder / "known_hosts"
    known.write_text(f"[*]:{port} {kind} {key}\n")
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
        yield SshdServer(
            folder,
            port,
            pid=server.pid,
            user=user,
            key=folder / "client_key",
            known_hosts=known,
            home=home,
        )
    finally:
        _end_server(server)


def generate_key(
    path: Path, kind: str = "ed25519", passphrase: str = "", bits: int | None = None
) -> Path:
    """Create a key pair at ``path`` and ``path``.pub."""
    size = ["-b", str(bits)] if bits else []
    command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", path.name, "-f", path]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def free_port() -> int:
    """Return a port that is currently free."""
    with closing(socket.socket()) as taken:
        taken.bind(("", 0))
        return int(taken.getsockname()[1])


def wait_until(condition: object, what: str, timeout: float = START_TIMEOUT) -> None:
    """Return as soon as ``condition()`` is true; fail the test after a timeout."""
    assert callable(condition)
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout:g} s for {what}, which did not come")
        time.sleep(0.01)


def child_processes(pid: int) -> Iterator[int]:
    """Return the direct children of a process, as listed by `ps`."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True)
    for row in table.stdout.split(b"\n"):
        if row.split()[1:] == [str(pid).encode()]:
            yield int(row.split()[0])


def make_separation_folder() -> None:
    """Create the folder without which sshd neither starts nor tests its configuration."""
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)


def _start_server(folder: Path, lines: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
    assert SSHD, "these tests need OpenSSH's sshd: install openssh-server"
    make_separation_folder()
    assert Path(pwd.getpwuid(os.getuid()).pw_shell).name not in {"nologin", "false"}
    for _ in range(ATTEMPTS):
        port = free_port()
        (folder / "config").write_text(_config_text(folder, port, lines))
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", folder / "config"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": os.environ["PATH"]},
            )
        if _is_answering(server, port):
            return server, port
        _end_server(server)
    pytest.fail(f"sshd does not start: {(folder / 'log').read_text()}")


def _config_text(folder: Path, port: int, lines: Sequence[str]) -> str:
    """Return ``lines``, and the usual ones for other keywords.

    sshd uses the first value of most keywords, but the last one of MaxStartups.
    """
    usual = (
        f"Port {port}",
        "ListenAddress 0.0.0.0",
        f"HostKey {folder}/host_key",
        f"AuthorizedKeysFile {folder}/authorized_keys",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "UseDNS no",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PrintMotd no",
        "PrintLastLog no",
        "LogLevel VERBOSE",
        "MaxStartups 1000:30:2000",
        "MaxSessions 100",
    )
    given_keywords = {row.split()[0].lower() for line in lines for row in line.splitlines()}
    rest = [line for line in usual if line.split()[0].lower() not in given_keywords - {"hostkey"}]
    return "\n".join((*lines, *rest, ""))


def _is_answering(server: subprocess.Popen[bytes], port: int) -> bool:
    end = time.monotonic() + START_TIMEOUT
    while server.poll() is None and time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), START_TIMEOUT) as probe:
                if probe.recv(4) == b"SSH-":
                    return True
        except OSError:
            time.sleep(0.01)
    return False


def _end_server(server: subprocess.Popen[bytes]) -> None:
    """End the server and its remaining sessions by their IDs: they have their own groups."""
    left = [*_descendants(server.pid)]
    for pid in (server.pid, *left):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself
    server.wait()


def _descendants(pid: int) -> Iterator[int]:
    for child in child_processes(pid):
        yield child
        yield from _descendants(child)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshdServer]:
    """Start the server that most tests share."""
    with serve_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server
