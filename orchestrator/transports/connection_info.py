"""What the configuration says of the way to a host, with nothing connected."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.model.host import Host
from orchestrator.transports.openssh.command_line import Tool
from orchestrator.transports.ssh.agent_client import socket_of
from orchestrator.transports.ssh.target import Routes, place
from orchestrator.transports.ssh_config.lookup import SYSTEM
from orchestrator.transports.ssh_config.resolve import Ways
from orchestrator.transports.ssh_config.settings import Unsupported


class Told(Struct, frozen=True):
    """``place``: USER@ADDRESS:PORT. ``via``: the jump hosts before it. ``unsupported``: what
    ssh_config says of it or of them, matters, and is not obeyed; what ssh itself connects is.
    ``agents``: the sockets of those that are asked on the way.
    """

    place: str = ""
    via: tuple[str, ...] = ()
    unsupported: tuple[Unsupported, ...] = ()
    agents: tuple[str, ...] = ()


class Teller:
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
        system: Path = SYSTEM,
    ) -> None:
        self._home, self._environ, self._file = home or Path.home(), environ, ssh_config
        self._ways = Ways(self._home, environ, stop, file=ssh_config, system=system)
        self._routes = Routes(self._ways, hosts)

    def of(self, host: Host) -> Told:
        """What it says of this one; nothing, where ssh_config has no say. Raises ConnectError."""
        connect = host.connect
        if connect.transport == "openssh":
            said = Tool.find(self._home, self._environ, self._file).effective(connect)
            return Told(said.place, said.jump, agents=(said.agent(self._environ),))
        if connect.transport != "ssh":
            return Told()
        way = self._ways.of(connect)
        hops = self._routes.of(way, connect)
        settings = (*(hop.way.settings for hop in hops), way.settings)
        unsupported = dict.fromkeys(each for said in settings for each in said.unsupported)
        agents = dict.fromkeys(socket_of(said, self._environ) for said in settings)
        names = tuple(hop.name for hop in hops)
        return Told(place(way.connect), names, tuple(unsupported), tuple(agents))
