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
from orchestrator.inventory.connection_options import NO_JUMP
from orchestrator.inventory.hostnames import InvalidHostNameError, normalize_host, parse_host_spec
from orchestrator.model.host import ConnectionOptions, Host
from orchestrator.transports.deadline import CancelledError, Deadline
from orchestrator.transports.local_user import login_name
from orchestrator.transports.ssh.agent_client import AgentClient
from orchestrator.transports.ssh.client import SshClient
from orchestrator.transports.ssh.host_key_policy import HostKeyVerifier
from orchestrator.transports.ssh.keyring import KeyOffer
from orchestrator.transports.ssh_config.resolve import ConnectionResolver, ResolvedConnection
from orchestrator.transports.ssh_config.settings import SshSettings

HostPort: TypeAlias = tuple[str, int]


class JumpHost(Struct, frozen=True):
    """A jump host: what it is called, and how it is reached from the hop before it."""

    name: str
    connection: ResolvedConnection

    @property
    def sharing_key(self) -> tuple[object, ...]:
        """What two hops have in common that one connection serves: the account, and who says
        that the host is the right one.
        """
        connect = self.connection.connect
        known = connect.known_hosts, connect.host_keys, self.connection.settings.host_key_alias
        return format_endpoint(connect), self.connection.settings.proxy_command, known

    def error_behind(self, error: ConnectError) -> ConnectError:
        """The error of a host behind this hop."""
        why = f"jump host {self.name} ({format_endpoint(self.connection.connect)}): {error.reason}"
        return ConnectError(error.phase, why, error.hint, transient=error.transient)


class SshTarget(Struct, frozen=True):
    """One host to log in to. ``connect`` leaves nothing open, ``settings`` has what it does not
    say; ``make_key_offer`` gives the keys as they are known by then, for an attempt with this deadline.
    ``account`` is whose passwords are asked for, '' for none; ``forwarded_agent`` is forwarded. ``is_jump_host``:
    the host is only there to reach others.
    """

    connect: ConnectionOptions
    host_key_verifier: HostKeyVerifier
    make_key_offer: Callable[[Deadline], KeyOffer]
    settings: SshSettings
    jump_hosts: tuple[JumpHost, ...] = ()
    account: str = ""
    forwarded_agent: AgentClient | None = None
    is_jump_host: bool = False

    @property
    def address(self) -> HostPort:
        """Where it listens."""
        return self.connect.address, self.connect.port or 22

    @property
    def limiter_key(self) -> HostPort:
        """What its handshake shares with others': an address, the last hop, or a proxy."""
        address, port = self.address
        if self.jump_hosts:
            return f"behind {format_endpoint(self.jump_hosts[-1].connection.connect)}", 0
        if command := self.settings.proxy_command:
            return command.replace(address, "").replace(str(port), ""), 0
        return address, port

    def error_at(self, error: ConnectError) -> ConnectError:
        """The error with who was to be where, and by which way."""
        return error.with_endpoint(self.endpoint)

    @property
    def endpoint(self) -> str:
        """Who is where, and by which way."""
        via = f" via {', '.join(hop.name for hop in self.jump_hosts)}" if self.jump_hosts else ""
        return f"{format_endpoint(self.connect)}{via}"


def format_endpoint(connect: ConnectionOptions) -> str:
    """USER@ADDRESS:PORT."""
    address = f"[{connect.address}]" if ":" in connect.address else connect.address
    return f"{connect.user or login_name()}@{address}:{connect.port or 22}"


JumpChain: TypeAlias = tuple[JumpHost, ...]


