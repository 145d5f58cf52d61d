"""Connections made by the system's ``ssh``: attempts, retries, jump hosts, open connections."""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.inventory.connection_options import NO_JUMP
from orchestrator.inventory.hostnames import InvalidHostNameError, normalize_host, parse_host_spec
from orchestrator.model.host import SSH_TRANSPORTS, ConnectionOptions, Host
from orchestrator.remote_shell.channel_protocol import Channel, CommandChannel, Terminal
from orchestrator.transports.become import BecomeShells
from orchestrator.transports.deadline import CancelledError, Deadline
from orchestrator.transports.local_user import login_name
from orchestrator.transports.openssh.command_line import EffectiveSettings, SshBinary
from orchestrator.transports.openssh.control_master import (
    ControlMaster,
    MasterProcess,
    MuxChannel,
    SessionRefusedError,
)
from orchestrator.transports.prompts import CredentialStore
from orchestrator.transports.ssh.agent_client import AgentClient, AgentError, AgentRegistry
from orchestrator.transports.ssh.handshake_limiter import (
    JUMP_HOST_CONCURRENT,
    HandshakeLimiter,
    HandshakeSlot,
    LimitKey,
)
from orchestrator.transports.ssh.shared_known_hosts import SharedKnownHosts
from orchestrator.transports.ssh_config.resolve import DuplicateHostGuard, jump_host_options
from orchestrator.yamlio.local_files import expand_home

SESSION_SETTLE_TIME = 1.0  # seconds for a host to notice that a session is closed
SESSION_RETRY_DELAY = 0.025  # seconds between requests for a session meanwhile


class OpensshConnection:
    """An authenticated connection over a master. Satisfies ``Connection``.

    ``settings`` are ssh's settings for the host. ``on_closed`` is called when the connection is
    closed. ``credential_store`` has the passwords for become shells.
    """

    def __init__(
        self,
        master: ControlMaster,
        settings: EffectiveSettings,
        environ: Mapping[str, str],
        on_closed: Callable[[OpensshConnection], object],
        credential_store: CredentialStore,
    ) -> None:
        self.master, self._on_closed = master, on_closed
        self.endpoint = settings.endpoint_with_jumps
        self._connect = connect = settings.connect
        self._user = settings.user
        self._become_shells = BecomeShells.of_host(connect, settings.user, credential_store)
        self._environment, self._agent = settings.environment(environ), settings.forwards_agent
        self._lock = threading.Lock()
        self._channels: set[MuxChannel] = set()
        self._closed_at = float("-inf")
        self._closed = False

    def open(self, become: str = "") -> Channel:
        """Implement ``Connection.open``."""
        if become in ("", self._user):
            return self._open_channel(f"exec {self._connect.shell}")
        return self._become_shells.open(
            become, lambda other: self._open_channel(other.command_line)
        )

    def start_command(
        self, command: str, terminal: Terminal | None = None, become: str = ""
    ) -> CommandChannel:
        """Implement ``Connection.start_command``."""
        if become in ("", self._user):
            return self._open_channel(f"exec {command}" if command else "", terminal)
        return self._become_shells.start_command(
            become,
            command,
            lambda other: self._open_channel(other.command_line, terminal),
            on_terminal=terminal is not None,
        )

    def close(self) -> None:
        """Close the connection and its channels. Safe to call twice and from any thread."""
        with self._lock:
            closed, self._closed = self._closed, True
            channels = list(self._channels)
        for channel in channels:
            channel.close()
        if not closed:
            self._on_closed(self)

    def _open_channel(self, command: str, terminal: Terminal | None = None) -> MuxChannel:
        """Open a channel that runs ``command``.

        sshd still counts a session for a moment after it was closed. If the host allows only one
        session, a refusal right after a close is therefore retried.
        """
        while True:
            asked = time.monotonic()
            try:
                return self._start_channel(command, terminal)
            except SessionRefusedError:
                with self._lock:
                    since = asked - self._closed_at
                if since > SESSION_SETTLE_TIME:
                    raise
                time.sleep(SESSION_RETRY_DELAY)

    def _start_channel(self, command: str, terminal: Terminal | None) -> MuxChannel:
        with self._lock:
            if self._closed:
                raise ConnectError("channel", "the connection is closed")
        channel = MuxChannel(
            self.master.path,
            command,
            self._environment,
            self._connect.timeout,
            self._channel_closed,
            forward_agent=self._agent,
            terminal=terminal,
        )
        with self._lock:
            self._channels.add(channel)
            closed = self._closed
        if closed:
            channel.close()
        return channel

    def _channel_closed(self, channel: MuxChannel) -> None:
        with self._lock:
            self._channels.discard(channel)
            self._closed_at = time.monotonic()


FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between attempts; doubles, varied by up to half
MAX_FOLDER_BYTES = 60  # a socket's path may have 104 bytes; ssh appends 17 while it creates it
GREETING_TIMEOUT = 5.0  # seconds for a master to answer


class _SharedJumpMaster(Struct):
    """A jump host's connection, or the error of the last attempt."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    master: ControlMaster | None = None
    error: ConnectError | None = None
    failed_at: float = 0.0


class OpensshConnector:
    """Makes connections with ``ssh`` and keeps track of them, so that they can be closed together.

    The arguments are those of ``TransportRegistry``. Sockets and logs are in a temporary folder,
    which ``close`` removes.
    """

    def __init__(
        self,
        stop: threading.Event,
        home: Path,
        environ: Mapping[str, str],
        duplicate_guard: DuplicateHostGuard,
        credential_store: CredentialStore,
        agents: AgentRegistry,
        *,
        record_host_keys: bool,
        hosts: Mapping[str, Host],
        ssh_config: str | None = None,
        shared_known_hosts: SharedKnownHosts | None = None,
    ) -> None:
        self._home, self._shared_known_hosts = home, shared_known_hosts
        self._shared_files: dict[tuple[str, ...], Path] = {}
        self._ssh_binary = SshBinary.find(home, environ, ssh_config)
        self._stop, self._environ, self._duplicate_guard, self._record_host_keys = (
            stop,
            environ,
            duplicate_guard,
            record_host_keys,
        )
        self._hosts = {normalize_host(name): host for name, host in hosts.items()}
        self._handshake_limiter, self._credential_store, self._agents = (
            HandshakeLimiter(),
            credential_store,
            agents,
        )
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._pending: set[MasterProcess] = set()
        self._open: set[ControlMaster] = set()
        self._connections: set[OpensshConnection] = set()
        self._jump_host_settings: dict[ConnectionOptions, EffectiveSettings] = {}
        self._shared_jumps: dict[tuple[str, ...], _SharedJumpMaster] = {}
        self._folder = _make_socket_folder()

    def connect(self, name: str, connect: ConnectionOptions) -> OpensshConnection:
        """Connect to the host of this name.

        Raises ConnectError, whose message names the endpoint.
        """
        settings = self._ssh_binary.effective_settings(connect)
        self._duplicate_guard.check_duplicate(name, settings.resolved_connection)
        try:
            master = self._user_master(settings) or self._log_in(
                settings, self._connect_jump_hosts(settings, ())
            )
        except CancelledError:
            raise
        except ConnectError as error:
            raise error.with_endpoint(settings.endpoint_with_jumps) from error
        connection = OpensshConnection(
            master, settings, self._environ, self._connection_closed, self._credential_store
        )
        with self._lock:
            self._connections.add(connection)
        if self._stop.is_set():
            connection.close()
            raise CancelledError
        return connection

    def cancel(self) -> None:
        """Cancel pending connections and keep open ones. ``stop`` must be set."""
        self._handshake_limiter.wake_waiting()
        with self._lock:
            pending = list(self._pending)
        for login in pending:
            login.kill()

    def close(self) -> None:
        """Close all connections and end their processes. ``stop`` must be set."""
        self.cancel()
        with self._lock:
            masters, connections = list(self._open), list(self._connections)
        for master in masters:
            master.hang_up()
        for connection in connections:
            connection.close()
        for master in masters:
            self._end_master(master)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _connection_closed(self, connection: OpensshConnection) -> None:
        with self._lock:
            self._connections.discard(connection)
        self._end_master(connection.master)

    def _end_master(self, master: ControlMaster) -> None:
        with self._lock:
            self._open.discard(master)
        master.hang_up()
        master.join()

    def _settings_of_jump_host(self, connect: ConnectionOptions) -> EffectiveSettings:
        """Return the settings of a jump host; ssh is asked only once for each."""
        with self._lock:
            settings = self._jump_host_settings.get(connect)
        if settings is None:
            settings = self._ssh_binary.effective_settings(connect)
            with self._lock:
                self._jump_host_settings[connect] = settings
        return settings

    def _user_master(self, settings: EffectiveSettings) -> ControlMaster | None:
        """Return the master that the user runs for this host, or None."""
        path = settings.control_path
        if path is None or not path.exists():
            return None
        try:
            return self._open_master(path, is_ours=False)
        except OSError:
            return None  # a stale socket

    def _log_in(
        self, settings: EffectiveSettings, jump_host: tuple[str, ControlMaster] | None
    ) -> ControlMaster:
        """Log in, retrying transient errors within ``connect.timeout``.

        There are ``connect.retries`` retries. Failures while other logins to the same server were
        in progress do not count, because the server may have refused them for their number.
        """
        deadline = Deadline(settings.connect.timeout, self._stop)
        retries, pause = settings.connect.retries, FIRST_PAUSE
        proxy = self._ssh_binary.proxy_command(jump_host[1].path, jump_host[0]) if jump_host else ""
        while True:
            with self._handshake_limiter.slot(
                _limiter_key(settings, jump_host),
                deadline,
                JUMP_HOST_CONCURRENT if jump_host else None,
            ) as slot:
                try:
                    return self._attempt(settings, proxy, deadline)
                except ConnectError as caught:
                    error = caught
                    slot.was_dropped = error.transient and error.phase == "banner"
            retries -= _counts_as_retry(slot)
            if not error.transient or retries < 0 or not deadline.remaining():
                raise error
            deadline.pause(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _shared_keys_file(self, settings: EffectiveSettings) -> Path | None:
        """Return a file with the lines of another machine's known_hosts. Raises ConnectError."""
        if self._shared_known_hosts is None:
            return None
        homes = (str(self._home), str(expand_home(f"~{login_name()}")))  # ssh takes the second one
        names = tuple(
            next((f"~{name[len(home) :]}" for home in homes if name.startswith(f"{home}/")), name)
            for name in settings.known_hosts_files
        )
        with self._lock:
            if names not in self._shared_files:
                path = self._folder / f"known_hosts-{len(self._shared_files)}"
                lines = (data + b"\n" for _, data in self._shared_known_hosts.read(names))
                path.write_bytes(b"".join(lines))
                self._shared_files[names] = path
            return self._shared_files[names]

    def _attempt(
        self, settings: EffectiveSettings, proxy: str, deadline: Deadline
    ) -> ControlMaster:
        number = next(self._numbers)
        control, log = self._folder / str(number), self._folder / f"{number}.log"
        learned_keys = None if self._record_host_keys else self._folder / "known_hosts"
        agent = self._query_agent(settings.agent_socket(self._environ), deadline)
        self._query_agent(settings.forwarded_agent_socket(self._environ), deadline)
        command = self._ssh_binary.master_command(
            settings,
            control,
            log,
            learned_keys_file=learned_keys,
            shared_keys_file=self._shared_keys_file(settings),
            proxy=proxy,
            agents=self._agents,
        )
        deadline.remaining()
        login = MasterProcess(command, self._environ, log)
        with self._lock:
            self._pending.add(login)
        try:
            login.wait_logged_in(deadline, agent)
            return self._open_master(control, is_ours=True)
        except OSError as error:
            why = f"ssh logged in, but its control socket {control} can't be used: {error}"
            raise ConnectError("channel", why) from error
        finally:
            with self._lock:
                self._pending.discard(login)
            login.remove_logs()

    def _query_agent(self, path: str, deadline: Deadline) -> AgentClient | None:
        """Return the agent at this path after a first request, or None if there is no path.

        ssh would wait for an agent that does not answer. One that fails here is not used.
        """
        agent = self._agents.agent_at(path)
        if agent is not None:
            with suppress(AgentError):
                agent.list_keys(deadline)
        return agent

    def _open_master(self, path: Path, *, is_ours: bool) -> ControlMaster:
        master = ControlMaster(path, GREETING_TIMEOUT, is_ours=is_ours)
        with self._lock:
            self._open.add(master)
        if self._stop.is_set():
            self._end_master(master)
            raise CancelledError
        return master

    def _connect_jump_hosts(
        self, settings: EffectiveSettings, visited: tuple[str, ...]
    ) -> tuple[str, ControlMaster] | None:
        """Connect to the jump hosts in order; return the last one's name and master, or None.

        As with ssh, only the first may have jump hosts of its own.
        """
        last: tuple[str, ControlMaster] | None = None
        for number, text in enumerate(settings.jump_hosts):
            if text.lower() == NO_JUMP:
                continue
            name, connect = self._jump_host_options(text, settings.connect)
            if number:
                connect = replace(connect, jump=None, set_fields=connect.set_fields | {"jump"})
            if name in visited:
                circle = " -> ".join((*visited, name))
                raise ConnectError("resolve", f"jump host loop: {circle}")
            last = name, self._shared_master(name, connect, last, (*visited, name))
        return last

    def _jump_host_options(
        self, text: str, target_options: ConnectionOptions
    ) -> tuple[str, ConnectionOptions]:
        """Return the name and the options of a jump host.

        A host of the inventory has its own options; any other has ssh_config's, with the keys of
        the host behind it.
        """
        try:
            written = parse_host_spec(text)
        except InvalidHostNameError as bad:
            raise ConnectError("resolve", f"invalid jump host {text!r}: {bad.why}") from None
        name = written.names[0]
        host = self._hosts.get(normalize_host(name))
        if host is None:
            given_options = target_options.set_fields - {"jump", "forward_agent"}
            hop = replace(
                target_options,
                address=name,
                user=written.user,
                port=written.port,
                ssh_options=jump_host_options(target_options.ssh_options),
            )
            return name, replace(hop, jump=None, forward_agent=False, set_fields=given_options)
        own = host.connect
        if own.transport not in SSH_TRANSPORTS:
            why = f"jump host {name} uses transport {own.transport}, not ssh"
            raise ConnectError("resolve", why)
        return name, replace(own, user=written.user or own.user, port=written.port or own.port)

    def _shared_master(
        self,
        name: str,
        connect: ConnectionOptions,
        jump_host: tuple[str, ControlMaster] | None,
        visited: tuple[str, ...],
    ) -> ControlMaster:
        """Return the shared connection to this jump host.

        The first caller connects; callers that waited for it get the same connection or error. A
        connection that was lost is made again.
        """
        began, settings = time.monotonic(), self._settings_of_jump_host(connect)
        options = (
            *self._ssh_binary.inventory_options(connect),
            settings.endpoint,
            str(jump_host[1].path) if jump_host else "",
        )
        with self._lock:
            shared = self._shared_jumps.setdefault(options, _SharedJumpMaster())
        with shared.lock:
            if shared.error is not None and shared.failed_at > began:
                raise shared.error
            if shared.master is None or not shared.master.is_alive():
                try:
                    user_master = self._user_master(settings)
                    shared.master = user_master or self._log_in(
                        settings, jump_host or self._connect_jump_hosts(settings, visited)
                    )
                except CancelledError:
                    raise
                except ConnectError as error:
                    shared.error = error.with_endpoint(f"jump host {name} ({settings.endpoint})")
                    shared.failed_at = time.monotonic()
                    raise shared.error from None
            return shared.master


def _make_socket_folder() -> Path:
    """Create a private temporary folder whose path is short enough for a Unix socket.

    The path contains no character that is special in ssh's options.
    """
    base = tempfile.gettempdir()
    short = len(base.encode()) <= MAX_FOLDER_BYTES and "$" not in base and '"' not in base
    return Path(tempfile.mkdtemp(prefix="orch-", dir=base if short else "/tmp"))


def _limiter_key(
    settings: EffectiveSettings, jump_host: tuple[str, ControlMaster] | None
) -> LimitKey:
    """Return what limits the handshake: an address, the last jump host, or a proxy command."""
    if jump_host:
        return f"behind {jump_host[1].path}", 0
    if command := settings.value_of("proxycommand"):
        return command.replace(settings.hostname, "").replace(str(settings.port), ""), 0
    return settings.hostname, settings.port


def _counts_as_retry(slot: HandshakeSlot) -> bool:
    return slot.is_alone or not slot.was_dropped
