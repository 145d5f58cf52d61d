"""What is connected to, by which way, and with what to log in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from orchestrator.errors import ConnectError
from orchestrator.model.host import Connect
from orchestrator.transport.agent import Agent
from orchestrator.transport.config.settings import Settings
from orchestrator.transport.config.way import Way
from orchestrator.transport.deadline import Deadline
from orchestrator.transport.keys import Offer
from orchestrator.transport.login import login_name
from orchestrator.transport.trust import Trust

Address: TypeAlias = tuple[str, int]


class Hop(Struct, frozen=True):
    """A jump host: what it is called, and how it is reached from the hop before it."""

    name: str
    way: Way

    @property
    def key(self) -> tuple[object, ...]:
        """What two hops have in common that one connection serves: the account, and who says
        that the host is the right one.
        """
        connect = self.way.connect
        known = connect.known_hosts, connect.host_keys, self.way.settings.host_key_alias
        return place(connect), self.way.settings.proxy_command, known

    def failed(self, error: ConnectError) -> ConnectError:
        """The error of a host behind this hop."""
        why = f"jump host {self.name} ({place(self.way.connect)}): {error.why}"
        return ConnectError(error.phase, why, error.hint, transient=error.transient)


class Target(Struct, frozen=True):
    """One host to log in to. ``connect`` leaves nothing open, ``settings`` has what it does not
    say; ``offer`` gives the keys as they are known by then, for an attempt with this deadline.
    ``account`` is whose passwords are asked for, '' for none; ``agent`` is forwarded. ``hop``:
    the host is only there to reach others.
    """

    connect: Connect
    trust: Trust
    offer: Callable[[Deadline], Offer]
    settings: Settings
    hops: tuple[Hop, ...] = ()
    account: str = ""
    agent: Agent | None = None
    hop: bool = False

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self.connect.address, self.connect.port or 22

    @property
    def pace(self) -> Address:
        """What its handshake shares with others': an address, the last hop, or a proxy."""
        address, port = self.address
        if self.hops:
            return f"behind {place(self.hops[-1].way.connect)}", 0
        if command := self.settings.proxy_command:
            return command.replace(address, "").replace(str(port), ""), 0
        return address, port

    def failed(self, error: ConnectError) -> ConnectError:
        """The error with who was to be where, and by which way."""
        return error.at(self.place)

    @property
    def place(self) -> str:
        """Who is where, and by which way."""
        via = f" via {', '.join(hop.name for hop in self.hops)}" if self.hops else ""
        return f"{place(self.connect)}{via}"


def place(connect: Connect) -> str:
    """USER@ADDRESS:PORT."""
    address = f"[{connect.address}]" if ":" in connect.address else connect.address
    return f"{connect.user or login_name()}@{address}:{connect.port or 22}"
