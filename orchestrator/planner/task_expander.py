"""Expands a task on one host: calls, loops and blocks become one list of numbered steps.

The control flow of blocks, loops and ignored errors is described by ``TryBlock`` ranges over the
step numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.model.host import Host
from orchestrator.model.marked_value import MarkedKey, Values
from orchestrator.model.text_encoding import repr_text
from orchestrator.planner.plan import ResultGroup, ResultsByName, ThrottledSteps, TryBlock
from orchestrator.planner.task_scope import TaskScope
from orchestrator.playbook import MAX_STEPS
from orchestrator.playbook.model import (
    CommonOptions,
    ConditionExpr,
    ControlStep,
    Step,
    StepBlock,
    Task,
    TaskCall,
)
from orchestrator.templating import ResultPending

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate


class ScopedTemplate(Struct, frozen=True):
    """A template and the scope it is rendered in."""

    template: ValueTemplate
    task_scope: TaskScope


class InheritedOptions(Struct, frozen=True):
    """Options inherited from enclosing blocks, tasks and playbooks, outermost first.

    ``exclude_reason`` is the reason why this host does not run the step, or ''. ``call_positions``
    are the positions of the task calls that lead to the step, outermost first.
    """

    when: tuple[tuple[ConditionExpr, TaskScope], ...] = ()
    environment: tuple[tuple[MarkedKey, ScopedTemplate], ...] = ()
    chdir: ScopedTemplate | None = None
    timeout: ScopedTemplate | None = None
    tags: frozenset[str] = frozenset()
    notify: tuple[MarkedKey, ...] = ()
    delegate: ScopedTemplate | None = None
    become: ScopedTemplate | None = None
    diff: bool = True
    secret: bool = False
    local: bool = False
    title_path: tuple[str, ...] = ()
    exclude_reason: str = ""
    call_positions: tuple[SourcePosition, ...] = ()

    def for_step(self, step: Step, task_scope: TaskScope) -> InheritedOptions:
        """Return the options for a step and everything in it."""
        inner = self.with_modifiers(step.options, task_scope)
        delegate = (
            ScopedTemplate(step.delegate_to, task_scope) if step.delegate_to else self.delegate
        )
        local = step.local or (self.local and not step.delegate_to)
        notify = self.notify + step.notify
        return replace(inner, notify=notify, delegate=None if local else delegate, local=local)

    def with_scope(self, task_scope: TaskScope, other: TaskScope) -> InheritedOptions:
        """Return a copy with ``task_scope`` replaced by ``other``."""

        def with_new_scope(scoped_template: ScopedTemplate | None) -> ScopedTemplate | None:
            return (
                replace(scoped_template, task_scope=other)
                if scoped_template and scoped_template.task_scope is task_scope
                else scoped_template
            )

        return replace(
            self,
            when=tuple((j, other if f is task_scope else f) for j, f in self.when),
            environment=tuple((k, with_new_scope(s) or s) for k, s in self.environment),
            chdir=with_new_scope(self.chdir),
            timeout=with_new_scope(self.timeout),
            delegate=with_new_scope(self.delegate),
            become=with_new_scope(self.become),
        )

    def with_modifiers(self, modifiers: CommonOptions, task_scope: TaskScope) -> InheritedOptions:
        """Return a copy with these options added as the innermost ones."""
        return replace(
            self,
            when=self.when
            + tuple((condition_expr, task_scope) for condition_expr in modifiers.when),
            environment=self.environment
            + tuple((k, ScopedTemplate(v, task_scope)) for k, v in modifiers.environment.items()),
            chdir=ScopedTemplate(modifiers.chdir, task_scope) if modifiers.chdir else self.chdir,
            timeout=ScopedTemplate(modifiers.timeout, task_scope)
            if modifiers.timeout
            else self.timeout,
            tags=self.tags | set(modifiers.tags),
            become=ScopedTemplate(modifiers.become, task_scope)
            if modifiers.become
            else self.become,
            diff=self.diff if modifiers.diff is None else modifiers.diff,
            secret=self.secret or modifiers.secret,
        )


class ExpandedStep(Struct, frozen=True):
    """One step in the list.

    ``is_open_loop``: it is a loop over items that depend on a pending result. ``label`` is the name
    of a loop's item, ``loop`` the number of the first step of that loop if its items are known
    before the run and each is a single step, else 0. ``notified_by``: it belongs to a handler,
    which runs if one of these steps changed something. ``task_scope`` is the scope of its command
    or module, ``caller`` that of the other options (they differ for a module, whose options are
    written in the calling task). ``pause``: the seconds before the step, which begins an item of a
    loop. ``notify_keys`` and ``notified_as`` are as in PlannedStep.
    """

    number: int
    step: Step
    task_scope: TaskScope
    inherited: InheritedOptions
    label: str = ""
    is_open_loop: bool = False
    handler: str = ""
    notified_by: tuple[int, ...] = ()
    caller_scope: TaskScope | None = None
    loop: int = 0
    pause: float = 0.0
    notify_keys: tuple[str, ...] = ()
    notified_as: tuple[str, ...] = ()

    @property
    def caller(self) -> TaskScope:
        """Return the scope of the step's conditions and name."""
        return self.caller_scope or self.task_scope


