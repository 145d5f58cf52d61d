"""The inventory above ssh_config above SSH's own defaults: how a host is reached in the end."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import ConnectError, Problem
from orchestrator.model.host import Connect
from orchestrator.transports.local_user import login_name
from orchestrator.transports.ssh_config.config_keywords import split
from orchestrator.transports.ssh_config.config_tree import ConfigError
from orchestrator.transports.ssh_config.lookup import SYSTEM, SshConfig
from orchestrator.transports.ssh_config.settings import Settings

USER_KNOWN = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_KNOWN = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
NONE, NOWHERE = "none", "/dev/null"
# orch never asks about a host key, and never lets a changed one pass.
HOST_KEYS = {"yes": "strict", "ask": "strict", "accept-new": "accept-new", "no": "accept-new"}


class Way(Struct, frozen=True):
    """``connect`` with all that was left open filled in, and ``settings`` for the rest, of which
    ``jump``, ``proxy_command`` and ``forward_agent`` are the inventory's where it says so.
    """

    connect: Connect
    settings: Settings


class Ways:
    """Finds the ways of a run's hosts. Serves any number of threads.

    ``file`` is read in place of the usual files, as with ``ssh -F``, for hosts that name none.
    """

    def __init__(
        self,
        home: Path,
        environ: Mapping[str, str],
        stop: threading.Event,
        *,
        file: str | None = None,
        system: Path = SYSTEM,
    ) -> None:
        self._home, self._environ, self._stop = home, environ, stop
        self._file, self._system = file, system
        self._lock = threading.Lock()
        self._configs: dict[str | None, SshConfig] = {}

    def of(self, connect: Connect) -> Way:
        """The way to a host of the inventory: what ssh_config says of its address counts, as if
        one had typed ``ssh ADDRESS``. Raises ConfigError.
        """
        config = self._config(connect.ssh_config)
        said = config.of(connect.address, user=connect.user, port=connect.port)
        return settled(connect, said)

    def hop(self, address: str, user: str | None, port: int | None, like: Connect) -> Way:
        """The way to a hop before the host that ``like`` is about, whose keys, known_hosts and
        times count for it as well. Its jump is its own: ssh_config's. Raises ConfigError.
        """
        given = like.given - {"jump", "forward_agent"}
        hop = replace(
            like,
            address=address, user=user, port=port, jump=None, forward_agent=False, given=given,
        )  # fmt: skip
        return self.of(hop)

    def _config(self, file: str | None) -> SshConfig:
        file = file or self._file
        if file is not None and file.startswith("~/"):
            file = str(self._home / file[2:])
        with self._lock:
            if file not in self._configs:
                self._configs[file] = SshConfig(
                    self._home, self._environ, self._stop, file=file, system=self._system
                )
            return self._configs[file]


class Targets:
    """Which host of the inventory each account on a server is.

    Two names for one address in the inventory are the inventory's to judge; what it cannot know
    is that ssh_config has another name for one of its hosts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[tuple[object, ...], tuple[str, bool]] = {}

    def claim(self, name: str, way: Way) -> None:
        """This way leads to the host of this name. Raises ConnectError where ssh_config leads
        another one there as well: what is done to each host is not to be done twice to one.
        """
        to, via = way.connect, way.settings
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


def settled(connect: Connect, said: Settings) -> Way:
    """``connect`` above ``said``. Raises ConfigError where ssh_config sends us in a circle."""
    fields: dict[str, Any] = {
        "address": said.address,
        "port": connect.port or said.port or 22,
        "user": connect.user or said.user,
        "identity": connect.identity or said.identity,
        "identities_only": connect.identities_only,
        "known_hosts": connect.known_hosts or _known(said),
    }
    if connect.identities_only is None:
        fields["identities_only"] = said.identities_only
    if said.host_keys and not connect.says("host_keys"):
        fields["host_keys"] = HOST_KEYS[said.host_keys]
    if said.connect_timeout and not connect.says("timeout"):
        fields["timeout"] = float(said.connect_timeout)
    if said.alive_interval is not None and not connect.says("keepalive"):
        fields["keepalive"] = float(said.alive_interval)
    way = Way(replace(connect, **fields), _routed(connect, said))
    if not connect.says("jump"):
        _refuse_circle(way)
    return way


def _refuse_circle(way: Way) -> None:
    """As ssh does: with `Host *` a ProxyJump is easily meant for the jump host itself."""
    if not way.settings.jump:
        return
    user, host, port = split(way.settings.jump[-1])
    to = way.connect
    mine = to.user or login_name()
    if (host, port or 22, user or mine) == (to.address, to.port, mine):
        what = f"proxyjump: {to.address} would be the way to itself"
        raise ConfigError(Problem(what, hint=f"`Host {to.address}` with `ProxyJump none` above it"))


def _known(said: Settings) -> tuple[str, ...]:
    user, system = said.known_hosts or USER_KNOWN, said.global_known_hosts or GLOBAL_KNOWN
    # keys are written to the first, which must not become the system's where the user's is none
    first = user if user != (NONE,) else (NOWHERE,)
    return tuple(name for name in (*first, *system) if name != NONE)


def _routed(connect: Connect, said: Settings) -> Settings:
    if connect.says("jump"):
        hops = tuple(connect.jump.split(",")) if connect.jump else ()
        said = replace(said, jump=hops, proxy_command="")
    if connect.says("forward_agent"):
        said = replace(said, forward_agent=connect.forward_agent, forward_socket="")
    return said
