"""Schedules the tasks of one app: playbooks, batches, hooks, commits and arguments for reruns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    OrchError,
    SourcePosition,
    suggest_nearest,
)
from orchestrator.model.host import App, Role
from orchestrator.planner.host_diagnostics import HostDiagnostics
from orchestrator.planner.host_program import (
    HostPlanState,
    HostProgramPlanner,
    copy_plan_state,
)
from orchestrator.planner.host_scope import HOSTVARS_INDEX, HostVarsIndex
from orchestrator.planner.plan import (
    BatchGate,
    BatchScope,
    CommitScope,
    HostPlan,
    MaxFailures,
    PlannedTask,
    ResultsByName,
)
from orchestrator.planner.request import PlanRequest
from orchestrator.planner.start_step import find_start_numbers
from orchestrator.planner.task_expander import (
    InheritedOptions,
    NotifyKeys,
    TaskExpander,
    TaskPart,
    split_into_parts,
)
from orchestrator.planner.task_scope import TaskScope
from orchestrator.playbook import effective_params, handlers_in_reach
from orchestrator.playbook.model import (
    ControlStep,
    HostCount,
    PlaybookItem,
    Step,
    Task,
    TaskCall,
    TaskRequest,
)
from orchestrator.templating import ResultPending


class HostTaskContext(Struct, frozen=True):
    """One host's part in a scheduled task."""

    plan_state: HostPlanState
    task_scope: TaskScope
    inherited: InheritedOptions


class SplitTask(Struct, frozen=True):
    """A task with steps while its parts are planned; ``expanders`` are those of its hosts."""

    task: Task
    name: str
    keys: NotifyKeys
    expanders: dict[str, TaskExpander] = field(default_factory=dict)

    @property
    def next_number(self) -> int:
        """Return the number of the next part's first step, which is the same on all hosts."""
        return max((each.next_number for each in self.expanders.values()), default=1)


class PlaybookHandlers(Struct, frozen=True):
    """The handlers of a playbook, with the keys of the names that notify them."""

    task: Task
    name: str
    parts: tuple[HostTaskContext, ...]
    keys: Mapping[str, str]


class ScheduleContext(Struct, frozen=True):
    """How the current playbook item is run, with what it inherits from the enclosing items.

    ``batch_hosts``: the hosts of the current batch, and those that the batched item does not
    select, because a hook may; None outside of batches. ``is_first_batch`` is also True outside of
    batches. ``commit_scope``: what a commit applies to, inside a batch. ``batch_scope``: the batch,
    if its failure does not stop the next batches. ``stops_at_error``: see PlannedTask.
    ``playbooks`` are the enclosing playbooks that have handlers, outermost first.
    """

    parents: tuple[str, ...] = ()
    batch_hosts: frozenset[str] | None = None
    batch: str = ""
    is_first_batch: bool = True
    once: bool = False
    any_host: bool = False
    max_failures: MaxFailures | None = None
    hooked_to: str = ""
    commit_scope: CommitScope | None = None
    batch_scope: BatchScope | None = None
    stops_at_error: bool = False
    playbooks: tuple[PlaybookHandlers, ...] = ()

    def handler_keys(self) -> dict[str, str]:
        """Return the keys of the names that notify handlers of playbooks; inner ones win."""
        return {name: key for each in self.playbooks for name, key in each.keys.items()}


