"""Building the plan: every wave, every host, every step, before anything is contacted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from orchestrator.errors import DefinitionError, Mark, Problem
from orchestrator.inventory.values import Merger, defaults_of, environment_of
from orchestrator.model.host import Host
from orchestrator.model.value import Values
from orchestrator.plan.ask import Ask, Scopes
from orchestrator.plan.frame import Frame
from orchestrator.plan.model import Lane, Plan
from orchestrator.plan.problems import HostProblems
from orchestrator.plan.rows import OnHost
from orchestrator.plan.schedule import Scheduler
from orchestrator.plan.walk import Seen
from orchestrator.tasks.model import Task


def build(ask: Ask) -> Plan:
    """The whole plan. Raises DefinitionError with every problem of every host and step, and
    where no host is selected for any task."""
    problems = HostProblems(len(ask.hosts))
    scheduler = Scheduler(ask, _hosts(ask), problems)
    for request in ask.requests:
        scheduler.request(request)
    scheduler.finish()
    problems.raise_any()
    waves = tuple(scheduler.waves)
    if ask.start_at and not scheduler.started:
        what = f"no scheduled task is called '{ask.start_at}', to start at"
        raise DefinitionError(Problem(what, None, "see `orch plan` for their names"))
    if not any(wave.hosts for wave in waves):
        why = "; ".join(scheduler.warnings) or "no step is chosen"
        raise DefinitionError(Problem(f"nothing to do: {why}", None, "see `orch hosts`"))
    failed = tuple(scheduler.failed.items())
    taking_part = {host.host for wave in waves for host in wave.hosts}
    return Plan(
        run=ask.run.id,
        stage=ask.stage.name,
        tasks=tuple(request.task for request in ask.requests),
        hosts=tuple(host.name for host in ask.hosts if host.name in taking_part),
        lanes=(Lane(None, waves, failed),),
        warnings=tuple(scheduler.warnings),
        check=ask.check,
    )


def _hosts(ask: Ask) -> list[OnHost]:
    scopes, files = Scopes(ask), Merger(environment_of)
    defaults = Merger(defaults_of)
    return [_on(host, scopes, files.of(host), defaults.of(host)) for host in ask.hosts]


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
