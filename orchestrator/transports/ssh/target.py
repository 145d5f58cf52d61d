"""The target of an SSH connection: address, login, and the jump hosts on the way to it."""

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
from orchestrator.model.host import SSH_TRANSPORTS, ConnectionOptions, Host
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
    """A jump host: its name, and how to connect to it from the jump host before it."""

    name: str
    connection: ResolvedConnection

    @property
    def sharing_key(self) -> tuple[object, ...]:
        """The key of the connection, which jump hosts with the same key share.

        It consists of the endpoint and of what decides whether the host key is accepted.
        """
        connect = self.connection.connect
        known = connect.known_hosts, connect.host_keys, self.connection.settings.host_key_alias
        return format_endpoint(connect), self.connection.settings.proxy_command, known

    def error_behind(self, error: ConnectError) -> ConnectError:
        """Return the error of a host behind this jump host."""
        why = f"jump host {self.name} ({format_endpoint(self.connection.connect)}): {error.reason}"
        return ConnectError(error.phase, why, error.hint, transient=error.transient)


class SshTarget(Struct, frozen=True):
    """A host to log in to.

    ``connect`` is fully resolved; ``settings`` has what it does not include. ``make_key_offer``
    returns the keys for an attempt with this deadline. ``account`` names the account in password
    prompts; '' turns passwords off. ``forwarded_agent`` is the agent to forward, or None.
    ``is_jump_host``: the connection only carries tunnels.
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
        """The host's address and port."""
        return self.connect.address, self.connect.port or 22

    @property
    def limiter_key(self) -> HostPort:
        """What limits the handshake: an address, the last jump host, or a proxy command."""
        address, port = self.address
        if self.jump_hosts:
            return f"behind {format_endpoint(self.jump_hosts[-1].connection.connect)}", 0
        if command := self.settings.proxy_command:
            return command.replace(address, "").replace(str(port), ""), 0
        return address, port

    def error_at(self, error: ConnectError) -> ConnectError:
        """Return the error with the endpoint."""
        return error.with_endpoint(self.endpoint)

    @property
    def endpoint(self) -> str:
        """The endpoint and the jump hosts, for messages."""
        via = f" via {', '.join(hop.name for hop in self.jump_hosts)}" if self.jump_hosts else ""
        return f"{format_endpoint(self.connect)}{via}"


def format_endpoint(connect: ConnectionOptions) -> str:
    """Return USER@ADDRESS:PORT."""
    address = f"[{connect.address}]" if ":" in connect.address else connect.address
    return f"{connect.user or login_name()}@{address}:{connect.port or 22}"


JumpChain: TypeAlias = tuple[JumpHost, ...]


class JumpChainResolver:
    """Resolves jump hosts.

    A jump host with the name of a host in ``hosts`` has that host's settings. Any other has those
    of ssh_config, with the keys and known_hosts of the host behind it.
    """

    def __init__(self, resolver: ConnectionResolver, hosts: Mapping[str, Host]) -> None:
        self._resolver = resolver
        self._hosts = {normalize_host(name): host for name, host in hosts.items()}

    def resolve(self, connection: ResolvedConnection, connect: ConnectionOptions) -> JumpChain:
        """Return the jump hosts of a host whose settings in the inventory are ``connect``.

        They are in the order of connecting. Raises ConnectError, and SshConfigError.
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
            if not chain:  # as in ssh, only the first may have jump hosts of its own
                if hop.name in visited:
                    circle = " -> ".join((*visited, hop.name))
                    raise ConnectError("resolve", f"jump host loop: {circle}")
                chain += self._resolve_chain(hop.connection, own, (*visited, hop.name))
            chain.append(hop)
        return tuple(chain)

    def _resolve_jump_host(
        self, text: str, target_options: ConnectionOptions
    ) -> tuple[JumpHost, ConnectionOptions]:
        try:
            written = parse_host_spec(text)
        except InvalidHostNameError as bad:
            raise ConnectError("resolve", f"invalid jump host {text!r}: {bad.why}") from None
        name = written.names[0]
        host = self._hosts.get(normalize_host(name))
        if host is None:
            return JumpHost(
                name,
                self._resolver.resolve_jump_host(name, written.user, written.port, target_options),
            ), target_options
        if host.connect.transport not in SSH_TRANSPORTS:
            why = f"jump host {name} uses transport {host.connect.transport}, not ssh"
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
    """The shared connections to jump hosts.

    Each is made when it is first needed, while other callers wait, and again if it was lost.
    ``log_in`` makes them.
    """

    def __init__(self, log_in: Callable[[JumpChain], SshClient]) -> None:
        self._log_in = log_in
        self._lock = threading.Lock()
        self._shared: dict[tuple[object, ...], _SharedJumpClient] = {}

    def connection_to(self, chain: JumpChain, deadline: Deadline) -> SshClient:
        """Return the connection to the last jump host of a chain.

        The wait for it has its own deadline and does not count against ``deadline``. Raises
        ConnectError, the same one for all callers that waited.
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
    """Return an error that is not transient, because the jump host's own retries have failed."""
    failed = error if isinstance(error, JumpHostError) else chain[-1].error_behind(error)
    return JumpHostError(failed.phase, failed.reason, failed.hint)


class JumpHostError(ConnectError):
    """A jump host could not be reached. Its name is in the message."""
