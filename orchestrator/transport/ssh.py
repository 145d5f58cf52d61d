"""Connections over SSH: attempts, retries, and what is open."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import ConnectError
from orchestrator.model.host import Connect
from orchestrator.session.channel import Channel
from orchestrator.transport.become import Become, Becoming
from orchestrator.transport.client import Client, RefusedError
from orchestrator.transport.deadline import CancelledError, Deadline
from orchestrator.transport.dial import dial
from orchestrator.transport.flusher import Flusher
from orchestrator.transport.keys import Keyring, Offer
from orchestrator.transport.login import login_name
from orchestrator.transport.pacing import Pacing, Turn
from orchestrator.transport.shell import Shell
from orchestrator.transport.trust import OtherKindError, Trust, TrustStore
from orchestrator.transport.wire import Wire

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between attempts, doubling, give or take half
SETTLING = 1.0  # seconds for a host to notice that a session is closed
JOIN = 5.0  # seconds for a reader to notice that its socket is closed


class SshConnection:
    """An authenticated connection, logged in as ``user``. Satisfies ``Connection``."""

    def __init__(self, client: Client, connect: Connect, user: str) -> None:
        self._client, self._connect, self._user = client, connect, user

    def open(self, become: str = "") -> Channel:
        """As ``Connection.open``."""
        if become in ("", self._user):
            return self._shell("")
        other = Become(self._connect.become_method, become, self._connect.shell)
        return Becoming(self._shell(other.command), other)

    def _shell(self, command: str) -> Shell:
        """The login user's shell, or the channel of a command.

        sshd counts a session for some moments after it took our word that it is closed, so that
        where it allows one, a refusal right behind that is asked again.
        """
        end = time.monotonic() + SETTLING
        while True:
            shell = self._client.shell(command)
            try:
                shell.opened(self._connect.timeout)
                return shell
            except RefusedError:
                if self._client.close_ready():
                    end = time.monotonic() + SETTLING
                elif not self._client.closed_within(SETTLING) or time.monotonic() > end:
                    raise
                time.sleep(FIRST_PAUSE / 2)

    def close(self) -> None:
        """End it and every channel on it. Safe to call twice and from any thread."""
        self._client.hang_up()


class Ssh:
    """Makes SSH connections and knows them all, so that they can be ended together.

    ``stop`` is the run's: once set, what is pending ends with CancelledError.
    ``record``, ``home`` and ``environ`` are the Connector's.
    """

    def __init__(
        self, stop: threading.Event, home: Path, environ: Mapping[str, str], *, record: bool
    ) -> None:
        self.flusher = Flusher()
        self._stop = stop
        self._pacing = Pacing()
        self._trusts = TrustStore(home, record=record)
        self._keys = Keyring(home, environ)
        self._lock = threading.Lock()
        self._pending: set[Client] = set()
        self._open: set[Client] = set()

    def connect(self, connect: Connect) -> SshConnection:
        """Connect as the inventory says. Raises ConnectError."""
        trust = self._trusts.of(connect, connect.port or 22)
        return self.reach(connect, trust, self._keys.offer(connect))

    def reach(
        self, connect: Connect, trust: Trust, offer: Offer, user: str | None = None
    ) -> SshConnection:
        """Connect to a host judged by ``trust`` and log in with ``offer``. Raises ConnectError.

        ``user`` is who that is on the host, where it is not who we log in as.
        What may pass by itself is tried again within ``connect.timeout``: ``connect.retries``
        times, not counting the times when we were not alone with the server, since then it was
        the crowd that it turned away.
        """
        deadline = Deadline(connect.timeout, self._stop)
        retries, pause = connect.retries, FIRST_PAUSE
        kinds: tuple[str, ...] = ()
        while True:
            try:
                client = self._attempt(connect, trust, offer, deadline, kinds)
                return SshConnection(client, connect, user or connect.user or login_name())
            except OtherKindError as error:
                if kinds:
                    raise
                kinds = error.kinds
            except _PassingError as passing:
                retries -= passing.counts
                if retries < 0 or not deadline.left():
                    raise passing.error from None
                deadline.pause(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, LONGEST_PAUSE)

    def cancel(self) -> None:
        """End what is pending; what is open stays. ``stop`` is set."""
        self._pacing.wake()
        with self._lock:
            pending = list(self._pending)
        for client in pending:
            client.hang_up()

    def close(self) -> None:
        """End all connections. No thread of theirs is left afterwards. ``stop`` is set."""
        self._pacing.wake()
        with self._lock:
            clients = [*self._pending, *self._open]
        for client in clients:
            client.hang_up()
        for client in clients:
            client.join(JOIN)
        self.flusher.close()
        self._keys.close()

    def _attempt(
        self,
        connect: Connect,
        trust: Trust,
        offer: Offer,
        deadline: Deadline,
        kinds: tuple[str, ...],
    ) -> Client:
        port = connect.port or 22
        with self._pacing.turn((connect.address, port), deadline) as turn:
            try:
                wire = Wire(dial(connect.address, port, deadline), self.flusher)
                client = Client(wire, connect, trust, offer, kinds)
                self._log_in(client, deadline)
            except ConnectError as error:
                if not error.transient:
                    raise
                raise _PassingError(error, turn) from None
        return client

    def _log_in(self, client: Client, deadline: Deadline) -> None:
        with self._lock:
            self._pending.add(client)
        try:
            client.log_in(deadline)
        except BaseException:
            with self._lock:
                self._pending.discard(client)
            raise
        with self._lock:
            self._pending.discard(client)
            self._open.add(client)
        if client.auth.accepted:
            self._keys.let_in(client.auth.accepted)
        if self._stop.is_set():
            client.hang_up()
            raise CancelledError


class _PassingError(Exception):
    """An attempt failed in a way that may pass by itself."""

    def __init__(self, error: ConnectError, turn: Turn) -> None:
        super().__init__(error.why)
        turn.dropped = error.phase == "banner"
        self.error, self._turn = error, turn

    @property
    def counts(self) -> bool:
        """Whether it counts as one of the retries. Known once the turn is over."""
        return self._turn.alone or not self._turn.dropped
