"""Loads the project context of a command line and builds its plan; nothing is contacted.

Also plans the `lock` command.
"""

from __future__ import annotations

import getpass
import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator import playbook, templating
from orchestrator.commands.cli_args import parse_extra_variables
from orchestrator.commands.inventory_access import inventory_access
from orchestrator.commands.project import (
    StageChoice,
    inventory_name,
    optional_project_root,
    resolve_project_root,
    select_stage,
    standalone_root,
)
from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    SourcePosition,
    UsageError,
    suggest_nearest,
)
from orchestrator.inventory.hostnames import InvalidHostNameError, check_user
from orchestrator.inventory.limit import select_hosts
from orchestrator.inventory.stage_loader import load_inventories, load_stage
from orchestrator.journal import last_run
from orchestrator.model.host import App, Host, Stage
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedValue, Values
from orchestrator.model.secret import Secret, SecretResolver
from orchestrator.model.secret_masking import SecretMasker
from orchestrator.modules import MODULES_FOLDER
from orchestrator.planner.plan import Plan
from orchestrator.planner.plan_builder import build_plan
from orchestrator.planner.request import PlanRequest, TagFilter
from orchestrator.planner.template_objects import RunView, run_view
from orchestrator.playbook.model import CommonOptions, RunStep, Step, Task, TaskRequest
from orchestrator.playbook.task_loader import check_selection, collect_tags
from orchestrator.remote_shell.bootstrap import RUN_VARIABLE
from orchestrator.yamlio.secret_sources import secret_fetcher

_RUN_ID = lazy_regex(r"[0-9]{14}-[0-9a-z]{1,16}")
_MAX_OUTER_RUNS = 20  # limit of nested runs that are recorded


class ProjectSelector(Struct, frozen=True):
    """Project, stage and hosts as selected on the command line; ``user`` logs in to the hosts.

    ``inventories`` are Ansible's inventories to use instead of a stage. ``refresh``: programs that
    print hosts run again, whatever they printed before. ``connects``: the command connects to the
    hosts.
    ``hosts`` are the names of the hosts instead of ``limit``, if any are given.
    """

    directory: str | None = None
    stages: tuple[str, ...] = ()
    limit: str | None = None
    user: str | None = None
    inventories: tuple[str, ...] = ()
    refresh: bool = False
    connects: bool = True
    hosts: tuple[str, ...] = ()


class ProjectContext(Struct, frozen=True):
    """The resolved project, stage and selected hosts.

    ``identity`` identifies the project independently of its checkout; '' finds that out.
    """

    root: Path
    stage_choice: StageChoice
    stage: Stage
    hosts: tuple[Host, ...]
    secrets: SecretResolver = field(default_factory=SecretResolver)
    identity: str = ""


def load_context(
    selector: ProjectSelector,
    environ: Mapping[str, str],
    example: str,
    masks: SecretMasker | None = None,
    tell: Callable[[str], object] = lambda _text: None,
    fetch_secret: Callable[[Secret], str] | None = None,
) -> ProjectContext:
    """Load the stage and select its hosts.

    Secrets are added to ``masks`` when they are fetched. ``tell`` is called with notes for the
    user. ``fetch_secret`` returns the value of a secret, instead of its source. Raises UsageError
    or DefinitionError.
    """
    root, project = _root_of(selector, environ)
    secrets_source = SecretResolver(masks, fetch_secret or secret_fetcher(environ))
    access = inventory_access(root, environ, secrets_source, refresh=selector.refresh, tell=tell)
    if selector.inventories:
        name = inventory_name(selector.inventories)
        stage_choice = StageChoice(name)
        stage = load_inventories(project or Path.cwd(), selector.inventories, name, project, access)
    else:
        stage_choice = select_stage(root, selector.stages, environ, example)
        stage = load_stage(root, stage_choice.name, access)
    if stage.is_ansible:
        from orchestrator.commands.connections import complete_connections  # costs 3 ms

        resolver = secrets_source if selector.connects else SecretResolver(masks)
        stage = complete_connections(stage, project or Path.cwd(), environ, resolver)
    if selector.hosts:
        hosts = _named_hosts(stage, selector.hosts)
    else:
        hosts = _select_hosts(root, stage, selector.limit, environ)
    if selector.user is not None:
        hosts = tuple(_with_login_user(host, selector.user) for host in hosts)
        stage = replace(stage, hosts={**stage.hosts, **{host.name: host for host in hosts}})
    if selector.connects and stage.is_ansible:
        from orchestrator.commands.connections import check_connections

        check_connections(hosts)
    return ProjectContext(root, stage_choice, stage, hosts, secrets_source)