class TaskScheduler:
    """Turns the task requests into the planned tasks of one app, in order.

    ``hosts`` are the hosts of ``app``, if there is one. Errors are added to ``diagnostics``.
    """

    def __init__(
        self,
        request: PlanRequest,
        hosts: list[HostPlanState],
        diagnostics: HostDiagnostics,
        app: App | None = None,
    ) -> None:
        """Create a scheduler without planned tasks."""
        self.request, self.hosts, self.diagnostics, self.app = request, hosts, diagnostics, app
        self.planned_tasks: list[PlannedTask] = []
        self.failed_hooks: dict[str, tuple[PlannedTask, ...]] = {}
        self.warnings: list[str] = []
        self.has_started = not request.start_at
        self._failure_limits = self._batched_items = self._playbooks = 0
        self._rollback_planners: dict[int, Callable[[], HostPlan]] = {}
        self._changed_hosts = hosts  # since the last call of ``_hostvars_index``
        self._names_by_host: dict[str, tuple[Iterable[str], ResultsByName]] = {}

    def add_request(self, task_request: TaskRequest) -> None:
        """Add the planned tasks of one task of the command line."""
        task = self.request.tasks[task_request.task]
        parts = []
        for plan_state in self.hosts:
            defaults = plan_state.defaults.get(task.name, {})
            task_scope = TaskScope(
                task, plan_state.scope, passed_args=dict(task_request.args), defaults=defaults
            )
            parts.append(
                HostTaskContext(
                    plan_state,
                    task_scope,
                    self._task_options(task, task_scope),
                )
            )
        self._add_task_with_hooks(task, task.name, parts, ScheduleContext())

    def _task_options(self, task: Task, task_scope: TaskScope) -> InheritedOptions:
        """Return the options of a scheduled task inside those of the whole run."""
        outer = InheritedOptions().with_modifiers(self.request.options, task_scope)
        return outer.with_modifiers(task.options, task_scope)

    def _add_task_with_hooks(
        self, task: Task, name: str, parts: list[HostTaskContext], flow: ScheduleContext
    ) -> None:
        """Add a scheduled task with its hooks."""
        if task.name in flow.parents:
            circle = " → ".join((*flow.parents[flow.parents.index(task.name) :], task.name))
            message = f"the hooks of these tasks form a cycle: {circle}"
            raise DefinitionError(Diagnostic(message, task.mark))
        inner = replace(flow, parents=(*flow.parents, task.name))
        self._add_hooks("before", task, inner)
        self._add_task(task, name, parts, inner)
        self._add_hooks("after", task, inner)
        hooks = self._hooks_of("failed", task.name)
        if hooks and task.name not in self.failed_hooks:
            saved_tasks, self.planned_tasks = self.planned_tasks, []
            for hook in hooks:
                self._add_hook(hook, f"failed {task.name}", ScheduleContext(parents=inner.parents))
            self.failed_hooks[task.name], self.planned_tasks = (
                tuple(self.planned_tasks),
                saved_tasks,
            )

    def _hooks_of(self, when: str, name: str) -> list[Task]:
        app = self.app.name if self.app else None
        found = [
            task
            for task in self.request.tasks.values()
            if name in getattr(task, when) and (not task.apps or app in task.apps)
        ]
        return sorted(found, key=lambda task: task.name)

    def _add_hooks(self, when: str, task: Task, flow: ScheduleContext) -> None:
        for hook in self._hooks_of(when, task.name):
            self._add_hook(hook, f"{when} {task.name}", flow)

    def _add_hook(self, hook: Task, hooked_to: str, flow: ScheduleContext) -> None:
        parts = []
        for plan_state in self.hosts:
            task_scope = TaskScope(hook, plan_state.scope, passed_args={})
            parts.append(
                HostTaskContext(
                    plan_state,
                    task_scope,
                    self._task_options(hook, task_scope),
                )
            )
        self._add_task_with_hooks(
            hook, hook.name, parts, replace(flow, once=False, any_host=False, hooked_to=hooked_to)
        )

    def _add_task(
        self, task: Task, name: str, parts: list[HostTaskContext], flow: ScheduleContext
    ) -> None:
        starts_here = not self.has_started and self.request.start_at in (task.name, name)
        self.has_started = self.has_started or starts_here
        parts = self._select_by_role(task, parts)
        if task.steps is not None:
            if self.has_started:
                start_step = self.request.start_step if starts_here else ""
                self._add_planned_task(task, name, parts, flow, start_step=start_step)
            return
        if starts_here and self.request.start_step:
            message = f"--start-step needs a task with steps, and '{name}' is a playbook"
            hint = "name one of its tasks with --start-at; see `orch plan`"
            raise DefinitionError(Diagnostic(message, SourcePosition("--start-at"), hint))
        own = self._playbook_handlers(task, name, parts)
        flow = replace(flow, playbooks=(*flow.playbooks, *own))
        for item in task.tasks or ():
            if item.action is not None:
                self._add_item(item, item.action, parts, flow)
            elif self.has_started:
                self._add_word(item, flow)
        if self.has_started:
            self._add_handlers(own, flow)

    def _add_word(self, item: PlaybookItem, flow: ScheduleContext) -> None:
        """Add a commit, a flush of handlers or a pause."""
        if not item.prompt and not self.request.handlers:  # selected ones run once, at the end
            self._add_handlers(flow.playbooks, flow)
        if item.name == "flush_handlers":
            return
        planned_task = PlannedTask(
            item.name,
            "",
            (),
            flow.parents,
            flow.batch,
            is_commit=not item.prompt,
            prompt=item.prompt,
        )
        self.planned_tasks.append(
            replace(
                planned_task,
                commit_scope=None if item.prompt else flow.commit_scope,
                batch_scope=flow.batch_scope,
            )
        )

    def _playbook_handlers(
        self, task: Task, name: str, parts: list[HostTaskContext]
    ) -> tuple[PlaybookHandlers, ...]:
        """Return the handlers of a playbook, if it has some, with keys of their own."""
        if not task.handlers:
            return ()
        self._playbooks += 1
        keys = {each: f"playbook {self._playbooks} {each}" for each in task.notifiable_names()}
        return (PlaybookHandlers(task, name, tuple(parts), keys),)

    def _add_handlers(self, playbooks: Sequence[PlaybookHandlers], flow: ScheduleContext) -> None:
        """Add the handlers of playbooks that planned steps may have notified, inner ones first."""
        for playbook in reversed(playbooks):
            hosts = []
            for part in playbook.parts:
                host_plan = None
                if _is_in_batch(part, flow):
                    host_plan = self._plan_handlers(playbook, part, flow)
                hosts += [host_plan] if host_plan is not None else []
            if hosts:
                self._changed_hosts = [part.plan_state for part in playbook.parts]
                title = f"handlers of {playbook.name}"
                planned_task = PlannedTask(title, "", tuple(hosts), flow.parents, flow.batch)
                self.planned_tasks.append(
                    replace(
                        planned_task,
                        max_failures=flow.max_failures,
                        hooked_to=flow.hooked_to,
                        batch_scope=flow.batch_scope,
                        stops_at_error=flow.stops_at_error,
                    )
                )

    def _plan_handlers(
        self, playbook: PlaybookHandlers, part: HostTaskContext, flow: ScheduleContext
    ) -> HostPlan | None:
        """Plan the handlers of a playbook on one host; return None if none can be notified."""
        part.plan_state.settled_results[HOSTVARS_INDEX] = self._hostvars_index()
        part.plan_state.registered = dict.fromkeys(part.plan_state.registered, ())
        planner = HostProgramPlanner(part.plan_state, self.request, self.diagnostics)
        if self.request.handlers:
            program = planner.plan_handlers(
                playbook.task, part.task_scope, part.inherited, self.request.handlers
            )
        else:
            outer = flow.handler_keys()
            program = planner.plan_playbook_handlers(
                playbook.task, part.task_scope, part.inherited, playbook.keys, outer
            )
        if not program.steps:
            return None
        accepted = effective_params(playbook.task, self.request.tasks)
        rerun_args = rerun_arguments(part.task_scope, accepted)
        return HostPlan(part.plan_state.host.name, program, rerun_args=rerun_args)

    def _add_item(
        self,
        item: PlaybookItem,
        action: TaskCall | Task,
        parts: list[HostTaskContext],
        flow: ScheduleContext,
    ) -> None:
        if item.once and not flow.is_first_batch:
            return
        inner = action if isinstance(action, Task) else self.request.tasks[action.task]
        inner_parts = [self._inner_part(item, inner, part) for part in parts]
        selected = self._hosts_with_work(inner, inner_parts)
        if item.max_failures is not None:
            self._failure_limits += 1
            flow = replace(
                flow,
                max_failures=MaxFailures(
                    self._failure_limits, item.max_failures.hosts_of(len(selected))
                ),
            )
        flow = replace(flow, stops_at_error=flow.stops_at_error or item.stops_at_error)
        if item.once:
            inner_parts = self._once_hosts(item, inner, inner_parts, selected)
            flow = replace(flow, once=True, any_host=item.any_host, batch_hosts=None)
        if not item.batch:
            self._add_inner_task(item, inner, inner_parts, flow)
            return
        if flow.batch:
            message = "batches cannot be nested"
            raise DefinitionError(Diagnostic(message, item.mark, "remove `batch` from one of them"))
        ordered = _in_order(selected, item.order, self.request.run.id)
        batches = list(_split_into_batches(ordered, item.batch))
        others = {part.plan_state.host.name for part in parts} - set(selected)
        self._batched_items += 1
        for number, names in enumerate(batches, 1):
            of_batch = replace(
                flow,
                batch_hosts=frozenset(others.union(names)),
                batch=f"{number}/{len(batches)}",
                is_first_batch=number == 1,
                commit_scope=CommitScope(tuple(names), len(self.planned_tasks)),
                batch_scope=BatchScope(self._batched_items, number, tuple(names))
                if item.on_batch_failure == "continue"
                else None,
            )
            start = len(self.planned_tasks)
            self._add_inner_task(item, inner, inner_parts, of_batch)
            if number > 1 and len(self.planned_tasks) > start and (item.pause or item.confirm):
                gate = BatchGate(item.pause, item.confirm)
                self.planned_tasks[start] = replace(self.planned_tasks[start], gate=gate)

    def _add_inner_task(
        self, item: PlaybookItem, inner: Task, parts: list[HostTaskContext], flow: ScheduleContext
    ) -> None:
        if isinstance(item.action, Task):
            self._add_task(inner, item.name, parts, flow)
        else:
            self._add_task_with_hooks(inner, item.name or inner.name, parts, flow)

    def _inner_part(
        self, item: PlaybookItem, inner: Task, part: HostTaskContext
    ) -> HostTaskContext:
        inherited, task_scope = (
            part.inherited.with_modifiers(item.options, part.task_scope),
            part.task_scope,
        )
        if isinstance(item.action, TaskCall):
            task_scope = TaskScope(
                inner,
                part.plan_state.scope,
                written_args=item.action.args,
                caller=part.task_scope,
                passed_args=part.task_scope.args_for_inner_tasks(),
            )
        return HostTaskContext(
            part.plan_state, task_scope, inherited.with_modifiers(inner.options, task_scope)
        )

    def _hosts_with_work(self, task: Task, parts: list[HostTaskContext]) -> list[str]:
        """Return the hosts on which any step of the task would run, in order."""
        parts_in_roles = [p for p in parts if _has_role(task, p)]
        if task.steps is not None:
            return [part.plan_state.host.name for part in parts_in_roles]
        names: set[str] = set()
        for item in task.tasks or ():
            if isinstance(item.action, TaskCall):
                names |= set(
                    self._hosts_with_work(self.request.tasks[item.action.task], parts_in_roles)
                )
            elif item.action is not None:
                names |= set(self._hosts_with_work(item.action, parts_in_roles))
        return [
            part.plan_state.host.name
            for part in parts_in_roles
            if part.plan_state.host.name in names
        ]

    def _once_hosts(
        self, item: PlaybookItem, task: Task, parts: list[HostTaskContext], selected: Sequence[str]
    ) -> list[HostTaskContext]:
        """Return the host of a ``once`` item, or the ordered candidates of ``on: any``."""
        roles = self.request.stage.roles
        name = selected[0] if selected else ""
        if task.roles and task.roles[0] in roles:
            name = self._primary_of(roles[task.roles[0]]) or name
        first = [part for part in parts if part.plan_state.host.name == name]
        if item.any_host:
            return first + [part for part in parts if part.plan_state.host.name != name]
        if not first and selected:
            message = f"'{task.name}' runs once, on '{name}', which is not selected"
            hint = "select it, or write `on: any` beside `once`"
            self.diagnostics.add(message, item.mark, hint)
        return first

    def _primary_of(self, role: Role) -> str | None:
        """Return the role's primary or, if the app is not on it, the first host with the app."""
        if self.app is None or role.primary is None:
            return role.primary
        known = self.request.stage.hosts
        candidates = (
            name for name in (role.primary, *role.hosts) if self.app.lives_on(known[name])
        )
        return next(candidates, None)

    def _select_by_role(self, task: Task, parts: list[HostTaskContext]) -> list[HostTaskContext]:
        if task.roles is None:
            return parts
        known = self.request.stage.roles
        for role in task.roles:
            if role not in known:
                hint = (
                    suggest_nearest(role, known)
                    or f"roles of this stage: {', '.join(known) or 'none'}"
                )
                message = f"stage '{self.request.stage.name}' has no role '{role}'"
                self.diagnostics.add(message, role.mark, hint)
        kept = [part for part in parts if _has_role(task, part)]
        if parts and not kept:
            declared = any(known[role].hosts for role in task.roles if role in known)
            reason = "no selected host has" if declared else "no host of this stage has"
            which = " or ".join(task.roles)
            warning = f"task '{task.name}' is skipped: {reason} the role {which}"
            if warning not in self.warnings:
                self.warnings.append(warning)
        return kept

    def _add_planned_task(
        self,
        task: Task,
        name: str,
        parts: list[HostTaskContext],
        flow: ScheduleContext,
        *,
        start_step: str = "",
    ) -> None:
        """Add a task with steps: one planned task, or several if hosts wait in it."""
        own = frozenset(handlers_in_reach(task, self.request.tasks))
        task_parts = split_into_parts(task, has_handlers=bool(own))
        if self.request.handlers:
            task_parts = [TaskPart(task.steps or ())]
        prefix = f"{len(self.planned_tasks)} {task.name}" if len(task_parts) > 1 else ""
        keys = NotifyKeys(own, prefix, flow.handler_keys())
        if start_step and len(task_parts) > 1:
            message = f"--start-step cannot be used with '{name}', in which hosts wait for others"
            hint = "it has a step with `once` or `pause`; select steps by --tags"
            raise DefinitionError(Diagnostic(message, SourcePosition("--start-step"), hint))
        split = SplitTask(task, name, keys)
        in_batch = [p for p in parts if _is_in_batch(p, flow)]
        for task_part in task_parts:
            step = task_part.steps[0] if task_part.steps else None
            if task_part.kind == "pause" and step is not None:
                self._add_word(
                    PlaybookItem(None, step.mark, "pause", prompt=_prompt_of(step)), flow
                )
            elif task_part.kind == "once" and step is not None and not flow.once:
                if flow.is_first_batch:
                    selected = [part.plan_state.host.name for part in parts]
                    item = PlaybookItem(None, step.mark)
                    primary = self._once_hosts(item, task, parts, selected)
                    of_once = replace(flow, once=True)
                    self._add_part(split, primary, of_once, task_part)
            else:
                self._add_part(split, in_batch, flow, task_part, start_step=start_step)

    def _add_part(
        self,
        split: SplitTask,
        parts: list[HostTaskContext],
        flow: ScheduleContext,
        task_part: TaskPart,
        *,
        start_step: str = "",
    ) -> None:
        """Add a part of a task as a planned task."""
        hosts, known, task = [], self._hostvars_index(), split.task
        first_number = split.next_number
        starts = self._start_numbers(task, parts, start_step) if start_step else {}
        for part in parts:
            part.plan_state.settled_results[HOSTVARS_INDEX] = known
            part.plan_state.registered = dict.fromkeys(part.plan_state.registered, ())
            part.plan_state.newly_registered = set()
            start_number = starts.get(part.plan_state.host.name, 0)
            earlier = split.expanders.get(part.plan_state.host.name)
            if earlier is not None:
                earlier.next_number = first_number
            hosts.append(self._plan_host(split, part, task_part, start_number, first_number))
        if flow.once:
            self._share_once_results(parts)
        self._changed_hosts = self.hosts if flow.once else [part.plan_state for part in parts]
        if hosts:
            planned_task = PlannedTask(
                split.name,
                task.desc,
                hosts=tuple(hosts),
                parents=flow.parents,
                batch=flow.batch,
                once=flow.once,
            )
            self.planned_tasks.append(
                replace(
                    planned_task,
                    any_host=flow.any_host,
                    max_failures=flow.max_failures,
                    hooked_to=flow.hooked_to,
                    batch_scope=flow.batch_scope,
                    stops_at_error=flow.stops_at_error,
                )
            )

    def _start_numbers(
        self, task: Task, parts: list[HostTaskContext], start_step: str
    ) -> dict[str, int]:
        """Return the number of the step to start at, by host. Raises DefinitionError.

        The names of steps are known when they are planned, so the whole task is planned for them.
        """
        programs = {}
        for part in parts:
            plan_state = copy_plan_state(part.plan_state)
            diagnostics = HostDiagnostics(len(self.request.hosts))
            planner = HostProgramPlanner(plan_state, self.request, diagnostics)
            programs[plan_state.host.name] = planner.plan_task(
                task, part.task_scope, part.inherited
            )
            diagnostics.raise_any()
        return find_start_numbers(task.name, start_step, programs)

    def _plan_host(
        self,
        split: SplitTask,
        part: HostTaskContext,
        task_part: TaskPart,
        start_number: int,
        first_number: int,
    ) -> HostPlan:
        program_planner = HostProgramPlanner(
            part.plan_state, self.request, self.diagnostics, start_number=start_number
        )
        if self.request.handlers:
            program = program_planner.plan_handlers(
                split.task, part.task_scope, part.inherited, self.request.handlers
            )
            return HostPlan(part.plan_state.host.name, program)
        earlier = split.expanders.get(part.plan_state.host.name)
        expander = earlier or program_planner.new_expander(split.keys, first_number)
        if earlier is None:
            split.expanders[part.plan_state.host.name] = expander
        program = program_planner.plan_part(
            split.task, part.task_scope, part.inherited, task_part, expander
        )
        host_plan = HostPlan(part.plan_state.host.name, program)
        if any(step.handler for step in program.steps):
            accepted_params = effective_params(part.task_scope.task, self.request.tasks)
            host_plan = replace(
                host_plan, rerun_args=rerun_arguments(part.task_scope, accepted_params)
            )
        if earlier is None and (expander.rollbacks or not task_part.is_last):
            self._rollback_planners[id(host_plan)] = lambda: replace(
                host_plan, rollback=program_planner.plan_rollback(expander)
            )
        return host_plan

    def _hostvars_index(self, *, missing_is_none: bool = False) -> HostVarsIndex:
        """Return what the plan knows of every host when a task starts."""
        for plan_state in self._changed_hosts:
            settled = {
                name: value
                for name, value in plan_state.settled_results.items()
                if name != HOSTVARS_INDEX
            }
            self._names_by_host[plan_state.host.name] = plan_state.registered, settled
        self._changed_hosts = []
        return HostVarsIndex(dict(self._names_by_host), missing_is_none)

    def plan_rollbacks(self) -> None:
        """Plan the rollback of each task, after everything that the run may register is known."""
        known = self._hostvars_index(missing_is_none=True)
        for plan_state in self.hosts:
            plan_state.settled_results[HOSTVARS_INDEX] = known
        self.planned_tasks = [
            self._with_rollback(planned_task) for planned_task in self.planned_tasks
        ]
        self.failed_hooks = {
            name: tuple(self._with_rollback(planned_task) for planned_task in planned_tasks)
            for name, planned_tasks in self.failed_hooks.items()
        }

    def _with_rollback(self, planned_task: PlannedTask) -> PlannedTask:
        hosts = (
            self._rollback_planners.get(id(host), lambda host=host: host)()
            for host in planned_task.hosts
        )
        return replace(planned_task, hosts=tuple(hosts))

    def _share_once_results(self, parts: list[HostTaskContext]) -> None:
        """Share what a ``once`` task registers with all hosts."""
        for name in {name for part in parts for name in part.plan_state.newly_registered}:
            set_names = frozenset(name for part in parts if name in part.plan_state.set_names)
            fields = {
                key: text
                for part in parts
                for key, text in part.plan_state.returned_fields.get(name, {}).items()
            }
            values = [part.plan_state.settled_results.get(name) for part in parts]
            known = values[0] is not None and values.count(values[0]) == len(values)
            for plan_state in self.hosts:
                plan_state.set_names |= set_names
                plan_state.note_returned(name, fields)
                if known:  # the value is the same on every host that may run it
                    plan_state.settle_result(
                        name,
                        values[0],
                        from_controller=all(
                            name in part.plan_state.controller_names for part in parts
                        ),
                    )
                else:
                    plan_state.register(name)


