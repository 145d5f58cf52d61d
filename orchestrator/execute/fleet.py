"""Connections and sessions of a run, by host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from orchestrator.errors import ConnectError
from orchestrator.execute.cancel import Cancel
from orchestrator.model.event import ConnectFinished, ConnectStarted, Event
from orchestrator.model.host import Host
from orchestrator.session import Session
from orchestrator.session.channel import Channel, Connection

Connect: TypeAlias = Callable[[Host], Connection]
Emit: TypeAlias = Callable[[Event], None]


class Fleet:
    """Connects each host at most once and tells of it; a failure is final for the run."""

    def __init__(
        self, hosts: Mapping[str, Host], connect: Connect, emit: Emit, cancel: Cancel
    ) -> None:
        self.hosts, self._connect, self._emit, self.cancel = hosts, connect, emit, cancel
        self._lock = threading.Lock()
        self._connections: dict[str, Connection] = {}
        self._sessions: dict[tuple[str, str | None, str], Session] = {}
        self._turns: dict[str, threading.Lock] = {}

    def connect(self, name: str) -> Connection:
        """The host's connection, made if need be. Raises ConnectError."""
        with self._lock:
            connection = self._connections.get(name)
        if connection is not None:
            return connection
        began = time.monotonic()
        self._emit(ConnectStarted(time.time(), name))
        try:
            connection = self._connect(self.hosts[name])
        except ConnectError as error:
            seconds = time.monotonic() - began
            problem = error.problems[0]
            self._emit(ConnectFinished(time.time(), name, seconds, problem.what, problem.hint))
            raise
        with self._lock:
            self._connections[name] = connection
        self._emit(ConnectFinished(time.time(), name, time.monotonic() - began))
        return connection

    def session(self, name: str, app: str | None, user: str = "") -> Session:
        """The lane's session on the host, opened if need be; ``user``'s, where one is named.

        Raises ConnectError. Where nobody may become that user, its first ``run`` does, with phase
        become.
        """
        with self._lock:
            session = self._sessions.get((name, app, user))
        if session is None or not session.alive:
            timeout = self.hosts[name].connect.timeout
            session = Session(self.channel(name, user), ready_timeout=timeout)
            with self._lock:
                self._sessions[name, app, user] = session
        return session

    def channel(self, name: str, user: str = "") -> Channel:
        """A channel to the host beside its sessions, for whoever closes it. Raises ConnectError."""
        return self.connect(name).open(user)

    @contextmanager
    def delegated(self, name: str, app: str | None, user: str = "") -> Iterator[Session]:
        """A session of the lane's on a host that others delegate to: one at a time. Raises
        ConnectError."""
        with self._lock:
            turn = self._turns.setdefault(name, threading.Lock())
        with turn:
            yield self.session(name, f"{app or ''} delegated", user)

    def release(self, name: str) -> None:
        """Let the host go. Safe to call twice."""
        with self._lock:
            sessions = [self._sessions.pop(k) for k in list(self._sessions) if k[0] == name]
            connection = self._connections.pop(name, None)
        for session in sessions:
            session.close()
        if connection is not None:
            connection.close()

    def connected(self) -> list[str]:
        """The hosts with a connection."""
        with self._lock:
            return list(self._connections)

    def renew(self) -> None:
        """What comes now has to be done although the run was interrupted."""
        self.cancel = Cancel()