class TaskPart(Struct, frozen=True):
    """Steps of a task that make up one planned task; a step with ``once`` is a part of its own.

    ``kind`` is '' or the key at which hosts wait for each other: once or pause. The last part ends
    with the handlers.
    """

    steps: tuple[Step, ...]
    kind: str = ""
    is_last: bool = True


def split_into_parts(task: Task, *, has_handlers: bool) -> list[TaskPart]:
    """Return the parts of a task with steps, in order; the handlers are in one for all hosts."""
    groups: list[tuple[str, list[Step]]] = []
    for step in task.steps or ():
        kind = step.waits_for_hosts
        if not groups or kind or groups[-1][0]:
            groups.append((kind, []))
        groups[-1][1].append(step)
    if has_handlers and groups and groups[-1][0]:
        groups.append(("", []))
    return [
        TaskPart(tuple(steps), kind, is_last=number == len(groups))
        for number, (kind, steps) in enumerate(groups, 1)
    ]


class TaskHandler(Struct, frozen=True):
    """A handler of the task or of one that it calls; ``names`` are those that notify it."""

    name: str
    names: frozenset[str]
    steps: tuple[Step, ...]
    task_scope: TaskScope
    inherited: InheritedOptions


class NotifyKeys(Struct, frozen=True):
    """How the steps of a planned task notify handlers in later ones.

    ``own`` are the names of the task's own handlers. ``own_prefix`` makes keys of them if the task
    is split into several planned ones, and is '' else. ``outer`` are the keys of the names of the
    playbooks' handlers.
    """

    own: frozenset[str]
    own_prefix: str = ""
    outer: Mapping[str, str] = field(default_factory=dict)

    def key_of(self, name: MarkedKey) -> str:
        """Return the key of a name, '' if steps of this planned task tell it all.

        Raises DefinitionError for the name of a handler that is out of reach.
        """
        if name in self.own:
            return self.own_key(name)
        if name in self.outer:
            return self.outer[name]
        message = f"no handler '{name}' is in reach: it belongs to a playbook that is not run"
        hint = "run that playbook, or define the handler in this task"
        raise DefinitionError(Diagnostic(message, name.mark, hint))

    def own_key(self, name: str) -> str:
        """Return the key of a handler of the task."""
        return f"{self.own_prefix} {name}" if self.own_prefix else ""


class StepList(Struct):
    """Steps in order, the blocks over them, and the result groups that several of them register.

    ``throttles`` are the steps that only some hosts run at the same time.
    """

    steps: list[ExpandedStep]
    try_blocks: list[TryBlock]
    result_groups: list[ResultGroup]
    throttles: list[ThrottledSteps] = field(default_factory=list)

    def extend(self, other: StepList) -> None:
        """Append another list."""
        self.steps += other.steps
        self.try_blocks += other.try_blocks
        self.result_groups += other.result_groups
        self.throttles += other.throttles

    def limit_hosts(self, mark: SourcePosition, limit: int) -> None:
        """Let only so many hosts run these steps at the same time; 0 is no limit."""
        if limit and self.steps:
            start, end = self.steps[0].number, self.steps[-1].number + 1
            self.throttles.append(ThrottledSteps(start, end, str(mark), limit))

    def pause_before(self, seconds: float) -> None:
        """Put a pause in front of the first step, if there is one that this host runs."""
        if seconds and self.steps and not self.steps[0].inherited.exclude_reason:
            self.steps[0] = replace(self.steps[0], pause=seconds)


