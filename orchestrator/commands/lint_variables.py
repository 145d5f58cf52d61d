"""Checks variables: resolves those of every host, and finds names that are never defined."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from orchestrator.commands.context import new_run
from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, suggest_nearest
from orchestrator.inventory.precedence import VariableMerger, environment_of
from orchestrator.model import ansible
from orchestrator.model.host import Host, Stage
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.marked_value import MarkedKey, MarkedValue, Values
from orchestrator.model.secret import SecretResolver
from orchestrator.planner.fact_sources import FactSources
from orchestrator.planner.host_diagnostics import HostDiagnostics
from orchestrator.planner.host_scope import UNAVAILABLE_NAMES, HostScope
from orchestrator.planner.request import ANSIBLE_NAMES, PlanRequest, ScopeFactory
from orchestrator.planner.step_options import environment_variables
from orchestrator.planner.task_expander import ScopedTemplate
from orchestrator.planner.task_scope import TaskScope
from orchestrator.planner.template_objects import check_fields
from orchestrator.playbook.model import (
    CommonOptions,
    ControlStep,
    DownloadStep,
    ModuleSpec,
    RunStep,
    Step,
    Task,
    TaskCall,
)
from orchestrator.templating import ResultPending, TemplateCache
from orchestrator.templating.scope import TemplateNames

_RUNTIME_NAMES = frozenset({*UNAVAILABLE_NAMES, "env"})
"""Names that only a run, a step or the local environment defines."""

_NO_TASK = Task("", SourcePosition(""))


def runtime_names(tasks: Iterable[Task]) -> frozenset[str]:
    """Return names that a variable may use although no inventory defines them.

    These are the names that tasks register, set, or define in their own ``vars``, and those that
    only a run knows.
    """
    found = set(_RUNTIME_NAMES)
    for task in tasks:
        found |= {str(name) for name in task.vars}
        for step in task.all_steps():
            found |= {step.register} if step.register else set()
            found |= {str(name) for name in step.vars} | set(step.loop.names if step.loop else ())
            found |= set(step.action.names) if isinstance(step.action, ControlStep) else set()
    return frozenset(found)


def check_variables(stage: Stage, runtime_names: frozenset[str], root: str = "") -> None:
    """Return if all variables and environments of the hosts can be resolved.

    Variables that need one of the ``runtime_names`` are not checked. Raises DefinitionError; an
    error of several hosts is reported once.
    """
    scopes = LintScopeFactory(stage, runtime_names, root)
    environments = VariableMerger(environment_of)
    diagnostics = HostDiagnostics(len(stage.hosts))
    for host in stage.hosts.values():
        found = _variable_errors(scopes.scope_of(host), environments.values_of(host))
        if found:
            diagnostics.add_for_host(host.name, DefinitionError(*found), host.mark)
    diagnostics.raise_any()


class LintScopeFactory(ScopeFactory):
    """Creates scopes in which runtime names are pending."""

    def __init__(self, stage: Stage, runtime_names: frozenset[str], root: str = "") -> None:
        """Create a factory for a stage of the project at ``root``."""
        hosts = tuple(stage.hosts.values())
        super().__init__(PlanRequest(stage, hosts, (), {}, new_run(0.0), root=root))
        self._runtime_names = runtime_names

    def scope_of(self, host: Host) -> HostScope:
        """Return the scope of the host, also if another host's variables refer to it."""
        scope = super().scope_of(host)
        scope.position.registered = {n: () for n in self._runtime_names if n not in scope.vars}
        return scope


def _variable_errors(scope: HostScope, environment: Values) -> list[Diagnostic]:
    found: dict[Diagnostic, None] = {}
    task_scope = TaskScope(_NO_TASK, scope, passed_args={})
    for name, value in scope.vars.items():
        _collect_errors(partial(scope.resolve_from_vars, name), value, found, scope.secrets)
    for name, value in environment.items():
        scoped_template = ScopedTemplate(scope.templates.value(value), task_scope)
        _collect_errors(
            partial(environment_variables, {}, [(name, scoped_template)]),
            value,
            found,
            scope.secrets,
        )
    return list(found)


def _collect_errors(
    resolve: Callable[[], object],
    value: MarkedValue,
    errors: dict[Diagnostic, None],
    secrets: SecretResolver,
) -> None:
    before = secrets.stand_in_reads
    try:
        resolve()
    except ResultPending:
        return
    except DefinitionError as error:
        if secrets.stand_in_reads != before:  # the secret's real value may be valid
            return
        for diagnostic in error.diagnostics:
            errors[replace(diagnostic, mark=diagnostic.mark or value.mark)] = None


