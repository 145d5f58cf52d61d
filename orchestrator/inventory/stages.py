"""Discovery of a project's stages: the folders of ``inventories/``."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    DiagnosticCollector,
    SourcePosition,
    UsageError,
    suggest_nearest,
)
from orchestrator.inventory.hostnames import COMMON, escape_unprintable, stage_name_error
from orchestrator.model.marked_value import MarkedValue
from orchestrator.yamlio.local_files import display_path, natural_sort_key
from orchestrator.yamlio.naming_rules import YAML_SUFFIXES, is_ignored, yaml_stem

INVENTORIES = "inventories"


class StageList(Struct, frozen=True):
    """The names of the stages in order, and the entries that cannot be stages.

    ``refused`` are pairs of a name and its diagnostic; they do not affect the other stages.
    """

    names: tuple[str, ...]
    refused: tuple[tuple[str, Diagnostic], ...] = ()

    def check_stage(self, name: str) -> None:
        """Check that the stage exists. Raises ``UsageError``, which suggests the nearest name."""
        if name in self.names:
            return
        for other, problem in self.refused:
            if other == name:
                raise UsageError(problem)
        if why := stage_name_error(name):
            raise UsageError(Diagnostic(f"'{escape_unprintable(name)}' cannot be a stage: {why}"))
        listed = ", ".join(self.names) or "none"
        hint = suggest_nearest(name, self.names)
        raise UsageError(Diagnostic(f"no stage '{name}'; the stages are: {listed}", None, hint))


def find_project_root(start: Path) -> Path | None:
    """Return the nearest folder that contains ``inventories/``, from ``start`` upwards, or None."""
    start = start.absolute()
    return next((f for f in (start, *start.parents) if (f / INVENTORIES).is_dir()), None)


def list_stages(root: Path) -> StageList:
    """Return the stages under ``root``; their files are not read.

    Raises ``DefinitionError`` if ``inventories/`` cannot be listed.
    """
    folder = root / INVENTORIES
    shown = display_path(folder)
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                ((e.name, e.is_dir()) for e in entries), key=lambda e: natural_sort_key(e[0])
            )
    except OSError as error:
        what = f"cannot read {shown}: {(error.strerror or '').lower()}"
        raise DefinitionError(Diagnostic(what, SourcePosition(shown))) from error
    names: list[str] = []
    refused: list[tuple[str, Diagnostic]] = []
    for name, is_folder in found:
        if name == COMMON or name.startswith(".") or (is_ignored(name) and name.strip("~")):
            continue
        mark = SourcePosition(f"{shown}/{escape_unprintable(name)}")
        why = stage_name_error(name) if is_folder else "it is a file"
        if is_folder and not why:
            names.append(name)
        elif is_folder:
            what = f"'{escape_unprintable(name)}' cannot be a stage: {why}"
            refused.append((name, Diagnostic(what, mark, "rename the folder")))
        elif base := yaml_stem(name):
            what = f"'{name}' cannot be a stage: {why}"
            hint = f"move it to {shown}/{base}/stage.yml"
            refused.append((base, Diagnostic(what, mark, hint)))
    return StageList(tuple(names), tuple(refused))


def read_default_stage(root: Path) -> MarkedValue | None:
    """Return the ``default_stage`` of ``common/stage.yml``, or None; it may not exist.

    Raises ``DefinitionError`` if that file cannot be read.
    """
    from orchestrator.yamlio.schema import SchemaReader
    from orchestrator.yamlio.yaml_loader import load_yaml

    for suffix in YAML_SUFFIXES:
        path = root / INVENTORIES / COMMON / f"stage{suffix}"
        if path.is_file():
            problems = DiagnosticCollector()
            read = SchemaReader(problems)
            fields = read.fields(
                load_yaml(path, display_path(path), secrets=True), "common's stage.yml"
            )
            value = fields.get("default_stage")
            name = read.text(value, "default_stage")
            problems.raise_any()
            return MarkedValue(name, value.mark) if value is not None and name else None
    return None
