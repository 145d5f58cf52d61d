"""From a command line to a plan; nothing is contacted.

Locks, for people: who has them, and letting go of those that nobody has any more.
"""

from __future__ import annotations

import getpass
import os
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator import playbook, templating
from orchestrator.commands.cli_args import parse_extra_variables
from orchestrator.commands.project import StageChoice, resolve_project_root, select_stage
from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, suggest_nearest
from orchestrator.inventory.limit import select_hosts
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.journal import last_run
from orchestrator.model.host import App, Host, Stage
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedValue
from orchestrator.model.secret import SecretResolver
from orchestrator.model.secret_masking import SecretMasker
from orchestrator.modules import MODULES_FOLDER
from orchestrator.planner.plan import Plan
from orchestrator.planner.plan_builder import build_plan
from orchestrator.planner.request import PlanRequest, TagFilter
from orchestrator.planner.template_objects import RunView, run_view
from orchestrator.playbook.model import CommonOptions, RunStep, Step, Task, TaskRequest
from orchestrator.playbook.task_loader import check_selection
from orchestrator.remote_shell.bootstrap import RUN_VARIABLE
from orchestrator.yamlio.secret_sources import secret_fetcher

_RUN_ID = lazy_regex(r"[0-9]{14}-[0-9a-z]{1,16}")
_MAX_OUTER_RUNS = 20  # runs within runs that are told of


class ProjectSelector(Struct, frozen=True):
    """Which project, stage and hosts, as the command line names them."""

    directory: str | None = None
    stages: tuple[str, ...] = ()
    limit: str | None = None


class ProjectContext(Struct, frozen=True):
    """The project, stage and hosts that are meant."""

    root: Path
    stage_choice: StageChoice
    stage: Stage
    hosts: tuple[Host, ...]
    secrets: SecretResolver = field(default_factory=SecretResolver)


def load_context(
    selector: ProjectSelector,
    environ: Mapping[str, str],
    example: str,
    masks: SecretMasker | None = None,
) -> ProjectContext:
    """Load the stage and select its hosts; its secrets are hidden by ``masks`` once they are
    fetched. Raises UsageError or DefinitionError."""
    root = resolve_project_root(selector.directory)
    stage_choice = select_stage(root, selector.stages, environ, example)
    stage = load_stage(root, stage_choice.name)
    secrets_source = SecretResolver(masks, secret_fetcher(environ))
    return ProjectContext(
        root,
        stage_choice,
        stage,
        _select_hosts(root, stage, selector.limit, environ),
        secrets_source,
    )


def _select_hosts(
    root: Path, stage: Stage, limit: str | None, environ: Mapping[str, str]
) -> tuple[Host, ...]:
    def failed_hosts() -> Collection[str]:
        run = last_run(root, environ, stage.name)
        if run is None:
            message = f"no run of stage '{stage.name}' is kept: nothing is known of the last one"
            raise DefinitionError(
                Diagnostic(message, SourcePosition("--limit"), "leave `@failed` away")
            )
        if not run.failed:
            message = f"every host completed in the last run of stage '{stage.name}' ({run.run})"
            raise DefinitionError(
                Diagnostic(message, SourcePosition("--limit"), "so `@failed` means no host")
            )
        if not stage.hosts.keys() & set(run.failed):
            message = (
                f"the hosts that did not complete in the last run ({', '.join(run.failed[:5])})"
            )
            hint = f"see `orch -s {stage.name} hosts` for those there are"
            message += f" are not in stage '{stage.name}' any more"
            raise DefinitionError(Diagnostic(message, SourcePosition("--limit"), hint))
        return run.failed

    return select_hosts(stage, limit, failed_hosts)


class PlanOptions(Struct, frozen=True):
    """Variables from the command line (``-e``), which parts of the tasks are meant, and whether
    they are only checked, with the contents that would be replaced; ``message`` is what the run
    is for."""

    extra: tuple[str, ...] = ()
    tags: TagFilter = TagFilter()
    start_at: str = ""
    handlers: tuple[str, ...] = ()
    check: bool = False
    diff: bool = False
    apps: tuple[str, ...] = ()
    message: str = ""


def select_apps(stage: Stage, names: tuple[str, ...]) -> tuple[App, ...]:
    """The apps named, or every one for ``all``. Raises DefinitionError where there is none such."""
    if "all" in names and stage.apps:
        return tuple(stage.apps.values())
    for name in names:
        if name not in stage.apps:
            listed = ", ".join(stage.apps)
            hint = suggest_nearest(name, stage.apps) or (
                f"apps: {listed}" if listed else "it has no apps/"
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
    """The plan of these tasks. Raises DefinitionError with all that is wrong."""
    loaded = playbook.load_tasks(context.root, [request.task for request in requests])
    playbook.check_task_requests(requests, loaded)
    names_by_option = {
        "--tags": options.tags.only, "--skip-tags": options.tags.skip, "--handler": options.handlers
    }  # fmt: skip
    warnings = check_selection(context.root, loaded, names_by_option)
    plan = _build_plan(context, tuple(requests), loaded.by_name, options, environ)
    return replace(plan, warnings=(*plan.warnings, *warnings)) if warnings else plan


def plan_without_secrets(
    context: ProjectContext,
    requests: Sequence[TaskRequest],
    options: PlanOptions,
    environ: Mapping[str, str],
) -> Plan:
    """The plan of these tasks to look at, with ``‹name›`` as the value of each secret. Only where
    something is decided by what a secret is, or goes wrong for want of it, are they fetched.

    Raises DefinitionError with all that is wrong."""
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
    """The plan of one task that stands in no file."""
    return _build_plan(context, (TaskRequest(task.name),), {task.name: task}, options, environ)


def _build_plan(
    context: ProjectContext,
    requests: tuple[TaskRequest, ...],
    by_name: Mapping[str, Task],
    options: PlanOptions,
    environ: Mapping[str, str],
) -> Plan:
    return build_plan(
        PlanRequest(
            context.stage,
            context.hosts,
            requests=requests,
            tasks=by_name,
            run=new_run(time.time(), options.message),
            extra_variables=parse_extra_variables(options.extra),
            environ=environ,
            tags=options.tags,
            start_at=options.start_at,
            handlers=options.handlers,
            check_mode=options.check,
            show_diff=options.diff,
            apps=select_apps(context.stage, options.apps),
            root=str(context.root),
            secrets=context.secrets,
            project_identity=cache(lambda: _project_identity(context.root)),
        )
    )


def _project_identity(root: Path) -> str:
    from orchestrator.commands.project_identity import (
        project_identity,  # only where an app's lock is called after it
    )

    return project_identity(root)


def new_run(started: float, message: str = "") -> RunView:
    """A run that begins now; its id sorts by time and does not repeat."""
    view = run_view("", current_user(), started, message)
    return replace(view, id=f"{view.release}-{secrets.token_hex(2)}")


def outer_runs(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The runs that started this one, outermost first: in the steps of a run, its id stands behind
    theirs in the environment. What cannot be one is left out."""
    run_ids = environ.get(RUN_VARIABLE, "").split("/")
    return tuple(run for run in run_ids[-_MAX_OUTER_RUNS:] if _RUN_ID.fullmatch(run))


def current_user() -> str:
    """Whoever runs orch."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
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
    """The plan that tells of, or releases, the locks of these apps; ``become``: as this user.
    Raises DefinitionError."""
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
