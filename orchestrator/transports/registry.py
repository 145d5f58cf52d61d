"""Connect to a host with its transport, and hold what the connections of a run share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import ConnectError, DefinitionError, Diagnostic, suggest_nearest
from orchestrator.model.host import TRANSPORTS, Host
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports.deadline import CancelledError
from orchestrator.transports.prompts import CredentialStore, PromptCallback, SecretCallback
from orchestrator.transports.ssh.agent_client import AgentRegistry
from orchestrator.transports.ssh_config.lookup import SYSTEM_CONFIG
from orchestrator.transports.ssh_config.resolve import ConnectionResolver, DuplicateHostGuard

if TYPE_CHECKING:
    from orchestrator.transports.openssh.openssh_connector import OpensshConnector
    from orchestrator.transports.sandbox.server import SandboxServer
    from orchestrator.transports.ssh.connector import SshConnector


class TransportRegistry:
    """The transports of one run. Thread-safe.

    ``hosts`` are the hosts of the stage, which jump hosts may be among. ``prompt_user`` asks the
    user. ``on_secret`` is called with the kind of a secret (ssh password, become password, key
    passphrase) and the secret, before it is sent anywhere. ``previous`` is an earlier registry:
    credentials that hosts accepted there are not asked for again, and its agents are reused.
    ``warn`` is called with each warning for the user. ``record_host_keys``: whether
    ``host_keys: accept-new`` may write to known_hosts (not with --check).
    ``sandbox_folder`` contains a home folder for each sandbox host of the stage.
    Keys, known_hosts, ssh_config and the agent are those of ``home`` and ``environ``.
    ``ssh_config`` replaces the user's file and ``system_config``, as with ``ssh -F``.
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
        previous: TransportRegistry | None = None,
        ssh_config: str | None = None,
        system_config: Path = SYSTEM_CONFIG,
    ) -> None:
        self._record_host_keys, self._sandbox_folder = record_host_keys, sandbox_folder
        self._home = home or Path.home()
        self._environ = os.environ if environ is None else environ
        self._hosts = hosts
        self._stop = threading.Event()
        previous_credentials = previous.credential_store if previous else None
        self.credential_store: CredentialStore = CredentialStore(
            prompt_user, self._environ, self._stop, on_secret, previous_credentials
        )
        self.agents: AgentRegistry = (
            previous.agents if previous else AgentRegistry(self._environ, warn)
        )
        self._owns_agents = previous is None
        self._resolver = ConnectionResolver(
            self._home,
            self._environ,
            self._stop,
            config_file=ssh_config,
            system_config=system_config,
        )
        self._duplicate_guard = DuplicateHostGuard()
        self._lock = threading.Lock()
        self._ssh: SshConnector | None = None
        self._openssh: OpensshConnector | None = None
        self._ssh_config = ssh_config
        self._sandbox: SandboxServer | None = None

    def connect(self, host: Host) -> Connection:
        """Connect to a host and authenticate, within ``host.connect.timeout``.

        Time spent waiting for other connections to the same address does not count. Raises
        ConnectError, and DefinitionError if the inventory names an unknown transport.
        """
        connect = host.connect
        if connect.transport not in TRANSPORTS:
            what = f"host {host.name}: unknown transport {connect.transport!r}"
            hint = (
                suggest_nearest(connect.transport, TRANSPORTS)
                or f"valid transports: {', '.join(TRANSPORTS)}"
            )
            raise DefinitionError(Diagnostic(what, host.mark, hint))
        if connect.transport == "local":
            from orchestrator.transports.local import LocalConnection

            return LocalConnection(
                connect.shell,
                become_method=connect.become_method,
                timeout=connect.timeout,
                credential_store=self.credential_store,
            )
        if connect.transport == "sandbox":
            return self._sandbox_server().connect(host)
        if connect.transport == "openssh":
            return self._openssh_connector().connect(host.name, connect)
        connection = self._resolver.resolve(connect)
        self._duplicate_guard.check_duplicate(host.name, connection)
        return self._ssh_connector().connect(connection, connect)

    def cancel(self) -> None:
        """Cancel pending connections with ConnectError and refuse new ones; keep open ones."""
        self._stop.set()
        if self._ssh is not None:
            self._ssh.cancel()
        if self._openssh is not None:
            self._openssh.cancel()

    def close(self) -> None:
        """Close all connections, pending and open, and end the sandbox and its processes.

        Safe to call twice. Afterwards no thread is left, except those stuck in a name lookup.
        """
        self._stop.set()
        with self._lock:
            ssh, self._ssh = self._ssh, None
            openssh, self._openssh = self._openssh, None
            sandbox, self._sandbox = self._sandbox, None
        if ssh is not None:
            ssh.close()
        if openssh is not None:
            openssh.close()
        if sandbox is not None:
            sandbox.close()
        if self._owns_agents:
            self.agents.close()

    def _ssh_connector(self) -> SshConnector:
        with self._lock:
            self._raise_if_cancelled()
            if self._ssh is None:
                from orchestrator.transports.ssh.connector import SshConnector  # costs 50 ms

                self._ssh = SshConnector(
                    self._stop,
                    self._home,
                    environ=self._environ,
                    resolver=self._resolver,
                    credential_store=self.credential_store,
                    agents=self.agents,
                    record_host_keys=self._record_host_keys,
                    hosts=self._hosts,
                )
            return self._ssh

    def _openssh_connector(self) -> OpensshConnector:
        with self._lock:
            self._raise_if_cancelled()
            if self._openssh is None:
                from orchestrator.transports.openssh.openssh_connector import OpensshConnector

                self._openssh = OpensshConnector(
                    self._stop,
                    self._home,
                    environ=self._environ,
                    duplicate_guard=self._duplicate_guard,
                    credential_store=self.credential_store,
                    agents=self.agents,
                    record_host_keys=self._record_host_keys,
                    hosts=self._hosts or {},
                    ssh_config=self._ssh_config,
                )
            return self._openssh

    def _sandbox_server(self) -> SandboxServer:
        ssh = self._ssh_connector()
        with self._lock:
            self._raise_if_cancelled()
            if self._sandbox is None:
                from orchestrator.transports.sandbox.server import SandboxServer

                if self._sandbox_folder is None:
                    raise ConnectError("connect", "no folder was given for the sandbox")
                self._sandbox = SandboxServer(self._sandbox_folder, ssh)
            return self._sandbox

    def _raise_if_cancelled(self) -> None:
        if self._stop.is_set():
            raise CancelledError
