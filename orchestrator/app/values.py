"""Every variable of every host of a stage, resolved once to see that it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from msgspec.structs import replace

from orchestrator.app.prepare import new_run
from orchestrator.errors import DefinitionError, Mark, Problem
from orchestrator.inventory.values import Merger, environment_of
from orchestrator.model.host import Host, Stage
from orchestrator.model.secret import Secrets
from orchestrator.model.value import Value, Values
from orchestrator.plan.ask import Ask, Scopes
from orchestrator.plan.frame import Frame
from orchestrator.plan.options import variables
from orchestrator.plan.problems import HostProblems
from orchestrator.plan.scope import NOT_YET, HostScope
from orchestrator.plan.walk import Seen
from orchestrator.tasks.model import Control, Task
from orchestrator.templating import Waits

_NOT_HERE = frozenset({*NOT_YET, "env"})
"""Names that only a run, a step or the machine it starts on gives a value to."""

_NOWHERE = Task("", Mark(""))


def later_names(tasks: Iterable[Task]) -> frozenset[str]:
    """The names that a variable may use and that no inventory has to give: what tasks
    register, set, or bring as their own ``vars``, and what only a run knows."""
    found = set(_NOT_HERE)
    for task in tasks:
        found |= {str(name) for name in task.vars}
        for step in task.all_steps():
            found |= {step.register} if step.register else set()
            found |= set(step.does.names) if isinstance(step.does, Control) else set()
    return frozenset(found)


def check(stage: Stage, later: frozenset[str]) -> None:
    """Return if the variables and the environment of every host have values.

    Those that need one of the ``later`` names are not judged. Raises DefinitionError; the
    same problem on several hosts is one.
    """
    scopes = _Scopes(stage, later)
    environments = Merger(environment_of)
    problems = HostProblems(len(stage.hosts))
    for host in stage.hosts.values():
        found = _problems(scopes.of(host), environments.of(host))
        if found:
            problems.on(host.name, DefinitionError(*found), host.mark)
    problems.raise_any()


class _Scopes(Scopes):
    """Scopes in which later names are waited for."""

    def __init__(self, stage: Stage, later: frozenset[str]) -> None:
        super().__init__(Ask(stage, tuple(stage.hosts.values()), (), {}, new_run(0.0)))
        self._later = later

    def of(self, host: Host) -> HostScope:
        """The scope of the host, also where another host's variables lead to it."""
        scope = super().of(host)
        scope.place.registered = {n: () for n in self._later if n not in scope.vars}
        return scope


def _problems(scope: HostScope, environment: Values) -> list[Problem]:
    found: dict[Problem, None] = {}
    frame = Frame(_NOWHERE, scope, given={})
    for name, value in scope.vars.items():
        _judge(partial(scope.resolve, name), value, found, scope.secrets)
    for name, value in environment.items():
        seen = Seen(scope.templates.value(value), frame)
        _judge(partial(variables, {}, [(name, seen)]), value, found, scope.secrets)
    return list(found)


def _judge(
    resolve: Callable[[], object], value: Value, found: dict[Problem, None], secrets: Secrets
) -> None:
    before = secrets.reads
    try:
        resolve()
    except Waits:
        return
    except DefinitionError as error:
        if secrets.reads != before:  # with the secret's own value it may well be right
            return
        for problem in error.problems:
            found[replace(problem, mark=problem.mark or value.mark)] = None
