"""Hosts, roles, apps and stages as defined in the inventory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain

from msgspec import Struct, field

from orchestrator.errors import Diagnostic, SourcePosition
from orchestrator.model.cluster import ClusterSettings
from orchestrator.model.marked_value import MarkedKey, MarkedValue, Values
from orchestrator.model.secret import Secret

TRANSPORTS = ("ssh", "openssh", "local", "sandbox")
"""The values of ``connect.transport``. ``transports/registry.py`` has a branch for each."""
SSH_TRANSPORTS = ("ssh", "openssh")
"""Those that log in to another machine, as ssh_config describes it."""


class InventoryPassword:
    """A password that the inventory has; it is found when it is needed.

    ``find`` returns it, or None if there is none after all; it raises OrchError. Passwords with the
    same ``key`` are equal: they are written at the same place.
    """

    def __init__(self, key: object, find: Callable[[], str | None]) -> None:
        """Find nothing yet."""
        self._key, self.find = key, find

    def __eq__(self, other: object) -> bool:
        """Return True if both are written at the same place."""
        return isinstance(other, InventoryPassword) and self._key == other._key

    def __hash__(self) -> int:
        """Return the hash of the place."""
        return hash(self._key)


class ConnectionOptions(Struct, frozen=True):
    """How to reach a host; None or empty means that ssh_config, then the default of SSH, decides.

    ``timeout`` and ``keepalive`` are seconds; ``timeout`` limits everything up to a ready shell.
    ``persist`` is for how many seconds the connection is kept for later commands, 0 for none;
    ``persist_become``: shells of other users are kept as well. ``ssh_config`` is a file to read
    instead of the usual ones. ``ssh_options`` are options of ssh_config(5), as ``Keyword=value``,
    which override those files. Every step runs as the user ``become_user`` (None: root) if
    ``become`` is set, unless it names a user itself. ``password`` is for the login,
    ``become_password`` for changing the user. With ``invalid``, the host cannot be connected to:
    it says why. ``set_fields`` names the fields that the inventory sets, since a set value may
    equal the default.
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
    persist: float = 0.0
    persist_become: bool = False
    forward_agent: bool = False
    shell: str = "sh"
    become_method: str = "sudo"
    ssh_config: str | None = None
    ssh_options: tuple[str, ...] = ()
    become: bool = False
    become_user: str | None = None
    password: InventoryPassword | None = None
    become_password: InventoryPassword | None = None
    invalid: Diagnostic | None = None
    set_fields: frozenset[str] = frozenset()

    def is_set(self, name: str) -> bool:
        """Return True if the inventory sets the field, so that no other source applies."""
        return name in self.set_fields or getattr(self, name) != CONNECTION_DEFAULTS[name]


CONNECTION_DEFAULTS = dict(
    zip(ConnectionOptions.__struct_fields__[1:], ConnectionOptions.__struct_defaults__, strict=True)
)


class ConnectionOverrides(Struct, frozen=True):
    """What replaces the hosts' own connection settings.

    ``ssh_config`` is read instead of the user's and the system's files. ``persist`` is for how many
    seconds connections are kept.
    """

    ssh_config: str | None = None
    persist: float | None = None


NO_OVERRIDES = ConnectionOverrides()


class VariableLayer(Struct, frozen=True):
    """The values that one file sets for a host.

    ``kind`` is stage, role, host or app; ``name`` is the file's name. ``environment`` applies to
    every step; ``defaults`` holds params by module; ``connect`` holds settings by field of
    ``ConnectionOptions``. ``replaces``: its mappings replace weaker ones instead of being merged
    with them. ``encrypted`` is the file's text if it is a vault: its variables are known only when
    it is decrypted.
    """

    kind: str
    name: str
    vars: Values = field(default_factory=dict)
    environment: Values = field(default_factory=dict)
    defaults: Values = field(default_factory=dict)
    connect: Values = field(default_factory=dict)
    replaces: bool = False
    encrypted: Secret | None = None


class Host(Struct, frozen=True):
    """A host with its connection options, roles and layers of values, lowest precedence first.

    ``written_connect`` are its connect settings as written if some of them are templates or
    passwords, which ``connect`` leaves out.
    """

    name: str
    connect: ConnectionOptions
    roles: tuple[str, ...]
    layers: tuple[VariableLayer, ...]
    mark: SourcePosition
    written_connect: Values = field(default_factory=dict)


class Role(Struct, frozen=True):
    """A named set of hosts, in the order written. ``primary`` is None only if it is empty."""

    name: str
    hosts: tuple[str, ...]
    primary: str | None
    mark: SourcePosition
    desc: str = ""


class App(Struct, frozen=True):
    """An application of a stage.

    ``roles`` select its hosts (None: every host). ``layers`` are its values, lowest precedence
    first, and ``layers_by_host`` those for single hosts. ``claims``: the ``paths``, ``ports`` and
    ``units`` that no other app on its hosts may use.
    """

    name: str
    mark: SourcePosition
    desc: str = ""
    roles: tuple[str, ...] | None = None
    layers: tuple[VariableLayer, ...] = ()
    layers_by_host: Mapping[str, tuple[VariableLayer, ...]] = field(default_factory=dict)
    claims: Values = field(default_factory=dict)

    def layers_on(self, host: Host) -> tuple[VariableLayer, ...]:
        """Return the app's layers on a host, lowest precedence first."""
        return (*self.layers, *self.layers_by_host.get(host.name, ()))

    def sets_variable(self, name: str) -> bool:
        """Return True if the app has a variable of this name, on every host or on one."""
        return any(
            name in layer.vars for layer in (*self.layers, *chain(*self.layers_by_host.values()))
        )

    def lives_on(self, host: Host) -> bool:
        """Return True if the host is one of the app's hosts."""
        return self.roles is None or any(role in self.roles for role in host.roles)


KEPT_RUNS = 50
"""The number of runs that a project keeps, unless it has a setting."""


class Stage(Struct, frozen=True):
    """One complete environment.

    ``keep_runs`` is the number of runs of all stages that are kept. ``notes`` are warnings for
    ``orch lint``; ``connection_notes`` are those of them that `doctor`
    shows as well: connection settings that have no effect. ``is_ansible``: the hosts are those of
    an inventory of Ansible, whose values may use what only Ansible has. ``engine`` is what drives
    the hosts, as written; ``regions`` are the roles and hosts by the resource that their workers
    must have. ``cluster`` are the workers that `orch cluster` sets up.
    """

    name: str
    path: str
    hosts: Mapping[str, Host]
    roles: Mapping[str, Role]
    desc: str = ""
    protected: bool = False
    notes: tuple[tuple[str, SourcePosition], ...] = ()
    connection_notes: tuple[tuple[str, SourcePosition], ...] = ()
    apps: Mapping[str, App] = field(default_factory=dict)
    keep_runs: int = KEPT_RUNS
    is_ansible: bool = False
    engine: MarkedValue | None = None
    regions: Mapping[MarkedKey, tuple[MarkedKey, ...]] = field(default_factory=dict)
    cluster: ClusterSettings | None = None

    @property
    def has_encrypted_files(self) -> bool:
        """Return True if variables are in encrypted files, so that not all names are known."""
        return any(
            layer.encrypted is not None for host in self.hosts.values() for layer in host.layers
        )
