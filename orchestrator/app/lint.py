"""Everything that is wrong with a project, and what is merely odd."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from orchestrator import tasks
from orchestrator.app.project import root_of
from orchestrator.errors import Mark, OrchError, Problem, nearest
from orchestrator.inventory.load import load as load_stage
from orchestrator.inventory.stages import default_stage, stages
from orchestrator.tasks.model import Task
from orchestrator.tasks.notes import notes_of

T = TypeVar("T")

Note = tuple[str, Mark]


def lint(directory: str | None, named: Sequence[str]) -> tuple[list[Problem], list[Note]]:
    """The errors and the notes of all tasks and of every stage, or of the stages named."""
    root = root_of(directory)
    known = stages(root)
    errors: list[Problem] = [] if named else [problem for _, problem in known.refused]
    notes: list[Note] = []
    roles: set[str] = set()
    for name in named:
        known.check(name)

    def told(do: Callable[[], T]) -> T | None:
        try:
            return do()
        except OrchError as error:
            errors.extend(p for p in error.problems if p not in errors)
            return None

    default = told(lambda: default_stage(root))
    if default is not None and default.data not in known.names:
        listed = ", ".join(known.names)
        what = f"the default stage '{default.data}' does not exist"
        errors.append(Problem(what, default.mark, f"the stages are: {listed}"))
    for name in named or known.names:
        stage = told(lambda: load_stage(root, name))  # noqa: B023 - called at once
        notes += [note for note in (stage.notes if stage else ()) if note not in notes]
        roles |= set(stage.roles) if stage else set()
    loaded = told(lambda: tasks.load(root, None))
    if loaded:
        notes += notes_of(loaded.by_name.values())
        errors += _unknown_roles(loaded.by_name.values(), roles)
    return errors, notes


def _unknown_roles(found: Iterable[Task], roles: set[str]) -> Iterator[Problem]:
    for task in found:
        for role in task.roles or ():
            if role not in roles:
                what = f"no stage has the role '{role}' of task '{task.name}'"
                yield Problem(what, role.mark, nearest(role, roles))