class TaskExpander:
    """Expands one task on one host; numbers continue through all calls, starting at ``first``.

    ``registered`` and ``settled_results`` are the names that earlier steps register, and the
    results already known: they decide whether a loop's items are known, or the loop stays open.
    More than ``max_steps`` steps in a loop over a result are an error.

    ``notifying_steps`` are the steps that notify handlers, with the names; ``handled_count`` is how
    many of them have led to steps of a handler, by its name.
    """

    def __init__(
        self,
        host: Host,
        tasks: Mapping[str, Task],
        defaults: Mapping[str, Values],
        first: int = 1,
        *,
        registered: Mapping[str, tuple[int, ...]] | None = None,
        settled_results: ResultsByName | None = None,
        max_steps: int | None = None,
    ) -> None:
        """Create an expander without handlers and rollbacks."""
        self.host, self.tasks, self.defaults = host, tasks, defaults
        self.next_number = first
        self.first_number, self.last_number = (
            first,
            None if max_steps is None else first + max_steps,
        )
        self.registered: dict[str, tuple[int, ...]] = dict(registered or {})
        self.settled_results: ResultsByName = settled_results or {}
        self.handlers: list[TaskHandler] = []
        self.notifying_steps: list[tuple[int, frozenset[str]]] = []
        self.handled_count: dict[str, int] = {}
        self.notify_keys: NotifyKeys | None = None
        self._earlier_notifying = 0  # how many of the steps that notify are of earlier parts
        self.has_begun = False
        self._uncertain_parts: list[str] = []  # the parts around a step that may not be reached
        self.rollbacks: list[tuple[tuple[Step, ...], TaskScope, InheritedOptions]] = []

    def expand_task(
        self, task: Task, task_scope: TaskScope, inherited: InheritedOptions
    ) -> StepList:
        """Return the steps of the task; its handlers and rollback are stored for later."""
        self._keep_for_later(task, task_scope, inherited)
        row = self.expand_steps(task.steps or (), task_scope, inherited)
        row.limit_hosts(task.mark, task.throttle)
        return row

    def expand_part(
        self,
        task: Task,
        task_scope: TaskScope,
        inherited: InheritedOptions,
        part: TaskPart,
    ) -> StepList:
        """Return the steps of one part of a scheduled task, with the handlers after the last."""
        self._earlier_notifying = len(self.notifying_steps)
        if not self.has_begun:
            self._keep_for_later(task, task_scope, inherited)
        self.has_begun = True
        row = self.expand_steps(part.steps, task_scope, inherited)
        row.limit_hosts(task.mark, task.throttle)
        if part.is_last:
            row.extend(self.notified_handlers())
        return row

    def expand_handlers(
        self,
        task: Task,
        task_scope: TaskScope,
        inherited: InheritedOptions,
        keys: Mapping[str, str],
        notified: Set[str],
    ) -> StepList:
        """Return the steps of a playbook's handlers that may have been notified, in order.

        ``keys`` are those of the names that notify them, ``notified`` those that steps notify.
        """
        row, known = StepList([], [], []), set(notified)
        for name, handler_steps in task.handlers.items():
            own = {keys[each] for each in (name, *task.topics.get(name, ()))} & known
            if not own:
                continue
            steps = self.expand_steps(handler_steps, task_scope, inherited)
            steps.steps = [
                replace(f, handler=name, notified_as=tuple(sorted(own))) for f in steps.steps
            ]
            known.update(key for f in steps.steps for key in f.notify_keys)
            row.extend(steps)
        return row

    def _keep_for_later(
        self, task: Task, task_scope: TaskScope, inherited: InheritedOptions
    ) -> None:
        if inherited.exclude_reason:
            return
        known = {handler.name for handler in self.handlers}
        for name, steps in task.handlers.items():
            if name not in known:
                names = frozenset((name, *map(str, task.topics.get(name, ()))))
                self.handlers.append(TaskHandler(name, names, steps, task_scope, inherited))
        if task.rollback:
            self.rollbacks.append((task.rollback, task_scope, inherited))

    def expand_steps(
        self, steps: Iterable[Step], task_scope: TaskScope, inherited: InheritedOptions
    ) -> StepList:
        """Return the expanded steps, one after another."""
        row = StepList([], [], [])
        for step in steps:
            scope = task_scope.with_vars(step.vars) if step.vars else task_scope
            row.extend(self.expand_step(step, scope, inherited.for_step(step, scope)))
        return row

    def expand_step(
        self, step: Step, task_scope: TaskScope, inherited: InheritedOptions
    ) -> StepList:
        """Return one step expanded, with all items of its loop."""
        first = self.next_number
        whole = isinstance(step.action, TaskCall | StepBlock) or step.loop is not None
        goes_on = whole and step.ignore_errors is True
        with self._uncertain("a loop" if step.loop else "`ignore_errors`" if goes_on else ""):
            row = (
                self._expand_loop(step, task_scope, inherited)
                if step.loop
                else self._expand_single(step, task_scope, inherited)
            )
        names = step.action.names if isinstance(step.action, ControlStep) else ()
        for name in (step.register, *names):
            if name:
                self.registered = {**self.registered, name: ()}
                self.settled_results = {k: v for k, v in self.settled_results.items() if k != name}
        row.limit_hosts(step.mark, step.throttle)
        if goes_on and row.steps:
            row.try_blocks.append(
                TryBlock(
                    first, self.next_number, self.next_number, self.next_number, has_rescue=True
                )
            )
        return row

    def _expand_single(
        self, step: Step, task_scope: TaskScope, inherited: InheritedOptions, label: str = ""
    ) -> StepList:
        if self.next_number - self.first_number > MAX_STEPS:
            message = f"the task has more than {MAX_STEPS} steps on one host"
            hint = "check the items of its loops; a shell loop inside one `run` is a single step"
            raise DefinitionError(Diagnostic(message, step.mark, hint))
        if isinstance(step.action, TaskCall):
            return self._expand_call(step, step.action, task_scope, inherited)
        if isinstance(step.action, StepBlock):
            return self._expand_block(step, step.action, task_scope, inherited)
        if step.kind == "flush_handlers":
            return self._flush_handlers(step, inherited)
        return self._add_step(ExpandedStep(self.next_number, step, task_scope, inherited, label))

    def _add_step(self, expanded: ExpandedStep) -> StepList:
        """Return a list of one step, which has the next number."""
        self.next_number = expanded.number + 1
        if expanded.inherited.notify:
            names = frozenset(map(str, expanded.inherited.notify))
            self.notifying_steps.append((expanded.number, names))
            if self.notify_keys is not None:
                keys = dict.fromkeys(map(self.notify_keys.key_of, expanded.inherited.notify))
                expanded = replace(expanded, notify_keys=tuple(filter(None, keys)))
        return StepList([expanded], [], [])

    @contextmanager
    def _uncertain(self, part: str) -> Iterator[None]:
        """While expanding, note that the steps are in a part of which some may not be reached."""
        self._uncertain_parts += [part] if part else []
        yield
        if part:
            self._uncertain_parts.pop()

    def _expand_block(
        self, step: Step, block: StepBlock, task_scope: TaskScope, inherited: InheritedOptions
    ) -> StepList:
        start = self.next_number
        with self._uncertain("a block with `rescue`" if block.rescue else ""):
            row = self.expand_steps(block.steps, task_scope, inherited)
            body = self.next_number
            row.extend(self.expand_steps(block.rescue, task_scope, inherited))
        rescue = self.next_number
        row.extend(self.expand_steps(block.always, task_scope, inherited))
        row.try_blocks.append(
            TryBlock(start, body, rescue, self.next_number, has_rescue=bool(block.rescue))
        )
        if step.register and step.loop is None and row.steps:
            row.result_groups.append(ResultGroup(step.register, ((None, start, self.next_number),)))
        return row

    def _expand_call(
        self, step: Step, call: TaskCall, task_scope: TaskScope, inherited: InheritedOptions
    ) -> StepList:
        task = self.tasks[call.task]
        callee_scope = TaskScope(
            task,
            task_scope.host,
            written_args=call.args,
            caller=task_scope,
            defaults=self.defaults.get(call.task, {}),
            call_position=call.mark,
        )
        inner = inherited.with_modifiers(task.options, callee_scope)
        shown = step.name.source if step.name else task.name
        inner = replace(
            inner,
            title_path=(*inherited.title_path, shown),
            call_positions=(*inherited.call_positions, call.mark),
        )
        if task.roles is not None and not set(task.roles) & set(self.host.roles):
            inner = replace(inner, exclude_reason=f"'{task.name}' is for {', '.join(task.roles)}")
        first = self.next_number
        if task.module is not None:
            self._keep_for_later(task, callee_scope, inner)
            module_step = replace(step, action=task.module, ignore_errors=False)
            inner = replace(inner, title_path=inherited.title_path)
            return self._add_step(
                ExpandedStep(first, module_step, callee_scope, inner, caller_scope=task_scope)
            )
        row = self.expand_task(task, callee_scope, inner)
        if step.register and step.loop is None and row.steps:
            row.result_groups.append(ResultGroup(step.register, ((None, first, self.next_number),)))
        return row

    def notified_handlers(self, flush: tuple[Step, InheritedOptions] | None = None) -> StepList:
        """Return the steps of the handlers that steps notify and that have not followed them yet.

        Handlers may notify later ones. ``flush`` is the step that runs them before the task's end.
        """
        row = StepList([], [], [])
        for handler in self.handlers:
            start = self.handled_count.get(handler.name, 0)
            numbers, keys = self._notifications_since(start, handler)
            if (numbers or keys) and flush is not None:
                _check_flush(handler, *flush)
            self.handled_count[handler.name] = len(self.notifying_steps)
            if numbers or keys:
                inherited = replace(handler.inherited, notify=())
                steps = self.expand_steps(handler.steps, handler.task_scope, inherited)
                steps.steps = [
                    replace(f, handler=handler.name, notified_by=numbers, notified_as=keys)
                    for f in steps.steps
                ]
                row.extend(steps)
        return row

    def _notifications_since(
        self, start: int, handler: TaskHandler
    ) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Return the steps of this part that notify the handler, and the keys of earlier ones."""
        numbers: list[int] = []
        keys: dict[str, None] = {}
        for index, (number, names) in enumerate(self.notifying_steps[start:], start):
            if index >= self._earlier_notifying and names & handler.names:
                numbers.append(number)
            elif names & handler.names and self.notify_keys is not None:
                keys |= dict.fromkeys(map(self.notify_keys.own_key, names & handler.names))
        return tuple(numbers), tuple(sorted(keys))

    def _flush_handlers(self, step: Step, inherited: InheritedOptions) -> StepList:
        """Return the steps of the handlers that have been notified so far.

        Raises DefinitionError if a host may go on without having reached the step.
        """
        if inherited.exclude_reason:
            return StepList([], [], [])
        if self._uncertain_parts:
            message = f"`flush_handlers` is not allowed in {self._uncertain_parts[-1]}"
            message += ": a host may go on without having reached it"
            raise DefinitionError(Diagnostic(message, step.mark, _FLUSH_HINT))
        return self.notified_handlers((step, inherited))

    def expand_rollback(self) -> StepList:
        """Return the task's rollback with the handlers it notifies; the last call comes first."""
        row = StepList([], [], [])
        self.notifying_steps.clear()
        self.handled_count.clear()
        self._earlier_notifying = 0
        if self.notify_keys is not None:  # the playbook's handlers do not run after a failure
            self.notify_keys = NotifyKeys(self.notify_keys.own)
        for steps, task_scope, inherited in reversed(self.rollbacks):
            row.extend(self.expand_steps(steps, task_scope, replace(inherited, notify=())))
        row.extend(self.notified_handlers())
        return row

    def _expand_loop(
        self, step: Step, task_scope: TaskScope, inherited: InheritedOptions
    ) -> StepList:
        task_scope.host.position.registered = self.registered
        task_scope.host.position.results, task_scope.host.position.controller_names = (
            self.settled_results,
            frozenset(),
        )
        try:
            items = evaluate_loop_items(step, task_scope)
        except ResultPending:
            return self._add_step(
                ExpandedStep(self.next_number, step, task_scope, inherited, is_open_loop=True)
            )
        return self.expand_items(step, items, task_scope, inherited)

    def expand_items(
        self,
        step: Step,
        items: list[object],
        task_scope: TaskScope,
        inherited: InheritedOptions,
        *,
        from_host: bool = False,
    ) -> StepList:
        """Expand a loop; if an item fails the others still run, and the loop has failed.

        ``from_host``: the items are derived from host output.
        """
        row = StepList([], [], [])
        parts = []
        has_parts = isinstance(step.action, TaskCall | StepBlock)
        is_late = self.last_number is not None  # then the numbers themselves tell the loop
        loop = 0 if has_parts or is_late else self.next_number
        for number, item in enumerate(items):
            item_scope = task_scope.with_names(
                _names_of_item(step, number, item), _loop_sources(step), from_host=from_host
            )
            label = self._item_label(step, item, item_scope)
            start = self.next_number
            item_step = replace(step, loop=None, ignore_errors=False, register="")
            if not isinstance(step.action, TaskCall | StepBlock):
                item_step = replace(item_step, ignore_errors=step.ignore_errors)
            item_options = inherited.with_scope(task_scope, item_scope)
            item_row = self._expand_single(item_step, item_scope, item_options)
            if number and step.loop is not None:
                item_row.pause_before(step.loop.pause)
            row.extend(_with_label(item_row, label, loop))
            if self.last_number is not None and self.next_number > self.last_number:
                message = f"a loop over {len(items)} items from a result has too many steps"
                raise DefinitionError(Diagnostic(message, step.mark, "loop over them on the host"))
            parts.append((item, start, self.next_number))
        # An item's block contains those of the items after it, so the inner ones come first.
        row.try_blocks += [TryBlock(s, e, e, self.next_number) for _, s, e in reversed(parts[:-1])]
        if step.register:
            row.result_groups.append(ResultGroup(step.register, tuple(parts), is_loop=True))
        return row

    def _item_label(self, step: Step, item: object, item_scope: TaskScope) -> str:
        if step.loop is not None and step.loop.label is not None:
            return step.loop.label.render(item_scope)
        if isinstance(item, Mapping):
            item = item.get("name", item.get("key", next(iter(item.values()), "")))
        try:
            return str(item)
        except (TypeError, ValueError):
            return ""  # a value without text: the step gets no label


