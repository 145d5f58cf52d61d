"""Connect to a host with its transport, and hold what the connections of a run share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import ConnectError, DefinitionError, Diagnostic, suggest_nearest
from orchestrator.model.host import TRANSPORTS, Host
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports.deadline import CancelledError
from orchestrator.transports.prompts import (
    AcceptedAnswers,
    AnswerSource,
    CredentialStore,
    PromptCallback,
    SecretCallback,
)
from orchestrator.transports.ssh.agent_client import AgentRegistry
from orchestrator.transports.ssh.route import Route, RouteResolver
from orchestrator.transports.ssh_config.lookup import SYSTEM_CONFIG
from orchestrator.transports.ssh_config.resolve import ConnectionResolver, DuplicateHostGuard

if TYPE_CHECKING:
    from orchestrator.transports.broker.broker_client import BrokerClient
    from orchestrator.transports.openssh.openssh_connector import OpensshConnector
    from orchestrator.transports.sandbox.server import SandboxServer
    from orchestrator.transports.ssh.connector import SshConnector
    from orchestrator.transports.ssh.shared_known_hosts import SharedKnownHosts


class TransportRegistry:
    """The transports of one run. Thread-safe.

    ``hosts`` are the hosts of the stage, which jump hosts may be among. ``prompt_user`` asks the
    user. ``on_secret`` is called with the kind of a secret (ssh password, become password, key
    passphrase) and the secret, before it is sent anywhere.
    ``warn`` is called with each warning for the user. ``record_host_keys``: whether
    ``host_keys: accept-new`` may write to known_hosts (not with --check).
    ``sandbox_folder`` contains a home folder for each sandbox host of the stage.
    Keys, known_hosts, ssh_config and the agent are those of ``home`` and ``environ``.
    ``ssh_config`` replaces the user's file and ``system_config``, as with ``ssh -F``.
    ``project`` is the folder of the project whose broker keeps connections; without it, none are
    kept. ``persist`` replaces the hosts' own setting, in seconds. ``find_answer`` answers prompts
    instead of the user and the environment's files. With ``shared_known_hosts``, known_hosts of
    another machine are used as well; transport ``openssh`` adds no keys there.
    """

    def __init__(
        self,
        *,
        record_host_keys: bool = True,
        sandbox_folder: Path | None = None,
        home: Path | None = None,
        environ: Mapping[str, str] | None = None,
        hosts: Mapping[str, Host] | None = None,
        prompt_user: PromptCallback | None = None,
        on_secret: SecretCallback = lambda _kind, _secret: None,
        warn: Callable[[str], object] = lambda _text: None,
        ssh_config: str | None = None,
        system_config: Path = SYSTEM_CONFIG,
        project: Path | None = None,
        persist: float | None = None,
        find_answer: AnswerSource | None = None,
        shared_known_hosts: SharedKnownHosts | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self.agents = AgentRegistry(environ, warn)
        self._settings = _ConnectorSettings(
            record_host_keys=record_host_keys,
            sandbox_folder=sandbox_folder,
            home=home or Path.home(),
            environ=environ,
            hosts=hosts or {},
            prompt_user=prompt_user,
            on_secret=on_secret,
            agents=self.agents,
            ssh_config=ssh_config,
            system_config=system_config,
            warn=warn,
            project=project,
            persist=persist,
            find_answer=find_answer,
            shared_known_hosts=shared_known_hosts,
        )
        self._connectors = _Connectors(self._settings, {})
        self._cancelled: list[_Connectors] = []  # their open connections are kept until the end

    def connect(self, host: Host) -> Connection:
        """Connect to a host and authenticate, within ``host.connect.timeout``.

        Time spent waiting for other connections to the same address does not count. Raises
        ConnectError, and DefinitionError if the inventory's settings cannot be used.
        """
        if host.connect.invalid is not None:
            raise DefinitionError(host.connect.invalid)
        if host.connect.transport not in TRANSPORTS:
            message = f"host {host.name}: unknown transport {host.connect.transport!r}"
            hint = (
                suggest_nearest(host.connect.transport, TRANSPORTS)
                or f"valid transports: {', '.join(TRANSPORTS)}"
            )
            raise DefinitionError(Diagnostic(message, host.mark, hint))
        return self._connectors.connect(host)

    def cancel(self) -> None:
        """Cancel pending connections with ConnectError and refuse new ones; keep open ones."""
        self._connectors.cancel()

    def reset(self, on_ready: Callable[[], object]) -> None:
        """Cancel pending connections with ConnectError and allow new ones; keep open ones.

        ``on_ready`` is called when new connections are possible, before the pending ones fail.
        Credentials that hosts accepted are not asked for again.
        """
        connectors = self._connectors
        self._cancelled.append(connectors)
        self._connectors = _Connectors(
            self._settings, connectors.credential_store.accepted_answers()
        )
        on_ready()
        connectors.cancel()

    def close(self) -> None:
        """Close all connections, pending and open, and end the sandbox and its processes.

        Safe to call twice. Afterwards no thread is left, except those stuck in a name lookup.
        """
        for connectors in (self._connectors, *self._cancelled):
            connectors.close()
        self.agents.close()


class _ConnectorSettings(Struct, frozen=True):
    """What all connectors of a run share; see TransportRegistry."""

    record_host_keys: bool
    sandbox_folder: Path | None
    home: Path
    environ: Mapping[str, str]
    hosts: Mapping[str, Host]
    prompt_user: PromptCallback | None
    on_secret: SecretCallback
    agents: AgentRegistry
    ssh_config: str | None
    system_config: Path
    warn: Callable[[str], object]
    project: Path | None
    persist: float | None
    find_answer: AnswerSource | None
    shared_known_hosts: SharedKnownHosts | None


class _Connectors:
    """A connector for each transport, made when needed, until they are cancelled.

    ``accepted_answers`` are credentials that hosts have accepted.
    """

    def __init__(self, settings: _ConnectorSettings, accepted_answers: AcceptedAnswers) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self.credential_store = CredentialStore(
            settings.prompt_user,
            settings.environ,
            self._stop,
            settings.on_secret,
            accepted_answers,
            settings.find_answer,
        )
        resolver = ConnectionResolver(
            settings.home,
            settings.environ,
            self._stop,
            config_file=settings.ssh_config,
            system_config=settings.system_config,
        )
        self._routes = RouteResolver(resolver, settings.hosts)
        self._duplicate_guard = DuplicateHostGuard()
        self._lock = threading.Lock()
        self._ssh: SshConnector | None = None
        self._openssh: OpensshConnector | None = None
        self._sandbox: SandboxServer | None = None
        self._broker: BrokerClient | None = None
        self._broker_warned = False

    def connect(self, host: Host) -> Connection:
        """Connect to a host with its transport."""
        connect = host.connect
        if connect.transport == "local":
            from orchestrator.transports.local import LocalConnection

            return LocalConnection(
                connect.shell,
                become_method=connect.become_method,
                timeout=connect.timeout,
                credential_store=self.credential_store,
                become_password=connect.become_password,
            )
        if connect.transport == "sandbox":
            return self._sandbox_server().connect(host)
        if connect.transport == "openssh":
            return self._openssh_connector().connect(host.name, connect)
        route = self._routes.resolve(connect)
        self._duplicate_guard.check_duplicate(host.name, route.connection)
        if (broker := self._broker_for(host, route)) is not None:
            persisting = replace(host, connect=replace(connect, persist=self._persist(host)))
            try:
                return self._connect_through(broker, persisting, route)
            except OSError as error:
                self._warn_once(f"connections are not kept: {error}")
        return self._ssh_connector().connect(route)

    def _persist(self, host: Host) -> float:
        persist = self._settings.persist
        return host.connect.persist if persist is None else persist

    def _broker_for(self, host: Host, route: Route) -> BrokerClient | None:
        """Return the link to the broker if it may keep the connection to this host.

        Agents are never forwarded through kept connections, and a jump host's password and the
        known_hosts of another machine are only known here.
        """
        project = self._settings.project
        if self._settings.shared_known_hosts is not None:
            return None
        if project is None or self._persist(host) <= 0 or route.connection.settings.forward_agent:
            return None
        if any(hop.connection.connect.password is not None for hop in route.jump_hosts):
            return None
        with self._lock:
            self._raise_if_cancelled()
            if self._broker is None:
                from orchestrator.transports.broker.broker_client import (
                    BrokerClient,
                    BrokerSettings,
                )

                self._broker = BrokerClient(
                    BrokerSettings(
                        project,
                        self._settings.home,
                        self._settings.environ,
                        record_host_keys=self._settings.record_host_keys,
                        prompt_user=self._settings.prompt_user,
                        on_secret=self._settings.on_secret,
                        warn=self._settings.warn,
                    ),
                    self._stop,
                )
            return self._broker

    def _connect_through(self, broker: BrokerClient, host: Host, route: Route) -> Connection:
        """Connect through the broker. Raises ConnectError; OSError if there is no broker."""
        return broker.connect(
            host,
            route,
            self.credential_store,
            lambda: self._ssh_connector().connect(route),
        )

    def _warn_once(self, text: str) -> None:
        with self._lock:
            is_first, self._broker_warned = not self._broker_warned, True
        if is_first:
            self._settings.warn(text)

    def cancel(self) -> None:
        """Cancel pending connections with ConnectError and refuse new ones; keep open ones."""
        self._stop.set()
        if self._ssh is not None:
            self._ssh.cancel()
        if self._openssh is not None:
            self._openssh.cancel()
        if self._broker is not None:
            self._broker.cancel()

    def close(self) -> None:
        """Close all connections and end the sandbox. Safe to call twice."""
        self._stop.set()
        with self._lock:
            ssh, self._ssh = self._ssh, None
            openssh, self._openssh = self._openssh, None
            sandbox, self._sandbox = self._sandbox, None
            broker, self._broker = self._broker, None
        if ssh is not None:
            ssh.close()
        if openssh is not None:
            openssh.close()
        if sandbox is not None:
            sandbox.close()
        if broker is not None:
            broker.close()

    def _ssh_connector(self) -> SshConnector:
        with self._lock:
            self._raise_if_cancelled()
            if self._ssh is None:
                from orchestrator.transports.ssh.connector import SshConnector  # costs 50 ms

                self._ssh = SshConnector(
                    self._stop,
                    self._settings.home,
                    environ=self._settings.environ,
                    credential_store=self.credential_store,
                    agents=self._settings.agents,
                    record_host_keys=self._settings.record_host_keys,
                    shared_known_hosts=self._settings.shared_known_hosts,
                )
            return self._ssh

    def _openssh_connector(self) -> OpensshConnector:
        with self._lock:
            self._raise_if_cancelled()
            if self._openssh is None:
                from orchestrator.transports.openssh.openssh_connector import OpensshConnector

                self._openssh = OpensshConnector(
                    self._stop,
                    self._settings.home,
                    environ=self._settings.environ,
                    duplicate_guard=self._duplicate_guard,
                    credential_store=self.credential_store,
                    agents=self._settings.agents,
                    record_host_keys=self._settings.record_host_keys,
                    hosts=self._settings.hosts,
                    ssh_config=self._settings.ssh_config,
                    shared_known_hosts=self._settings.shared_known_hosts,
                )
            return self._openssh

    def _sandbox_server(self) -> SandboxServer:
        ssh = self._ssh_connector()
        with self._lock:
            self._raise_if_cancelled()
            if self._sandbox is None:
                from orchestrator.transports.sandbox.server import SandboxServer

                if self._settings.sandbox_folder is None:
                    raise ConnectError("connect", "no folder was given for the sandbox")
                self._sandbox = SandboxServer(self._settings.sandbox_folder, ssh)
            return self._sandbox

    def _raise_if_cancelled(self) -> None:
        if self._stop.is_set():
            raise CancelledError
