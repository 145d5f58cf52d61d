"""What the files of a stage say, checked but not yet put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from orchestrator.errors import Mark
from orchestrator.model.host import Layer
from orchestrator.model.value import Key, Value


class Level(IntEnum):
    """Where something was written; the greater is the stronger."""

    COMMON = 0
    STAGE = 1


@dataclass(frozen=True, slots=True)
class Ref:
    """One host named somewhere. ``layer`` holds the user and port it was named with, if any."""

    name: str
    key: str
    mark: Mark
    level: Level
    port: int | None = None
    layer: Layer | None = None


@dataclass(frozen=True, slots=True)
class HostEntry:
    """A host described in ``hosts/`` or ``hosts.yml``; None: this file does not say."""

    ref: Ref
    address: str | None
    roles: tuple[Key, ...] | None
    layer: Layer | None


@dataclass(frozen=True, slots=True)
class RoleEntry:
    """A role described in ``roles/`` or ``roles.yml``; None: this file does not say."""

    name: str
    mark: Mark
    level: Level
    hosts: tuple[Ref, ...] | None
    roles: tuple[Key, ...] | None
    primary: Ref | None
    layer: Layer | None
    desc: str | None


@dataclass(frozen=True, slots=True)
class AppEntry:
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


@dataclass(frozen=True, slots=True)
class Settings:
    """A ``stage.yml``."""

    desc: str | None = None
    protected: bool | None = None
    layer: Layer | None = None
    default_stage: Value | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One folder of ``inventories/``: a stage's own, or ``common``."""

    level: Level
    path: str
    settings: Settings = Settings()
    hosts: tuple[HostEntry, ...] = ()
    roles: dict[str, RoleEntry] = field(default_factory=dict)
    apps: tuple[AppEntry, ...] = ()
