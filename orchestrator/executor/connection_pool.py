"""Connections and shell sessions of a run, by host."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from copy import copy
from typing import TypeAlias

from orchestrator.errors import ConnectError
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.kept_connections import KeptConnections
from orchestrator.model.event import CONNECT_INTERRUPTED, ConnectFinished, ConnectStarted, RunEvent
from orchestrator.model.host import Host
from orchestrator.remote_shell import ShellSession
from orchestrator.remote_shell.channel_protocol import Channel, Connection

ConnectFunction: TypeAlias = Callable[[Host], Connection]
EmitFunction: TypeAlias = Callable[[RunEvent], None]
DelegateLock: TypeAlias = Callable[[str], AbstractContextManager[object]]


class ConnectionPool:
    """Connects to each host at most once and emits connect events.

    During rollback, a host whose connection dropped is reconnected once. ``run_id`` is passed to
    every session, which makes it available to steps. ``keeps_notes``: a host whose connection
    breaks keeps a note of how far it came. Connections and sessions come from ``kept`` and are
    handed back to it, if it is not None. ``delegate_lock`` returns what a user of a delegate's
    session holds, if other processes use delegates too.
    """

    def __init__(
        self,
        hosts: Mapping[str, Host],
        connect: ConnectFunction,
        emit: EmitFunction,
        cancel: CancelToken,
        run_id: str = "",
        kept: KeptConnections | None = None,
        *,
        keeps_notes: bool = False,
        delegate_lock: DelegateLock | None = None,
    ) -> None:
        """Create an empty pool for these hosts."""
        self._delegate_lock = delegate_lock or self._own_delegate_lock
        self._run_id, self._kept, self._keeps_notes = run_id, kept, keeps_notes
        self.hosts, self._connect, self._emit, self.cancel = hosts, connect, emit, cancel
        self._lock = threading.Lock()
        self._connections: dict[str, Connection] = {}
        self._sessions: dict[tuple[str, str | None, str], ShellSession] = {}
        self._delegate_locks: dict[str, threading.Lock] = {}
        self._for_rollback, self._run_cancel = False, cancel
        self._abandoned = CancelToken()
        self._reconnect_locks: dict[str, threading.Lock] = {}
        self._reconnected: dict[str, ConnectError | None] = {}
        self._connect_locks: dict[str, threading.Lock] = {}
        self._connect_errors: dict[str, ConnectError] = {}

    def for_rollback(self) -> ConnectionPool:
        """Return a view of the same connections and sessions for locks, rollback and hooks.

        It is not affected by an interrupt, and reconnects a host once if the connection dropped.
        """
        pool = copy(self)
        pool._for_rollback, pool.cancel = True, self._abandoned
        return pool

    @property
    def is_for_rollback(self) -> bool:
        """Return True if ``for_rollback`` returned this view."""
        return self._for_rollback

    @property
    def is_abandoned(self) -> bool:
        """Return True if ``abandon`` was called."""
        return self._abandoned.is_cancelled

    def abandon(self) -> None:
        """End what runs, rollbacks and queries too, because nobody hears of it any more.

        Hosts keep a note of how far they came.
        """
        self._abandoned.cancel()
        self._run_cancel.cancel()
        with self._lock:
            busy = [session for session in self._sessions.values() if session.is_busy]
        for session in busy:
            session.cancel(keeps_note=True)

    def leave_notes(self, name: str) -> None:
        """Let a host keep a note of the last pipeline of each of its sessions, and close them."""
        with self._lock:
            keys = [key for key in self._sessions if key[0] == name]
            sessions = [self._sessions.pop(key) for key in keys]
        for session in sessions:
            session.leave_note()

    def connect(self, name: str) -> Connection:
        """Return the host's connection, connecting first if necessary.

        Raises ConnectError; a failure is remembered, so that it applies to every app.
        """
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
        kept = self._kept.take(self.hosts[name]) if self._kept is not None else None
        if kept is not None:
            with self._lock:
                self._connections[name] = kept
            return kept
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
        if self._kept is not None:
            self._kept.note_connected(name, connection)
        self._emit(ConnectFinished(time.time(), name, time.monotonic() - began))
        return connection

    def session(self, name: str, app: str | None, user: str = "") -> ShellSession:
        """Return the app's session on the host as ``user``, opening it if necessary.

        Raises ConnectError. If become fails, the session's first ``run`` raises it, with phase
        ``become``.
        """
        with self._lock:
            session = self._sessions.get((name, app, user))
        if session is None and (session := self._kept_session(name, user)) is not None:
            with self._lock:
                self._sessions[name, app, user] = session
        if session is None or not session.is_alive:
            timeout = self.hosts[name].connect.timeout
            channel = self._open_or_replace_sessions(name, app, user)
            endpoint = self.endpoint(name)
            session = ShellSession(
                channel,
                ready_timeout=timeout,
                endpoint=endpoint,
                run=self._run_id,
                session_id=secrets.token_hex(8) if self._keeps_notes else "",
            )
            with self._lock:
                self._sessions[name, app, user] = session
        return session

    def _kept_session(self, name: str, user: str) -> ShellSession | None:
        if self._kept is None:
            return None
        self.connect(name)
        session = self._kept.take_session(name, user)
        if session is not None:
            session.begin_run(self._run_id)
        return session

    def open_channel(self, name: str, user: str = "") -> Channel:
        """Open a channel next to the host's sessions; the caller closes it. Raises ConnectError."""
        return self._open_or_reconnect(name, user) if self._for_rollback else self._open(name, user)

    def _open(self, name: str, user: str) -> Channel:
        connection = self.connect(name)
        try:
            return connection.open(user)
        except ConnectError as error:
            raise error.with_endpoint(connection.endpoint) from error

    def side_channel(self, name: str, app: str | None, user: str = "") -> Channel:
        """Open a channel for the app between two pipelines.

        If the host allows no more channels, close the app's sessions first; they are reopened when
        needed. Raises ConnectError.
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
            if not self._close_kept_sessions(name) and not closing:
                raise
            for session in closing:
                session.close()
            return self.open_channel(name, user)

    def _close_kept_sessions(self, name: str) -> bool:
        return self._kept is not None and self._kept.close_sessions(name)

    @contextmanager
    def delegated_session(
        self, name: str, app: str | None, user: str = ""
    ) -> Iterator[ShellSession]:
        """Yield the app's session on a delegate host; one caller at a time. Raises ConnectError."""
        with self._delegate_lock(name):
            yield self.session(name, f"{app or ''} delegated", user)

    def _own_delegate_lock(self, name: str) -> AbstractContextManager[object]:
        with self._lock:
            return self._delegate_locks.setdefault(name, threading.Lock())

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
            self._disconnect(name)
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
            return self.connect(name)  # the interrupt also aborted this connect

    def renew_session(self, name: str, app: str | None) -> None:
        """Close the app's sessions on the host and open a new one; connect again if necessary.

        Raises ConnectError, which is not remembered.
        """
        timeout = self.hosts[name].connect.timeout
        with self._lock:
            keys = [key for key in self._sessions if key[:2] == (name, app)]
            closing = [self._sessions.pop(key) for key in keys]
        for session in closing:
            session.close()
        with suppress(ConnectError):
            if self.session(name, app).answers(timeout):
                return
        self._disconnect(name)
        connection = self._connect(self.hosts[name])
        with self._lock:
            self._connect_errors.pop(name, None)
            self._connections[name] = connection
        if not self.session(name, app).answers(timeout):
            raise ConnectError("channel", f"no shell answered within {timeout:g} s")

    def close_session(self, session: ShellSession) -> None:
        """Close a session; it is opened again when it is needed."""
        with self._lock:
            for key in [key for key, each in self._sessions.items() if each is session]:
                del self._sessions[key]
        session.close()

    def endpoint(self, name: str) -> str:
        """Return the endpoint of the host's connection for messages, or '' if not connected."""
        with self._lock:
            connection = self._connections.get(name)
        return connection.endpoint if connection else ""

    def release(self, name: str) -> None:
        """Close the host's sessions and connection, or hand them back. Safe to call twice."""
        if self._kept is None:
            self._disconnect(name)
            return
        sessions, connection = self._pop_host(name)
        if connection is not None:
            self._kept.give_back(name, connection, sessions)

    def _disconnect(self, name: str) -> None:
        sessions, connection = self._pop_host(name)
        for _, session in sessions:
            session.close()
        if connection is not None:
            connection.close()
        if self._kept is not None:
            self._kept.drop(name)

    def _pop_host(self, name: str) -> tuple[list[tuple[str, ShellSession]], Connection | None]:
        """Remove the host; return its sessions, each with its user, and its connection."""
        with self._lock:
            keys = [key for key in self._sessions if key[0] == name]
            sessions = [(key[2], self._sessions.pop(key)) for key in keys]
            return sessions, self._connections.pop(name, None)

    def connected_hosts(self) -> list[str]:
        """Return the names of the connected hosts."""
        with self._lock:
            return list(self._connections)
