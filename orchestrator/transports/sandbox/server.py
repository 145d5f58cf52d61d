"""The sandbox's end of an SSH connection.

Hosts that need nothing: an SSH server in this process with a home folder for each of them.

It is real SSH over loopback and real shells, run as whoever runs orch and with no more rights;
a home folder keeps hosts apart, it does not lock them in. Hosts share this machine's name.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import secrets
import socket
import threading
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.model.host import Host
from orchestrator.transports.local_user import login_name
from orchestrator.transports.sandbox.process import Process, Pump
from orchestrator.transports.ssh.byte_stream import Wire
from orchestrator.transports.ssh.channels import PACKET, WINDOW
from orchestrator.transports.ssh.connector import JOIN, Ssh, SshConnection
from orchestrator.transports.ssh.host_key_policy import Trust
from orchestrator.transports.ssh.key_files import signer
from orchestrator.transports.ssh.keyring import Key, Offer, kind_of
from orchestrator.transports.ssh.known_hosts import KnownHosts, known_name
from orchestrator.transports.ssh.paramiko_compat import (
    Ed25519Key,
    Message,
    PKey,
    ServerInterface,
    codes,
)
from orchestrator.transports.ssh.target import Target
from orchestrator.transports.ssh.transport import Link
from orchestrator.transports.ssh_config.settings import Settings

PROHIBITED = 1  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED, RFC 4254 5.1


class Guard(ServerInterface):
    """Who may come in: the holder of one key, as a user named after one of ``homes``.

    ``marker`` is in the environment of every process that is started.
    """

    def __init__(self, key: bytes, host_key: Ed25519Key, marker: str) -> None:
        self.homes: dict[str, Path] = {}
        self.host_key, self.marker = host_key, marker
        self._key = key

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002  # paramiko's hook
        """Keys, and nothing else."""
        return "publickey"

    def check_auth_publickey(self, username: str, key: PKey) -> int:
        """Whether this key opens this home; paramiko checks the signature."""
        fits = hmac.compare_digest(key.asbytes(), self._key) and username in self.homes
        return codes.AUTH_SUCCESSFUL if fits else codes.AUTH_FAILED


class Server(Link):
    """One client's connection: sessions with a command, and nothing else of SSH."""

    def __init__(self, wire: Wire, guard: Guard, pump: Pump) -> None:
        super().__init__(wire)
        self._guard, self._pump = guard, pump
        self._handler_table[codes.MSG_CHANNEL_OPEN] = self._session
        self.add_server_key(guard.host_key)

    def serve(self) -> None:
        """Begin. Returns at once."""
        self.start_server(event=threading.Event(), server=self._guard)

    def _session(self, message: Message) -> None:
        kind, peer = message.get_text(), message.get_int()
        window, largest = message.get_int(), message.get_int()
        if kind != "session":
            refusal = Message().add_byte(codes.cMSG_CHANNEL_OPEN_FAILURE).add_int(peer)
            self.post(refusal.add_int(PROHIBITED).add_string("sessions only").add_string("en"))
            return
        home = self._guard.homes[self.get_username() or ""]
        with self.lock:
            process = Process(self, self._next_channel(), home, self._guard.marker, self._pump)
            self.adopt(process)
        process.confirmed(peer, window, largest)
        taken = Message().add_byte(codes.cMSG_CHANNEL_OPEN_SUCCESS).add_int(peer)
        self.post(taken.add_int(process.number).add_int(WINDOW).add_int(PACKET))


LOOPBACK = "127.0.0.1"
STRANGER = 20.0  # seconds until a connection that has not logged in is dropped


class Sandbox:
    """The run's sandbox server: starts when made, and ends with all its processes on ``close``.

    ``folder`` holds a home for each host, made when first needed and never removed.
    It lets in nobody but the holder of a key made here and never written down.
    Raises ConnectError where it can't start.
    """

    def __init__(self, folder: Path, ssh: Ssh) -> None:
        self._folder, self._ssh = folder, ssh
        mine, theirs = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
        host_key, key = Ed25519Key(file_obj=_written(theirs)), Ed25519Key(file_obj=_written(mine))
        self._guard = Guard(key.asbytes(), host_key, secrets.token_hex(16))
        self._offer = Offer((Key(key.asbytes(), "the sandbox's key", signer(mine)),), ())
        self._known = KnownHosts(())
        try:
            self._listener = socket.create_server((LOOPBACK, 0), backlog=128)
        except OSError as error:
            raise ConnectError("connect", f"the sandbox can't listen: {error.strerror}") from error
        self.port: int = self._listener.getsockname()[1]
        blob = host_key.asbytes()
        self._known.add(known_name(LOOPBACK, self.port), kind_of(blob), blob, record=False)
        self._pump = Pump()
        self._lock = threading.Lock()
        self._links: dict[Server, float] = {}
        self._over = False
        self._thread = threading.Thread(target=self._accept, name="orch-sandbox", daemon=True)
        self._thread.start()

    def connect(self, host: Host) -> SshConnection:
        """Connect to the host's sandbox, making its home if there is none. Raises ConnectError."""
        self._guard.homes[host.name] = self._home(host.name)
        connect = replace(
            host.connect, address=LOOPBACK, port=self.port, user=host.name, host_keys="strict"
        )
        trust = Trust(self._known, connect, self.port, record=False)
        said = Settings(LOOPBACK, LOOPBACK)
        return self._ssh.reach(Target(connect, trust, lambda _: self._offer, said), login_name())

    def close(self) -> None:
        """End the server, its connections, and every process started in it."""
        self._over = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends accept, which close alone does not
        self._listener.close()
        self._thread.join(JOIN)
        with self._lock:
            links = list(self._links)
        for link in links:
            link.hang_up()
        for link in links:
            link.join(JOIN)
        self._pump.close(self._guard.marker)

    def _home(self, name: str) -> Path:
        if not name or name in (".", "..") or "/" in name or "\0" in name or len(name) > 255:
            raise ConnectError("connect", f"no sandbox can be called {name!r}")
        home = self._folder.absolute() / name
        try:
            for folder in (*reversed(self._folder.parents[:2]), self._folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            home.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            why = f"the sandbox can't make {home}: {error.strerror}"
            raise ConnectError("connect", why) from error
        if home.is_symlink():
            raise ConnectError("connect", f"the sandbox's {home} is a link to somewhere else")
        return home

    def _accept(self) -> None:
        while not self._over:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                if not self._over:
                    time.sleep(0.05)  # no descriptor left: the backlog waits for one
                continue
            link = Server(Wire(sock, self._ssh.flusher), self._guard, self._pump)
            with self._lock:
                self._links[link] = time.monotonic()
            link.serve()
            self._sweep()

    def _sweep(self) -> None:
        """Forget connections that are over; drop those of strangers at the door."""
        now = time.monotonic()
        with self._lock:
            links = list(self._links.items())
            self._links = {link: since for link, since in links if not link.over.is_set()}
        for link, since in links:
            if now - since > STRANGER and not link.is_authenticated():
                link.hang_up()


def _written(key: ed25519.Ed25519PrivateKey) -> io.StringIO:
    """The key as paramiko reads one."""
    data = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return io.StringIO(data.decode())
