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
from orchestrator.commands.cli_args import extra_values
from orchestrator.commands.project import Chosen, choose, root_of
from orchestrator.errors import DefinitionError, Mark, Problem, nearest
from orchestrator.inventory.limit import select
from orchestrator.inventory.stage_loader import load as load_stage
from orchestrator.journal import last_run
from orchestrator.model.host import App, Host, Stage
from orchestrator.model.lazy_regex import regex
from orchestrator.model.marked_value import Value
from orchestrator.model.secret import Secrets
from orchestrator.model.secret_masking import Masks
from orchestrator.modules import FOLDER
from orchestrator.planner.plan import Plan
from orchestrator.planner.plan_builder import build
from orchestrator.planner.request import Ask, Tags
from orchestrator.planner.template_objects import RunView, run_view
from orchestrator.playbook.model import Modifiers, Request, Run, Step, Task
from orchestrator.playbook.task_loader import check_parts
from orchestrator.remote_shell.bootstrap import RUN
from orchestrator.yamlio.secret_sources import fetcher

_RUN = regex(r"[0-9]{14}-[0-9a-z]{1,16}")
_DEEPEST = 20  # runs within runs that are told of


class Where(Struct, frozen=True):
    """Which project, stage and hosts, as the command line names them."""

    directory: str | None = None
    stages: tuple[str, ...] = ()
    limit: str | None = None


class There(Struct, frozen=True):
    """The project, stage and hosts that are meant."""

    root: Path
    chosen: Chosen
    stage: Stage
    hosts: tuple[Host, ...]
    secrets: Secrets = field(default_factory=Secrets)


def go(where: Where, environ: Mapping[str, str], example: str, masks: Masks | None = None) -> There:
    """Load the stage and select its hosts; its secrets are hidden by ``masks`` once they are
    fetched. Raises UsageError or DefinitionError."""
    root = root_of(where.directory)
    chosen = choose(root, where.stages, environ, example)
    stage = load_stage(root, chosen.name)
    known = Secrets(masks, fetcher(environ))
    return There(root, chosen, stage, _selected(root, stage, where.limit, environ), known)


def _selected(
    root: Path, stage: Stage, limit: str | None, environ: Mapping[str, str]
) -> tuple[Host, ...]:
    def failed() -> Collection[str]:
        run = last_run(root, environ, stage.name)
        if run is None:
            what = f"no run of stage '{stage.name}' is kept: nothing is known of the last one"
            raise DefinitionError(Problem(what, Mark("--limit"), "leave `@failed` away"))
        if not run.failed:
            what = f"every host completed in the last run of stage '{stage.name}' ({run.run})"
            raise DefinitionError(Problem(what, Mark("--limit"), "so `@failed` means no host"))
        if not stage.hosts.keys() & set(run.failed):
            what = f"the hosts that did not complete in the last run ({', '.join(run.failed[:5])})"
            hint = f"see `orch -s {stage.name} hosts` for those there are"
            what += f" are not in stage '{stage.name}' any more"
            raise DefinitionError(Problem(what, Mark("--limit"), hint))
        return run.failed

    return select(stage, limit, failed)


class Parts(Struct, frozen=True):
    """Variables from the command line (``-e``), which parts of the tasks are meant, and whether
    they are only checked, with the contents that would be replaced; ``message`` is what the run
    is for."""

    extra: tuple[str, ...] = ()
    tags: Tags = Tags()
    start_at: str = ""
    handlers: tuple[str, ...] = ()
    check: bool = False
    diff: bool = False
    apps: tuple[str, ...] = ()
    message: str = ""


def choose_apps(stage: Stage, names: tuple[str, ...]) -> tuple[App, ...]:
    """The apps named, or every one for ``all``. Raises DefinitionError where there is none such."""
    if "all" in names and stage.apps:
        return tuple(stage.apps.values())
    for name in names:
        if name not in stage.apps:
            listed = ", ".join(stage.apps)
            hint = nearest(name, stage.apps) or (f"apps: {listed}" if listed else "it has no apps/")
            what = f"stage '{stage.name}' has no app '{name}'"
            raise DefinitionError(Problem(what, Mark("--app"), hint))
    return tuple(app for name, app in stage.apps.items() if name in names)


