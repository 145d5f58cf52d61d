"""A stage, whole: its files read, put together and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import Problems
from orchestrator.inventory.directory import Note
from orchestrator.inventory.hostnames import COMMON
from orchestrator.inventory.precedence import Kind, Placed
from orchestrator.inventory.records import Level, Part
from orchestrator.inventory.stage_builder import Assembler, Register, RoleBook, apps
from orchestrator.inventory.stage_parser import PartReader
from orchestrator.inventory.stages import INVENTORIES, stages
from orchestrator.model.host import Stage
from orchestrator.yamlio.local_files import show


def load(root: Path, stage: str) -> Stage:
    """The stage of this name in the project at ``root``; only its files and common's are read.

    Raises ``UsageError`` where there is no such stage, and ``DefinitionError`` with every
    problem found in its files.
    """
    root = root.absolute()
    stages(root).check(stage)
    problems = Problems()
    notes: list[Note] = []
    parts = _parts(root, stage, problems, notes)
    problems.raise_any()
    register = Register(parts, problems, notes)
    roles = RoleBook(parts, register, problems, notes).resolve()
    base = [
        Placed(part.settings.layer, Kind.STAGE, part.level)
        for part in reversed(parts)
        if part.settings.layer is not None
    ]
    hosts = Assembler(base, register, roles, problems).hosts()
    found = apps(parts, register, roles.roles, problems)
    problems.raise_any()
    notes += [
        (f"'{name}' is a host and a role; --limit {name} means both", role.mark)
        for name, role in roles.roles.items()
        if name in hosts
    ]
    settings = [part.settings for part in parts]
    return Stage(
        name=stage,
        path=parts[0].path,
        hosts=hosts,
        roles=roles.roles,
        desc=settings[0].desc or "",
        protected=next((s.protected for s in settings if s.protected is not None), False),
        notes=tuple(dict.fromkeys(notes)),
        apps=found,
    )


def _parts(root: Path, stage: str, problems: Problems, notes: list[Note]) -> Sequence[Part]:
    """The stage's own files and, where they exist, common's: strong to weak."""
    reader = PartReader(root, stage, problems, notes)
    folders = [
        (root / INVENTORIES / stage, Level.STAGE),
        (root / INVENTORIES / COMMON, Level.COMMON),
    ]
    return [
        reader.part(folder, show(folder), level) for folder, level in folders if folder.is_dir()
    ]
