"""Connections and idle shell sessions that are kept from one run to the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from msgspec import Struct, field

from orchestrator.errors import ConnectError
from orchestrator.model.host import Host
from orchestrator.remote_shell import ShellSession
from orchestrator.remote_shell.channel_protocol import Connection

_ANSWER_TIMEOUT = 5.0
"""Seconds that a host may take to answer on a kept session; then it is connected anew."""


class _KeptHost(Struct):
    """The connection of one host, and an idle session for each user ('': the login user)."""

    connection: Connection
    sessions: dict[str, ShellSession] = field(default_factory=dict)

    def close(self) -> None:
        for session in self.sessions.values():
            session.close()
        self.connection.close()


class KeptConnections:
    """Connections and sessions that outlive a run. Thread-safe for different hosts.

    The pool of a run takes the connection of a host with its sessions, and hands them back when the
    run is done with the host. What a host does not answer on any more is closed, never handed out.
    """

    def __init__(self) -> None:
        """Start without connections."""
        self._lock = threading.Lock()
        self._idle: dict[str, _KeptHost] = {}
        self._in_use: dict[str, _KeptHost] = {}

    def take(self, host: Host) -> Connection | None:
        """Return the host's connection after the host has answered on it, or None.

        Each session is asked for an answer. If all have ended, a new one is opened on the
        connection; if the host kept silent, it is connected anew.
        """
        with self._lock:
            kept = self._idle.pop(host.name, None)
        if kept is None:
            return None
        timeout = min(_ANSWER_TIMEOUT, host.connect.timeout)
        began = time.monotonic()
        kept.sessions = {
            user: session for user, session in kept.sessions.items() if session.answers(timeout)
        }
        is_silent = time.monotonic() - began >= timeout
        if not kept.sessions and (is_silent or not _open_session(kept, timeout)):
            kept.close()
            return None
        with self._lock:
            self._in_use[host.name] = kept
        return kept.connection

    def take_session(self, name: str, user: str) -> ShellSession | None:
        """Return an idle session of the user on a host whose connection was taken, or None."""
        with self._lock:
            kept = self._in_use.get(name)
        return kept.sessions.pop(user, None) if kept is not None else None

    def close_sessions(self, name: str) -> bool:
        """Close the idle sessions of a host whose connection was taken; True if there were any."""
        with self._lock:
            kept = self._in_use.get(name)
            sessions = list(kept.sessions.values()) if kept is not None else []
            if kept is not None:
                kept.sessions = {}
        for session in sessions:
            session.close()
        return bool(sessions)

    def note_connected(self, name: str, connection: Connection) -> None:
        """Record a new connection that a run uses, so that ``disconnect`` reaches it."""
        with self._lock:
            self._in_use[name] = _KeptHost(connection)

    def give_back(
        self, name: str, connection: Connection, sessions: Iterable[tuple[str, ShellSession]]
    ) -> None:
        """Keep a host's connection, and a session (user, session) for each user that has none.

        Sessions that cannot run another pipeline are closed, and so are surplus ones.
        """
        with self._lock:
            kept = self._in_use.pop(name, None) or _KeptHost(connection)
        for user, session in sessions:
            if session.is_alive and user not in kept.sessions:
                kept.sessions[user] = session
            else:
                session.close()
        with self._lock:
            self._idle[name] = kept

    def drop(self, name: str) -> None:
        """Forget the connection of a host, which the run has closed."""
        with self._lock:
            self._in_use.pop(name, None)

    def open_session(self, host: Host, user: str = "") -> ShellSession:
        """Open a session of the caller's own on an idle connection.

        Raises ConnectError if the host has no idle connection, or refuses the session.
        """
        with self._lock:
            kept = self._idle.get(host.name)
        if kept is None:
            raise ConnectError("connect", f"{host.name} is not connected")
        return ShellSession(
            kept.connection.open(user),
            ready_timeout=host.connect.timeout,
            endpoint=kept.connection.endpoint,
        )

    def connected_hosts(self) -> set[str]:
        """Return the names of the hosts whose connection is kept."""
        with self._lock:
            return set(self._idle)

    def disconnect(self) -> None:
        """Close the connections that a run uses now: their hosts are lost to it."""
        with self._lock:
            used = list(self._in_use.values())
        for kept in used:
            kept.connection.close()

    def close(self) -> None:
        """Close all connections and sessions."""
        with self._lock:
            hosts = [*self._idle.values(), *self._in_use.values()]
            self._idle, self._in_use = {}, {}
        for kept in hosts:
            kept.close()


def _open_session(kept: _KeptHost, timeout: float) -> bool:
    """Open a session of the login user, to see whether the connection still works."""
    try:
        session = ShellSession(
            kept.connection.open(), ready_timeout=timeout, endpoint=kept.connection.endpoint
        )
    except ConnectError:
        return False
    if not session.answers(timeout):
        return False
    kept.sessions[""] = session
    return True
