"""Building the plan: every wave, every host, every step, before anything is contacted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Mark, Problem, nearest
from orchestrator.inventory.precedence import Merger, defaults_of, environment_of
from orchestrator.model.host import App, Host
from orchestrator.model.marked_value import Values
from orchestrator.planner.download_script import check_places
from orchestrator.planner.host_diagnostics import HostProblems
from orchestrator.planner.host_program import OnHost
from orchestrator.planner.plan import Lane, Plan
from orchestrator.planner.request import Ask, Scopes
from orchestrator.planner.resource_claims import check_claims
from orchestrator.planner.schedule import Scheduler
from orchestrator.planner.shell_text import word
from orchestrator.planner.task_expander import Seen
from orchestrator.planner.task_scope import Frame
from orchestrator.planner.template_objects import AppView
from orchestrator.playbook.model import Task


def build(ask: Ask) -> Plan:
    """The whole plan. Raises DefinitionError with every problem of every host and step, and
    where no host is selected for any task."""
    problems = HostProblems(len(ask.hosts))
    if ask.apps:
        check_claims(ask, problems)
    schedulers = [_schedule(ask, app, problems) for app in ask.apps or (None,)]
    problems.raise_any()
    if ask.start_at and not any(scheduler.started for scheduler in schedulers):
        what = f"no scheduled task is called '{ask.start_at}', to start at"
        hint = nearest(ask.start_at, ask.tasks) or "see `orch plan` for their names"
        raise DefinitionError(Problem(what, Mark("--start-at"), hint))
    warnings = tuple(dict.fromkeys(w for scheduler in schedulers for w in scheduler.warnings))
    lanes = tuple(
        Lane(s.app.name if s.app else None, tuple(s.waves), tuple(s.failed.items()))
        for s in schedulers
    )
    if not ask.check and any(wave.changes for lane in lanes for wave in lane.waves):
        found = zip(lanes, schedulers, strict=True)
        lanes = tuple(replace(lane, locks=_locks(lane, s, problems)) for lane, s in found)
    check_places(lanes, problems)
    problems.raise_any()
    taking_part = {h.host for lane in lanes for wave in lane.waves for h in wave.hosts}
    if not taking_part:
        why = "; ".join(warnings) or "no step is chosen"
        raise DefinitionError(Problem(f"nothing to do: {why}", None, "see `orch hosts`"))
    return Plan(
        run=ask.run.id,
        stage=ask.stage.name,
        tasks=tuple(request.task for request in ask.requests),
        hosts=tuple(host.name for host in ask.hosts if host.name in taking_part),
        lanes=tuple(lane for lane in lanes if any(wave.hosts for wave in lane.waves)),
        warnings=warnings,
        check=ask.check,
    )


def _locks(lane: Lane, scheduler: Scheduler, problems: HostProblems) -> dict[str, str]:
    taking_part = {host.host for wave in lane.waves for host in wave.hosts}
    found: dict[str, str] = {}
    if scheduler.app is None:
        return found
    for on in scheduler.hosts:
        if on.host.name in taking_part:
            app = cast(AppView, on.scope.objects["app"])
            try:
                found[on.host.name] = word(app.lock)
            except DefinitionError as error:
                problems.on(on.host.name, error, scheduler.app.mark)
    return found


def _schedule(ask: Ask, app: App | None, problems: HostProblems) -> Scheduler:
    """One lane, planned as far as it goes."""
    scheduler = Scheduler(ask, _hosts(ask, app), problems, app)
    if not scheduler.hosts:
        scheduler.warnings.append(f"app '{app.name if app else ''}' lives on no selected host")
        return scheduler
    for request in ask.requests:
        scheduler.request(request)
    scheduler.finish()
    return scheduler


def _hosts(ask: Ask, app: App | None) -> list[OnHost]:
    scopes, files = Scopes(ask, app), Merger(environment_of)
    defaults = Merger(defaults_of)
    found = []
    for host in ask.hosts:
        if app is None or app.lives_on(host):
            own = app.at(host) if app else ()
            found.append(_on(host, scopes, files.of(host, own), defaults.of(host, own)))
    return found


def _on(host: Host, scopes: Scopes, environment: Values, defaults: Values) -> OnHost:
    scope = scopes.of(host)
    frame = Frame(_NOWHERE, scope, given={})
    by_module: Mapping[str, Values] = {
        name: cast(Values, value.data) if isinstance(value.data, dict) else {}
        for name, value in defaults.items()
    }
    seen = {name: Seen(scopes.templates.value(v), frame) for name, v in environment.items()}
    return OnHost(host, scope, seen, by_module)


_NOWHERE = Task("", Mark(""))