DEPLOY_VARIABLE = "deploy_to"
"""A variable that every app with deployments has."""

BUILTIN_NAMES = frozenset(
    {*UNAVAILABLE_NAMES, "facts", "host", "hosts", "stage", "task", "run", "roles", "env", "vars"}
)
"""Names of the built-in objects."""

_DEFINE_HINT = "set it in the inventory, `register:` or `set` it, or declare it under `params:`"


def undefined_name_errors(
    tasks: Iterable[Task],
    runtime_names: frozenset[str],
    stages: Sequence[Stage],
    templates: TemplateCache,
) -> tuple[list[Diagnostic], list[tuple[str, SourcePosition]]]:
    """Return an error for each name that is never defined, and notes.

    A name is defined by a host of any stage, or if a task registers, sets or declares it. The notes
    are for names that only some of a task's hosts define. ``runtime_names``: the names that tasks
    register, set or define in their own ``vars``. ``templates`` compiles the tasks' variables.
    """
    tasks = list(tasks)
    merger = VariableMerger()
    hosts = [
        (stage, host, merger.values_of(host)) for stage in stages for host in stage.hosts.values()
    ]
    app_variables = {
        name
        for stage in stages
        for app in stage.apps.values()
        for layer in (
            *app.layers,
            *(each for layers in app.layers_by_host.values() for each in layers),
        )
        for name in layer.vars
    }
    host_variables = {str(name) for *_, variables in hosts for name in variables}
    all_params = {name for task in tasks for name in task.params}
    known_names = BUILTIN_NAMES | runtime_names | app_variables
    if any(stage.is_ansible for stage in stages):
        known_names |= ANSIBLE_NAMES
    is_complete = not any(stage.has_encrypted_files for stage in stages)
    diagnostics: dict[Diagnostic, None] = {}
    notes: dict[tuple[str, SourcePosition], None] = {}
    for task in tasks:
        for name, mark in _required_names(task, templates):
            if name in known_names or name in task.params:
                continue
            if name in host_variables:
                notes |= dict.fromkeys(
                    (text, mark) for text in _partly_undefined(name, task, hosts)
                )
            elif name in all_params:
                notes[f"'{name}' is a param of other tasks, but undefined in this one", mark] = None
            elif is_complete:
                candidates = {*host_variables, *known_names, *task.params}
                hint = (
                    ansible.VARIABLE_HINTS.get(name, "")
                    or suggest_nearest(name, candidates)
                    or _DEFINE_HINT
                )
                diagnostics[Diagnostic(f"'{name}' is undefined on every host", mark, hint)] = None
    return list(diagnostics), list(notes)


def unknown_fact_errors(
    tasks: Iterable[Task], facts: FactSources, templates: TemplateCache
) -> list[Diagnostic]:
    """Return an error for each fact that a task names and that does not exist."""
    errors: list[Diagnostic] = []
    for task in tasks:
        for template in _task_templates(task, templates):
            uses = [use for use in template.fields if use.name in facts.fields]
            try:
                check_fields(uses, facts=facts.fields)
            except DefinitionError as error:
                errors += error.diagnostics
    return list(dict.fromkeys(errors))


def _partly_undefined(
    name: str, task: Task, hosts: Iterable[tuple[Stage, Host, Mapping[str, object]]]
) -> Iterator[str]:
    """Yield on which of the task's hosts a name is undefined although others have it."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for stage, host, known in hosts:
        if task.roles is None or set(task.roles) & set(host.roles):
            having, lacking = found.setdefault(stage.name, ([], []))
            (having if name in known else lacking).append(host.name)
    for stage_name, (having, lacking) in found.items():
        if having and lacking:
            yield f"'{name}' is undefined on {fold_hostnames(lacking)} of stage '{stage_name}'"


def _required_names(task: Task, templates: TemplateCache) -> Iterator[tuple[str, SourcePosition]]:
    """Yield the names that a task's templates require, with their positions."""
    for template in _task_templates(task, templates):
        for name in sorted(template.names):
            yield name, template.position_of(name)


