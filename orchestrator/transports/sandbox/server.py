"""The sandbox's SSH server, in this process: a host is a home folder.

It serves real SSH over loopback and real shells, which run as the user who runs orch and with the
same rights: the home folders keep hosts apart but do not isolate them. All hosts share this
machine's name.
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
from orchestrator.transports.sandbox.process import ProcessIoThread, SandboxProcess
from orchestrator.transports.ssh.byte_stream import SocketStream
from orchestrator.transports.ssh.channels import MAX_DATA_BYTES, MAX_WINDOW
from orchestrator.transports.ssh.connector import JOIN_TIMEOUT, SshConnection, SshConnector
from orchestrator.transports.ssh.host_key_policy import HostKeyVerifier
from orchestrator.transports.ssh.key_files import make_signer
from orchestrator.transports.ssh.keyring import KeyOffer, LoginKey, key_type_of
from orchestrator.transports.ssh.known_hosts import KnownHosts, known_hosts_name
from orchestrator.transports.ssh.paramiko_compat import (
    Ed25519Key,
    Message,
    PKey,
    ServerInterface,
    codes,
)
from orchestrator.transports.ssh.route import Route
from orchestrator.transports.ssh.target import SshTarget
from orchestrator.transports.ssh.transport import SshTransport
from orchestrator.transports.ssh_config.resolve import ResolvedConnection
from orchestrator.transports.ssh_config.settings import SshSettings

PROHIBITED = 1  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED, RFC 4254 5.1


class SandboxAuth(ServerInterface):
    """The server's authentication: one key, and a user name for each home in ``homes``.

    ``marker`` is put into the environment of every process.
    """

    def __init__(self, key: bytes, host_key: Ed25519Key, marker: str) -> None:
        self.homes: dict[str, Path] = {}
        self.host_key, self.marker = host_key, marker
        self._key = key

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002  # paramiko's hook
        """Return the only method: public key."""
        return "publickey"

    def check_auth_publickey(self, username: str, key: PKey) -> int:
        """Accept the run's key for a user with a home. paramiko checks the signature."""
        is_allowed = hmac.compare_digest(key.asbytes(), self._key) and username in self.homes
        return codes.AUTH_SUCCESSFUL if is_allowed else codes.AUTH_FAILED


class SandboxConnection(SshTransport):
    """The server side of one connection. It accepts only sessions with a command."""

    def __init__(self, stream: SocketStream, auth: SandboxAuth, io_thread: ProcessIoThread) -> None:
        super().__init__(stream)
        self._auth, self._io_thread = auth, io_thread
        self._handler_table[codes.MSG_CHANNEL_OPEN] = self._on_open_request
        self.add_server_key(auth.host_key)

    def serve_client(self) -> None:
        """Start the reader thread and return."""
        self.start_server(event=threading.Event(), server=self._auth)

    def _on_open_request(self, message: Message) -> None:
        kind, peer = message.get_text(), message.get_int()
        window, max_packet = message.get_int(), message.get_int()
        if kind != "session":
            refusal = Message().add_byte(codes.cMSG_CHANNEL_OPEN_FAILURE).add_int(peer)
            self.send_message(
                refusal.add_int(PROHIBITED).add_string("sessions only").add_string("en")
            )
            return
        home = self._auth.homes[self.get_username() or ""]
        with self.lock:
            process = SandboxProcess(
                self, self._next_channel(), home, self._auth.marker, self._io_thread
            )
            self.register_channel(process)
        process.on_confirmed(peer, window, max_packet)
        confirmation = Message().add_byte(codes.cMSG_CHANNEL_OPEN_SUCCESS).add_int(peer)
        self.send_message(
            confirmation.add_int(process.number).add_int(MAX_WINDOW).add_int(MAX_DATA_BYTES)
        )


LOOPBACK = "127.0.0.1"
LOGIN_TIMEOUT = 20.0  # seconds until a connection that has not logged in is dropped


