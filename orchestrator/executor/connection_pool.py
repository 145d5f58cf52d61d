"""Connections and sessions of a run, by host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import TypeAlias

from orchestrator.errors import ConnectError
from orchestrator.executor.cancel import Cancel
from orchestrator.model.event import INTERRUPTED, ConnectFinished, ConnectStarted, Event
from orchestrator.model.host import Host
from orchestrator.remote_shell import Session
from orchestrator.remote_shell.channel_protocol import Channel, Connection

Connect: TypeAlias = Callable[[Host], Connection]
Emit: TypeAlias = Callable[[Event], None]


class Fleet:
    """Connects each host at most once and tells of it; for what undoes, a host whose link was
    cut is connected once more. ``run`` tells the steps which run they are a part of."""

    def __init__(
        self,
        hosts: Mapping[str, Host],
        connect: Connect,
        emit: Emit,
        cancel: Cancel,
        run: str = "",
    ) -> None:
        self._run = run
        self.hosts, self._connect, self._emit, self.cancel = hosts, connect, emit, cancel
        self._lock = threading.Lock()
        self._connections: dict[str, Connection] = {}
        self._sessions: dict[tuple[str, str | None, str], Session] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._undoes, self._interrupt = False, cancel
        self._renewing: dict[str, threading.Lock] = {}
        self._renewed: dict[str, ConnectError | None] = {}
        self._connecting: dict[str, threading.Lock] = {}
        self._away: dict[str, ConnectError] = {}

    def undoing(self) -> Fleet:
        """The same connections and sessions for what follows a failure: no interrupt ends it, and
        a host whose link was cut is connected again, once."""
        fleet = copy(self)
        fleet._undoes, fleet.cancel = True, Cancel()
        return fleet

    def connect(self, name: str) -> Connection:
        """The host's connection, made if need be; where that failed for one lane it has for all.
        Raises ConnectError."""
        with self._lock:
            connecting = self._connecting.setdefault(name, threading.Lock())
        with connecting:
            with self._lock:
                connection = self._connections.get(name)
            if connection is not None:
                return connection
            if not self._undoes and name in self._away:
                raise self._away[name]
            return self._made(name)

    def _made(self, name: str) -> Connection:
        began = time.monotonic()
        self._emit(ConnectStarted(time.time(), name))
        try:
            connection = self._connect(self.hosts[name])
        except ConnectError as error:
            seconds = time.monotonic() - began
            problem = error.problems[0]
            what, hint = problem.what, problem.hint
            if self.cancel.stopping:
                what, hint = INTERRUPTED, ""
            self._emit(ConnectFinished(time.time(), name, seconds, what, hint))
            self._away[name] = error
            raise
        except Exception as error:
            self._emit(ConnectFinished(time.time(), name, time.monotonic() - began, str(error)))
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
            channel = self._only(name, app, user)
            place = self.place(name)
            session = Session(channel, ready_timeout=timeout, place=place, run=self._run)
            with self._lock:
                self._sessions[name, app, user] = session
        return session

    def channel(self, name: str, user: str = "") -> Channel:
        """A channel to the host beside its sessions, for whoever closes it. Raises ConnectError."""
        return self._open_again(name, user) if self._undoes else self._open(name, user)

    def _open(self, name: str, user: str) -> Channel:
        connection = self.connect(name)
        try:
            return connection.open(user)
        except ConnectError as error:
            raise error.at(connection.place) from error

    def beside(self, name: str, app: str | None, user: str = "") -> Channel:
        """A channel that the lane opens between two segments; where the host allows no more of
        them, in place of its sessions, which are opened anew when they are needed again.

        Raises ConnectError.
        """
        return self._only(name, app, user)

    def _only(self, name: str, app: str | None, user: str) -> Channel:
        try:
            return self.channel(name, user)
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
            return self.channel(name, user)

    @contextmanager
    def delegated(self, name: str, app: str | None, user: str = "") -> Iterator[Session]:
        """A session of the lane's on a host that others delegate to: one at a time. Raises
        ConnectError."""
        with self._lock:
            turn = self._turns.setdefault(name, threading.Lock())
        with turn:
            yield self.session(name, f"{app or ''} delegated", user)

    def _open_again(self, name: str, user: str) -> Channel:
        with self._lock:
            renewing = self._renewing.setdefault(name, threading.Lock())
        with renewing:
            if refused := self._renewed.get(name):
                raise refused
            with self._lock:
                connected = name in self._connections
            try:
                return self._open(name, user)
            except ConnectError:
                if not connected or name in self._renewed:
                    raise
            self.release(name)
            self._renewed[name] = None
            try:
                return self._connect_anew(name).open(user)
            except ConnectError as error:
                self._renewed[name] = error
                raise

    def _connect_anew(self, name: str) -> Connection:
        before = self._interrupt.stopping
        try:
            return self.connect(name)
        except ConnectError:
            if before or not self._interrupt.stopping:
                raise
            return self.connect(name)  # an interrupt ends what is connecting, this as well

    def place(self, name: str) -> str:
        """Where the host's connection leads, as errors say it; '' where it has none."""
        with self._lock:
            connection = self._connections.get(name)
        return connection.place if connection else ""

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