_FLUSH_HINT = "put it directly under `steps` of the task"


def _check_flush(handler: TaskHandler, step: Step, inherited: InheritedOptions) -> None:
    """Raise DefinitionError if a condition decides whether the step runs, but not the handler."""
    if any(each not in handler.inherited.when for each in inherited.when):
        message = "`flush_handlers` is not allowed where a `when` decides whether it runs"
        raise DefinitionError(Diagnostic(message, step.mark, _FLUSH_HINT))


def evaluate_loop_items(step: Step, task_scope: TaskScope) -> list[object]:
    """Return the items of a loop.

    Raises ResultPending, and DefinitionError if the value is not a list or a mapping.
    """
    if step.loop is None:
        raise TypeError("the step has no `loop`")
    # without templates, a run does not need to import Jinja
    from orchestrator.templating import Expression

    over = step.loop.over
    found = over.value(task_scope) if isinstance(over, Expression) else over.render(task_scope)
    if isinstance(found, Mapping):
        return [{"key": key, "value": value} for key, value in found.items()]
    if isinstance(found, (list, tuple, range)):
        return list(found)
    message = f"`loop` needs a list or a mapping, found {repr_text(found)}"
    hint = "write `.splitlines()` or `.split()` for the parts of a text"
    raise DefinitionError(Diagnostic(message, over.mark, hint if isinstance(found, str) else ""))


def _names_of_item(step: Step, number: int, item: object) -> dict[str, object]:
    if step.loop is None:
        raise TypeError("the step has no `loop`")
    return dict(zip(step.loop.names, (item, number), strict=False))


def _loop_sources(step: Step) -> frozenset[str]:
    over = step.loop.over if step.loop else None
    return over.sources if over is not None else frozenset()


def _with_label(row: StepList, label: str, loop: int) -> StepList:
    row.steps = [
        replace(f, label=f"{label} · {f.label}" if f.label else label, loop=f.loop or loop)
        for f in row.steps
    ]
    return row