class SandboxServer:
    """The run's sandbox server. It starts on creation; ``close`` ends it and its processes.

    ``folder`` has a home for each host, which is created on the first connect and never removed.
    The only key that can log in is generated here and kept in memory.
    Raises ConnectError if the server cannot listen.
    """

    def __init__(self, folder: Path, ssh_connector: SshConnector) -> None:
        self._folder, self._ssh = folder, ssh_connector
        mine, theirs = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
        host_key, key = (
            Ed25519Key(file_obj=_private_key_text(theirs)),
            Ed25519Key(file_obj=_private_key_text(mine)),
        )
        self._auth = SandboxAuth(key.asbytes(), host_key, secrets.token_hex(16))
        self._offer = KeyOffer(
            (LoginKey(key.asbytes(), "the sandbox's key", make_signer(mine)),), ()
        )
        self._known_hosts = KnownHosts(())
        try:
            self._listener = socket.create_server((LOOPBACK, 0), backlog=128)
        except OSError as error:
            raise ConnectError("connect", f"the sandbox can't listen: {error.strerror}") from error
        self.port: int = self._listener.getsockname()[1]
        blob = host_key.asbytes()
        self._known_hosts.add(
            known_hosts_name(LOOPBACK, self.port), key_type_of(blob), blob, write_file=False
        )
        self._io_thread = ProcessIoThread()
        self._lock = threading.Lock()
        self._connections: dict[SandboxConnection, float] = {}
        self._is_closed = False
        self._thread = threading.Thread(
            target=self._accept_connections, name="orch-sandbox", daemon=True
        )
        self._thread.start()

    def connect(self, host: Host) -> SshConnection:
        """Connect to the host's sandbox, creating its home if necessary. Raises ConnectError."""
        self._auth.homes[host.name] = self._make_home(host.name)
        connect = replace(
            host.connect, address=LOOPBACK, port=self.port, user=host.name, host_keys="strict"
        )
        verifier = HostKeyVerifier(self._known_hosts, connect, self.port, record_host_keys=False)
        settings = SshSettings(LOOPBACK, LOOPBACK)
        return self._ssh.open_connection(
            SshTarget(
                Route(ResolvedConnection(connect, settings)), verifier, lambda _: self._offer
            ),
            login_name(),
        )

    def close(self) -> None:
        """End the server, its connections and every process that it started."""
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # close alone would not end accept()
        self._listener.close()
        self._thread.join(JOIN_TIMEOUT)
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.hang_up()
        for connection in connections:
            connection.join(JOIN_TIMEOUT)
        self._io_thread.close(self._auth.marker)

    def _make_home(self, name: str) -> Path:
        if not name or name in (".", "..") or "/" in name or "\0" in name or len(name) > 255:
            raise ConnectError("connect", f"invalid sandbox name {name!r}")
        home = self._folder.absolute() / name
        try:
            for folder in (*reversed(self._folder.parents[:2]), self._folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            home.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            why = f"the sandbox can't create {home}: {error.strerror}"
            raise ConnectError("connect", why) from error
        if home.is_symlink():
            raise ConnectError("connect", f"the sandbox's {home} is a symbolic link")
        return home

    def _accept_connections(self) -> None:
        while not self._is_closed:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                if not self._is_closed:
                    time.sleep(0.05)  # out of descriptors: clients wait in the backlog
                continue
            connection = SandboxConnection(
                SocketStream(sock, self._ssh.flusher), self._auth, self._io_thread
            )
            with self._lock:
                self._connections[connection] = time.monotonic()
            connection.serve_client()
            self._drop_stale_connections()

    def _drop_stale_connections(self) -> None:
        """Forget connections that have ended; close those that have not logged in for too long."""
        now = time.monotonic()
        with self._lock:
            connections = list(self._connections.items())
            self._connections = {
                connection: since
                for connection, since in connections
                if not connection.ended.is_set()
            }
        for connection, since in connections:
            if now - since > LOGIN_TIMEOUT and not connection.is_authenticated():
                connection.hang_up()


def _private_key_text(key: ed25519.Ed25519PrivateKey) -> io.StringIO:
    """Return the key in the format that paramiko reads."""
    data = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return io.StringIO(data.decode())