def _root_of(selector: ProjectSelector, environ: Mapping[str, str]) -> tuple[Path, Path | None]:
    """Return the folder for the run's records, and the project's folder, which is the same.

    For inventories outside of a project, they are a folder in the state folder and None.
    """
    if not selector.inventories:
        root = resolve_project_root(selector.directory)
        return root, root
    if selector.stages:
        message = "--stage and --inventory exclude each other"
        raise UsageError(Diagnostic(message, None, "drop one: an inventory is a stage of its own"))
    project = optional_project_root(selector.directory)
    return project or standalone_root(selector.inventories, environ), project


def _named_hosts(stage: Stage, names: tuple[str, ...]) -> tuple[Host, ...]:
    """Return these hosts, in the inventory's order. Raises DefinitionError if one is missing."""
    missing = [name for name in names if name not in stage.hosts]
    if missing:
        message = f"stage '{stage.name}' does not have these hosts any more: {', '.join(missing)}"
        raise DefinitionError(Diagnostic(message, None, "the run cannot be resumed without them"))
    wanted = frozenset(names)
    return tuple(host for name, host in stage.hosts.items() if name in wanted)


def _with_login_user(host: Host, user: str) -> Host:
    """Return the host with another login user. Raises UsageError."""
    try:
        check_user(user)
    except InvalidHostNameError as invalid:
        raise UsageError(Diagnostic(f"--user: {invalid.why}")) from None
    connect = host.connect
    return replace(
        host, connect=replace(connect, user=user, set_fields=connect.set_fields | {"user"})
    )


def _select_hosts(
    root: Path, stage: Stage, limit: str | None, environ: Mapping[str, str]
) -> tuple[Host, ...]:
    def failed_hosts() -> Collection[str]:
        run = last_run(root, environ, stage.name)
        if run is None:
            message = f"no run of stage '{stage.name}' is recorded"
            raise DefinitionError(
                Diagnostic(message, SourcePosition("--limit"), "remove `@failed` from --limit")
            )
        if not run.failed:
            message = f"every host completed in the last run of stage '{stage.name}' ({run.run})"
            raise DefinitionError(
                Diagnostic(message, SourcePosition("--limit"), "`@failed` selects no host")
            )
        if not stage.hosts.keys() & set(run.failed):
            message = (
                f"the hosts that did not complete in the last run ({', '.join(run.failed[:5])})"
            )
            hint = f"see `orch -s {stage.name} hosts` for the existing hosts"
            message += f" are not in stage '{stage.name}' any more"
            raise DefinitionError(Diagnostic(message, SourcePosition("--limit"), hint))
        return run.failed

    return select_hosts(stage, limit, failed_hosts)


class PlanOptions(Struct, frozen=True):
    """Options of the planner.

    ``extra`` are variables from the command line (``-e``); ``extra_values``, if not None, are their
    values, as another process has read them. ``tags``, ``start_at``, ``start_step``
    and ``handlers`` select parts of the tasks; without ``start_at``, ``start_step`` is a step of
    the only task. ``check``: plan for check mode; ``diff``: show contents that are replaced.
    ``message`` is the purpose of the run. ``common`` are options of every task. ``run_id`` and
    ``run_user`` are those of a run that is resumed; '' for a new one.
    """

    extra: tuple[str, ...] = ()
    tags: TagFilter = TagFilter()
    start_at: str = ""
    start_step: str = ""
    handlers: tuple[str, ...] = ()
    check: bool = False
    diff: bool = False
    apps: tuple[str, ...] = ()
    message: str = ""
    common: CommonOptions = CommonOptions()
    run_id: str = ""
    run_user: str = ""
    extra_values: Values | None = None


