"""Which stages a project has: the folders of ``inventories/``, discovered, never listed."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import DefinitionError, Mark, Problem, Problems, UsageError, nearest
from orchestrator.inventory.hostnames import COMMON, printable, why_no_stage
from orchestrator.model.marked_value import Value
from orchestrator.yamlio.local_files import natural, show
from orchestrator.yamlio.naming_rules import SUFFIXES, ignored, stem
from orchestrator.yamlio.schema import Reader
from orchestrator.yamlio.yaml_loader import load

INVENTORIES = "inventories"


class Stages(Struct, frozen=True):
    """The stages' names in order, and what looks like a stage but cannot be one.

    ``refused`` are (name, problem); the other stages work all the same.
    """

    names: tuple[str, ...]
    refused: tuple[tuple[str, Problem], ...] = ()

    def check(self, name: str) -> None:
        """Return if this is a stage. Raises ``UsageError``, with the nearest one, where not."""
        if name in self.names:
            return
        for other, problem in self.refused:
            if other == name:
                raise UsageError(problem)
        if why := why_no_stage(name):
            raise UsageError(Problem(f"'{printable(name)}' cannot be a stage: {why}"))
        listed = ", ".join(self.names) or "none"
        hint = nearest(name, self.names)
        raise UsageError(Problem(f"no stage '{name}'; the stages are: {listed}", None, hint))


def find_root(start: Path) -> Path | None:
    """The nearest folder, from ``start`` upward, that holds ``inventories/``; None without one."""
    start = start.absolute()
    return next((f for f in (start, *start.parents) if (f / INVENTORIES).is_dir()), None)


def stages(root: Path) -> Stages:
    """The stages under ``root``; no file in them is read.

    Raises ``DefinitionError`` where ``inventories/`` cannot be listed.
    """
    folder = root / INVENTORIES
    shown = show(folder)
    try:
        with os.scandir(folder) as entries:
            found = sorted(((e.name, e.is_dir()) for e in entries), key=lambda e: natural(e[0]))
    except OSError as error:
        what = f"cannot read {shown}: {(error.strerror or '').lower()}"
        raise DefinitionError(Problem(what, Mark(shown))) from error
    names: list[str] = []
    refused: list[tuple[str, Problem]] = []
    for name, is_folder in found:
        if name == COMMON or name.startswith(".") or (ignored(name) and name.strip("~")):
            continue
        mark = Mark(f"{shown}/{printable(name)}")
        why = why_no_stage(name) if is_folder else "it is a file"
        if is_folder and not why:
            names.append(name)
        elif is_folder:
            what = f"'{printable(name)}' cannot be a stage: {why}"
            refused.append((name, Problem(what, mark, "rename the folder")))
        elif base := stem(name):
            what = f"'{name}' cannot be a stage: {why}"
            hint = f"move it to {shown}/{base}/stage.yml"
            refused.append((base, Problem(what, mark, hint)))
    return Stages(tuple(names), tuple(refused))


def default_stage(root: Path) -> Value | None:
    """What ``common/stage.yml`` names as ``default_stage``: text, not yet checked to exist.

    Raises ``DefinitionError`` where that file cannot be read.
    """
    for suffix in SUFFIXES:
        path = root / INVENTORIES / COMMON / f"stage{suffix}"
        if path.is_file():
            problems = Problems()
            read = Reader(problems)
            fields = read.fields(load(path, show(path), secrets=True), "common's stage.yml")
            value = fields.get("default_stage")
            name = read.text(value, "default_stage")
            problems.raise_any()
            return Value(name, value.mark) if value is not None and name else None
    return None
