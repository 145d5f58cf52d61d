"""Hosts, roles and stages as the inventory says them.

The names of what hosts are asked about themselves (``modules/facts.sh`` prints them).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from msgspec import Struct, field

from orchestrator.errors import SourcePosition
from orchestrator.model.marked_value import Values


class ConnectionOptions(Struct, frozen=True):
    """How a host is reached. ``None`` and empty leave the choice to ssh_config, then to SSH.

    ``timeout`` and ``keepalive`` are seconds; ``timeout`` bounds the whole way to a shell.
    ``ssh_config`` is a file to read in place of the usual ones. ``set_fields`` names the fields that
    the inventory sets, for those whose default is a value like any other.
    """

    address: str
    port: int | None = None
    user: str | None = None
    identity: tuple[str, ...] = ()
    identities_only: bool | None = None
    jump: str | None = None
    transport: str = "ssh"
    known_hosts: tuple[str, ...] = ()
    host_keys: str = "strict"
    timeout: float = 10.0
    retries: int = 2
    keepalive: float = 15.0
    forward_agent: bool = False
    shell: str = "sh"
    become_method: str = "sudo"
    ssh_config: str | None = None
    set_fields: frozenset[str] = frozenset()

    def is_set(self, name: str) -> bool:
        """Whether a field is more than its default: then no other source counts for it."""
        return name in self.set_fields or getattr(self, name) != _CONNECTION_DEFAULTS[name]


_CONNECTION_DEFAULTS = dict(
    zip(ConnectionOptions.__struct_fields__[1:], ConnectionOptions.__struct_defaults__, strict=True)
)


class VariableLayer(Struct, frozen=True):
    """What one file gives a host. ``kind`` is stage, role, host or app; ``name`` is the file's.

    ``environment`` is for every step; ``defaults`` holds parameters by module; ``connect``
    holds checked settings under the names of ``ConnectionOptions``'s fields.
    """

    kind: str
    name: str
    vars: Values = field(default_factory=dict)
    environment: Values = field(default_factory=dict)
    defaults: Values = field(default_factory=dict)
    connect: Values = field(default_factory=dict)


class Host(Struct, frozen=True):
    """One target: where it is, what it is for, and its layers of values, weak to strong."""

    name: str
    connect: ConnectionOptions
    roles: tuple[str, ...]
    layers: tuple[VariableLayer, ...]
    mark: SourcePosition


class Role(Struct, frozen=True):
    """A named set of hosts, in the order written. ``primary`` is None only if it is empty."""

    name: str
    hosts: tuple[str, ...]
    primary: str | None
    mark: SourcePosition
    desc: str = ""


class App(Struct, frozen=True):
    """An application of a stage. ``roles`` are where it lives (None: on every host), ``layers``
    its values, weak to strong, and ``layers_by_host`` those that it has on single hosts. ``claims``: the
    ``paths``, ``ports`` and ``units`` that nobody else may have where it lives.
    """

    name: str
    mark: SourcePosition
    desc: str = ""
    roles: tuple[str, ...] | None = None
    layers: tuple[VariableLayer, ...] = ()
    layers_by_host: Mapping[str, tuple[VariableLayer, ...]] = field(default_factory=dict)
    claims: Values = field(default_factory=dict)

    def layers_on(self, host: Host) -> tuple[VariableLayer, ...]:
        """Its layers on a host, weak to strong."""
        return (*self.layers, *self.layers_by_host.get(host.name, ()))

    def sets_variable(self, name: str) -> bool:
        """Return whether the app has a variable of this name, on every host or on one."""
        return any(
            name in layer.vars for layer in (*self.layers, *chain(*self.layers_by_host.values()))
        )

    def lives_on(self, host: Host) -> bool:
        """Whether it is for this host."""
        return self.roles is None or any(role in self.roles for role in host.roles)


class Stage(Struct, frozen=True):
    """One environment, whole. ``notes`` are what ``orch lint`` would say of it."""

    name: str
    path: str
    hosts: Mapping[str, Host]
    roles: Mapping[str, Role]
    desc: str = ""
    protected: bool = False
    notes: tuple[tuple[str, SourcePosition], ...] = ()
    apps: Mapping[str, App] = field(default_factory=dict)


FACT_NAMES = ("os", "arch", "distro", "release", "hostname", "packager", "init", "user")
NUMERIC_FACT_NAMES = ("cpus", "memory")
"""``memory`` is in MiB."""