def select_apps(stage: Stage, names: tuple[str, ...]) -> tuple[App, ...]:
    """Return the named apps, or every app for ``all``.

    Raises DefinitionError for an unknown name.

    """
    if "all" in names and stage.apps:
        return tuple(stage.apps.values())
    for name in names:
        if name not in stage.apps:
            listed = ", ".join(stage.apps)
            hint = suggest_nearest(name, stage.apps) or (
                f"apps: {listed}" if listed else "the stage has no apps"
            )
            message = f"stage '{stage.name}' has no app '{name}'"
            raise DefinitionError(Diagnostic(message, SourcePosition("--app"), hint))
    return tuple(app for name, app in stage.apps.items() if name in names)


def plan_tasks(
    context: ProjectContext,
    requests: Sequence[TaskRequest],
    options: PlanOptions,
    environ: Mapping[str, str],
) -> Plan:
    """Return the plan of these tasks. Raises DefinitionError with all errors."""
    options = _with_start_task(options, requests)
    loaded = playbook.load_tasks(context.root, [request.task for request in requests])
    playbook.check_task_requests(requests, loaded)
    names_by_option = {
        "--tags": options.tags.only, "--skip-tags": options.tags.skip, "--handler": options.handlers
    }  # fmt: skip
    warnings = check_selection(context.root, loaded, names_by_option)
    plan = _build_plan(context, tuple(requests), loaded.by_name, options, environ)
    return replace(plan, warnings=(*plan.warnings, *warnings)) if warnings else plan


def _with_start_task(options: PlanOptions, requests: Sequence[TaskRequest]) -> PlanOptions:
    """Return the options with the task of ``start_step``. Raises UsageError."""
    if not options.start_step:
        return options
    mark = SourcePosition("--start-step")
    if options.handlers:
        message = "--start-step and --handler exclude each other"
        raise UsageError(Diagnostic(message, mark, "drop one"))
    if options.start_at:
        return options
    if len(requests) > 1:
        message = "--start-step requires --start-at if several tasks are named"
        raise UsageError(Diagnostic(message, mark, f"add --start-at {requests[0].task}"))
    return replace(options, start_at=requests[0].task)


def tags_of(directory: str | None, requests: Sequence[TaskRequest]) -> dict[str, list[str]]:
    """Return the tags of these tasks and of those that they call, each with the tasks that have it.

    Raises DefinitionError with all errors.
    """
    loaded = playbook.load_tasks(
        resolve_project_root(directory), [request.task for request in requests]
    )
    playbook.check_task_requests(requests, loaded)
    found: dict[str, list[str]] = {}
    for task in loaded.by_name.values():
        for tag in sorted(collect_tags([task])):
            found.setdefault(tag, []).append(task.name)
    return dict(sorted(found.items()))


def plan_without_secrets(
    context: ProjectContext,
    requests: Sequence[TaskRequest],
    options: PlanOptions,
    environ: Mapping[str, str],
) -> Plan:
    """Return the plan of these tasks for display, with ``‹name›`` as the value of each secret.

    Secrets are fetched only if the plan depends on one, or cannot be built without it. Raises
    DefinitionError with all errors.
    """
    stand_ins = SecretResolver(context.secrets.masker, stand_in=lambda secret: secret.display_label)
    try:
        plan = plan_tasks(replace(context, secrets=stand_ins), requests, options, environ)
    except DefinitionError:
        if not stand_ins.stand_in_reads:
            raise
        stand_ins.affects_plan = True
    return plan_tasks(context, requests, options, environ) if stand_ins.affects_plan else plan


def plan_task(
    context: ProjectContext, task: Task, options: PlanOptions, environ: Mapping[str, str]
) -> Plan:
    """Return the plan of a single task that is not in a file."""
    return _build_plan(context, (TaskRequest(task.name),), {task.name: task}, options, environ)


def plan_loaded(
    context: ProjectContext,
    requests: Sequence[TaskRequest],
    by_name: Mapping[str, Task],
    options: PlanOptions,
    environ: Mapping[str, str],
) -> Plan:
    """Return the plan of tasks that are not the project's. Raises DefinitionError."""
    return _build_plan(context, tuple(requests), by_name, options, environ)


