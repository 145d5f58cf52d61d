"""Shows the order of execution of tasks: hooks, playbooks and calls expanded, for no stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from orchestrator import playbook
from orchestrator.commands.project import resolve_project_root
from orchestrator.playbook.model import (
    ConditionExpr,
    ControlStep,
    DownloadStep,
    HostCount,
    PlaybookItem,
    RunStep,
    Step,
    StepBlock,
    Task,
    TaskCall,
)

_INDENT = "  "


def task_tree_lines(directory: str | None, name: str | None) -> Iterator[str]:
    """Yield the tree of one task, or of every task that no other task calls or schedules.

    Raises DefinitionError, and UsageError if there is no project.
    """
    root = resolve_project_root(directory)
    loaded = playbook.load_tasks(root, None if name is None else [name])
    if name is not None:
        playbook.check_task_requests([playbook.TaskRequest(name)], loaded)
    tree = TaskTreeRenderer(loaded.by_name)
    for number, task in enumerate(_root_tasks(loaded.by_name) if name is None else [name]):
        if number:
            yield ""
        yield from tree.scheduled_task_lines(loaded.by_name[task], "", "", ())


def _root_tasks(by_name: Mapping[str, Task]) -> list[str]:
    """Return the tasks that are neither called nor hooked, sorted by name."""
    below = {call.task for task in by_name.values() for call in task.all_calls()}
    hooks = {t.name for t in by_name.values() if t.before or t.after or t.failed}
    return sorted(name for name in by_name if name not in below | hooks)


class TaskTreeRenderer(Struct, frozen=True):
    """Renders the trees of tasks."""

    by_name: Mapping[str, Task]

    def scheduled_task_lines(
        self, task: Task, indent: str, note: str, parents: tuple[str, ...]
    ) -> Iterator[str]:
        """Yield a scheduled task with its hooks, in the order of execution."""
        if task.name in parents:
            yield f"{indent}{task.name} (hooks into itself)"
            return
        inner = (*parents, task.name)
        yield from self._hook_lines("before", task, indent, inner)
        yield indent + _task_title(task, task.name, note)
        yield from self._body_lines(task, indent + _INDENT, inner)
        yield from self._hook_lines("after", task, indent, inner)
        yield from self._hook_lines("failed", task, indent, inner)

    def _hook_lines(
        self, when: str, task: Task, indent: str, parents: tuple[str, ...]
    ) -> Iterator[str]:
        for hook in sorted(self.by_name.values(), key=lambda hook: hook.name):
            if task.name in getattr(hook, when):
                note = f"if {task.name} fails" if when == "failed" else f"{when} {task.name}"
                if hook.apps:
                    note += f", for {', '.join(hook.apps)}"
                yield from self.scheduled_task_lines(hook, indent, note, parents)

    def _body_lines(self, task: Task, indent: str, parents: tuple[str, ...]) -> Iterator[str]:
        for item in task.tasks or ():
            yield from self._item_lines(item, indent, parents)
        yield from self._step_lines(task.steps or (), indent)
        for name, steps in task.handlers.items():
            topics = ", ".join(task.topics.get(name, ()))
            yield f"{indent}handler {name}{f' (listens to {topics})' if topics else ''}:"
            yield from self._step_lines(steps, indent + _INDENT)
        if task.rollback:
            yield f"{indent}rollback:"
            yield from self._step_lines(task.rollback, indent + _INDENT)

    def _item_lines(
        self, item: PlaybookItem, indent: str, parents: tuple[str, ...]
    ) -> Iterator[str]:
        note = ", ".join(_item_notes(item))
        if item.action is None:
            yield f"{indent}{_WORDS.get(item.name, f'pause: {item.prompt}')}"
        elif isinstance(item.action, TaskCall):
            yield from self.scheduled_task_lines(
                self.by_name[item.action.task], indent, note, parents
            )
        else:
            yield indent + _task_title(item.action, item.name or "in place", note)
            yield from self._body_lines(item.action, indent + _INDENT, parents)

    def _step_lines(self, steps: Iterable[Step], indent: str) -> Iterator[str]:
        for step in steps:
            if isinstance(step.action, StepBlock):
                yield indent + _with_notes("block", _step_notes(step))
                parts = (("", step.action.steps), ("rescue", step.action.rescue))
                for name, inner in (*parts, ("always", step.action.always)):
                    if name and inner:
                        yield f"{indent}{name}:"
                    yield from self._step_lines(inner, indent + _INDENT)
                continue
            yield f"{indent}- {_with_notes(_step_title(step), _step_notes(step))}"
            if isinstance(step.action, TaskCall):
                called = self.by_name[step.action.task]
                yield from self._body_lines(called, indent + _INDENT * 2, ())


_WORDS = {
    "commit": "commit: a later failure does not roll back",
    "flush_handlers": "flush_handlers: the handlers of the playbook that were notified",
}


def _task_title(task: Task, name: str, note: str) -> str:
    on = f"on {', '.join(task.roles)}" if task.roles is not None else ""
    title = _with_notes(name, [part for part in (on, note) if part])
    return f"{title}: {task.desc}" if task.desc else title


def _with_notes(title: str, notes: Sequence[str]) -> str:
    return f"{title} ({', '.join(notes)})" if notes else title


def _step_title(step: Step) -> str:
    """Return the step's name as written, else the first line of its command."""
    if step.name is not None:
        return step.name.source
    if isinstance(step.action, RunStep):
        text = step.action.text.source if step.action.text else step.action.literal
        first, _, more = text.strip().partition("\n")
        return f"{first} …" if more else first
    if isinstance(step.action, TaskCall):
        return step.action.task
    if isinstance(step.action, DownloadStep):
        return f"download {step.action.path.source}"
    return step.action.kind if isinstance(step.action, ControlStep) else "block"


def _step_notes(step: Step) -> list[str]:
    notes = ["in a loop"] if step.loop else []
    notes += ["once"] if step.once else []
    notes += (
        [f"when {' and '.join(map(_condition_text, step.options.when))}"]
        if step.options.when
        else []
    )
    notes += ["with retries"] if step.retry else []
    notes += ["on another host"] if step.delegate_to else []
    notes += [f"notifies {', '.join(step.notify)}"] if step.notify else []
    return notes


def _condition_text(condition: ConditionExpr) -> str:
    return str(condition).lower() if isinstance(condition, bool) else condition.source


def _item_notes(item: PlaybookItem) -> Iterator[str]:
    if item.name and isinstance(item.action, TaskCall):
        yield f"as '{item.name}'"
    if item.options.when:
        yield f"when {' and '.join(map(_condition_text, item.options.when))}"
    if item.once:
        yield "once, on any host" if item.any_host else "once"
    if item.batch:
        order = {"reversed": ", last host first", "shuffle": ", in a random order"}
        sizes = ", ".join(map(_count_text, item.batch))
        yield f"in batches of {sizes}{order.get(item.order, '')}"
    if item.pause:
        yield f"{item.pause:g} s between batches"
    if item.confirm:
        yield "each batch but the first is confirmed"
    if item.on_batch_failure == "continue":
        yield "a failed batch does not stop the next one"
    if item.max_failures is not None:
        yield f"at most {_count_text(item.max_failures)} may fail"


def _count_text(count: HostCount) -> str:
    return f"{count.number}%" if count.percent else str(count.number)