class JumpChainResolver:
    """Finds the hops. One that is called as a host of ``hosts`` is that host, with its settings;
    another is what ssh_config says of it, with the keys and known_hosts of the host behind it.
    """

    def __init__(self, resolver: ConnectionResolver, hosts: Mapping[str, Host]) -> None:
        self._resolver = resolver
        self._hosts = {normalize_host(name): host for name, host in hosts.items()}

    def resolve(self, connection: ResolvedConnection, connect: ConnectionOptions) -> JumpChain:
        """The hops on the way to the host whose settings in the inventory are ``connect``, the
        first one first. Raises ConnectError, and SshConfigError.
        """
        return self._resolve_chain(connection, connect, ())

    def _resolve_chain(
        self, connection: ResolvedConnection, connect: ConnectionOptions, visited: tuple[str, ...]
    ) -> JumpChain:
        chain: list[JumpHost] = []
        for text in connection.settings.jump:
            if text.lower() == NO_JUMP:
                continue
            hop, own = self._resolve_jump_host(text, connect)
            if not chain:  # as with ssh, the first may have a way of its own, the others have not
                if hop.name in visited:
                    circle = " -> ".join((*visited, hop.name))
                    raise ConnectError("resolve", f"the jump hosts go round in a circle: {circle}")
                chain += self._resolve_chain(hop.connection, own, (*visited, hop.name))
            chain.append(hop)
        return tuple(chain)

    def _resolve_jump_host(
        self, text: str, target_options: ConnectionOptions
    ) -> tuple[JumpHost, ConnectionOptions]:
        try:
            written = parse_host_spec(text)
        except InvalidHostNameError as bad:
            raise ConnectError("resolve", f"no jump host can be {text!r}: {bad.why}") from None
        name = written.names[0]
        host = self._hosts.get(normalize_host(name))
        if host is None:
            return JumpHost(
                name,
                self._resolver.resolve_jump_host(name, written.user, written.port, target_options),
            ), target_options
        if host.connect.transport not in ("ssh", "openssh"):
            why = f"jump host {name} is reached by transport {host.connect.transport}, not by ssh"
            raise ConnectError("resolve", why)
        own = host.connect
        own = replace(own, user=written.user or own.user, port=written.port or own.port)
        return JumpHost(host.name, self._resolver.resolve(own)), own


class _SharedJumpClient(Struct):
    lock: threading.Lock = field(default_factory=threading.Lock)
    client: SshClient | None = None
    error: ConnectError | None = None
    failed_at: float = 0.0


class JumpConnections:
    """The connections to the last hops of routes: made when first needed, by whoever comes first
    while the others wait, and once more where one has died since. ``log_in`` makes them.
    """

    def __init__(self, log_in: Callable[[JumpChain], SshClient]) -> None:
        self._log_in = log_in
        self._lock = threading.Lock()
        self._shared: dict[tuple[object, ...], _SharedJumpClient] = {}

    def connection_to(self, chain: JumpChain, deadline: Deadline) -> SshClient:
        """The connection to the last hop. The wait for it, which has a deadline of its own, does
        not count against ``deadline``. Raises ConnectError: the same one for all who waited.
        """
        began = time.monotonic()
        with self._lock:
            shared = self._shared.setdefault(
                tuple(hop.sharing_key for hop in chain), _SharedJumpClient()
            )
        with shared.lock:
            deadline.extend(time.monotonic() - began)
            deadline.remaining()
            if shared.client is not None and not shared.client.ended.is_set():
                return shared.client
            if shared.error is not None and shared.failed_at > began:
                raise shared.error
            since = time.monotonic()
            try:
                shared.client, shared.error = self._log_in(chain), None
                return shared.client
            except CancelledError:
                raise
            except ConnectError as error:
                shared.error = replaced = _jump_host_error(error, chain)
                shared.failed_at = time.monotonic()
                raise replaced from None
            finally:
                deadline.extend(time.monotonic() - since)


def _jump_host_error(error: ConnectError, chain: JumpChain) -> ConnectError:
    """It was tried as often as the hop's settings say: those behind it need not try again."""
    failed = error if isinstance(error, JumpHostError) else chain[-1].error_behind(error)
    return JumpHostError(failed.phase, failed.reason, failed.hint)


class JumpHostError(ConnectError):
    """A jump host could not be reached, and its name is in the message."""