def _task_templates(task: Task, templates: TemplateCache) -> Iterator[TemplateNames]:
    yield from (param.default for param in task.params.values() if param.default is not None)
    yield from _value_templates(task.vars, templates)
    for modifiers in task.all_options():
        yield from _modifier_templates(modifiers)
    for call in task.item_calls():
        yield from call.args.values()
    for step in task.all_steps():
        yield from _modifier_templates(step.options)
        yield from _step_templates(step, templates)


def _value_templates(values: Values, templates: TemplateCache) -> Iterator[TemplateNames]:
    return (templates.value(value) for value in values.values())


def _modifier_templates(modifiers: CommonOptions) -> Iterator[TemplateNames]:
    yield from (
        condition_expr for condition_expr in modifiers.when if not isinstance(condition_expr, bool)
    )
    yield from modifiers.environment.values()
    yield from (
        each for each in (modifiers.chdir, modifiers.timeout, modifiers.become) if each is not None
    )


def _step_templates(step: Step, templates: TemplateCache) -> Iterator[TemplateNames]:
    until = step.retry.until if step.retry else ()
    conditions = (*(step.changed_when or ()), *(step.failed_when or ()), *until, step.ignore_errors)
    yield from (
        condition_expr for condition_expr in conditions if not isinstance(condition_expr, bool)
    )
    yield from _value_templates(step.vars, templates)
    loop_template = step.loop.over if step.loop else None
    yield from (each for each in (step.name, step.delegate_to, loop_template) if each is not None)
    action = step.action
    found: tuple[TemplateNames | None, ...] = ()
    match action:
        case RunStep():
            found = (
                action.text,
                action.stdin,
                action.creates,
                action.removes,
                action.unless,
                action.onlyif,
            )
        case TaskCall():
            found = tuple(action.args.values())
        case ControlStep():
            found = (
                action.value,
                *(each for each in action.conditions if not isinstance(each, bool)),
            )
        case DownloadStep():
            found = (action.path, action.to)
        case ModuleSpec():
            fixes = (fix.text for fix in action.fixes)
            loads = (each for load in action.payloads for each in load.templates)
            found = (
                action.functions,
                action.probe,
                *fixes,
                *action.want.values(),
                *loads,
                action.within,
            )
            found += (*action.exposes.values(), action.unique)
    yield from (each for each in found if each is not None)


_TEMPLATE_DIRS = ("tasks", "templates", "files")  # where a project's templates usually are
_MAX_FILE_BYTES = 1 << 20  # files above this size are not searched


def unused_app_variables(
    root: Path, tasks: Iterable[Task], stages: Sequence[Stage]
) -> list[Diagnostic]:
    """Return an error for each unused variable of an app with deployments.

    A variable is used if a task has a param of that name, or if a task, template or value of the
    project contains the name.
    """
    params = {name for task in tasks for name in task.params}
    found: dict[str, tuple[str, SourcePosition]] = {}
    for stage in stages:
        for app in stage.apps.values():
            layers = (*app.layers, *(each for on in app.layers_by_host.values() for each in on))
            names = {key: app.name for layer in layers for key in layer.vars}
            if DEPLOY_VARIABLE in names:
                found |= {
                    str(key): (name, key.mark)
                    for key, name in names.items()
                    if isinstance(key, MarkedKey)
                }
    left = found.keys() - params
    if not left or DEPLOY_VARIABLE not in params:
        return []
    text = "\n".join(_searchable_texts(root, stages))
    return [
        Diagnostic(
            f"app '{app}' sets '{name}', which nothing in the project uses",
            mark,
            suggest_nearest(name, params) or "see `orch doc deploy` for the variables of an app",
        )
        for name, (app, mark) in found.items()
        if name in left and not re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text)
    ]


def _searchable_texts(root: Path, stages: Sequence[Stage]) -> Iterator[str]:
    """Yield texts that may use a variable: task files, templates, and templates in values."""
    for folder in _TEMPLATE_DIRS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.stat().st_size <= _MAX_FILE_BYTES:
                yield path.read_text("utf-8", "replace")
    for stage in stages:
        layers = [layer for host in stage.hosts.values() for layer in host.layers]
        layers += [layer for app in stage.apps.values() for layer in app.layers]
        layers += [
            each for app in stage.apps.values() for on in app.layers_by_host.values() for each in on
        ]
        for layer in {id(layer): layer for layer in layers}.values():
            for value in (*layer.vars.values(), *layer.environment.values()):
                yield from (
                    text
                    for text in _nested_strings(value.to_plain())
                    if "{{" in text or "{%" in text
                )


def _nested_strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _nested_strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _nested_strings(each)