def plan_tasks(
    there: There, requests: Sequence[Request], parts: Parts, environ: Mapping[str, str]
) -> Plan:
    """The plan of these tasks. Raises DefinitionError with all that is wrong."""
    loaded = playbook.load(there.root, [request.task for request in requests])
    playbook.check_requests(requests, loaded)
    named = {
        "--tags": parts.tags.only, "--skip-tags": parts.tags.skip, "--handler": parts.handlers
    }  # fmt: skip
    warnings = check_parts(there.root, loaded, named)
    plan = _plan(there, tuple(requests), loaded.by_name, parts, environ)
    return replace(plan, warnings=(*plan.warnings, *warnings)) if warnings else plan


def plan_shown(
    there: There, requests: Sequence[Request], parts: Parts, environ: Mapping[str, str]
) -> Plan:
    """The plan of these tasks to look at, with ``‹name›`` as the value of each secret. Only where
    something is decided by what a secret is, or goes wrong for want of it, are they fetched.

    Raises DefinitionError with all that is wrong."""
    unasked = Secrets(there.secrets.masks, stand_in=lambda secret: secret.label)
    try:
        plan = plan_tasks(replace(there, secrets=unasked), requests, parts, environ)
    except DefinitionError:
        if not unasked.reads:
            raise
        unasked.decides = True
    return plan_tasks(there, requests, parts, environ) if unasked.decides else plan


def plan_task(there: There, task: Task, parts: Parts, environ: Mapping[str, str]) -> Plan:
    """The plan of one task that stands in no file."""
    return _plan(there, (Request(task.name),), {task.name: task}, parts, environ)


def _plan(
    there: There,
    requests: tuple[Request, ...],
    by_name: Mapping[str, Task],
    parts: Parts,
    environ: Mapping[str, str],
) -> Plan:
    return build(
        Ask(
            there.stage,
            there.hosts,
            requests=requests,
            tasks=by_name,
            run=new_run(time.time(), parts.message),
            extra=extra_values(parts.extra),
            environ=environ,
            tags=parts.tags,
            start_at=parts.start_at,
            handlers=parts.handlers,
            check=parts.check,
            diff=parts.diff,
            apps=choose_apps(there.stage, parts.apps),
            root=str(there.root),
            secrets=there.secrets,
            project=cache(lambda: _identity(there.root)),
        )
    )


def _identity(root: Path) -> str:
    from orchestrator.commands.project_identity import (
        identity,  # only where an app's lock is called after it
    )

    return identity(root)


def new_run(started: float, message: str = "") -> RunView:
    """A run that begins now; its id sorts by time and does not repeat."""
    view = run_view("", user(), started, message)
    return replace(view, id=f"{view.release}-{secrets.token_hex(2)}")


def outer_runs(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The runs that started this one, outermost first: in the steps of a run, its id stands behind
    theirs in the environment. What cannot be one is left out."""
    told = environ.get(RUN, "").split("/")
    return tuple(run for run in told[-_DEEPEST:] if _RUN.fullmatch(run))


def user() -> str:
    """Whoever runs orch."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
        return str(os.getuid())


_PLACE = Mark("<command line>")


def plan_lock(
    there: There,
    act: str,
    apps: Sequence[str],
    environ: Mapping[str, str],
    *,
    force: bool = False,
    become: str = "",
) -> Plan:
    """The plan that tells of, or releases, the locks of these apps; ``become``: as this user.
    Raises DefinitionError."""
    functions = (FOLDER / "lock.sh").read_text("utf-8")
    given = f"lock={{{{ app.lock }}}} force={'1' if force else ''}"
    text = f"set +e\n{given}\n{functions}\n{'tell' if act == 'status' else 'release'}\n"
    run = Run(templating.shell(text, _PLACE), readonly=act == "status")
    user = templating.value(Value(become, _PLACE, literal=True)) if become else None
    step = Step(run, _PLACE, name=templating.text(act, _PLACE), mods=Modifiers(become=user))
    task = Task(f"lock {act}", _PLACE, steps=(step,))
    plan = plan_task(there, task, Parts(apps=tuple(apps)), environ)
    return replace(plan, lanes=tuple(replace(lane, locks={}) for lane in plan.lanes))
