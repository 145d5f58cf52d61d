"""From a host to a connection: picks the transport and holds what a run's connections share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import ConnectError, DefinitionError, Problem, nearest
from orchestrator.model.host import Host
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports.deadline import CancelledError
from orchestrator.transports.prompts import Answers, Ask, Known
from orchestrator.transports.ssh.agent_client import Agents
from orchestrator.transports.ssh_config.lookup import SYSTEM
from orchestrator.transports.ssh_config.resolve import Targets, Ways

if TYPE_CHECKING:
    from orchestrator.transports.openssh.openssh_connector import Openssh
    from orchestrator.transports.sandbox.server import Sandbox
    from orchestrator.transports.ssh.connector import Ssh

TRANSPORTS = ("ssh", "openssh", "local", "sandbox")


class Connector:
    """Connects hosts. One serves a run, from any number of threads.

    ``hosts`` are the stage's: jump hosts may be among them. ``ask`` asks the user; ``known`` is
    told what a secret is (ssh password, become password, key passphrase) and the secret, before
    it is sent anywhere. What hosts took of the answers given ``before`` is not asked for again,
    and what is known of agents stays known. ``warn`` is told what the user should know.
    ``record``: whether ``host_keys: accept-new`` may write to known_hosts (not under --check).
    ``sandbox``: the folder with a home for each of the stage's sandbox hosts.
    ``home`` and ``environ`` are where keys, known_hosts, ssh_config and the agent are looked for;
    ``ssh_config`` is read in place of the user's and the ``system``'s, as with ``ssh -F``.
    """

    def __init__(
        self,
        *,
        record: bool = True,
        sandbox: Path | None = None,
        home: Path | None = None,
        environ: Mapping[str, str] | None = None,
        hosts: Mapping[str, Host] | None = None,
        ask: Ask | None = None,
        known: Known = lambda _kind, _secret: None,
        warn: Callable[[str], object] = lambda _text: None,
        before: Connector | None = None,
        ssh_config: str | None = None,
        system: Path = SYSTEM,
    ) -> None:
        self._record, self._folder = record, sandbox
        self._home = home or Path.home()
        self._environ = os.environ if environ is None else environ
        self._hosts = hosts
        self._stop = threading.Event()
        told = before.answers if before else None
        self.answers: Answers = Answers(ask, self._environ, self._stop, known, told)
        self.agents: Agents = before.agents if before else Agents(self._environ, warn)
        self._own_agents = before is None
        self._ways = Ways(self._home, self._environ, self._stop, file=ssh_config, system=system)
        self._targets = Targets()
        self._lock = threading.Lock()
        self._ssh: Ssh | None = None
        self._openssh: Openssh | None = None
        self._ssh_config = ssh_config
        self._sandbox: Sandbox | None = None

    def connect(self, host: Host) -> Connection:
        """Connect and authenticate, within ``host.connect.timeout`` and not counting the wait
        for others at the same address. Raises ConnectError, and DefinitionError where the
        inventory names a transport that does not exist.
        """
        connect = host.connect
        if connect.transport not in TRANSPORTS:
            what = f"host {host.name}: no transport is called {connect.transport!r}"
            hint = nearest(connect.transport, TRANSPORTS) or f"there are {', '.join(TRANSPORTS)}"
            raise DefinitionError(Problem(what, host.mark, hint))
        if connect.transport == "local":
            from orchestrator.transports.local import LocalConnection

            return LocalConnection(
                connect.shell,
                become_method=connect.become_method,
                timeout=connect.timeout,
                answers=self.answers,
            )
        if connect.transport == "sandbox":
            return self._sandboxes().connect(host)
        if connect.transport == "openssh":
            return self._over_openssh().connect(host.name, connect)
        way = self._ways.of(connect)
        self._targets.claim(host.name, way)
        return self._over_ssh().connect(way, connect)

    def cancel(self) -> None:
        """End what is pending with ConnectError, and begin nothing more; what is open stays."""
        self._stop.set()
        if self._ssh is not None:
            self._ssh.cancel()
        if self._openssh is not None:
            self._openssh.cancel()

    def close(self) -> None:
        """End everything: connections pending and open, the sandbox and its processes. Safe to
        call twice. No thread of theirs is left afterwards, but for those stuck in a name lookup.
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
        if self._own_agents:
            self.agents.close()

    def _over_ssh(self) -> Ssh:
        with self._lock:
            self._not_stopped()
            if self._ssh is None:
                from orchestrator.transports.ssh.connector import Ssh  # costs 50 ms

                self._ssh = Ssh(
                    self._stop,
                    self._home,
                    environ=self._environ,
                    ways=self._ways,
                    answers=self.answers,
                    agents=self.agents,
                    record=self._record,
                    hosts=self._hosts,
                )
            return self._ssh

    def _over_openssh(self) -> Openssh:
        with self._lock:
            self._not_stopped()
            if self._openssh is None:
                from orchestrator.transports.openssh.openssh_connector import Openssh

                self._openssh = Openssh(
                    self._stop,
                    self._home,
                    environ=self._environ,
                    targets=self._targets,
                    answers=self.answers,
                    agents=self.agents,
                    record=self._record,
                    hosts=self._hosts or {},
                    ssh_config=self._ssh_config,
                )
            return self._openssh

    def _sandboxes(self) -> Sandbox:
        ssh = self._over_ssh()
        with self._lock:
            self._not_stopped()
            if self._sandbox is None:
                from orchestrator.transports.sandbox.server import Sandbox

                if self._folder is None:
                    raise ConnectError("connect", "no folder was given for the sandbox")
                self._sandbox = Sandbox(self._folder, ssh)
            return self._sandbox

    def _not_stopped(self) -> None:
        if self._stop.is_set():
            raise CancelledError
