"""Building the plan: every wave, every host, every step, before anything is contacted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from orchestrator.errors import DefinitionError, Mark, Problem, nearest
from orchestrator.inventory.values import Merger, defaults_of, environment_of
from orchestrator.model.host import Host
from orchestrator.model.result import Result
from orchestrator.model.value import Values
from orchestrator.plan.ask import Ask, Scopes
from orchestrator.plan.frame import Frame
from orchestrator.plan.model import HostPlan, Lane, Plan, PlannedStep, Wave
from orchestrator.plan.problems import HostProblems
from orchestrator.plan.scope import HostScope
from orchestrator.plan.steps import StepPlanner
from orchestrator.plan.walk import Around, Seen, Walk
from orchestrator.tasks.model import Call, Request, Run, Task

SKIPPED = Result("skipped", skipped=True)


def build(ask: Ask) -> Plan:
    """The whole plan. Raises DefinitionError with every problem of every host and step, and
    where no host is selected for any task."""
    builder = _Builder(ask)
    for request in ask.requests:
        builder.request(request)
    builder.problems.raise_any()
    if not builder.waves:
        raise DefinitionError(
            Problem(f"nothing to do: {'; '.join(builder.warnings)}", None, "see `orch hosts`")
        )
    taking_part = {host.host for wave in builder.waves for host in wave.hosts}
    return Plan(
        run=ask.run.id,
        stage=ask.stage.name,
        tasks=tuple(request.task for request in ask.requests),
        hosts=tuple(host.name for host in ask.hosts if host.name in taking_part),
        lanes=(Lane(None, tuple(builder.waves)),),
        warnings=tuple(builder.warnings),
    )


@dataclass(slots=True)
class _On:
    """A host on its way through the plan."""

    host: Host
    scope: HostScope
    environment: Mapping[str, Seen]
    defaults: Mapping[str, Values]
    registered: dict[str, tuple[int, ...]] = field(default_factory=dict)
    settled: dict[str, Result] = field(default_factory=dict)


class _Builder:
    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.problems = HostProblems(len(ask.hosts))
        self.warnings: list[str] = []
        self.waves: list[Wave] = []
        self.scopes = Scopes(ask)
        self.environments, self.defaults = Merger(environment_of), Merger(defaults_of)
        self.hosts = [self._on(host) for host in ask.hosts]

    def _on(self, host: Host) -> _On:
        scope = self.scopes.of(host)
        files = Frame(_NOWHERE, scope, {}, scope, {}, {})
        environment = self.environments.of(host)
        return _On(
            host,
            scope,
            {n: Seen(self.scopes.templates.value(v), files) for n, v in environment.items()},
            {
                name: cast(Values, value.data) if isinstance(value.data, dict) else {}
                for name, value in self.defaults.of(host).items()
            },
        )

    def request(self, request: Request) -> None:
        task = self.ask.tasks[request.task]
        on = []
        for host in self.hosts:
            frame = Frame(task, host.scope, {}, host.scope, dict(request.args), {})
            on.append((host, frame, Around().inside(task.mods, frame)))
        self.schedule(task, task.name, on)

    def schedule(self, task: Task, name: str, on: list[tuple[_On, Frame, Around]]) -> None:
        """Append the waves of a task on these hosts, as far as they are in its roles."""
        on = self._in_roles(task, on)
        if task.steps is not None:
            if on:
                self.waves.append(self._wave(task, name, on))
            return
        for item in task.tasks or ():
            inner = item.does if isinstance(item.does, Task) else self.ask.tasks[item.does.task]
            below = []
            for host, frame, around in on:
                around_item = around.inside(item.mods, frame)
                inside = frame
                if isinstance(item.does, Call):
                    inside = Frame(inner, host.scope, item.does.args, frame, frame.handed_on(), {})
                below.append((host, inside, around_item.inside(inner.mods, inside)))
            self.schedule(inner, item.name or inner.name, below)

    def _in_roles(
        self, task: Task, on: list[tuple[_On, Frame, Around]]
    ) -> list[tuple[_On, Frame, Around]]:
        if task.roles is None:
            return on
        known = self.ask.stage.roles
        for role in task.roles:
            if role not in known:
                hint = nearest(role, known) or f"roles of this stage: {', '.join(known) or 'none'}"
                what = f"stage '{self.ask.stage.name}' has no role '{role}'"
                self.problems.add(what, role.mark, hint)
        wanted = set(task.roles)
        kept = [entry for entry in on if wanted & set(entry[0].host.roles)]
        if on and not kept:
            declared = any(known[role].hosts for role in task.roles if role in known)
            why = "no selected host has" if declared else "no host of this stage has"
            self.warnings.append(f"task '{task.name}' is skipped: {why} {_or(task.roles)}")
        return kept

    def _wave(self, task: Task, name: str, on: list[tuple[_On, Frame, Around]]) -> Wave:
        hosts = []
        for host, frame, around in on:
            host.registered = dict.fromkeys(host.registered, ())
            hosts.append(HostPlan(host.host.name, self._steps(task, host, frame, around)))
        return Wave(name, task.desc, tuple(hosts))

    def _steps(self, task: Task, on: _On, frame: Frame, around: Around) -> tuple[PlannedStep, ...]:
        planned = []
        for flat in Walk(on.host, self.ask.tasks, on.defaults).steps(task, frame, around):
            run = flat.step.does
            if not isinstance(run, Run):
                raise TypeError("a walk gives only commands")
            place = frame.host.place
            try:
                step = StepPlanner(
                    flat, run, place, on.registered, on.settled, on.environment
                ).plan()
            except DefinitionError as error:
                self.problems.on(on.host.name, error, flat.step.mark)
                continue
            planned.append(step)
            self._register(on, step)
            for name, first in flat.ends:
                numbers = tuple(range(first, flat.number + 1))
                on.registered = {**on.registered, name: numbers}
                planned[-1] = _gathering(step, name, numbers)
        return tuple(planned)

    def _register(self, on: _On, step: PlannedStep) -> None:
        if not step.register:
            return
        on.registered = {**on.registered, step.register: (step.number,)}
        on.settled = {k: v for k, v in on.settled.items() if k != step.register}
        if step.skip:
            on.settled = {**on.settled, step.register: SKIPPED}


_NOWHERE = Task("", Mark(""))


def _gathering(step: PlannedStep, name: str, numbers: tuple[int, ...]) -> PlannedStep:
    return replace(step, gathers=(*step.gathers, (name, numbers)))


def _or(names: Sequence[str]) -> str:
    return f"the role {names[0]}" if len(names) == 1 else f"one of {', '.join(names)}"
