"""Loading of a stage: its files are read, resolved and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.errors import DiagnosticCollector, SourcePosition
from orchestrator.inventory.directory import InventoryWarning
from orchestrator.inventory.hostnames import COMMON, normalize_host
from orchestrator.inventory.precedence import LayerKind, RankedLayer
from orchestrator.inventory.programs import InventoryAccess
from orchestrator.inventory.records import (
    AnsibleSource,
    InventoryLevel,
    InventoryRecords,
    StageSettings,
)
from orchestrator.inventory.stage_builder import HostBuilder, HostRegistry, RoleResolver, build_apps
from orchestrator.inventory.stage_parser import InventoryReader
from orchestrator.inventory.stages import INVENTORIES, list_stages
from orchestrator.model.host import KEPT_RUNS, Host, Role, Stage
from orchestrator.yamlio.local_files import display_path, expand_home

DEFAULT_ACCESS = InventoryAccess()


def load_stage(root: Path, stage: str, access: InventoryAccess = DEFAULT_ACCESS) -> Stage:
    """Load the stage of the project at ``root``; only its files and those of common are read.

    Raises ``UsageError`` if there is no such stage, and ``DefinitionError`` with every error found
    in its files.
    """
    root = root.absolute()
    list_stages(root).check_stage(stage)
    problems = DiagnosticCollector()
    notes: list[InventoryWarning] = []
    parts = _read_records(root, stage, problems, notes, access)
    problems.raise_any()
    base = [
        RankedLayer(part.settings.layer, LayerKind.STAGE, part.level)
        for part in reversed(parts)
        if part.settings.layer is not None
    ]
    connection_notes: tuple[InventoryWarning, ...] = ()
    if parts[0].ansible:
        from orchestrator.inventory.ansible.loader import AnsibleLoader  # costs 10 ms

        loader = AnsibleLoader(root, stage, access, problems, notes, project=root)
        found = loader.load(parts[0].ansible, [each.layer for each in base], parts[0].settings)
        _note_unused_common(parts, notes)
        register = HostRegistry((), problems, notes)
        register.names = {normalize_host(name): name for name in found.hosts}
        hosts, roles, connection_notes = found.hosts, found.roles, found.connection_notes
    else:
        register = HostRegistry(parts, problems, notes)
        resolved = RoleResolver(parts, register, problems, notes).resolve()
        hosts = HostBuilder(base, register, resolved, problems).build_hosts()
        roles = resolved.roles
    apps = build_apps(parts, register, roles, problems)
    problems.raise_any()
    notes += _shared_name_notes(hosts, roles)
    settings = [part.settings for part in parts]
    return Stage(
        name=stage,
        path=parts[0].path,
        hosts=hosts,
        roles=roles,
        desc=settings[0].desc or "",
        protected=next((s.protected for s in settings if s.protected is not None), False),
        notes=tuple(dict.fromkeys(notes)),
        keep_runs=next((s.keep_runs for s in settings if s.keep_runs is not None), KEPT_RUNS),
        connection_notes=connection_notes,
        apps=apps,
        is_ansible=bool(parts[0].ansible),
        engine=next((s.engine for s in settings if s.engine is not None), None),
        regions=next((s.regions for s in settings if s.regions is not None), {}),
        cluster=next((s.cluster for s in settings if s.cluster is not None), None),
    )


def load_inventories(
    root: Path, sources: Sequence[str], name: str, project: Path | None, access: InventoryAccess
) -> Stage:
    """Load inventories of Ansible as the stage ``name``, without any file of a stage.

    A source is a path, or hosts with commas between them. Relative paths in the inventories start
    at ``root``; ``project`` is the folder of the project, if there is one: its ``common/`` applies.
    Raises ``DefinitionError`` with every error found.
    """
    from orchestrator.inventory.ansible.loader import AnsibleLoader  # costs 10 ms

    problems = DiagnosticCollector()
    notes: list[InventoryWarning] = []
    loader = AnsibleLoader(root, name, access, problems, notes, project=project)
    paths: list[AnsibleSource] = []
    for source in sources:
        path = expand_home(source)
        if path.exists():
            paths.append(AnsibleSource(path))
        elif "," in source:
            loader.add_host_list(source)
        else:
            problems.add(f"the inventory {source} does not exist", SourcePosition("--inventory"))
    parts = _read_common(project, name, problems, notes, access) if project is not None else ()
    base = [part.settings.layer for part in parts if part.settings.layer is not None]
    found = loader.load(paths, base, StageSettings())
    register = HostRegistry((), problems, notes)
    register.names = {normalize_host(host): host for host in found.hosts}
    apps = build_apps(parts, register, found.roles, problems)
    problems.raise_any()
    notes += _shared_name_notes(found.hosts, found.roles)
    settings = [part.settings for part in parts]
    return Stage(
        name,
        ", ".join(sources),
        found.hosts,
        found.roles,
        protected=any(each.protected for each in settings),
        notes=tuple(dict.fromkeys(notes)),
        keep_runs=next((s.keep_runs for s in settings if s.keep_runs is not None), KEPT_RUNS),
        connection_notes=found.connection_notes,
        apps=apps,
        is_ansible=True,
        engine=next((s.engine for s in settings if s.engine is not None), None),
        regions=next((s.regions for s in settings if s.regions is not None), {}),
        cluster=next((s.cluster for s in settings if s.cluster is not None), None),
    )


def _read_common(
    project: Path,
    name: str,
    problems: DiagnosticCollector,
    notes: list[InventoryWarning],
    access: InventoryAccess,
) -> Sequence[InventoryRecords]:
    """Return the records of the project's ``common/``, if it exists."""
    folder = project / INVENTORIES / COMMON
    if not folder.is_dir():
        return ()
    reader = InventoryReader(project, name, problems, notes, access)
    return (reader.read_directory(folder, display_path(folder), InventoryLevel.COMMON),)


def _shared_name_notes(
    hosts: Mapping[str, Host], roles: Mapping[str, Role]
) -> Iterator[InventoryWarning]:
    for name, role in roles.items():
        if name in hosts:
            yield f"'{name}' is a host and a role; --limit {name} means both", role.mark


def _note_unused_common(parts: Sequence[InventoryRecords], notes: list[InventoryWarning]) -> None:
    """Add notes for hosts and roles of common, which a stage with Ansible's inventory ignores."""
    for part in parts[1:]:
        ignored = "ignored: the stage's hosts and roles are those of Ansible's inventory"
        notes += [(ignored, entry.ref.mark) for entry in part.hosts]
        notes += [(ignored, role.mark) for role in part.roles.values()]


def _read_records(
    root: Path,
    stage: str,
    problems: DiagnosticCollector,
    notes: list[InventoryWarning],
    access: InventoryAccess,
) -> Sequence[InventoryRecords]:
    """Return the records of the stage and, if it exists, of common: strong to weak."""
    reader = InventoryReader(root, stage, problems, notes, access)
    folders = [
        (root / INVENTORIES / stage, InventoryLevel.STAGE),
        (root / INVENTORIES / COMMON, InventoryLevel.COMMON),
    ]
    return [
        reader.read_directory(folder, display_path(folder), level)
        for folder, level in folders
        if folder.is_dir()
    ]
