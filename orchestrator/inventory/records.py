"""The validated content of a stage's files, before it is resolved."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path

from msgspec import Struct, field

from orchestrator.errors import SourcePosition
from orchestrator.model.cluster import ClusterSettings
from orchestrator.model.host import VariableLayer
from orchestrator.model.marked_value import MarkedKey, MarkedValue


class InventoryLevel(IntEnum):
    """The level at which something was written; the greater level is stronger."""

    COMMON = 0
    STAGE = 1


class HostRef(Struct, frozen=True):
    """A reference to one host. ``layer`` has the user and port written with it, if any."""

    name: str
    key: str
    mark: SourcePosition
    level: InventoryLevel
    port: int | None = None
    layer: VariableLayer | None = None


class HostEntry(Struct, frozen=True):
    """A host described in ``hosts/`` or ``hosts.yml``; None means that the file does not set it."""

    ref: HostRef
    address: str | None
    roles: tuple[MarkedKey, ...] | None
    layer: VariableLayer | None


class RoleEntry(Struct, frozen=True):
    """A role described in ``roles/`` or ``roles.yml``; None means that the file does not set it."""

    name: str
    mark: SourcePosition
    level: InventoryLevel
    hosts: tuple[HostRef, ...] | None
    roles: tuple[MarkedKey, ...] | None
    primary: HostRef | None
    layer: VariableLayer | None
    desc: str | None


class AppEntry(Struct, frozen=True):
    """An app described in ``apps/`` or ``apps.yml``; None means that the file does not set it.

    ``hosts`` are the hosts for which the app sets values of its own.
    """

    name: str
    mark: SourcePosition
    level: InventoryLevel
    roles: tuple[MarkedKey, ...] | None
    layer: VariableLayer | None
    hosts: tuple[tuple[HostRef, VariableLayer], ...]
    claims: Mapping[str, MarkedValue] | None
    desc: str | None


class StageSettings(Struct, frozen=True):
    """The content of a ``stage.yml``.

    ``ansible`` are the paths of Ansible's inventories, as written. ``inventory_cache`` and
    ``inventory_timeout`` are in seconds; None if the file does not set them.
    """

    desc: str | None = None
    protected: bool | None = None
    layer: VariableLayer | None = None
    default_stage: MarkedValue | None = None
    keep_runs: int | None = None
    ansible: tuple[MarkedKey, ...] = ()
    inventory_cache: float | None = None
    inventory_timeout: float | None = None
    engine: MarkedValue | None = None
    regions: Mapping[MarkedKey, tuple[MarkedKey, ...]] | None = None
    cluster: ClusterSettings | None = None


class AnsibleSource(Struct, frozen=True):
    """A file or folder of an Ansible inventory. ``ignored`` are entries that are no sources."""

    path: Path
    ignored: tuple[str, ...] = ()


class InventoryRecords(Struct, frozen=True):
    """The content of one folder of ``inventories/``: a stage's own, or ``common``.

    With ``ansible``, the hosts and roles are those of these sources.
    """

    level: InventoryLevel
    path: str
    settings: StageSettings = StageSettings()
    hosts: tuple[HostEntry, ...] = ()
    roles: dict[str, RoleEntry] = field(default_factory=dict)
    apps: tuple[AppEntry, ...] = ()
    ansible: tuple[AnsibleSource, ...] = ()
