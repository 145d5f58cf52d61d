"""What the files of a stage say, checked but not yet put together."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from msgspec import Struct, field

from orchestrator.errors import SourcePosition
from orchestrator.model.host import VariableLayer
from orchestrator.model.marked_value import MarkedKey, MarkedValue


class InventoryLevel(IntEnum):
    """Where something was written; the greater is the stronger."""

    COMMON = 0
    STAGE = 1


class HostRef(Struct, frozen=True):
    """One host named somewhere. ``layer`` holds the user and port it was named with, if any."""

    name: str
    key: str
    mark: SourcePosition
    level: InventoryLevel
    port: int | None = None
    layer: VariableLayer | None = None


class HostEntry(Struct, frozen=True):
    """A host described in ``hosts/`` or ``hosts.yml``; None: this file does not say."""

    ref: HostRef
    address: str | None
    roles: tuple[MarkedKey, ...] | None
    layer: VariableLayer | None


class RoleEntry(Struct, frozen=True):
    """A role described in ``roles/`` or ``roles.yml``; None: this file does not say."""

    name: str
    mark: SourcePosition
    level: InventoryLevel
    hosts: tuple[HostRef, ...] | None
    roles: tuple[MarkedKey, ...] | None
    primary: HostRef | None
    layer: VariableLayer | None
    desc: str | None


class AppEntry(Struct, frozen=True):
    """An app described in ``apps/`` or ``apps.yml``; None: this file does not say. ``hosts`` are
    those that it says something of."""

    name: str
    mark: SourcePosition
    level: InventoryLevel
    roles: tuple[MarkedKey, ...] | None
    layer: VariableLayer | None
    hosts: tuple[tuple[HostRef, VariableLayer], ...]
    claims: Mapping[str, MarkedValue] | None
    desc: str | None


class StageSettings(Struct, frozen=True):
    """A ``stage.yml``."""

    desc: str | None = None
    protected: bool | None = None
    layer: VariableLayer | None = None
    default_stage: MarkedValue | None = None


class InventoryRecords(Struct, frozen=True):
    """One folder of ``inventories/``: a stage's own, or ``common``."""

    level: InventoryLevel
    path: str
    settings: StageSettings = StageSettings()
    hosts: tuple[HostEntry, ...] = ()
    roles: dict[str, RoleEntry] = field(default_factory=dict)
    apps: tuple[AppEntry, ...] = ()
