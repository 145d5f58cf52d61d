"""The route to a host: how it is connected to, and the jump hosts on the way to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.inventory.connection_options import NO_JUMP
from orchestrator.inventory.hostnames import InvalidHostNameError, normalize_host, parse_host_spec
from orchestrator.model.host import SSH_TRANSPORTS, ConnectionOptions, Host
from orchestrator.transports.local_user import login_name
from orchestrator.transports.ssh_config.resolve import ConnectionResolver, ResolvedConnection


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


JumpChain: TypeAlias = tuple[JumpHost, ...]


class Route(Struct, frozen=True):
    """The resolved connection of a host, and its jump hosts in the order of connecting."""

    connection: ResolvedConnection
    jump_hosts: JumpChain = ()

    @property
    def login_user(self) -> str:
        """The user who logs in."""
        return self.connection.connect.user or login_name()

    @property
    def endpoint(self) -> str:
        """The endpoint and the jump hosts, for messages."""
        via = f" via {', '.join(hop.name for hop in self.jump_hosts)}" if self.jump_hosts else ""
        return f"{format_endpoint(self.connection.connect)}{via}"


def format_endpoint(connect: ConnectionOptions) -> str:
    """Return USER@ADDRESS:PORT."""
    address = f"[{connect.address}]" if ":" in connect.address else connect.address
    return f"{connect.user or login_name()}@{address}:{connect.port or 22}"


class RouteResolver:
    """Resolves the routes of a run's hosts. Thread-safe.

    A jump host with the name of a host in ``hosts`` has that host's settings. Any other has those
    of ssh_config, with the keys and known_hosts of the host behind it.
    """

    def __init__(self, resolver: ConnectionResolver, hosts: Mapping[str, Host]) -> None:
        self._resolver = resolver
        self._hosts = {normalize_host(name): host for name, host in hosts.items()}

    def resolve(self, connect: ConnectionOptions) -> Route:
        """Return the route to a host whose settings in the inventory are ``connect``.

        Raises ConnectError, and SshConfigError.
        """
        connection = self._resolver.resolve(connect)
        return Route(connection, self._resolve_chain(connection, connect, ()))

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
