"""Plans the step program of one host from the expanded steps of a task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.model.condition import ConstantCondition
from orchestrator.model.host import Host
from orchestrator.model.marked_value import Values
from orchestrator.model.registered_result import RegisteredResult
from orchestrator.model.sanitize import to_one_line
from orchestrator.model.step_number import MAX_LOOP_STEPS, first_number_in_loop
from orchestrator.modules import MODULES_FOLDER
from orchestrator.planner.host_diagnostics import HostDiagnostics
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.plan import PlannedStep, ResultGroup, ResultsByName, StepProgram, TryBlock
from orchestrator.planner.request import PlanRequest
from orchestrator.planner.start_step import BEFORE_START, ResultBeforeStart, result_before_start
from orchestrator.planner.step_conditions import StepContext
from orchestrator.planner.step_planner import StepPlanner
from orchestrator.planner.task_expander import (
    ExpandedStep,
    InheritedOptions,
    NotifyKeys,
    ScopedTemplate,
    StepList,
    TaskExpander,
    TaskPart,
    evaluate_loop_items,
)
from orchestrator.planner.task_scope import TaskScope, any_from_host
from orchestrator.playbook.model import ControlStep, ModuleSpec, Step, Task, TaskCall
from orchestrator.yamlio.local_files import display_path

SKIPPED_RESULT = RegisteredResult("skipped", skipped=True)


class UniqueValue(Struct, frozen=True):
    """A value that a step gives to a ``unique`` name; ``label`` is its loop item, '' without."""

    value: str
    mark: SourcePosition
    label: str


class HostPlanState(Struct):
    """State of one host during planning: the names registered and the results known so far.

    - ``registered``: registered names with the numbers of the steps of this task that register
      them.
    - ``settled_results``: results that are already known at planning time.
    - ``newly_registered``: the names registered since the scheduler last cleared it.
    - ``set_names``: names assigned by `set`, whose values may have any type.
    - ``returned_fields``: the values that modules return, by the registered names.
    - ``controller_names``: settled names whose values do not depend on the output of any host.
    - ``untainted_names``: pending names whose values will not depend on the output of any host,
      according to the names in their templates.
    - ``notified_keys``: the keys by which planned steps may notify handlers of playbooks.
    - ``unique_values``: the values given to ``unique`` names, by the host that steps are delegated
      to, their become user ('' for neither) and the name.
    """

    host: Host
    scope: HostScope
    environment: Mapping[str, ScopedTemplate]
    defaults: Mapping[str, Values]
    registered: dict[str, tuple[int, ...]] = field(default_factory=dict)
    settled_results: dict[str, object] = field(default_factory=dict)
    newly_registered: set[str] = field(default_factory=set)
    set_names: frozenset[str] = frozenset()
    returned_fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    controller_names: frozenset[str] = frozenset()
    untainted_names: frozenset[str] = frozenset()
    unique_values: dict[tuple[str, str, str], UniqueValue] = field(default_factory=dict)
    notified_keys: set[str] = field(default_factory=set)

    def register(self, name: str, numbers: tuple[int, ...] = ()) -> None:
        """Record that these steps of the current task will register the name.

        Without numbers, the result must be known before a condition that refers to it is evaluated.
        """
        self.registered = {**self.registered, name: numbers}
        self.settled_results.pop(name, None)
        self.controller_names -= {name}
        self.untainted_names -= {name}
        self.newly_registered.add(name)

    def note_returned(self, name: str, fields: Mapping[str, str]) -> None:
        """Record that the result of this name also has these fields, given with their meanings."""
        if fields:
            known = {**self.returned_fields.get(name, {}), **fields}
            self.returned_fields = {**self.returned_fields, name: known}

    def settle_result(self, name: str, value: object, *, from_controller: bool = True) -> None:
        """Record a known value; ``from_controller``: it does not depend on host output."""
        self.register(name)
        self.settled_results[name] = value
        self.controller_names |= {name} if from_controller else frozenset()


def copy_plan_state(state: HostPlanState) -> HostPlanState:
    """Return a copy in which steps can be planned without an effect on the state."""
    return replace(
        state,
        settled_results=dict(state.settled_results),
        newly_registered=set(state.newly_registered),
        unique_values=dict(state.unique_values),
        notified_keys=set(state.notified_keys),
    )


class HostProgramPlanner:
    """Plans steps of one host; errors are added to ``diagnostics``.

    Steps of a task with a number below ``start_number`` are skipped, and their results missing.
    """

    def __init__(
        self,
        plan_state: HostPlanState,
        request: PlanRequest,
        diagnostics: HostDiagnostics,
        *,
        start_number: int = 0,
    ) -> None:
        """Share the host's plan state, the request and the diagnostics."""
        self.plan_state, self.request, self.diagnostics = plan_state, request, diagnostics
        self.start_number = start_number

    def plan_task(
        self, task: Task, task_scope: TaskScope, inherited: InheritedOptions
    ) -> StepProgram:
        """Return the task's program with its handlers."""
        part = TaskPart(task.steps or ())
        return self.plan_part(task, task_scope, inherited, part, self.new_expander())

    def new_expander(self, keys: NotifyKeys | None = None, first: int = 1) -> TaskExpander:
        """Return an expander of a task, which later has its rollback."""
        expander = self._task_expander(first, self.plan_state)
        expander.notify_keys = keys
        return expander

    def plan_part(
        self,
        task: Task,
        task_scope: TaskScope,
        inherited: InheritedOptions,
        part: TaskPart,
        expander: TaskExpander,
    ) -> StepProgram:
        """Return the program of one part of a task; the expander has expanded those before."""
        if not expander.has_begun:
            self._check_rules(task, task_scope)
        expander.registered = self.plan_state.registered
        expander.settled_results = self.plan_state.settled_results
        try:
            step_list = expander.expand_part(task, task_scope, inherited, part)
        except DefinitionError as error:  # from a loop: its steps are unknown
            self.diagnostics.add_for_host(self.plan_state.host.name, error, task.mark)
            self._register_all(task.all_steps())
            return StepProgram()
        return self.plan_program(step_list)

    def _note_returned(self, name: str, step: Step) -> None:
        """Record the fields of the values that the step's module returns."""
        action = step.action
        if isinstance(action, TaskCall):
            callee = self.request.tasks.get(action.task)
            action = callee.module or action if callee else action
        if isinstance(action, ModuleSpec):
            fields = {name: param.help for name, param in action.returns.items()}
            self.plan_state.note_returned(name, fields)

    def _register_all(self, steps: Iterable[Step]) -> None:
        """Register the names of invalid steps, so they are not also reported as undefined."""
        for step in steps:
            sets = step.action.names if isinstance(step.action, ControlStep) else ()
            for name in (step.register, *sets):
                if name:
                    self.plan_state.register(name)
                    self._note_returned(name, step)

    def _check_rules(self, task: Task, task_scope: TaskScope) -> None:
        """Check the task's params and their rules, including params that no step uses."""
        position = task_scope.host.position
        position.registered, position.results = (
            self.plan_state.registered,
            self.plan_state.settled_results,
        )
        for check in (
            *(partial(task_scope.check_rule, rule) for rule in task.rules),
            *(partial(task_scope.check_param, param) for param in task.params.values()),
        ):
            try:
                check()
            except DefinitionError as error:
                self.diagnostics.add_for_host(self.plan_state.host.name, error, task.mark)

    def plan_rollback(self, expander: TaskExpander) -> StepProgram:
        """Plan the rollback of the expander's task.

        Call this after the whole run has been planned: a rollback can use everything that any task
        of the run registers; results that were never produced are None.
        """
        saved = (
            self.plan_state.registered,
            dict(self.plan_state.settled_results),
            self.plan_state.controller_names,
            self.plan_state.untainted_names,
        )
        missing_is_none = frozenset(saved[0])
        self.plan_state.registered = dict.fromkeys(
            missing_is_none, ()
        )  # step numbers are meaningless in a rollback
        self.plan_state.settled_results = {
            name: value
            for name, value in saved[1].items()
            if not isinstance(value, ResultBeforeStart)
        }
        self.start_number = 0
        program = self.plan_program(expander.expand_rollback(), missing_is_none)
        (
            self.plan_state.registered,
            self.plan_state.settled_results,
            self.plan_state.controller_names,
            self.plan_state.untainted_names,
        ) = saved
        return program

    def _task_expander(
        self, first: int, plan_state: HostPlanState, max_steps: int | None = None
    ) -> TaskExpander:
        return TaskExpander(
            plan_state.host,
            self.request.tasks,
            plan_state.defaults,
            first,
            registered=plan_state.registered,
            settled_results=plan_state.settled_results,
            max_steps=max_steps,
        )

    def plan_handlers(
        self, task: Task, task_scope: TaskScope, inherited: InheritedOptions, names: Collection[str]
    ) -> StepProgram:
        """Plan only these handlers of the task, as if they had been notified."""
        expander = self._task_expander(1, self.plan_state)
        expander.expand_task(task, task_scope, inherited)
        expander.next_number = 1
        step_list = StepList([], [], [])
        for handler in expander.handlers:
            if handler.name in names:
                inherited = replace(handler.inherited, notify=())
                step_list.extend(
                    expander.expand_steps(handler.steps, handler.task_scope, inherited)
                )
        return self.plan_program(step_list)

    def plan_playbook_handlers(
        self,
        task: Task,
        task_scope: TaskScope,
        inherited: InheritedOptions,
        keys: Mapping[str, str],
        outer: Mapping[str, str],
    ) -> StepProgram:
        """Plan the handlers of a playbook that planned steps may have notified.

        ``keys`` are those of the names that notify them; ``outer`` has those of the enclosing
        playbooks, too.
        """
        expander = self._task_expander(1, self.plan_state)
        expander.notify_keys = NotifyKeys(frozenset(), outer=outer)
        notified = self.plan_state.notified_keys
        program = self.plan_program(
            expander.expand_handlers(task, task_scope, inherited, keys, notified)
        )
        notified.difference_update(keys.values())
        return program

    def plan_program(
        self, step_list: StepList, missing_is_none: frozenset[str] = frozenset()
    ) -> StepProgram:
        """Plan the steps of the list in order and return the program."""
        groups_by_end: dict[int, list[ResultGroup]] = {}
        for group in step_list.result_groups:
            if group.parts:
                groups_by_end.setdefault(group.parts[-1][2] - 1, []).append(group)
            else:
                self.plan_state.settle_result(group.name, SKIPPED_RESULT)
        planned: list[PlannedStep] = []
        for expanded in step_list.steps:
            is_optional = any(
                _may_be_skipped(expanded.number, try_block) for try_block in step_list.try_blocks
            )
            try:
                planned.append(self.plan_step(expanded, missing_is_none, is_optional=is_optional))
                self.plan_state.notified_keys.update(planned[-1].notify_keys)
            except DefinitionError as error:
                found = _with_project_position(
                    error, (*expanded.inherited.call_positions, expanded.step.mark)
                )
                self.diagnostics.add_for_host(self.plan_state.host.name, found, expanded.step.mark)
                self._register_all([expanded.step])
            for group in groups_by_end.get(expanded.number, ()):
                actions = {
                    id(each.step.action): each.step
                    for each in step_list.steps
                    if group.parts[0][1] <= each.number < group.parts[-1][2]
                }
                for step in actions.values():
                    self._note_returned(group.name, step)
                if expanded.number < self.start_number:
                    self._settle_as_missing(group.name, group.parts[0][1])
                    continue
                numbers = tuple(n for _, start, end in group.parts for n in range(start, end))
                is_reregistered = is_optional and group.name in self.plan_state.registered
                self.plan_state.register(group.name, () if is_reregistered else numbers)
        return StepProgram(
            tuple(planned),
            tuple(step_list.try_blocks),
            tuple(step_list.result_groups),
            tuple(step_list.throttles),
        )

    def plan_step(
        self, expanded: ExpandedStep, missing_is_none: frozenset[str], *, is_optional: bool = False
    ) -> PlannedStep:
        """Plan one step in the current plan state.

        ``is_optional``: the step may be skipped by a failure or its absence, so what it registers
        is known only after it.
        """
        plan_state = self.plan_state
        if expanded.number < self.start_number:
            return self._plan_step_before_start(expanded, missing_is_none)
        if isinstance(expanded.step.action, ControlStep):
            plan_state.set_names |= set(expanded.step.action.names)
        context = self._step_context(expanded, missing_is_none)
        if not self.request.tags.selects(expanded.inherited.tags):
            expanded = replace(
                expanded,
                inherited=replace(expanded.inherited, exclude_reason="its tags are not selected"),
            )
        planner = StepPlanner(
            expanded, context, plan_state.environment, self.request, self._loop_unfolder(context)
        )
        step = planner.plan_step()
        if (
            not is_optional
            and step.command is not None
            and step.command.when == ConstantCondition(True)
        ):
            self._check_unique_values(expanded, step)
        if step.control_action and step.control_action.kind == "set" and not is_optional:
            for name, value in step.control_action.values.items():
                plan_state.settle_result(
                    name, value, from_controller=step.control_action.from_controller
                )
        elif (step.control_action or step.resume) and isinstance(expanded.step.action, ControlStep):
            template_is_clean = not any_from_host(expanded.step.action.value, expanded.task_scope)
            for name in expanded.step.action.names:
                is_untainted = template_is_clean and (
                    name not in plan_state.registered
                    or name in plan_state.controller_names | plan_state.untainted_names
                )
                plan_state.register(name)
                plan_state.untainted_names |= {name} if is_untainted else frozenset()
        if step.register:
            self._note_returned(step.register, expanded.step)
        if step.register and is_optional and step.register in plan_state.registered:
            plan_state.register(step.register)
        elif step.register and step.skip and not is_optional:
            result = replace(SKIPPED_RESULT, values=dict.fromkeys(step.returns))
            plan_state.settle_result(step.register, result)
        elif step.register:
            plan_state.register(step.register, (step.number,))
        return step

    def _step_context(self, expanded: ExpandedStep, missing_is_none: frozenset[str]) -> StepContext:
        plan_state = self.plan_state
        return StepContext(
            expanded.task_scope.host.position,
            plan_state.registered,
            settled_results=dict(plan_state.settled_results),
            missing_is_none=missing_is_none,
            set_names=plan_state.set_names,
            returned_fields=plan_state.returned_fields,
            controller_names=plan_state.controller_names,
            untainted_names=plan_state.untainted_names,
        )

    def _plan_step_before_start(
        self, expanded: ExpandedStep, missing_is_none: frozenset[str]
    ) -> PlannedStep:
        """Plan a step that is skipped; a use of what it registers or sets is an error."""
        inherited = replace(expanded.inherited, exclude_reason=BEFORE_START)
        context = self._step_context(expanded, missing_is_none)
        planner = StepPlanner(
            replace(expanded, inherited=inherited),
            context,
            self.plan_state.environment,
            self.request,
            self._loop_unfolder(context),
        )
        step = planner.plan_step()
        action = expanded.step.action
        names = action.names if isinstance(action, ControlStep) else ()
        for name in (step.register, *names):
            if name:
                self._settle_as_missing(name, step.number)
        return replace(step, register="", variables_set=())

    def _settle_as_missing(self, name: str, number: int) -> None:
        self.plan_state.settle_result(name, result_before_start(name, number))

    def _check_unique_values(self, expanded: ExpandedStep, step: PlannedStep) -> None:
        """Raise DefinitionError if an earlier step gives another value to a ``unique`` name.

        Both steps would replace each other's value in every run. Only steps of the same user on the
        same host are compared: to others the same path may be another file.
        """
        module = expanded.step.action
        if not isinstance(module, ModuleSpec) or module.unique is None or expanded.handler:
            return
        mark = (
            expanded.inherited.call_positions[-1]
            if expanded.inherited.call_positions
            else expanded.step.mark
        )
        values: dict[str, list[str]] = {}
        for line in str(module.unique.render(expanded.task_scope)).splitlines():
            name, tab, value = line.partition("\t")
            if tab:
                values.setdefault(name, []).append(value)
        for name, written in values.items():
            place = (step.delegate_to, step.user, name)
            this = UniqueValue("\n".join(sorted(written)), mark, expanded.label)
            earlier = self.plan_state.unique_values.setdefault(place, this)
            if earlier.value == this.value:
                continue
            other_step = f"the step at {earlier.mark}"
            if earlier.mark == mark:
                other_step = f"that of the item {to_one_line(earlier.label)!r}"
            message = f"this step and {other_step} set different values for {name}"
            if expanded.label:
                message += f" (item {to_one_line(expanded.label)!r})"
            hint = "each would replace the other in every run: keep one of them"
            raise DefinitionError(Diagnostic(message, mark, hint))

    def _loop_unfolder(
        self, context: StepContext
    ) -> Callable[[ExpandedStep, ResultsByName], StepProgram]:
        def unfold_loop(expanded: ExpandedStep, results: ResultsByName) -> StepProgram:
            first, position = (
                first_number_in_loop(expanded.number),
                expanded.task_scope.host.position,
            )
            later = HostPlanState(
                self.plan_state.host,
                self.plan_state.scope,
                environment=self.plan_state.environment,
                defaults=self.plan_state.defaults,
                registered=dict.fromkeys(context.registered, ()),
                settled_results={**context.settled_results, **results},
                set_names=self.plan_state.set_names,
                returned_fields=self.plan_state.returned_fields,
                controller_names=position.controller_names,
                untainted_names=self.plan_state.untainted_names,
            )
            expander, reads_before = (
                self._task_expander(first, later, max_steps=MAX_LOOP_STEPS),
                position.host_text_reads,
            )
            items = evaluate_loop_items(expanded.step, expanded.task_scope)
            row = _unfold_items(
                expander, expanded, items, from_host=position.host_text_reads != reads_before
            )
            diagnostics = HostDiagnostics(1)
            program = HostProgramPlanner(later, self.request, diagnostics).plan_program(row)
            diagnostics.raise_any()
            return program

        return unfold_loop


