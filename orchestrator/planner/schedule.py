"""The waves of a run: playbooks unfolded into tasks, batches, hooks, and where it commits.

The words that give a scheduled task the arguments that it had, when it is named by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import DefinitionError, OrchError, Problem, nearest
from orchestrator.model.host import App, Role
from orchestrator.planner.host_diagnostics import HostProblems
from orchestrator.planner.host_program import OnHost, RowPlanner
from orchestrator.planner.host_scope import KNOWN, Known
from orchestrator.planner.plan import Batch, HostPlan, Results, Tolerance, Wave
from orchestrator.planner.request import Ask
from orchestrator.planner.task_expander import Around
from orchestrator.planner.task_scope import Frame
from orchestrator.playbook import params_below
from orchestrator.playbook.model import Call, Item, Request, Share, Task
from orchestrator.templating import Waits


class Part(Struct, frozen=True):
    """A host's part in a scheduled task."""

    on: OnHost
    frame: Frame
    around: Around


class Flow(Struct, frozen=True):
    """How the item at hand goes over the hosts, with what it inherits from those around it.

    ``chosen``: the hosts of the batch at hand, and those that its item does not select (a hook
    may); None where there is no batch. ``first``: it is the first batch, or there is none.
    ``commits``: what a commit is for, where there is a batch.
    """

    within: tuple[str, ...] = ()
    chosen: frozenset[str] | None = None
    batch: str = ""
    first: bool = True
    once: bool = False
    anyone: bool = False
    tolerance: Tolerance | None = None
    hook: str = ""
    commits: Batch | None = None


