"""Every variable of every host of a stage, resolved once to see that it can be.

Names in tasks that nothing in the project gives a value to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from orchestrator.commands.context import new_run
from orchestrator.errors import DefinitionError, Mark, Problem, nearest
from orchestrator.inventory.precedence import Merger, environment_of
from orchestrator.model import ansible
from orchestrator.model.host import Host, Stage
from orchestrator.model.host_folding import fold
from orchestrator.model.marked_value import Key, Value, Values
from orchestrator.model.secret import Secrets
from orchestrator.planner.host_diagnostics import HostProblems
from orchestrator.planner.host_scope import NOT_YET, HostScope
from orchestrator.planner.request import Ask, Scopes
from orchestrator.planner.step_options import variables
from orchestrator.planner.task_expander import Seen
from orchestrator.planner.task_scope import Frame
from orchestrator.playbook.model import Call, Control, Download, Modifiers, Module, Run, Step, Task
from orchestrator.templating import Templates, Waits
from orchestrator.templating.scope import Named

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


DEPLOYS = "deploy_to"
"""The variable by which an app is one that deploys."""

OBJECTS = frozenset({*NOT_YET, "facts", "host", "hosts", "stage", "task", "run", "roles", "env"})
"""The tool's own objects."""

_HINT = "set it in the inventory, `register:` or `set` it, or declare it under `params:`"


def undefined_names(
    tasks: Iterable[Task], later: frozenset[str], stages: Sequence[Stage]
) -> tuple[list[Problem], list[tuple[str, Mark]]]:
    """Return an error for each name that no host of any stage has, and that no task registers, sets
    or takes as a param; and a note for each that only some of a task's hosts have. ``later``: what
    tasks register, set or bring as their own ``vars``."""
    tasks = list(tasks)
    merger = Merger()
    hosts = [(stage, host, merger.of(host)) for stage in stages for host in stage.hosts.values()]
    of_apps = {
        name
        for stage in stages
        for app in stage.apps.values()
        for layer in (*app.layers, *(each for on in app.on.values() for each in on))
        for name in layer.vars
    }
    of_hosts = {str(name) for *_, variables in hosts for name in variables}
    params = {name for task in tasks for name in task.params}
    given = OBJECTS | later | of_apps
    problems: dict[Problem, None] = {}
    notes: dict[tuple[str, Mark], None] = {}
    for task in tasks:
        for name, mark in _names(task):
            if name in given or name in task.params:
                continue
            if name in of_hosts:
                notes |= dict.fromkeys((text, mark) for text in _missing(name, task, hosts))
            elif name in params:
                notes[f"'{name}' is a param of other tasks, and undefined in this one", mark] = None
            else:
                known = {*of_hosts, *given, *task.params}
                hint = ansible.VARIABLES.get(name, "") or nearest(name, known) or _HINT
                problems[Problem(f"'{name}' is undefined on every host", mark, hint)] = None
    return list(problems), list(notes)


def _missing(
    name: str, task: Task, hosts: Iterable[tuple[Stage, Host, Mapping[str, object]]]
) -> Iterator[str]:
    """Say on which of the task's hosts a name is undefined, in stages where others have it."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for stage, host, known in hosts:
        if task.roles is None or set(task.roles) & set(host.roles):
            having, lacking = found.setdefault(stage.name, ([], []))
            (having if name in known else lacking).append(host.name)
    for stage_name, (having, lacking) in found.items():
        if having and lacking:
            yield f"'{name}' is undefined on {fold(lacking)} of stage '{stage_name}'"


def _names(task: Task) -> Iterator[tuple[str, Mark]]:
    """The names that a task's templates cannot do without, with their places."""
    for template in _templates(task):
        for name in sorted(template.names):
            yield name, template.place_of(name)


def _templates(task: Task) -> Iterator[Named]:
    templates = Templates()
    yield from (param.default for param in task.params.values() if param.default is not None)
    yield from _of_values(task.vars, templates)
    for mods in task.modifiers():
        yield from _of_modifiers(mods)
    for call in task.scheduled():
        yield from call.args.values()
    for step in task.all_steps():
        yield from _of_modifiers(step.mods)
        yield from _of_step(step)


def _of_values(values: Values, templates: Templates) -> Iterator[Named]:
    return (templates.value(value) for value in values.values())


def _of_modifiers(mods: Modifiers) -> Iterator[Named]:
    yield from (judgement for judgement in mods.when if not isinstance(judgement, bool))
    yield from mods.environment.values()
    yield from (each for each in (mods.chdir, mods.timeout, mods.become) if each is not None)


def _of_step(step: Step) -> Iterator[Named]:
    until = step.again.until if step.again else ()
    judged = (*(step.changed_when or ()), *(step.failed_when or ()), *until, step.ignore_errors)
    yield from (judgement for judgement in judged if not isinstance(judgement, bool))
    over = step.loop.over if step.loop else None
    yield from (each for each in (step.name, step.delegate_to, over) if each is not None)
    does = step.does
    found: tuple[Named | None, ...] = ()
    match does:
        case Run():
            found = (does.text, does.stdin, does.creates, does.removes, does.unless, does.onlyif)
        case Call():
            found = tuple(does.args.values())
        case Control():
            found = (does.value, *(each for each in does.that if not isinstance(each, bool)))
        case Download():
            found = (does.path, does.to)
        case Module():
            fixes = (fix.text for fix in does.fixes)
            loads = (each for load in does.payloads for each in (load.what, load.exclude))
            found = (does.functions, does.probe, *fixes, *does.want.values(), *loads, does.within)
            found += (*does.exposes.values(), does.unique)
    yield from (each for each in found if each is not None)


_FOLDERS = ("tasks", "templates", "files")  # where a project's templates usually are
_LARGEST = 1 << 20  # bytes of a file that is looked into


def unknown_app_variables(
    root: Path, tasks: Iterable[Task], stages: Sequence[Stage]
) -> list[Problem]:
    """Return an error for each variable of an app that deploys which no task takes as a param, and
    no task, template or value of the project names."""
    params = {name for task in tasks for name in task.params}
    found: dict[str, tuple[str, Mark]] = {}
    for stage in stages:
        for app in stage.apps.values():
            layers = (*app.layers, *(each for on in app.on.values() for each in on))
            names = {key: app.name for layer in layers for key in layer.vars}
            if DEPLOYS in names:
                found |= {
                    str(key): (name, key.mark)
                    for key, name in names.items()
                    if isinstance(key, Key)
                }
    left = found.keys() - params
    if not left or DEPLOYS not in params:
        return []
    text = "\n".join(_texts(root, stages))
    return [
        Problem(
            f"app '{app}' sets '{name}', which nothing in the project uses",
            mark,
            nearest(name, params) or "see `orch doc deploy` for what an app can say",
        )
        for name, (app, mark) in found.items()
        if name in left and not re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text)
    ]


def _texts(root: Path, stages: Sequence[Stage]) -> Iterator[str]:
    """What may name a variable: files of tasks and templates, and templates among the values."""
    for folder in _FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.stat().st_size <= _LARGEST:
                yield path.read_text("utf-8", "replace")
    for stage in stages:
        layers = [layer for host in stage.hosts.values() for layer in host.layers]
        layers += [layer for app in stage.apps.values() for layer in app.layers]
        layers += [each for app in stage.apps.values() for on in app.on.values() for each in on]
        for layer in {id(layer): layer for layer in layers}.values():
            for value in (*layer.vars.values(), *layer.environment.values()):
                yield from (
                    text for text in _strings(value.plain()) if "{{" in text or "{%" in text
                )


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
