"""Loading of a stage: its files are read, resolved and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import DiagnosticCollector
from orchestrator.inventory.directory import InventoryWarning
from orchestrator.inventory.hostnames import COMMON
from orchestrator.inventory.precedence import LayerKind, RankedLayer
from orchestrator.inventory.records import InventoryLevel, InventoryRecords
from orchestrator.inventory.stage_builder import HostBuilder, HostRegistry, RoleResolver, build_apps
from orchestrator.inventory.stage_parser import InventoryReader
from orchestrator.inventory.stages import INVENTORIES, list_stages
from orchestrator.model.host import KEPT_RUNS, Stage
from orchestrator.yamlio.local_files import display_path


def load_stage(root: Path, stage: str) -> Stage:
    """Load the stage of the project at ``root``; only its files and those of common are read.

    Raises ``UsageError`` if there is no such stage, and ``DefinitionError`` with every error found
    in its files.
    """
    root = root.absolute()
    list_stages(root).check_stage(stage)
    problems = DiagnosticCollector()
    notes: list[InventoryWarning] = []
    parts = _read_records(root, stage, problems, notes)
    problems.raise_any()
    register = HostRegistry(parts, problems, notes)
    roles = RoleResolver(parts, register, problems, notes).resolve()
    base = [
        RankedLayer(part.settings.layer, LayerKind.STAGE, part.level)
        for part in reversed(parts)
        if part.settings.layer is not None
    ]
    hosts = HostBuilder(base, register, roles, problems).build_hosts()
    found = build_apps(parts, register, roles.roles, problems)
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
        keep_runs=next((s.keep_runs for s in settings if s.keep_runs is not None), KEPT_RUNS),
    )


def _read_records(
    root: Path, stage: str, problems: DiagnosticCollector, notes: list[InventoryWarning]
) -> Sequence[InventoryRecords]:
    """Return the records of the stage and, if it exists, of common: strong to weak."""
    reader = InventoryReader(root, stage, problems, notes)
    folders = [
        (root / INVENTORIES / stage, InventoryLevel.STAGE),
        (root / INVENTORIES / COMMON, InventoryLevel.COMMON),
    ]
    return [
        reader.read_directory(folder, display_path(folder), level)
        for folder, level in folders
        if folder.is_dir()
    ]
