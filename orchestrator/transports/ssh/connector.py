"""SSH connections: attempts, retries, and the set of open connections."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.errors import ConnectError
from orchestrator.remote_shell.channel_protocol import Channel, CommandChannel, Terminal
from orchestrator.transports.become import BecomeShells
from orchestrator.transports.deadline import CancelledError, Deadline
from orchestrator.transports.local_user import login_name
from orchestrator.transports.prompts import (
    CredentialRequiredError,
    CredentialStore,
    LoginCredentials,
)
from orchestrator.transports.ssh.agent_client import AgentError, AgentRegistry
from orchestrator.transports.ssh.algorithms import apply_ssh_settings
from orchestrator.transports.ssh.byte_stream import ByteStream, SocketStream, WriteFlusher
from orchestrator.transports.ssh.channels import ShellChannel
from orchestrator.transports.ssh.client import ChannelRefusedError, SshClient
from orchestrator.transports.ssh.direct_tcpip import TunnelStream
from orchestrator.transports.ssh.handshake_limiter import (
    JUMP_HOST_CONCURRENT,
    HandshakeLimiter,
    HandshakeSlot,
)
from orchestrator.transports.ssh.host_key_policy import HostKeyTypeMismatchError, KnownHostsStore
from orchestrator.transports.ssh.keyring import Keyring
from orchestrator.transports.ssh.proxy_command import ProxyCommandStream
from orchestrator.transports.ssh.route import JumpChain, Route, format_endpoint
from orchestrator.transports.ssh.shared_known_hosts import SharedKnownHosts
from orchestrator.transports.ssh.target import JumpConnections, SshTarget
from orchestrator.transports.ssh.tcp_connect import connect_tcp

MAX_PROMPTS = 10  # per login, because a server could go on asking for ever
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between attempts; doubles, varied by up to half
SESSION_SETTLE_TIME = 1.0  # seconds for a host to notice that a session is closed
JOIN_TIMEOUT = 5.0  # seconds for a reader to notice that its socket is closed


class SshConnection:
    """An authenticated SSH connection, logged in as ``user``. Satisfies ``Connection``."""

    def __init__(
        self, client: SshClient, target: SshTarget, user: str, credential_store: CredentialStore
    ) -> None:
        connect, self.endpoint = target.connect, target.endpoint
        self._client, self._connect, self._user = client, connect, user
        self._become_shells = BecomeShells.of_host(connect, user, credential_store)

    def open(self, become: str = "") -> Channel:
        """Implement ``Connection.open``."""
        if become in ("", self._user):
            return self._open(self._client.request_shell)
        return self._become_shells.open(
            become, lambda other: self._open(lambda: self._client.request_shell(other.command_line))
        )

    def start_command(
        self, command: str, terminal: Terminal | None = None, become: str = ""
    ) -> CommandChannel:
        """Implement ``Connection.start_command``."""

        def start(command_line: str) -> ShellChannel:
            channel = self._open(lambda: self._client.request_command(command_line, terminal))
            self._client.close_spare_shell()  # this connection is for one command
            return channel

        if become in ("", self._user):
            return start(f"exec {command}" if command else "")
        return self._become_shells.start_command(
            become,
            command,
            lambda other: start(other.command_line),
            on_terminal=terminal is not None,
        )

    def _open(self, request: Callable[[], ShellChannel]) -> ShellChannel:
        return open_channel(
            self._client, request, self._connect.timeout, self._client.close_spare_shell
        )

    def close(self) -> None:
        """Close the connection and its channels. Safe to call twice and from any thread."""
        self._client.hang_up()


def open_channel(
    client: SshClient,
    request: Callable[[], ShellChannel],
    timeout: float,
    close_spare: Callable[[], bool],
) -> ShellChannel:
    """Open a channel that ``request`` returns, within ``timeout`` seconds. Raises ConnectError.

    If the host refuses it, unused channels are closed (``close_spare``, which returns False if
    there are none). sshd still counts a session for a moment after it confirmed that the session is
    closed. If the host allows only one session, a refusal right after a close is therefore retried.
    """
    end = time.monotonic() + SESSION_SETTLE_TIME
    while True:
        shell = request()
        try:
            shell.wait_open(timeout)
            return shell
        except ChannelRefusedError:
            if close_spare():
                end = time.monotonic() + SESSION_SETTLE_TIME
            elif not client.has_recently_closed(SESSION_SETTLE_TIME) or time.monotonic() > end:
                raise
            time.sleep(FIRST_PAUSE / 2)


class SshConnector:
    """Makes SSH connections and keeps track of them, so that they can be closed together.

    Setting ``stop``, the run's event, makes pending connections fail with CancelledError.
    ``channel_class`` is the class of the connections' channels. The other arguments are those of
    ``TransportRegistry``.
    """

    def __init__(
        self,
        stop: threading.Event,
        home: Path,
        environ: Mapping[str, str],
        credential_store: CredentialStore,
        agents: AgentRegistry,
        *,
        record_host_keys: bool,
        channel_class: type[ShellChannel] = ShellChannel,
        shared_known_hosts: SharedKnownHosts | None = None,
    ) -> None:
        self._channel_class = channel_class
        self.flusher = WriteFlusher()
        self._stop, self._environ = stop, environ
        self._handshake_limiter = HandshakeLimiter()
        self._known_hosts_store = KnownHostsStore(
            home, record_host_keys=record_host_keys, shared=shared_known_hosts
        )
        self._credential_store, self._agents = credential_store, agents
        self._home, self._keyring = home, Keyring(home, agents, credential_store)
        self._jump_connections = JumpConnections(self._connect_jump_host)
        self._lock = threading.Lock()
        self._pending: set[SshClient] = set()
        self._open: set[SshClient] = set()

    def connect(self, route: Route) -> SshConnection:
        """Connect to a host. Raises ConnectError, whose message names the endpoint."""
        client, target = self.log_in(route)
        return SshConnection(client, target, route.login_user, self._credential_store)

    def log_in(self, route: Route) -> tuple[SshClient, SshTarget]:
        """Connect to a host and log in. Raises ConnectError, whose message names the endpoint."""
        target = self._make_target(route)
        try:
            return self._log_in_with_retries(target), target
        except CancelledError:
            raise
        except ConnectError as error:
            raise target.error_at(error) from error

    def open_connection(self, target: SshTarget, user: str | None = None) -> SshConnection:
        """Connect and log in. Raises ConnectError.

        ``user`` is the user on the host, if it differs from the user who logs in.
        """
        connect = target.connect
        host_user = user or connect.user or login_name()
        return SshConnection(
            self._log_in_with_retries(target), target, host_user, self._credential_store
        )

    def cancel(self) -> None:
        """Cancel pending connections and keep open ones. ``stop`` must be set."""
        self._handshake_limiter.wake_waiting()
        with self._lock:
            pending = list(self._pending)
        for client in pending:
            client.hang_up()

    def forget_credentials(self) -> None:
        """Forget passwords and private keys. ``stop`` must be set; open connections stay."""
        self._credential_store = CredentialStore(None, {}, self._stop)
        self._keyring = Keyring(self._home, AgentRegistry({}))
        self._environ = {}
        with self._lock:
            clients = list(self._open)
        for client in clients:
            client.auth.forget_credentials()

    def close(self) -> None:
        """Close all connections and end their threads. ``stop`` must be set."""
        self._handshake_limiter.wake_waiting()
        with self._lock:
            clients = [*self._pending, *self._open]
        for client in clients:
            client.hang_up()
        for client in clients:
            client.join(JOIN_TIMEOUT)
        self.flusher.close()

    def _make_target(self, route: Route, *, is_jump_host: bool = False) -> SshTarget:
        connect, settings = route.connection.connect, route.connection.settings
        return SshTarget(
            route,
            self._known_hosts_store.verifier_for(connect, connect.port or 22, settings),
            lambda deadline: self._keyring.make_offer(connect, settings, deadline),
            account=format_endpoint(connect) if is_jump_host else route.login_user,
            forwarded_agent=None if is_jump_host else self._agents.agent_to_forward(settings),
            is_jump_host=is_jump_host,
        )

    def is_trusted(self, route: Route, host_key: bytes) -> bool:
        """Return True if known_hosts, as it is now, has this key for the host."""
        connect, settings = route.connection.connect, route.connection.settings
        port = connect.port or 22
        try:
            self._known_hosts_store.verifier_for(connect, port, settings).verify(host_key)
        except ConnectError:
            return False
        return True

    def is_in_agent(self, route: Route, key: bytes) -> bool:
        """Return True if the agent has this key now."""
        agent = self._agents.agent_for_keys(route.connection.settings)
        if agent is None:
            return False
        deadline = Deadline(route.connection.connect.timeout, self._stop)
        try:
            return any(blob == key for blob, _ in agent.list_keys(deadline))
        except (AgentError, ConnectError):
            return False

    def _connect_jump_host(self, chain: JumpChain) -> SshClient:
        """Connect to the last jump host of a chain."""
        return self._log_in_with_retries(
            self._make_target(Route(chain[-1].connection, chain[:-1]), is_jump_host=True)
        )

    def _log_in_with_retries(self, target: SshTarget) -> SshClient:
        """Log in, retrying transient errors within ``connect.timeout``.

        There are ``connect.retries`` retries. Failures while other logins to the same server were
        in progress do not count, because the server may have refused them for their number.
        """
        connect = target.connect
        deadline = Deadline(connect.timeout, self._stop)
        retries, pause, prompts_left = connect.retries, FIRST_PAUSE, MAX_PROMPTS
        key_types: tuple[str, ...] = ()
        try:
            while True:
                try:
                    return self._attempt(target, deadline, key_types)
                except HostKeyTypeMismatchError as error:
                    if key_types:
                        raise
                    key_types = error.key_types
                except CredentialRequiredError as required:
                    prompts_left -= 1
                    if not prompts_left:
                        raise
                    began = time.monotonic()
                    required.obtain()
                    deadline.extend(time.monotonic() - began)
                except _TransientError as failure:
                    retries -= failure.counts_as_retry
                    if retries < 0 or not deadline.remaining():
                        raise failure.error from None
                    deadline.pause(pause * random.uniform(0.5, 1.5))
                    pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._credential_store.release_attempt(deadline)

    def _attempt(
        self, target: SshTarget, deadline: Deadline, key_types: tuple[str, ...]
    ) -> SshClient:
        """Connect once, when the limiter permits it; jump hosts are connected first."""
        jump_client = (
            self._jump_connections.connection_to(target.jump_hosts, deadline)
            if target.jump_hosts
            else None
        )
        max_concurrent = JUMP_HOST_CONCURRENT if jump_client else None
        with self._handshake_limiter.slot(target.limiter_key, deadline, max_concurrent) as slot:
            try:
                stream = self._open_stream(target, jump_client, deadline)
                client = SshClient(
                    stream,
                    target.connect,
                    target.host_key_verifier,
                    target.make_key_offer(deadline),
                    key_types,
                    credentials=LoginCredentials(
                        self._credential_store, target.account, deadline, target.connect.password
                    )
                    if target.account
                    else None,
                    agent=target.forwarded_agent,
                    is_jump_host=target.is_jump_host,
                    environment=target.settings.set_env,
                    channel_class=self._channel_class,
                )
                apply_ssh_settings(client, target.settings)
                self._log_in(client, deadline)
            except ConnectError as error:
                if not error.transient:
                    raise
                raise _TransientError(error, slot) from None
        return client

    def _open_stream(
        self, target: SshTarget, jump_client: SshClient | None, deadline: Deadline
    ) -> ByteStream:
        settings = target.settings
        if jump_client is not None:
            hop = target.jump_hosts[-1]
            try:
                return TunnelStream(jump_client.open_tunnel(*target.address, deadline), hop.name)
            except CancelledError:
                raise
            except ConnectError as error:
                raise hop.error_behind(error) from error
        if settings.proxy_command:
            return ProxyCommandStream(settings.proxy_command, self._environ, self.flusher)
        sock = connect_tcp(
            *target.address,
            deadline,
            family=settings.address_family,
            source_address=settings.bind_address,
        )
        return SocketStream(sock, self.flusher)

    def _log_in(self, client: SshClient, deadline: Deadline) -> None:
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
        if client.auth.accepted_key:
            self._keyring.mark_accepted(client.auth.accepted_key)
        if self._stop.is_set():
            client.hang_up()
            raise CancelledError


class _TransientError(Exception):
    """A failed attempt that may succeed when it is retried."""

    def __init__(self, error: ConnectError, slot: HandshakeSlot) -> None:
        super().__init__(error.reason)
        slot.was_dropped = error.phase == "banner"
        self.error, self._slot = error, slot

    @property
    def counts_as_retry(self) -> bool:
        """Whether the attempt counts as one of the retries; known after its slot is released."""
        return self._slot.is_alone or not self._slot.was_dropped
