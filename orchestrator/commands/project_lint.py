"""Checks a whole project: errors, and notes about what is merely unusual.

Also checks calls for missing params and files, and evaluates conditions and options without names,
which have the same value on every host.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from orchestrator import playbook
from orchestrator.commands import lint_variables
from orchestrator.commands.cluster_plan import resolve_cluster
from orchestrator.commands.context import ProjectSelector, load_context, new_run
from orchestrator.commands.inventory_access import inventory_access
from orchestrator.commands.lint_variables import (
    undefined_name_errors,
    unknown_fact_errors,
    unused_app_variables,
)
from orchestrator.commands.project import resolve_project_root
from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    OrchError,
    SourcePosition,
    suggest_nearest,
)
from orchestrator.inventory.precedence import VariableMerger, defaults_of
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.inventory.stages import list_stages, read_default_stage
from orchestrator.model.host import Stage
from orchestrator.modules import MODULES_FOLDER
from orchestrator.planner.fact_sources import FactSources
from orchestrator.planner.host_diagnostics import HostDiagnostics
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.module_script import listed_names
from orchestrator.planner.payload_options import template_syntax
from orchestrator.planner.project_files import ProjectFiles
from orchestrator.planner.request import PlanRequest
from orchestrator.planner.resource_claims import check_claims
from orchestrator.planner.step_conditions import all_true
from orchestrator.planner.step_options import environment_variables, render_option, timeout_seconds
from orchestrator.planner.task_expander import ScopedTemplate, evaluate_loop_items
from orchestrator.planner.task_scope import TaskScope
from orchestrator.playbook.lint_warnings import lint_warnings
from orchestrator.playbook.model import (
    CommonOptions,
    ConditionExpr,
    ControlStep,
    DownloadStep,
    ModulePayload,
    RunStep,
    Step,
    Task,
    TaskCall,
)
from orchestrator.playbook.own_facts import load_own_facts
from orchestrator.playbook.own_filters import load_own_filters
from orchestrator.templating import NO_FILTERS, Expression, TemplateCache, ValueTemplate
from orchestrator.yamlio.local_files import display_path

T = TypeVar("T")

LintNote = tuple[str, SourcePosition]


def lint_project(
    directory: str | None, stage_names: Sequence[str]
) -> tuple[list[Diagnostic], list[LintNote]]:
    """Return the errors and notes of all tasks, and of every stage or the given ones.

    The other stages are read as well, because a task's role may be theirs, but their errors are not
    reported.
    """
    root = resolve_project_root(directory)
    stage_list = list_stages(root)
    for name in stage_names:
        stage_list.check_stage(name)
    errors = ErrorCollector(
        [] if stage_names else [diagnostic for _, diagnostic in stage_list.refused]
    )
    _check_default_stage(root, stage_list.names, errors)
    ignored_errors = ErrorCollector([])
    stages_by_name = {
        name: (errors if not stage_names or name in stage_names else ignored_errors).collect_errors(
            partial(load_stage, root, name, inventory_access(root, os.environ))
        )
        for name in stage_list.names
    }
    loaded = errors.collect_errors(partial(playbook.load_tasks, root, None))
    all_tasks = list(loaded.by_name.values()) if loaded else []
    if None not in stages_by_name.values() and not stage_list.refused:
        roles = {role for stage in stages_by_name.values() if stage for role in stage.roles}
        errors.add(_unknown_role_errors(all_tasks, roles))
    filters = errors.collect_errors(partial(load_own_filters, root)) or NO_FILTERS
    templates = TemplateCache(filters)
    scope = HostScope({}, {}, {}, templates, project_files=ProjectFiles(str(root), filters))
    errors.add(static_errors(all_tasks, scope))
    library = display_path(MODULES_FOLDER) + "/"
    project_tasks = [task for task in all_tasks if not task.mark.path.startswith(library)]
    loaded_stages = [stage for stage in stages_by_name.values() if stage is not None]
    if loaded:
        errors.add(
            call_errors(project_tasks, loaded.by_name, scope, _modules_with_defaults(loaded_stages))
        )
    own_facts = errors.collect_errors(partial(load_own_facts, root))
    if own_facts is not None:
        errors.add(unknown_fact_errors(project_tasks, FactSources(own_facts), templates))
    runtime_names = lint_variables.runtime_names(all_tasks)
    known_names = runtime_names if loaded else None
    notes: list[LintNote] = []
    for stage in [stages_by_name[name] for name in stage_names or stage_list.names]:
        if stage is not None:
            notes += _lint_stage(stage, root, known_names, errors)
    # in a stage that cannot be read, any name may be defined
    if loaded and len(loaded_stages) == len(stage_list.names):
        undefined, more_notes = undefined_name_errors(
            project_tasks, runtime_names, loaded_stages, templates
        )
        errors.add(undefined)
        errors.add(unused_app_variables(root, all_tasks, loaded_stages))
        notes += more_notes
    return errors.diagnostics, list(dict.fromkeys(notes + lint_warnings(project_tasks)))


def _lint_stage(
    stage: Stage, root: Path, runtime_names: frozenset[str] | None, errors: ErrorCollector
) -> list[LintNote]:
    """Add the errors of a stage, and return notes.

    ``runtime_names`` are the names that tasks define, or None if they are unknown.
    """
    notes = list(stage.notes)
    if stage.cluster is not None:
        errors.collect_errors(partial(resolve_cluster, stage))
    if runtime_names is not None:
        check = partial(lint_variables.check_variables, stage, runtime_names, str(root))
        if stage.is_ansible:
            notes += _unresolved_notes(check)
        else:
            errors.collect_errors(check)
        errors.collect_errors(partial(_check_app_claims, stage, root))
    return notes


def lint_inventories(
    selector: ProjectSelector, environ: Mapping[str, str]
) -> tuple[list[Diagnostic], list[LintNote]]:
    """Return the errors and notes of the inventories that are selected instead of a stage."""
    errors = ErrorCollector([])
    context = errors.collect_errors(partial(load_context, selector, environ, "lint"))
    return errors.diagnostics, list(context.stage.notes) if context else []


def _check_default_stage(root: Path, stage_names: Sequence[str], errors: ErrorCollector) -> None:
    default = errors.collect_errors(partial(read_default_stage, root))
    if default is not None and default.data not in stage_names:
        message = f"the default stage '{default.data}' does not exist"
        hint = f"the stages are: {', '.join(stage_names)}"
        errors.add([Diagnostic(message, default.mark, hint)])


def _unresolved_notes(check: Callable[[], object]) -> Iterator[LintNote]:
    """Yield a note for each variable of Ansible's inventory that orch cannot resolve.

    It is an error only in a run whose tasks use the variable.
    """
    found = ErrorCollector([])
    found.collect_errors(check)
    for diagnostic in found.diagnostics:
        text = f"a task that uses this value would fail: {diagnostic.message}"
        yield text, diagnostic.mark or SourcePosition("")


def _modules_with_defaults(stages: Iterable[Stage]) -> frozenset[str]:
    """Return the modules for which a host of any stage has defaults."""
    merger = VariableMerger(defaults_of)
    hosts = (host for stage in stages for host in stage.hosts.values())
    return frozenset(str(name) for host in hosts for name in merger.values_of(host))


def _check_app_claims(stage: Stage, root: Path) -> None:
    """Raise DefinitionError if two apps of the stage make the same claim on a host."""
    diagnostics = HostDiagnostics(len(stage.hosts))
    apps, hosts = tuple(stage.apps.values()), tuple(stage.hosts.values())
    request = PlanRequest(stage, hosts, (), {}, new_run(0.0), apps=apps, root=str(root))
    check_claims(request, diagnostics)
    diagnostics.raise_any()


class ErrorCollector:
    """A list of errors without duplicates."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Start with these errors."""
        self.diagnostics = list(diagnostics)

    def add(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Add errors that are not in the list yet."""
        self.diagnostics += [p for p in dict.fromkeys(diagnostics) if p not in self.diagnostics]

    def collect_errors(self, load: Callable[[], T]) -> T | None:
        """Return the result of ``load``, or None after adding the errors that it raised."""
        try:
            return load()
        except OrchError as error:
            self.add(error.diagnostics)
            return None


def _unknown_role_errors(tasks_read: Iterable[Task], roles: set[str]) -> Iterator[Diagnostic]:
    for task in tasks_read:
        for role in task.roles or ():
            if role not in roles:
                message = f"no stage has the role '{role}' of task '{task.name}'"
                yield Diagnostic(message, role.mark, suggest_nearest(role, roles))


def call_errors(
    tasks: Iterable[Task],
    tasks_by_name: Mapping[str, Task],
    scope: HostScope,
    defaults: frozenset[str],
) -> list[Diagnostic]:
    """Return errors in steps that call a task or module.

    These are missing required params, and project files that do not exist. ``scope``: that of a
    host without variables. ``defaults``: the modules with defaults in a stage or role, which may
    set any param.
    """
    found: dict[Diagnostic, None] = {}
    for task in tasks:
        for call in task.step_calls():
            callee = tasks_by_name.get(call.task)
            if callee is not None and call.task not in defaults:
                found |= dict.fromkeys(_missing_params(call, callee))
            if callee is not None:
                found |= dict.fromkeys(_missing_payload_files(call, callee, scope))
    return list(found)


def _missing_params(call: TaskCall, callee: Task) -> Iterator[Diagnostic]:
    for name, param in callee.params.items():
        if param.required and name not in call.args:
            message = f"task '{call.task}' needs a value for its param '{name}'"
            yield Diagnostic(message, call.mark, f"write {name}: …")
    payloads = callee.module.payloads if callee.module else ()
    names = [name for each in payloads for name in sorted(each.what.names)]
    # a payload of several params may be one without any of them
    is_chosen_by_param = all(len(each.what.names) == 1 for each in payloads)
    if len(payloads) > 1 and is_chosen_by_param and not call.args.keys() & set(names):
        message = f"task '{call.task}' needs one of {listed_names(names)}"
        yield Diagnostic(message, call.mark)


def _missing_payload_files(call: TaskCall, callee: Task, scope: HostScope) -> Iterator[Diagnostic]:
    task_scope = TaskScope(callee, scope, written_args=call.args, caller=scope)
    for payload in callee.module.payloads if callee.module else ():
        names = payload.what.names
        written = [call.args[name] for name in names if name in call.args]
        if payload.kind in ("text", "host") or len(written) != len(names):
            continue
        options = [name for each in payload.options.values() for name in each.names]
        written += [call.args[name] for name in options if name in call.args]
        if all(template.constant for template in written):
            yield from _missing_payload_file(payload, task_scope)


def _missing_payload_file(payload: ModulePayload, task_scope: TaskScope) -> Iterator[Diagnostic]:
    try:
        value = payload.what.render(task_scope)
    except DefinitionError as error:
        yield from error.diagnostics
        return
    mark = next(task_scope.written_args[name].mark for name in payload.what.names)
    if isinstance(value, str) and not Path(value).exists():
        yield Diagnostic(
            f"cannot read {display_path(Path(value))}: no such file or directory", mark
        )
    elif isinstance(value, str) and payload.kind == "template":
        try:
            syntax = template_syntax(payload, task_scope)
            task_scope.host.project_files.template(Path(value), mark, syntax)
        except DefinitionError as error:
            yield from error.diagnostics


StaticCheck = Callable[[], object]


def static_errors(tasks: Iterable[Task], scope: HostScope) -> list[Diagnostic]:
    """Return the errors that would occur on every host, each once.

    ``scope`` is that of a host without variables.
    """
    found: dict[Diagnostic, None] = {}
    for task in tasks:
        for check in _task_checks(task, TaskScope(task, scope)):
            try:
                check()
            except DefinitionError as error:
                found |= dict.fromkeys(error.diagnostics)
    return list(found)


def _task_checks(task: Task, task_scope: TaskScope) -> Iterator[StaticCheck]:
    for modifiers in task.all_options():
        yield from _modifier_checks(modifiers, task_scope)
    for step in task.all_steps():
        yield from _modifier_checks(step.options, task_scope)
        yield from _step_checks(step, task_scope)


def _modifier_checks(modifiers: CommonOptions, task_scope: TaskScope) -> Iterator[StaticCheck]:
    yield from _condition_checks(modifiers.when, task_scope)
    yield from _option_check(modifiers.chdir, task_scope, "chdir", path=True)
    if modifiers.timeout is not None and modifiers.timeout.constant:
        yield partial(timeout_seconds, ScopedTemplate(modifiers.timeout, task_scope))
    for name, template in modifiers.environment.items():
        if template.constant:
            yield partial(environment_variables, {}, [(name, ScopedTemplate(template, task_scope))])


def _step_checks(step: Step, task_scope: TaskScope) -> Iterator[StaticCheck]:
    conditions = (*(step.changed_when or ()), *(step.failed_when or ()), step.ignore_errors)
    until = step.retry.until if step.retry else ()
    assertions = step.action.conditions if isinstance(step.action, ControlStep) else ()
    yield from _condition_checks((*conditions, *until, *assertions), task_scope)
    yield from _option_check(step.delegate_to, task_scope, "delegate_to")
    if isinstance(step.action, RunStep):
        yield from _option_check(step.action.creates, task_scope, "creates", path=True)
        yield from _option_check(step.action.removes, task_scope, "removes", path=True)
        yield from _option_check(step.action.stdin, task_scope, "stdin")
    if isinstance(step.action, DownloadStep):
        yield from _option_check(step.action.path, task_scope, "path", path=True)
        yield from _option_check(step.action.to, task_scope, "to", path=True)
    if step.loop is not None and not step.loop.over.names | step.loop.over.optional:
        yield partial(evaluate_loop_items, step, task_scope)


def _condition_checks(
    conditions: Iterable[ConditionExpr], task_scope: TaskScope
) -> Iterator[StaticCheck]:
    for condition in conditions:
        if isinstance(condition, Expression) and not condition.names | condition.optional:
            yield partial(all_true, (condition,), task_scope)


def _option_check(
    template: ValueTemplate | None, task_scope: TaskScope, name: str, *, path: bool = False
) -> Iterator[StaticCheck]:
    if template is not None and template.constant:
        yield partial(render_option, template, task_scope, name, path=path)
