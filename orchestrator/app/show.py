"""What the project holds, as rows; what cannot be read is said in its row."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from orchestrator import tasks
from orchestrator.app.project import root_of
from orchestrator.errors import DefinitionError, Problem
from orchestrator.inventory.load import load as load_stage
from orchestrator.inventory.stages import stages
from orchestrator.tasks.index import index


class Listed(Struct, frozen=True):
    """One stage or task. ``hosts`` is None and ``error`` set where it could not be read."""

    name: str
    desc: str = ""
    hosts: int | None = None
    error: str = ""


def stages_of(directory: str | None) -> tuple[list[Listed], Sequence[Problem]]:
    """Every stage, and what looks like one but cannot be."""
    root = root_of(directory)
    known = stages(root)
    rows = []
    for name in known.names:
        try:
            stage = load_stage(root, name)
        except DefinitionError as error:
            rows.append(Listed(name, error=_in_error(error)))
            continue
        protected = "protected" if stage.protected else ""
        desc = " · ".join(part for part in (stage.desc, protected) if part)
        rows.append(Listed(name, desc, len(stage.hosts)))
    return rows, [problem for _, problem in known.refused]


def tasks_of(directory: str | None) -> tuple[list[Listed], Sequence[Problem]]:
    """Every task, and files whose names cannot be tasks'."""
    root = root_of(directory)
    found = index(root)
    rows = []
    for name in found.files:
        try:
            rows.append(Listed(name, tasks.load(root, [name]).by_name[name].desc))
        except DefinitionError as error:
            rows.append(Listed(name, error=_in_error(error)))
    return rows, [problem for _, problem in found.refused]


def _in_error(error: DefinitionError) -> str:
    first, more = error.problems[0], len(error.problems) - 1
    others = f" (and {more} more; see `orch lint`)" if more else ""
    return f"in error: {first.mark}: {first.what}{others}"
