"""The names of a stage's hosts, roles and apps, read without resolving their values.

Completion needs only the names, and takes a third of the time of loading the stage. What cannot be
read is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import (
    DefinitionError,
    DiagnosticCollector,
    OrchError,
    SourcePosition,
)
from orchestrator.inventory.directory import ANSIBLE_FILE, ANSIBLE_FOLDERS
from orchestrator.inventory.hostnames import COMMON, InvalidHostNameError, parse_host_spec
from orchestrator.model.host import Stage
from orchestrator.model.marked_value import MarkedValue
from orchestrator.yamlio.local_files import display_path, natural_sort_key, read_file
from orchestrator.yamlio.naming_rules import YAML_SUFFIXES, is_ignored, yaml_stem
from orchestrator.yamlio.schema import SchemaReader
from orchestrator.yamlio.yaml_loader import load_yaml

_INVENTORIES = "inventories"


if TYPE_CHECKING:
    from orchestrator.inventory.programs import InventoryAccess


class InventoryNames:
    """The names of inventories of Ansible that are used instead of a stage."""

    def __init__(self, inventories: Sequence[str]) -> None:
        from orchestrator.inventory.programs import InventoryAccess
        from orchestrator.inventory.stage_loader import load_inventories

        access = InventoryAccess()
        try:
            stage = load_inventories(Path.cwd(), inventories, "inventory", None, access)
        except OrchError:
            stage = Stage("inventory", "", {}, {})
        self._stage = stage

    def hosts(self) -> tuple[str, ...]:
        """Return the hosts."""
        return tuple(self._stage.hosts)

    def roles(self) -> tuple[str, ...]:
        """Return the groups."""
        return tuple(self._stage.roles)

    def apps(self) -> tuple[str, ...]:
        """Return no app: inventories have none."""
        return ()


class StageNames:
    """The names of a stage at ``root``, with those of common.

    ``make_access`` returns what programs and encrypted inventories may use, if there are any.
    """

    def __init__(
        self, root: Path, stage: str, make_access: Callable[[], InventoryAccess] | None = None
    ) -> None:
        self.root, self.stage, self._make_access = root, stage, make_access
        self.folders = [root / _INVENTORIES / stage, root / _INVENTORIES / COMMON]

    @cached_property
    def _ansible_stage(self) -> Stage | None:
        """Return the stage if its hosts are those of an inventory of Ansible."""
        folder = self.folders[0]
        has_mark = any((folder / name).exists() for name in (*ANSIBLE_FOLDERS, ANSIBLE_FILE))
        if not has_mark and not any("ansible" in (found or {}) for found in self._settings()):
            return None
        from orchestrator.inventory.stage_loader import load_stage

        try:
            stage = load_stage(self.root, self.stage, self._access())
        except OrchError:
            return None
        return stage if stage.is_ansible else None

    def _access(self) -> InventoryAccess:
        from orchestrator.inventory.programs import InventoryAccess

        return self._make_access() if self._make_access else InventoryAccess()

    def _kept_seconds(self) -> float:
        """Return how long output of programs is kept."""
        written = next((found for found in self._settings() if found), {}).get("inventory_cache")
        value = MarkedValue(written, SourcePosition(""))
        return SchemaReader(DiagnosticCollector()).duration(value, "inventory_cache") or 0.0

    def _settings(self) -> Iterator[dict[str, Any] | None]:
        for suffix in YAML_SUFFIXES:
            data = _load_plain(self.folders[0] / f"stage{suffix}")
            yield data if isinstance(data, dict) else None

    def hosts(self) -> tuple[str, ...]:
        """Return the hosts that are described, and those that only roles list."""
        if self._ansible_stage is not None:
            return tuple(self._ansible_stage.hosts)
        found: dict[str, str] = {}
        for folder in self.folders:
            for name in self._described_hosts(folder):
                self._add_hosts(name, found)
        for folder in self.folders:
            for _, body in self._definitions(folder, "roles"):
                for name in _texts(body.get("hosts") if isinstance(body, dict) else body):
                    self._add_hosts(name, found)
        return tuple(found.values())

    def roles(self) -> tuple[str, ...]:
        """Return the roles that are described, and those that hosts claim."""
        if self._ansible_stage is not None:
            return tuple(self._ansible_stage.roles)
        found: dict[str, None] = {}
        for folder in self.folders:
            found |= dict.fromkeys(self._defined_names(folder, "roles"))
        for folder in self.folders:
            for _, body in self._definitions(folder, "hosts", "roles"):
                found |= dict.fromkeys(_roles_of(body))
        return tuple(found)

    def apps(self) -> tuple[str, ...]:
        """Return the apps of the stage, and those of common that have one of its roles."""
        own = self._defined_names(self.folders[0], "apps")
        shared = list(self._definitions(self.folders[1], "apps"))
        roles = frozenset(self.roles()) if shared else frozenset()
        for name, body in shared:
            if not _roles_of(body) or roles.intersection(_roles_of(body)):
                own.append(name)
        return tuple(sorted(set(own)))

    def _described_hosts(self, folder: Path) -> list[str]:
        program = folder / "hosts"
        if program.is_file() and os.access(program, os.X_OK):
            from orchestrator.inventory.programs import ProgramRunner

            runner = ProgramRunner(self._access(), self.root, self.stage, self._kept_seconds())
            try:
                value = runner.run_hosts(program, str(program))
            except DefinitionError:
                return []
            return list(value.data) if isinstance(value.data, dict) else []
        return self._defined_names(folder, "hosts")

    def _defined_names(self, folder: Path, kind: str) -> list[str]:
        """Return the names of the files of a folder, or the keys of the file with all of them."""
        if (folder / kind).is_dir():
            return [stem for stem, _ in self._files(folder / kind)]
        return [name for name, _ in self._definitions(folder, kind)]

    def _definitions(
        self, folder: Path, kind: str, needed_text: str = ""
    ) -> Iterator[tuple[str, Any]]:
        """Yield the names and plain values of a kind; files without ``needed_text`` are skipped."""
        if (folder / kind).is_dir():
            for stem, path in self._files(folder / kind):
                if not needed_text or needed_text.encode() in _read_bytes(path):
                    yield stem, _load_plain(path)
            return
        for suffix in YAML_SUFFIXES:
            data = _load_plain(folder / f"{kind}{suffix}")
            if isinstance(data, dict):
                yield from data.items()

    def _files(self, folder: Path) -> list[tuple[str, Path]]:
        try:
            names = os.listdir(folder)  # noqa: PTH208 - the names, without an object for each
        except OSError:
            return []
        stems = [(yaml_stem(name), name) for name in names if not is_ignored(name)]
        found = [(stem, folder / name) for stem, name in stems if stem]
        return sorted(found, key=lambda each: natural_sort_key(each[0]))

    def _add_hosts(self, text: str, found: dict[str, str]) -> None:
        """Add the hosts that a text stands for, under their names in lower case."""
        try:
            for name in parse_host_spec(text).names:
                found.setdefault(name.lower(), name)
        except InvalidHostNameError:
            return


def _roles_of(body: object) -> list[str]:
    """Return the roles that a host or an app names."""
    roles = body.get("roles") if isinstance(body, dict) else None
    return [roles] if isinstance(roles, str) else _texts(roles)


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _read_bytes(path: Path) -> bytes:
    try:
        return read_file(path)
    except OSError:
        return b""


def _load_plain(path: Path) -> Any:
    """Return the value of a YAML file, or None if it cannot be read."""
    if not path.is_file():
        return None
    try:
        return load_yaml(path, display_path(path), secrets=True).to_plain()
    except DefinitionError:
        return None
