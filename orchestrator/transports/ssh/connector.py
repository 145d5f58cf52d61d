"""Connections over SSH: attempts, retries, and what is open."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import ConnectError
from orchestrator.model.host import Connect, Host
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.transports.become import Others
from orchestrator.transports.deadline import CancelledError, Deadline
from orchestrator.transports.local_user import login_name
from orchestrator.transports.prompts import Answers, Desk, WantedError
from orchestrator.transports.ssh.agent_client import Agents
from orchestrator.transports.ssh.algorithms import restrict
from orchestrator.transports.ssh.byte_stream import Cable, Flusher, Wire
from orchestrator.transports.ssh.channels import Shell
from orchestrator.transports.ssh.client import Client, RefusedError
from orchestrator.transports.ssh.direct_tcpip import TunnelCable
from orchestrator.transports.ssh.handshake_limiter import BEHIND, Pacing, Turn
from orchestrator.transports.ssh.host_key_policy import OtherKindError, TrustStore
from orchestrator.transports.ssh.keyring import Keyring
from orchestrator.transports.ssh.proxy_command import Proxy
from orchestrator.transports.ssh.target import Bastions, Route, Routes, Target, place
from orchestrator.transports.ssh.tcp_connect import dial
from orchestrator.transports.ssh_config.resolve import Way, Ways

QUESTIONS = 10  # that one login may ask; a server could go on for ever
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between attempts, doubling, give or take half
SETTLING = 1.0  # seconds for a host to notice that a session is closed
JOIN = 5.0  # seconds for a reader to notice that its socket is closed


class SshConnection:
    """An authenticated connection, logged in as ``user``. Satisfies ``Connection``."""

    def __init__(self, client: Client, target: Target, user: str, answers: Answers) -> None:
        connect, self.place = target.connect, target.place
        self._client, self._connect, self._user = client, connect, user
        method, timeout = connect.become_method, connect.timeout
        self._others = Others(user, method, connect.shell, timeout, answers)

    def open(self, become: str = "") -> Channel:
        """As ``Connection.open``."""
        if become in ("", self._user):
            return self._shell("")
        return self._others.open(become, lambda other: self._shell(other.command))

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
    ``record``, ``home``, ``environ``, ``hosts``, ``answers`` and ``agents`` are the Connector's.
    """

    def __init__(
        self,
        stop: threading.Event,
        home: Path,
        environ: Mapping[str, str],
        ways: Ways,
        answers: Answers,
        agents: Agents,
        *,
        record: bool,
        hosts: Mapping[str, Host] | None = None,
    ) -> None:
        self.flusher = Flusher()
        self._stop, self._environ, self._ways = stop, environ, ways
        self._pacing = Pacing()
        self._trusts = TrustStore(home, record=record)
        self._answers, self._agents = answers, agents
        self._keys = Keyring(home, agents, answers)
        self._routes = Routes(ways, hosts or {})
        self._bastions = Bastions(self._hop)
        self._lock = threading.Lock()
        self._pending: set[Client] = set()
        self._open: set[Client] = set()

    def connect(self, way: Way, connect: Connect) -> SshConnection:
        """Connect by this way to the host whose settings in the inventory are ``connect``.
        Raises ConnectError, whose message says where and as whom that was to be.
        """
        target = self._target(way, self._routes.of(way, connect))
        try:
            return self.reach(target)
        except CancelledError:
            raise
        except ConnectError as error:
            raise target.failed(error) from error

    def reach(self, target: Target, user: str | None = None) -> SshConnection:
        """Connect and log in. Raises ConnectError.

        ``user`` is who that is on the host, where it is not who we log in as.
        """
        connect = target.connect
        who = user or connect.user or login_name()
        return SshConnection(self._reach(target), target, who, self._answers)

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

    def _target(self, way: Way, hops: Route, *, hop: bool = False) -> Target:
        connect, said = way.connect, way.settings
        user = connect.user or login_name()
        return Target(
            connect,
            self._trusts.of(connect, connect.port or 22, said),
            lambda deadline: self._keys.offer(connect, said, deadline),
            said,
            hops,
            account=place(connect) if hop else user,
            agent=None if hop else self._agents.forwarded(said),
            hop=hop,
        )

    def _hop(self, route: Route) -> Client:
        """A new connection to the last hop."""
        return self._reach(self._target(route[-1].way, route[:-1], hop=True))

    def _reach(self, target: Target) -> Client:
        """What may pass by itself is tried again within ``connect.timeout``: ``connect.retries``
        times, not counting the times when we were not alone with the server, since then it was
        the crowd that it turned away.
        """
        connect = target.connect
        deadline = Deadline(connect.timeout, self._stop)
        retries, pause, questions = connect.retries, FIRST_PAUSE, QUESTIONS
        kinds: tuple[str, ...] = ()
        try:
            while True:
                try:
                    return self._attempt(target, deadline, kinds)
                except OtherKindError as error:
                    if kinds:
                        raise
                    kinds = error.kinds
                except WantedError as wanted:
                    questions -= 1
                    if not questions:
                        raise
                    began = time.monotonic()
                    wanted.settle()
                    deadline.extend(time.monotonic() - began)
                except _PassingError as passing:
                    retries -= passing.counts
                    if retries < 0 or not deadline.left():
                        raise passing.error from None
                    deadline.pause(pause * random.uniform(0.5, 1.5))
                    pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._answers.leave(deadline)

    def _attempt(self, target: Target, deadline: Deadline, kinds: tuple[str, ...]) -> Client:
        """One attempt, in its turn; the jump hosts have theirs before that."""
        bastion = self._bastions.at(target.hops, deadline) if target.hops else None
        crowd = BEHIND if bastion else None
        with self._pacing.turn(target.pace, deadline, crowd) as turn:
            try:
                cable = self._cable(target, bastion, deadline)
                client = Client(
                    cable,
                    target.connect,
                    target.trust,
                    target.offer(deadline),
                    kinds,
                    desk=Desk(self._answers, target.account, deadline) if target.account else None,
                    agent=target.agent,
                    hop=target.hop,
                    environment=target.settings.set_env,
                )
                restrict(client, target.settings)
                self._log_in(client, deadline)
            except ConnectError as error:
                if not error.transient:
                    raise
                raise _PassingError(error, turn) from None
        return client

    def _cable(self, target: Target, bastion: Client | None, deadline: Deadline) -> Cable:
        said = target.settings
        if bastion is not None:
            hop = target.hops[-1]
            try:
                return TunnelCable(bastion.tunnel(*target.address, deadline), hop.name)
            except CancelledError:
                raise
            except ConnectError as error:
                raise hop.failed(error) from error
        if said.proxy_command:
            return Proxy(said.proxy_command, self._environ, self.flusher)
        sock = dial(*target.address, deadline, family=said.address_family, source=said.bind_address)
        return Wire(sock, self.flusher)

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
