"""Which parts of tasks the command line may name: tags and handlers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from orchestrator.errors import Mark, Problems, nearest
from orchestrator.tasks.load import Tasks, load
from orchestrator.tasks.model import Task

USUAL = frozenset({"always", "never"})
"""Tags that mean something where no file has them."""


def tags_of(tasks: Iterable[Task]) -> set[str]:
    """Return every tag in these files: of tasks, items, steps, handlers and rollbacks."""
    tags: set[str] = set()
    for task in tasks:
        for mods in (*task.modifiers(), *(step.mods for step in task.all_steps())):
            tags.update(mods.tags)
    return tags


def handlers_of(tasks: Iterable[Task]) -> set[str]:
    """Return the names of every handler in these files."""
    return {str(name) for task in tasks for inner in task.in_place() for name in inner.handlers}


def check_parts(root: Path, run: Tasks, named: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Hold the names given to ``--tags``, ``--skip-tags`` and ``--handler`` (by option) against
    the tasks of the run, and where one is not in them, against every task of the project.

    Return a warning for each that chooses nothing in this run. Raises DefinitionError for those
    that no task file has, and where one of the other files cannot be read.
    """
    strange = {option: sorted({*names} - _known(option, run)) for option, names in named.items()}
    if not any(strange.values()):
        return ()
    every, problems = load(root, None), Problems()
    warnings = []
    for option, names in strange.items():
        known, what = _known(option, every), "handler" if option == "--handler" else "tag"
        for name in names:
            if name in known:
                told = f"{option} {name}: no task of this run has the {what} '{name}'"
                warnings.append(told)
                continue
            listed = ", ".join(sorted(known - USUAL)[:12])
            hint = nearest(name, known) or f"{what}s: {listed or 'there are none'}"
            problems.add(f"no task file has the {what} '{name}'", Mark(option), hint)
    problems.raise_any()
    return tuple(warnings)


def _known(option: str, tasks: Tasks) -> set[str]:
    files = tasks.by_name.values()
    return handlers_of(files) if option == "--handler" else tags_of(files) | USUAL
