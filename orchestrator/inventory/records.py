"""What the files of a stage say, checked but not yet put together."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from msgspec import Struct, field

from orchestrator.errors import Mark
from orchestrator.model.host import Layer
from orchestrator.model.marked_value import Key, Value


class Level(IntEnum):
    """Where something was written; the greater is the stronger."""

    COMMON = 0
    STAGE = 1


class Ref(Struct, frozen=True):
    """One host named somewhere. ``layer`` holds the user and port it was named with, if any."""

    name: str
    key: str
    mark: Mark
    level: Level
    port: int | None = None
    layer: Layer | None = None


class HostEntry(Struct, frozen=True):
    """A host described in ``hosts/`` or ``hosts.yml``; None: this file does not say."""

    ref: Ref
    address: str | None
    roles: tuple[Key, ...] | None
    layer: Layer | None


class RoleEntry(Struct, frozen=True):
    """A role described in ``roles/`` or ``roles.yml``; None: this file does not say."""

    name: str
    mark: Mark
    level: Level
    hosts: tuple[Ref, ...] | None
    roles: tuple[Key, ...] | None
    primary: Ref | None
    layer: Layer | None
    desc: str | None


class AppEntry(Struct, frozen=True):
    """An app described in ``apps/`` or ``apps.yml``; None: this file does not say. ``hosts`` are
    those that it says something of."""

    name: str
    mark: Mark
    level: Level
    roles: tuple[Key, ...] | None
    layer: Layer | None
    hosts: tuple[tuple[Ref, Layer], ...]
    claims: Mapping[str, Value] | None
    desc: str | None


class Settings(Struct, frozen=True):
    """A ``stage.yml``."""

    desc: str | None = None
    protected: bool | None = None
    layer: Layer | None = None
    default_stage: Value | None = None


class Part(Struct, frozen=True):
    """One folder of ``inventories/``: a stage's own, or ``common``."""

    level: Level
    path: str
    settings: Settings = Settings()
    hosts: tuple[HostEntry, ...] = ()
    roles: dict[str, RoleEntry] = field(default_factory=dict)
    apps: tuple[AppEntry, ...] = ()
