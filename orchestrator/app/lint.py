"""Everything that is wrong with a project, and what is merely odd."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from orchestrator import tasks
from orchestrator.app import calls, constants, values
from orchestrator.app.prepare import new_run
from orchestrator.app.project import root_of
from orchestrator.app.undefined import undefined_names, unknown_app_variables
from orchestrator.errors import Mark, OrchError, Problem, nearest
from orchestrator.inventory.load import load as load_stage
from orchestrator.inventory.stages import default_stage, stages
from orchestrator.inventory.values import Merger, defaults_of
from orchestrator.library import FOLDER
from orchestrator.model.host import Stage
from orchestrator.plan.ask import Ask
from orchestrator.plan.claims import check_claims
from orchestrator.plan.problems import HostProblems
from orchestrator.source.folder import show
from orchestrator.tasks.model import Task
from orchestrator.tasks.notes import notes_of

T = TypeVar("T")

Note = tuple[str, Mark]


def lint(directory: str | None, named: Sequence[str]) -> tuple[list[Problem], list[Note]]:
    """The errors and the notes of all tasks and of every stage, or of the stages named.

    The stages that are not named are read, since a task's role may be theirs; what is wrong
    with them is not told.
    """
    root = root_of(directory)
    known = stages(root)
    for name in named:
        known.check(name)
    told = _Told([] if named else [problem for _, problem in known.refused])
    default = told.unless_wrong(partial(default_stage, root))
    if default is not None and default.data not in known.names:
        listed = ", ".join(known.names)
        what = f"the default stage '{default.data}' does not exist"
        told.add([Problem(what, default.mark, f"the stages are: {listed}")])
    others = _Told([])
    found = {
        name: (told if not named or name in named else others).unless_wrong(
            partial(load_stage, root, name)
        )
        for name in known.names
    }
    loaded = told.unless_wrong(partial(tasks.load, root, None))
    of_tasks = list(loaded.by_name.values()) if loaded else []
    if None not in found.values() and not known.refused:
        roles = {role for stage in found.values() if stage for role in stage.roles}
        told.add(_unknown_roles(of_tasks, roles))
    told.add(constants.problems_of(of_tasks))
    library = show(FOLDER) + "/"
    own = [task for task in of_tasks if not task.mark.path.startswith(library)]
    read = [stage for stage in found.values() if stage is not None]
    if loaded:
        told.add(calls.call_problems(own, loaded.by_name, root, _with_defaults(read)))
    notes: list[Note] = []
    for stage in [found[name] for name in named or known.names]:
        if stage is None:
            continue
        notes += stage.notes
        if loaded:  # else who knows which names the tasks would give
            told.unless_wrong(partial(values.check, stage, values.later_names(of_tasks)))
            told.unless_wrong(partial(_claims, stage))
    if loaded and len(read) == len(known.names):  # else who knows what the others define
        problems, more = undefined_names(own, values.later_names(of_tasks), read)
        told.add(problems)
        told.add(unknown_app_variables(root, of_tasks, read))
        notes += more
    return told.problems, list(dict.fromkeys(notes + notes_of(own)))


def _with_defaults(stages: Iterable[Stage]) -> frozenset[str]:
    """The modules for which a host of any stage has defaults."""
    merger = Merger(defaults_of)
    hosts = (host for stage in stages for host in stage.hosts.values())
    return frozenset(str(name) for host in hosts for name in merger.of(host))


def _claims(stage: Stage) -> None:
    """Return if no two apps of the stage claim the same on a host. Raises DefinitionError."""
    problems = HostProblems(len(stage.hosts))
    apps, hosts = tuple(stage.apps.values()), tuple(stage.hosts.values())
    check_claims(Ask(stage, hosts, (), {}, new_run(0.0), apps=apps), problems)
    problems.raise_any()


class _Told:
    """The errors so far, each once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)

    def add(self, problems: Iterable[Problem]) -> None:
        """More of them."""
        self.problems += [p for p in dict.fromkeys(problems) if p not in self.problems]

    def unless_wrong(self, do: Callable[[], T]) -> T | None:
        """What it gives, or None where it raises errors, which are told."""
        try:
            return do()
        except OrchError as error:
            self.add(error.problems)
            return None


def _unknown_roles(found: Iterable[Task], roles: set[str]) -> Iterator[Problem]:
    for task in found:
        for role in task.roles or ():
            if role not in roles:
                what = f"no stage has the role '{role}' of task '{task.name}'"
                yield Problem(what, role.mark, nearest(role, roles))
