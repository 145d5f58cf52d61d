"""What the configuration says of the way to a host, with nothing connected."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.model.host import Host
from orchestrator.transports.openssh.command_line import SshBinary
from orchestrator.transports.ssh.agent_client import agent_socket_path
from orchestrator.transports.ssh.target import JumpChainResolver, format_endpoint
from orchestrator.transports.ssh_config.lookup import SYSTEM_CONFIG
from orchestrator.transports.ssh_config.resolve import ConnectionResolver
from orchestrator.transports.ssh_config.settings import UnsupportedSetting


class ConnectionInfo(Struct, frozen=True):
    """``endpoint``: USER@ADDRESS:PORT. ``jump_hosts``: the jump hosts before it. ``unsupported``: what
    ssh_config says of it or of them, matters, and is not obeyed; what ssh itself connects is.
    ``agent_sockets``: the sockets of those that are asked on the way.
    """

    endpoint: str = ""
    jump_hosts: tuple[str, ...] = ()
    unsupported: tuple[UnsupportedSetting, ...] = ()
    agent_sockets: tuple[str, ...] = ()


class ConnectionInspector:
    """Tells it of a run's hosts, from any number of threads. Its arguments are the Connector's;
    ``stop`` ends what ssh_config has it run.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        hosts: Mapping[str, Host],
        stop: threading.Event,
        ssh_config: str | None = None,
        home: Path | None = None,
        system_config: Path = SYSTEM_CONFIG,
    ) -> None:
        self._home, self._environ, self._file = home or Path.home(), environ, ssh_config
        self._resolver = ConnectionResolver(
            self._home, environ, stop, config_file=ssh_config, system_config=system_config
        )
        self._jump_resolver = JumpChainResolver(self._resolver, hosts)

    def inspect(self, host: Host) -> ConnectionInfo:
        """What it says of this one; nothing, where ssh_config has no say. Raises ConnectError."""
        connect = host.connect
        if connect.transport == "openssh":
            effective = SshBinary.find(self._home, self._environ, self._file).effective_settings(
                connect
            )
            return ConnectionInfo(
                effective.endpoint,
                effective.jump_hosts,
                agent_sockets=(effective.agent_socket(self._environ),),
            )
        if connect.transport != "ssh":
            return ConnectionInfo()
        connection = self._resolver.resolve(connect)
        hops = self._jump_resolver.resolve(connection, connect)
        settings = (*(hop.connection.settings for hop in hops), connection.settings)
        unsupported = dict.fromkeys(each for said in settings for each in said.unsupported)
        agents = dict.fromkeys(agent_socket_path(said, self._environ) for said in settings)
        names = tuple(hop.name for hop in hops)
        return ConnectionInfo(
            format_endpoint(connection.connect), names, tuple(unsupported), tuple(agents)
        )