class Scheduler:
    """Turns what is asked for into one lane's waves, in order. ``hosts`` are those that ``app``
    lives on, if there is one. What is wrong goes to ``problems``."""

    def __init__(
        self, ask: Ask, hosts: list[OnHost], problems: HostProblems, app: App | None = None
    ) -> None:
        self.ask, self.hosts, self.problems, self.app = ask, hosts, problems, app
        self.waves: list[Wave] = []
        self.failed: dict[str, tuple[Wave, ...]] = {}
        self.warnings: list[str] = []
        self.started = not ask.start_at
        self._items = 0
        self._undoing: dict[int, Callable[[], HostPlan]] = {}
        self._touched = hosts  # since it was last asked what is known of them
        self._by_host: dict[str, tuple[Iterable[str], Results]] = {}

    def request(self, request: Request) -> None:
        """The waves of one task of the command line."""
        task = self.ask.tasks[request.task]
        parts = []
        for on in self.hosts:
            defaults = on.defaults.get(task.name, {})
            frame = Frame(task, on.scope, given=dict(request.args), defaults=defaults)
            parts.append(Part(on, frame, Around().inside(task.mods, frame)))
        self._named(task, task.name, parts, Flow())

    def _named(self, task: Task, name: str, parts: list[Part], flow: Flow) -> None:
        """A scheduled task with what is hooked to it."""
        if task.name in flow.within:
            circle = " → ".join((*flow.within[flow.within.index(task.name) :], task.name))
            what = f"tasks that hook into one another in a circle: {circle}"
            raise DefinitionError(Problem(what, task.mark))
        inner = replace(flow, within=(*flow.within, task.name))
        self._hooks("before", task, inner)
        self._task(task, name, parts, inner)
        self._hooks("after", task, inner)
        hooked = self._hooked("failed", task.name)
        if hooked and task.name not in self.failed:
            kept, self.waves = self.waves, []
            for hook in hooked:
                self._hook(hook, f"failed {task.name}", Flow(within=inner.within))
            self.failed[task.name], self.waves = tuple(self.waves), kept

    def _hooked(self, when: str, name: str) -> list[Task]:
        app = self.app.name if self.app else None
        found = [
            task
            for task in self.ask.tasks.values()
            if name in getattr(task, when) and (not task.apps or app in task.apps)
        ]
        return sorted(found, key=lambda task: task.name)

    def _hooks(self, when: str, task: Task, flow: Flow) -> None:
        for hook in self._hooked(when, task.name):
            self._hook(hook, f"{when} {task.name}", flow)

    def _hook(self, hook: Task, what: str, flow: Flow) -> None:
        parts = []
        for on in self.hosts:
            frame = Frame(hook, on.scope, given={})
            parts.append(Part(on, frame, Around().inside(hook.mods, frame)))
        self._named(hook, hook.name, parts, replace(flow, once=False, anyone=False, hook=what))

    def _task(self, task: Task, name: str, parts: list[Part], flow: Flow) -> None:
        self.started = self.started or self.ask.start_at in (task.name, name)
        parts = self._in_roles(task, parts)
        if task.steps is not None:
            if self.started:
                self._wave(task, name, parts, flow)
            return
        for item in task.tasks or ():
            if item.does is None:
                if self.started:
                    wave = Wave("commit", "", (), flow.within, flow.batch, commit=True)
                    self.waves.append(replace(wave, commits=flow.commits))
            else:
                self._item(item, parts, flow)

    def _item(self, item: Item, parts: list[Part], flow: Flow) -> None:
        if item.once and not flow.first:
            return
        inner = item.does if isinstance(item.does, Task) else self.ask.tasks[item.does.task]  # type: ignore[union-attr]
        below = [self._below(item, inner, part) for part in parts]
        selected = self._selects(inner, below)
        if item.max_failures is not None:
            self._items += 1
            flow = replace(
                flow, tolerance=Tolerance(self._items, item.max_failures.of(len(selected)))
            )
        if item.once:
            below = self._primary(item, inner, below, selected)
            flow = replace(flow, once=True, anyone=item.anyone, chosen=None)
        if not item.batch:
            self._below_item(item, inner, below, flow)
            return
        if flow.batch:
            what = "a batch inside a batch: batches do not nest"
            raise DefinitionError(Problem(what, item.mark, "leave one of the two out"))
        batches = list(_batches(selected, item.batch))
        others = {part.on.host.name for part in parts} - set(selected)
        for number, names in enumerate(batches, 1):
            of_batch = replace(
                flow,
                chosen=frozenset(others.union(names)),
                batch=f"{number}/{len(batches)}",
                first=number == 1,
                commits=Batch(tuple(names), len(self.waves)),
            )
            self._below_item(item, inner, below, of_batch)

    def _below_item(self, item: Item, inner: Task, parts: list[Part], flow: Flow) -> None:
        if isinstance(item.does, Task):
            self._task(inner, item.name, parts, flow)
        else:
            self._named(inner, item.name or inner.name, parts, flow)

    def _below(self, item: Item, inner: Task, part: Part) -> Part:
        around, frame = part.around.inside(item.mods, part.frame), part.frame
        if isinstance(item.does, Call):
            frame = Frame(
                inner,
                part.on.scope,
                written=item.does.args,
                caller=part.frame,
                given=part.frame.handed_on(),
            )
        return Part(part.on, frame, around.inside(inner.mods, frame))

    def _selects(self, task: Task, parts: list[Part]) -> list[str]:
        """The hosts on which anything of the task would run, in order."""
        here = [p for p in parts if _has(task, p)]
        if task.steps is not None:
            return [part.on.host.name for part in here]
        names: set[str] = set()
        for item in task.tasks or ():
            if isinstance(item.does, Call):
                names |= set(self._selects(self.ask.tasks[item.does.task], here))
            elif item.does is not None:
                names |= set(self._selects(item.does, here))
        return [part.on.host.name for part in here if part.on.host.name in names]

    def _primary(
        self, item: Item, task: Task, parts: list[Part], selected: Sequence[str]
    ) -> list[Part]:
        """The one host of a ``once``; with ``on: any`` all that may stand in, it first."""
        roles = self.ask.stage.roles
        name = selected[0] if selected else ""
        if task.roles and task.roles[0] in roles:
            name = self._first_of(roles[task.roles[0]]) or name
        first = [part for part in parts if part.on.host.name == name]
        if item.anyone:
            return first + [part for part in parts if part.on.host.name != name]
        if not first and selected:
            what = f"'{task.name}' runs once, on '{name}', which is not selected"
            hint = "select it, or write `on: any` beside `once`"
            self.problems.add(what, item.mark, hint)
        return first

    def _first_of(self, role: Role) -> str | None:
        """The role's primary or, where the app does not live there, the first host where it
        does."""
        if self.app is None or role.primary is None:
            return role.primary
        known = self.ask.stage.hosts
        here = (name for name in (role.primary, *role.hosts) if self.app.lives_on(known[name]))
        return next(here, None)

    def _in_roles(self, task: Task, parts: list[Part]) -> list[Part]:
        if task.roles is None:
            return parts
        known = self.ask.stage.roles
        for role in task.roles:
            if role not in known:
                hint = nearest(role, known) or f"roles of this stage: {', '.join(known) or 'none'}"
                what = f"stage '{self.ask.stage.name}' has no role '{role}'"
                self.problems.add(what, role.mark, hint)
        kept = [part for part in parts if _has(task, part)]
        if parts and not kept:
            declared = any(known[role].hosts for role in task.roles if role in known)
            why = "no selected host has" if declared else "no host of this stage has"
            which = " or ".join(task.roles)
            warning = f"task '{task.name}' is skipped: {why} the role {which}"
            if warning not in self.warnings:
                self.warnings.append(warning)
        return kept

    def _wave(self, task: Task, name: str, parts: list[Part], flow: Flow) -> None:
        if flow.chosen is not None:
            parts = [part for part in parts if part.on.host.name in flow.chosen]
        hosts, known = [], self._known()
        for part in parts:
            part.on.settled[KNOWN] = known
            part.on.registered = dict.fromkeys(part.on.registered, ())
            part.on.made = set()
            hosts.append(self._host(task, part))
        if flow.once:
            self._share(parts)
        self._touched = self.hosts if flow.once else [part.on for part in parts]
        if hosts:
            wave = Wave(
                name,
                task.desc,
                hosts=tuple(hosts),
                within=flow.within,
                batch=flow.batch,
                once=flow.once,
            )
            self.waves.append(
                replace(wave, anyone=flow.anyone, tolerance=flow.tolerance, hook=flow.hook)
            )

    def _host(self, task: Task, part: Part) -> HostPlan:
        rows = RowPlanner(part.on, self.ask, self.problems)
        if self.ask.handlers:
            program = rows.handlers(task, part.frame, part.around, self.ask.handlers)
            return HostPlan(part.on.host.name, program)
        program, walk = rows.task(task, part.frame, part.around)
        plan = HostPlan(part.on.host.name, program)
        if any(step.handler for step in program.steps):
            takes = params_below(part.frame.task, self.ask.tasks)
            plan = replace(plan, args=arguments(part.frame, takes))
        if walk.rollbacks:
            self._undoing[id(plan)] = lambda: replace(plan, rollback=rows.rollback(walk))
        return plan

    def _known(self, *, lenient: bool = False) -> Known:
        """What the plan knows of every host as a task begins."""
        for on in self._touched:
            settled = {name: value for name, value in on.settled.items() if name != KNOWN}
            self._by_host[on.host.name] = on.registered, settled
        self._touched = []
        return Known(dict(self._by_host), lenient)

    def finish(self) -> None:
        """Plan what undoes each wave, now that all is known that may be registered."""
        known = self._known(lenient=True)
        for on in self.hosts:
            on.settled[KNOWN] = known
        self.waves = [self._finished(wave) for wave in self.waves]
        self.failed = {
            name: tuple(self._finished(wave) for wave in waves)
            for name, waves in self.failed.items()
        }

    def _finished(self, wave: Wave) -> Wave:
        hosts = (self._undoing.get(id(host), lambda host=host: host)() for host in wave.hosts)
        return replace(wave, hosts=tuple(hosts))

    def _share(self, parts: list[Part]) -> None:
        """What a ``once`` registers is every host's."""
        for name in {name for part in parts for name in part.on.made}:
            by_set = frozenset(name for part in parts if name in part.on.by_set)
            values = [part.on.settled.get(name) for part in parts]
            known = values[0] is not None and values.count(values[0]) == len(values)
            for on in self.hosts:
                on.by_set |= by_set
                if known:  # the same on whichever of them it runs
                    on.settle(name, values[0], own=all(name in part.on.own for part in parts))
                else:
                    on.register(name)