def _is_in_batch(part: HostTaskContext, flow: ScheduleContext) -> bool:
    return flow.batch_hosts is None or part.plan_state.host.name in flow.batch_hosts


def _prompt_of(step: Step) -> str:
    """Return the prompt of a pause."""
    return step.action.value.source if isinstance(step.action, ControlStep) else ""


def _has_role(task: Task, part: HostTaskContext) -> bool:
    return task.roles is None or bool(set(task.roles) & set(part.plan_state.host.roles))


def _in_order(names: Sequence[str], order: str, run: str) -> Sequence[str]:
    """Return the hosts in this order; the run's ID is the seed of a shuffled one."""
    if order == "reversed":
        return names[::-1]
    if order == "shuffle":
        return sorted(names, key=lambda name: hashlib.sha256(f"{run} {name}".encode()).digest())
    return names


def _split_into_batches(
    names: Sequence[str], sizes: Sequence[HostCount]
) -> Iterable[Sequence[str]]:
    """Yield the hosts in batches of these sizes, at least one host each; the last size repeats."""
    at = number = 0
    while at < len(names):
        size = max(1, sizes[min(number, len(sizes) - 1)].hosts_of(len(names)))
        yield names[at : at + size]
        at, number = at + size, number + 1


def rerun_arguments(task_scope: TaskScope, accepted: Collection[str]) -> tuple[str, ...]:
    """Return ``key=value`` for each accepted argument from the command line or a playbook.

    Arguments that depend on a result are left out, and those that the command line cannot express:
    mappings and None.
    """
    words = []
    passed = task_scope.passed_args or {}
    for name in dict.fromkeys((*map(str, task_scope.written_args), *passed)):
        text = passed.get(name) if name not in task_scope.written_args else None
        param = task_scope.task.params.get(name)
        if param is not None and param.secret and isinstance(text, str):
            task_scope.secrets.masker.add_secret(name, text)  # also if no template uses it
        if name in accepted and not isinstance(text, str):
            text = _command_line_text(_argument_value(task_scope, name))
        if name in accepted and text is not None:
            words.append(f"{name}={text}")
    return tuple(words)


def _argument_value(task_scope: TaskScope, name: str) -> object:
    try:
        if name in task_scope.task.params:
            return task_scope.resolve(name)
        passed = task_scope.args_for_inner_tasks()[name]
        return passed if isinstance(passed, str) else passed[0].render(passed[1])
    except (ResultPending, OrchError):
        return None


def _command_line_text(value: Any) -> str | None:
    """Return the value in the syntax of the command line.

    Lists are written as JSON, because their items may contain commas.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return str(value) if isinstance(value, str | int | float) else None