def _unfold_items(
    expander: TaskExpander, expanded: ExpandedStep, items: list[object], *, from_host: bool
) -> StepList:
    """Expand a loop over a result. Raises DefinitionError if it has too many steps."""
    first = expander.next_number
    if len(items) <= MAX_LOOP_STEPS:
        step_list = expander.expand_items(
            expanded.step, items, expanded.task_scope, expanded.inherited, from_host=from_host
        )
        if expander.next_number - first <= MAX_LOOP_STEPS:
            return step_list
    message = f"`loop` expands to more than {MAX_LOOP_STEPS} steps"
    raise DefinitionError(Diagnostic(message, expanded.step.mark, "loop over fewer items"))


def _may_be_skipped(number: int, try_block: TryBlock) -> bool:
    """Return True if steps after the block may run although this step of the block did not."""
    tried = try_block.has_rescue and try_block.start <= number < try_block.body_end
    return tried or try_block.body_end <= number < try_block.rescue_end


def _with_project_position(
    error: DefinitionError, calls: Sequence[SourcePosition]
) -> DefinitionError:
    """Return the error with positions in the built-in modules replaced by the innermost call.

    ``calls`` are the positions of the calls that lead to the step; calls within the built-in
    modules are ignored.
    """
    library = display_path(MODULES_FOLDER) + "/"
    ours = [mark for mark in calls if not mark.path.startswith(library)]

    def placed(diagnostic: Diagnostic) -> Diagnostic:
        inside = diagnostic.mark is None or diagnostic.mark.path.startswith(library)
        return replace(diagnostic, mark=ours[-1]) if inside and ours else diagnostic

    return DefinitionError(*map(placed, error.diagnostics))
