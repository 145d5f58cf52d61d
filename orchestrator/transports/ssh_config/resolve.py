"""The inventory above ssh_config above SSH's own defaults: how a host is reached in the end."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import ConnectError, Diagnostic
from orchestrator.model.host import ConnectionOptions
from orchestrator.transports.local_user import login_name
from orchestrator.transports.ssh_config.config_keywords import split_jump_host
from orchestrator.transports.ssh_config.config_tree import SshConfigError
from orchestrator.transports.ssh_config.lookup import SYSTEM_CONFIG, SshConfig
from orchestrator.transports.ssh_config.settings import SshSettings

USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
NONE, DEV_NULL = "none", "/dev/null"
# orch never asks about a host key, and never lets a changed one pass.
HOST_KEY_POLICIES = {
    "yes": "strict",
    "ask": "strict",
    "accept-new": "accept-new",
    "no": "accept-new",
}


class ResolvedConnection(Struct, frozen=True):
    """``connect`` with all that was left open filled in, and ``settings`` for the rest, of which
    ``jump``, ``proxy_command`` and ``forward_agent`` are the inventory's where it says so.
    """

    connect: ConnectionOptions
    settings: SshSettings


class ConnectionResolver:
    """Finds the ways of a run's hosts. Serves any number of threads.

    ``config_file`` is read in place of the usual files, as with ``ssh -F``, for hosts that name none.
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
        """The way to a host of the inventory: what ssh_config says of its address counts, as if
        one had typed ``ssh ADDRESS``. Raises SshConfigError.
        """
        config = self._config_for(connect.ssh_config)
        settings = config.settings_for(connect.address, user=connect.user, port=connect.port)
        return resolve_connection(connect, settings)

    def resolve_jump_host(
        self, address: str, user: str | None, port: int | None, target_options: ConnectionOptions
    ) -> ResolvedConnection:
        """The way to a hop before the host that ``target_options`` is about, whose keys, known_hosts and
        times count for it as well. Its jump is its own: ssh_config's. Raises SshConfigError.
        """
        given_options = target_options.set_fields - {"jump", "forward_agent"}
        hop = replace(
            target_options,
            address=address, user=user, port=port, jump=None, forward_agent=False, set_fields=given_options,
        )  # fmt: skip
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
    """Which host of the inventory each account on a server is.

    Two names for one address in the inventory are the inventory's to judge; what it cannot know
    is that ssh_config has another name for one of its hosts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[tuple[object, ...], tuple[str, bool]] = {}

    def check_duplicate(self, name: str, connection: ResolvedConnection) -> None:
        """This way leads to the host of this name. Raises ConnectError where ssh_config leads
        another one there as well: what is done to each host is not to be done twice to one.
        """
        to, via = connection.connect, connection.settings
        user = to.user or login_name()
        key = (user, to.address, to.port, via.jump, via.proxy_command)
        with self._lock:
            renamed = to.address != via.host.lower()
            other, before = self._names.setdefault(key, (name, renamed))
        if other != name and (renamed or before):
            raise ConnectError(
                "ssh_config",
                f"{name} and {other} are one host: {user}@{to.address} port {to.port}",
                "keep one of the names in the inventory",
            )


def resolve_connection(connect: ConnectionOptions, settings: SshSettings) -> ResolvedConnection:
    """``connect`` above ``settings``. Raises SshConfigError where ssh_config sends us in a circle."""
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
    """As ssh does: with `Host *` a ProxyJump is easily meant for the jump host itself."""
    if not connection.settings.jump:
        return
    user, host, port = split_jump_host(connection.settings.jump[-1])
    to = connection.connect
    mine = to.user or login_name()
    if (host, port or 22, user or mine) == (to.address, to.port, mine):
        what = f"proxyjump: {to.address} would be the way to itself"
        raise SshConfigError(
            Diagnostic(what, hint=f"`Host {to.address}` with `ProxyJump none` above it")
        )


def _known_hosts_files(settings: SshSettings) -> tuple[str, ...]:
    user, system = (
        settings.known_hosts or USER_KNOWN_HOSTS,
        settings.global_known_hosts or GLOBAL_KNOWN_HOSTS,
    )
    # keys are written to the first, which must not become the system's where the user's is none
    first = user if user != (NONE,) else (DEV_NULL,)
    return tuple(name for name in (*first, *system) if name != NONE)


def _with_inventory_jump(connect: ConnectionOptions, settings: SshSettings) -> SshSettings:
    if connect.is_set("jump"):
        hops = tuple(connect.jump.split(",")) if connect.jump else ()
        settings = replace(settings, jump=hops, proxy_command="")
    if connect.is_set("forward_agent"):
        settings = replace(settings, forward_agent=connect.forward_agent, forward_socket="")
    return settings