def _has(task: Task, part: Part) -> bool:
    return task.roles is None or bool(set(task.roles) & set(part.on.host.roles))


def _batches(names: Sequence[str], shares: Sequence[Share]) -> Iterable[Sequence[str]]:
    """The hosts in batches of these sizes, the last size repeating; at least one host each."""
    at = number = 0
    while at < len(names):
        size = max(1, shares[min(number, len(shares) - 1)].of(len(names)))
        yield names[at : at + size]
        at, number = at + size, number + 1


def arguments(frame: Frame, takes: Collection[str]) -> tuple[str, ...]:
    """``key=value`` for each argument from the command line or a playbook, of those that the
    task ``takes``. Left out is what only a result gives, and what the command line cannot say:
    mappings, and none."""
    words = []
    given = frame.given or {}
    for name in dict.fromkeys((*map(str, frame.written), *given)):
        text = given.get(name) if name not in frame.written else None
        param = frame.task.params.get(name)
        if param is not None and param.secret and isinstance(text, str):
            frame.secrets.masks.add(name, text)  # also where no template names it
        if name in takes and not isinstance(text, str):
            text = _text(_value(frame, name))
        if name in takes and text is not None:
            words.append(f"{name}={text}")
    return tuple(words)


def _value(frame: Frame, name: str) -> object:
    try:
        if name in frame.task.params:
            return frame.resolve(name)
        given = frame.handed_on()[name]
        return given if isinstance(given, str) else given[0].render(given[1])
    except (Waits, OrchError):
        return None


def _text(value: Any) -> str | None:
    """As the command line has it: a list in brackets, since commas may stand in its entries."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return str(value) if isinstance(value, str | int | float) else None
