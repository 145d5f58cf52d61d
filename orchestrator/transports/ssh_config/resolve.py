"""Resolve connections: the inventory overrides ssh_config, which overrides SSH's defaults."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import ConnectError, Diagnostic
from orchestrator.model.host import ConnectionOptions
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.transports.local_user import login_name
from orchestrator.transports.ssh_config.config_keywords import split_jump_host
from orchestrator.transports.ssh_config.config_tree import SshConfigError
from orchestrator.transports.ssh_config.lookup import SYSTEM_CONFIG, SshConfig
from orchestrator.transports.ssh_config.settings import SshSettings

USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
NONE, DEV_NULL = "none", "/dev/null"
# orch never prompts for a host key, and never accepts a changed one.
HOST_KEY_POLICIES = {
    "yes": "strict",
    "ask": "strict",
    "accept-new": "accept-new",
    "no": "accept-new",
}


class ResolvedConnection(Struct, frozen=True):
    """The resolved connection of a host.

    ``connect`` has no unset fields. ``settings`` has the rest; its ``jump``, ``proxy_command`` and
    ``forward_agent`` are the inventory's if the inventory sets them.
    """

    connect: ConnectionOptions
    settings: SshSettings


_KEYWORD = lazy_regex(r"[\s\"]*([A-Za-z0-9]+)")
_TARGET_ONLY_OPTIONS = (
    "proxyjump",
    "proxycommand",
    "user",
    "port",
    "hostname",
    "hostkeyalias",
    "forwardagent",
)


def jump_host_options(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options of a host that also apply to its jump hosts."""
    return tuple(
        option
        for option in options
        if not ((found := _KEYWORD.match(option)) and found[1].lower() in _TARGET_ONLY_OPTIONS)
    )


class ConnectionResolver:
    """Resolves the connections of a run's hosts. Thread-safe.

    ``config_file`` is read instead of the usual files, as with ``ssh -F``, unless a host has its
    own.
    """

    def __init__(
        self,
        home: Path,
        environ: Mapping[str, str],
        stop: threading.Event,
        *,
        config_file: str | None = None,
        system_config: Path = SYSTEM_CONFIG,
    ) -> None:
        self._home, self._environ, self._stop = home, environ, stop
        self._file, self._system = config_file, system_config
        self._lock = threading.Lock()
        self._configs: dict[str | None, SshConfig] = {}

    def resolve(self, connect: ConnectionOptions) -> ResolvedConnection:
        """Resolve the connection to a host of the inventory, as for ``ssh ADDRESS``.

        Raises SshConfigError.
        """
        config = self._config_for(connect.ssh_config)
        settings = config.settings_for(
            connect.address, user=connect.user, port=connect.port, options=connect.ssh_options
        )
        return resolve_connection(connect, settings)

    def resolve_jump_host(
        self, address: str, user: str | None, port: int | None, target_options: ConnectionOptions
    ) -> ResolvedConnection:
        """Resolve the connection to a jump host.

        Keys, known_hosts and timeouts are those of the host behind it (``target_options``); its own
        jump host is ssh_config's. Raises SshConfigError.
        """
        given_options = target_options.set_fields - {"jump", "forward_agent"}
        hop = replace(
            target_options,
            address=address,
            user=user,
            port=port,
            jump=None,
            forward_agent=False,
            ssh_options=jump_host_options(target_options.ssh_options),
            password=None,
            become_password=None,
            set_fields=given_options,
        )
        return self.resolve(hop)

    def _config_for(self, file: str | None) -> SshConfig:
        file = file or self._file
        if file is not None and file.startswith("~/"):
            file = str(self._home / file[2:])
        with self._lock:
            if file not in self._configs:
                self._configs[file] = SshConfig(
                    self._home,
                    self._environ,
                    self._stop,
                    config_file=file,
                    system_config=self._system,
                )
            return self._configs[file]


class DuplicateHostGuard:
    """Detects two hosts of the inventory that ssh_config makes the same account on one server.

    The inventory itself checks for two hosts with one address, but does not know ssh_config.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[tuple[object, ...], tuple[str, bool]] = {}

    def check_duplicate(self, name: str, connection: ResolvedConnection) -> None:
        """Record the connection of a host.

        Raises ConnectError if ssh_config leads another host to the same account: a task would run
        twice on one host.
        """
        target, settings = connection.connect, connection.settings
        user = target.user or login_name()
        key = (user, target.address, target.port, settings.jump, settings.proxy_command)
        with self._lock:
            renamed = target.address != settings.host.lower()
            other, other_renamed = self._names.setdefault(key, (name, renamed))
        if other != name and (renamed or other_renamed):
            raise ConnectError(
                "ssh_config",
                f"{name} and {other} are one host: {user}@{target.address} port {target.port}",
                "keep one of the names in the inventory",
            )


def resolve_connection(connect: ConnectionOptions, settings: SshSettings) -> ResolvedConnection:
    """Combine ``connect`` and ``settings``. Raises SshConfigError for a ProxyJump loop."""
    fields: dict[str, Any] = {
        "address": settings.address,
        "port": connect.port or settings.port or 22,
        "user": connect.user or settings.user,
        "identity": connect.identity or settings.identity,
        "identities_only": connect.identities_only,
        "known_hosts": connect.known_hosts or _known_hosts_files(settings),
    }
    if connect.identities_only is None:
        fields["identities_only"] = settings.identities_only
    if settings.host_keys and not connect.is_set("host_keys"):
        fields["host_keys"] = HOST_KEY_POLICIES[settings.host_keys]
    if settings.connect_timeout and not connect.is_set("timeout"):
        fields["timeout"] = float(settings.connect_timeout)
    if settings.alive_interval is not None and not connect.is_set("keepalive"):
        fields["keepalive"] = float(settings.alive_interval)
    connection = ResolvedConnection(
        replace(connect, **fields), _with_inventory_jump(connect, settings)
    )
    if not connect.is_set("jump"):
        _check_circular_jump(connection)
    return connection


def _check_circular_jump(connection: ResolvedConnection) -> None:
    """Raise SshConfigError if a host is its own jump host, as with ProxyJump for `Host *`."""
    if not connection.settings.jump:
        return
    user, host, port = split_jump_host(connection.settings.jump[-1])
    target = connection.connect
    target_user = target.user or login_name()
    if (host, port or 22, user or target_user) == (target.address, target.port, target_user):
        message = f"proxyjump: {target.address} is its own jump host"
        raise SshConfigError(
            Diagnostic(message, hint=f"put `Host {target.address}` with `ProxyJump none` above it")
        )


def _known_hosts_files(settings: SshSettings) -> tuple[str, ...]:
    user, system = (
        settings.known_hosts or USER_KNOWN_HOSTS,
        settings.global_known_hosts or GLOBAL_KNOWN_HOSTS,
    )
    # keys are written to the first file, which must not be the system's if the user's is "none"
    first = user if user != (NONE,) else (DEV_NULL,)
    return tuple(name for name in (*first, *system) if name != NONE)


def _with_inventory_jump(connect: ConnectionOptions, settings: SshSettings) -> SshSettings:
    if connect.is_set("jump"):
        hops = tuple(connect.jump.split(",")) if connect.jump else ()
        settings = replace(settings, jump=hops, proxy_command="")
    if connect.is_set("forward_agent"):
        settings = replace(settings, forward_agent=connect.forward_agent, forward_socket="")
    return settings
