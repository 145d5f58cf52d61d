"""Connections and sessions of a run, by host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import TypeAlias

from orchestrator.errors import ConnectError
from orchestrator.executor.cancel import CancelToken
from orchestrator.model.event import CONNECT_INTERRUPTED, ConnectFinished, ConnectStarted, RunEvent
from orchestrator.model.host import Host
from orchestrator.remote_shell import ShellSession
from orchestrator.remote_shell.channel_protocol import Channel, Connection

ConnectFunction: TypeAlias = Callable[[Host], Connection]
EmitFunction: TypeAlias = Callable[[RunEvent], None]


class ConnectionPool:
    """Connects each host at most once and tells of it; for what undoes, a host whose link was
    cut is connected once more. ``run_id`` tells the steps which run they are a part of."""

    def __init__(
        self,
        hosts: Mapping[str, Host],
        connect: ConnectFunction,
        emit: EmitFunction,
        cancel: CancelToken,
        run_id: str = "",
    ) -> None:
        self._run_id = run_id
        self.hosts, self._connect, self._emit, self.cancel = hosts, connect, emit, cancel
        self._lock = threading.Lock()
        self._connections: dict[str, Connection] = {}
        self._sessions: dict[tuple[str, str | None, str], ShellSession] = {}
        self._delegate_locks: dict[str, threading.Lock] = {}
        self._for_rollback, self._run_cancel = False, cancel
        self._reconnect_locks: dict[str, threading.Lock] = {}
        self._reconnected: dict[str, ConnectError | None] = {}
        self._connect_locks: dict[str, threading.Lock] = {}
        self._connect_errors: dict[str, ConnectError] = {}

    def for_rollback(self) -> ConnectionPool:
        """The same connections and sessions for what follows a failure: no interrupt ends it, and
        a host whose link was cut is connected again, once."""
        pool = copy(self)
        pool._for_rollback, pool.cancel = True, CancelToken()
        return pool

    def connect(self, name: str) -> Connection:
        """The host's connection, made if need be; where that failed for one lane it has for all.
        Raises ConnectError."""
        with self._lock:
            connecting = self._connect_locks.setdefault(name, threading.Lock())
        with connecting:
            with self._lock:
                connection = self._connections.get(name)
            if connection is not None:
                return connection
            if not self._for_rollback and name in self._connect_errors:
                raise self._connect_errors[name]
            return self._new_connection(name)

    def _new_connection(self, name: str) -> Connection:
        began = time.monotonic()
        self._emit(ConnectStarted(time.time(), name))
        try:
            connection = self._connect(self.hosts[name])
        except ConnectError as error:
            seconds = time.monotonic() - began
            diagnostic = error.diagnostics[0]
            message, hint = diagnostic.message, diagnostic.hint
            if self.cancel.is_cancelled:
                message, hint = CONNECT_INTERRUPTED, ""
            self._emit(ConnectFinished(time.time(), name, seconds, message, hint))
            self._connect_errors[name] = error
            raise
        except Exception as error:
            self._emit(ConnectFinished(time.time(), name, time.monotonic() - began, str(error)))
            raise
        with self._lock:
            self._connections[name] = connection
        self._emit(ConnectFinished(time.time(), name, time.monotonic() - began))
        return connection

    def session(self, name: str, app: str | None, user: str = "") -> ShellSession:
        """The lane's session on the host, opened if need be; ``user``'s, where one is named.

        Raises ConnectError. Where nobody may become that user, its first ``run_id`` does, with phase
        become.
        """
        with self._lock:
            session = self._sessions.get((name, app, user))
        if session is None or not session.is_alive:
            timeout = self.hosts[name].connect.timeout
            channel = self._open_or_replace_sessions(name, app, user)
            endpoint = self.endpoint(name)
            session = ShellSession(
                channel, ready_timeout=timeout, endpoint=endpoint, run=self._run_id
            )
            with self._lock:
                self._sessions[name, app, user] = session
        return session

    def open_channel(self, name: str, user: str = "") -> Channel:
        """A channel to the host beside its sessions, for whoever closes it. Raises ConnectError."""
        return self._open_or_reconnect(name, user) if self._for_rollback else self._open(name, user)

    def _open(self, name: str, user: str) -> Channel:
        connection = self.connect(name)
        try:
            return connection.open(user)
        except ConnectError as error:
            raise error.with_endpoint(connection.endpoint) from error

    def side_channel(self, name: str, app: str | None, user: str = "") -> Channel:
        """A channel that the lane opens between two segments; where the host allows no more of
        them, in place of its sessions, which are opened anew when they are needed again.

        Raises ConnectError.
        """
        return self._open_or_replace_sessions(name, app, user)

    def _open_or_replace_sessions(self, name: str, app: str | None, user: str) -> Channel:
        try:
            return self.open_channel(name, user)
        except ConnectError as error:
            if error.phase != "channel":
                raise
            with self._lock:
                own = [key for key in self._sessions if key[:2] == (name, app)]
                closing = [self._sessions.pop(key) for key in own]
            if not closing:
                raise
            for session in closing:
                session.close()
            return self.open_channel(name, user)

    @contextmanager
    def delegated_session(
        self, name: str, app: str | None, user: str = ""
    ) -> Iterator[ShellSession]:
        """A session of the lane's on a host that others delegate to: one at a time. Raises
        ConnectError."""
        with self._lock:
            turn = self._delegate_locks.setdefault(name, threading.Lock())
        with turn:
            yield self.session(name, f"{app or ''} delegated", user)

    def _open_or_reconnect(self, name: str, user: str) -> Channel:
        with self._lock:
            renewing = self._reconnect_locks.setdefault(name, threading.Lock())
        with renewing:
            if refused := self._reconnected.get(name):
                raise refused
            with self._lock:
                connected = name in self._connections
            try:
                return self._open(name, user)
            except ConnectError:
                if not connected or name in self._reconnected:
                    raise
            self.release(name)
            self._reconnected[name] = None
            try:
                return self._reconnect(name).open(user)
            except ConnectError as error:
                self._reconnected[name] = error
                raise

    def _reconnect(self, name: str) -> Connection:
        before = self._run_cancel.is_cancelled
        try:
            return self.connect(name)
        except ConnectError:
            if before or not self._run_cancel.is_cancelled:
                raise
            return self.connect(name)  # an interrupt ends what is connecting, this as well

    def endpoint(self, name: str) -> str:
        """Where the host's connection leads, as errors say it; '' where it has none."""
        with self._lock:
            connection = self._connections.get(name)
        return connection.endpoint if connection else ""

    def release(self, name: str) -> None:
        """Let the host go. Safe to call twice."""
        with self._lock:
            sessions = [self._sessions.pop(k) for k in list(self._sessions) if k[0] == name]
            connection = self._connections.pop(name, None)
        for session in sessions:
            session.close()
        if connection is not None:
            connection.close()

    def connected_hosts(self) -> list[str]:
        """The hosts with a connection."""
        with self._lock:
            return list(self._connections)
