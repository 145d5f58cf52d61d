"""Jump hosts: which are on the way to a host, and one connection to each for all behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.inventory.connect import DIRECT
from orchestrator.inventory.names import key, read_host
from orchestrator.inventory.ranges import BadNameError
from orchestrator.model.host import Connect, Host
from orchestrator.transport.client import Client
from orchestrator.transport.config.way import Way, Ways
from orchestrator.transport.deadline import CancelledError, Deadline
from orchestrator.transport.target import Hop

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
