"""What is connected to, by which way, and with what to log in.

Jump hosts: which are on the way to a host, and one connection to each for all behind it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.inventory.connection_options import DIRECT
from orchestrator.inventory.hostnames import BadNameError, key, read_host
from orchestrator.model.host import Connect, Host
from orchestrator.transports.deadline import CancelledError, Deadline
from orchestrator.transports.local_user import login_name
from orchestrator.transports.ssh.agent_client import Agent
from orchestrator.transports.ssh.client import Client
from orchestrator.transports.ssh.host_key_policy import Trust
from orchestrator.transports.ssh.keyring import Offer
from orchestrator.transports.ssh_config.resolve import Way, Ways
from orchestrator.transports.ssh_config.settings import Settings

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


Route: TypeAlias = tuple[Hop, ...]


class Routes:
    """Finds the hops. One that is called as a host of ``hosts`` is that host, with its settings;
    another is what ssh_config says of it, with the keys and known_hosts of the host behind it.
    """

    def __init__(self, ways: Ways, hosts: Mapping[str, Host]) -> None:
        self._ways = ways
        self._hosts = {key(name): host for name, host in hosts.items()}

    def of(self, way: Way, connect: Connect) -> Route:
        """The hops on the way to the host whose settings in the inventory are ``connect``, the
        first one first. Raises ConnectError, and ConfigError.
        """
        return self._chain(way, connect, ())

    def _chain(self, way: Way, connect: Connect, behind: tuple[str, ...]) -> Route:
        chain: list[Hop] = []
        for text in way.settings.jump:
            if text.lower() == DIRECT:
                continue
            hop, own = self._hop(text, connect)
            if not chain:  # as with ssh, the first may have a way of its own, the others have not
                if hop.name in behind:
                    circle = " -> ".join((*behind, hop.name))
                    raise ConnectError("resolve", f"the jump hosts go round in a circle: {circle}")
                chain += self._chain(hop.way, own, (*behind, hop.name))
            chain.append(hop)
        return tuple(chain)

    def _hop(self, text: str, like: Connect) -> tuple[Hop, Connect]:
        try:
            written = read_host(text)
        except BadNameError as bad:
            raise ConnectError("resolve", f"no jump host can be {text!r}: {bad.why}") from None
        name = written.names[0]
        host = self._hosts.get(key(name))
        if host is None:
            return Hop(name, self._ways.hop(name, written.user, written.port, like)), like
        if host.connect.transport not in ("ssh", "openssh"):
            why = f"jump host {name} is reached by transport {host.connect.transport}, not by ssh"
            raise ConnectError("resolve", why)
        own = host.connect
        own = replace(own, user=written.user or own.user, port=written.port or own.port)
        return Hop(host.name, self._ways.of(own)), own


class _Shared(Struct):
    lock: threading.Lock = field(default_factory=threading.Lock)
    client: Client | None = None
    error: ConnectError | None = None
    failed_at: float = 0.0


class Bastions:
    """The connections to the last hops of routes: made when first needed, by whoever comes first
    while the others wait, and once more where one has died since. ``log_in`` makes them.
    """

    def __init__(self, log_in: Callable[[Route], Client]) -> None:
        self._log_in = log_in
        self._lock = threading.Lock()
        self._shared: dict[tuple[object, ...], _Shared] = {}

    def at(self, route: Route, deadline: Deadline) -> Client:
        """The connection to the last hop. The wait for it, which has a deadline of its own, does
        not count against ``deadline``. Raises ConnectError: the same one for all who waited.
        """
        began = time.monotonic()
        with self._lock:
            shared = self._shared.setdefault(tuple(hop.key for hop in route), _Shared())
        with shared.lock:
            deadline.extend(time.monotonic() - began)
            deadline.left()
            if shared.client is not None and not shared.client.over.is_set():
                return shared.client
            if shared.error is not None and shared.failed_at > began:
                raise shared.error
            since = time.monotonic()
            try:
                shared.client, shared.error = self._log_in(route), None
                return shared.client
            except CancelledError:
                raise
            except ConnectError as error:
                shared.error = replaced = _final(error, route)
                shared.failed_at = time.monotonic()
                raise replaced from None
            finally:
                deadline.extend(time.monotonic() - since)


def _final(error: ConnectError, route: Route) -> ConnectError:
    """It was tried as often as the hop's settings say: those behind it need not try again."""
    failed = error if isinstance(error, BehindError) else route[-1].failed(error)
    return BehindError(failed.phase, failed.why, failed.hint)


class BehindError(ConnectError):
    """A jump host could not be reached, and its name is in the message."""