def _build_plan(
    context: ProjectContext,
    requests: tuple[TaskRequest, ...],
    by_name: Mapping[str, Task],
    options: PlanOptions,
    environ: Mapping[str, str],
) -> Plan:
    apps = select_apps(context.stage, options.apps)
    extra = options.extra_values
    if extra is None:
        extra = parse_extra_variables(options.extra)
    _mask_replaced_secrets(context, apps, extra)
    request = PlanRequest(
        context.stage,
        context.hosts,
        requests=requests,
        tasks=by_name,
        run=_run_of(options),
        extra_variables=extra,
        environ=environ,
        tags=options.tags,
        start_at=options.start_at,
        start_step=options.start_step,
        handlers=options.handlers,
        check_mode=options.check,
        show_diff=options.diff,
        apps=apps,
        root=str(context.root),
        secrets=context.secrets,
        project_identity=cache(lambda: context.identity or _project_identity(context.root)),
        options=options.common,
    )
    try:
        return build_plan(request)
    except DefinitionError as error:
        raise DefinitionError(*_without_repeated_app(error.diagnostics)) from None


def _without_repeated_app(diagnostics: Sequence[Diagnostic]) -> list[Diagnostic]:
    """Return the diagnostics; of those whose cause is that no app is selected, only the first."""

    def needs_app(diagnostic: Diagnostic) -> bool:
        return "`--app " in diagnostic.hint or diagnostic.message.startswith("'app' is undefined")

    missing = [each for each in diagnostics if needs_app(each)]
    first = next((each for each in missing if each.hint), None)
    return [each for each in diagnostics if each is first or not needs_app(each) or first is None]


def _mask_replaced_secrets(context: ProjectContext, apps: Sequence[App], extra: Values) -> None:
    """Mask the values of ``-e`` that replace a secret of the inventory."""
    for name, value in extra.items():
        layers = (
            layer
            for host in context.hosts
            for layer in (*host.layers, *(each for app in apps for each in app.layers_on(host)))
        )
        if isinstance(value.data, str) and any(
            name in layer.vars and isinstance(layer.vars[name].data, Secret) for layer in layers
        ):
            context.secrets.masker.add_secret(str(name), value.data)


def _project_identity(root: Path) -> str:
    from orchestrator.commands.project_identity import (
        project_identity,  # only if an app's lock is named after the project
    )

    return project_identity(root)


def _run_of(options: PlanOptions) -> RunView:
    """Return the run as templates see it; a resumed run is the same as before."""
    if not options.run_id:
        return new_run(time.time(), options.message)
    began = datetime.strptime(options.run_id[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return run_view(options.run_id, options.run_user, began.timestamp(), options.message)


def new_run(started: float, message: str = "") -> RunView:
    """Create a run whose ID is the UTC time with a random suffix, so that IDs sort by time."""
    view = run_view("", current_user(), started, message)
    return replace(view, id=f"{view.release}-{secrets.token_hex(2)}")


def outer_runs(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the runs that started this one, outermost first.

    In the steps of a run, the environment has the IDs of the outer runs and its own. Invalid IDs
    are left out.
    """
    run_ids = environ.get(RUN_VARIABLE, "").split("/")
    return tuple(run for run in run_ids[-_MAX_OUTER_RUNS:] if _RUN_ID.fullmatch(run))


def current_user() -> str:
    """Return the name of the user who runs orch."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a UID without a name, as in containers
        return str(os.getuid())


_COMMAND_LINE = SourcePosition("<command line>")


def plan_lock_command(
    context: ProjectContext,
    action: str,
    apps: Sequence[str],
    environ: Mapping[str, str],
    *,
    force: bool = False,
    become: str = "",
) -> Plan:
    """Return the plan that shows or releases the locks of these apps.

    ``become``: access the locks as this user. Raises DefinitionError.
    """
    functions = (MODULES_FOLDER / "lock.sh").read_text("utf-8")
    assignments = f"lock={{{{ app.lock }}}} force={'1' if force else ''}"
    text = f"set +e\n{assignments}\n{functions}\n{'tell' if action == 'status' else 'release'}\n"
    run = RunStep(templating.compile_shell(text, _COMMAND_LINE), readonly=action == "status")
    user = (
        templating.compile_value(MarkedValue(become, _COMMAND_LINE, literal=True))
        if become
        else None
    )
    step = Step(
        run,
        _COMMAND_LINE,
        name=templating.compile_text(action, _COMMAND_LINE),
        options=CommonOptions(become=user),
    )
    task = Task(f"lock {action}", _COMMAND_LINE, steps=(step,))
    plan = plan_task(context, task, PlanOptions(apps=tuple(apps)), environ)
    return replace(
        plan, app_plans=tuple(replace(app_plan, lock_paths={}) for app_plan in plan.app_plans)
    )
