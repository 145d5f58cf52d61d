"""The resolved connection settings of a host, found without connecting."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.model.host import Host
from orchestrator.transports.openssh.command_line import SshBinary
from orchestrator.transports.ssh.agent_client import agent_socket_path
from orchestrator.transports.ssh.route import RouteResolver, format_endpoint
from orchestrator.transports.ssh_config.lookup import SYSTEM_CONFIG
from orchestrator.transports.ssh_config.resolve import ConnectionResolver
from orchestrator.transports.ssh_config.settings import UnsupportedSetting


class ConnectionInfo(Struct, frozen=True):
    """The connection settings of one host.

    ``endpoint`` is USER@ADDRESS:PORT. ``jump_hosts`` are the names of its jump hosts, in order.
    ``unsupported`` are the ssh_config options that apply to the host or to a jump host and that
    orch ignores; it is empty for the ``openssh`` transport, because ssh itself obeys them.
    ``agent_sockets`` are the paths of the SSH agents that authentication uses.
    """

    endpoint: str = ""
    jump_hosts: tuple[str, ...] = ()
    unsupported: tuple[UnsupportedSetting, ...] = ()
    agent_sockets: tuple[str, ...] = ()


class ConnectionInspector:
    """Resolves the connection settings of a run's hosts. Thread-safe.

    The arguments are those of ``TransportRegistry``. Setting ``stop`` ends the commands that
    ssh_config makes it run (``Match exec``).
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
        resolver = ConnectionResolver(
            self._home, environ, stop, config_file=ssh_config, system_config=system_config
        )
        self._routes = RouteResolver(resolver, hosts)

    def inspect(self, host: Host) -> ConnectionInfo:
        """Return the settings of this host.

        They are empty if the host's transport does not read ssh_config. Raises ConnectError.
        """
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
        route = self._routes.resolve(connect)
        connection, hops = route.connection, route.jump_hosts
        settings = (*(hop.connection.settings for hop in hops), connection.settings)
        unsupported = dict.fromkeys(each for hop in settings for each in hop.unsupported)
        agents = dict.fromkeys(agent_socket_path(hop, self._environ) for hop in settings)
        names = tuple(hop.name for hop in hops)
        return ConnectionInfo(
            format_endpoint(connection.connect), names, tuple(unsupported), tuple(agents)
        )
