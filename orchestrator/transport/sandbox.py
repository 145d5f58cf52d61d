"""Hosts that need nothing: an SSH server in this process with a home folder for each of them.

It is real SSH over loopback and real shells, run as whoever runs orch and with no more rights;
a home folder keeps hosts apart, it does not lock them in. Hosts share this machine's name.
"""

from __future__ import annotations

import contextlib
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
from orchestrator.transport.config.settings import Settings
from orchestrator.transport.identity import signer
from orchestrator.transport.keys import Key, Offer, kind_of
from orchestrator.transport.known_hosts import KnownHosts, known_name
from orchestrator.transport.library import Ed25519Key
from orchestrator.transport.login import login_name
from orchestrator.transport.pump import Pump
from orchestrator.transport.server import Guard, Server
from orchestrator.transport.ssh import JOIN, Ssh, SshConnection
from orchestrator.transport.target import Target
from orchestrator.transport.trust import Trust
from orchestrator.transport.wire import Wire

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
