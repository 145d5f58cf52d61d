"""What runs in which order when a task runs: hooks, playbooks and calls unfolded, for no stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from orchestrator import playbook
from orchestrator.commands.project import root_of
from orchestrator.playbook.model import (
    Block,
    Call,
    Control,
    Download,
    Item,
    Judgement,
    Run,
    Share,
    Step,
    Task,
)

_IN = "  "


def tree_of(directory: str | None, name: str | None) -> Iterator[str]:
    """The tree of one task, or of every task that no other calls or schedules.

    Raises DefinitionError, and UsageError where there is no project.
    """
    root = root_of(directory)
    loaded = playbook.load(root, None if name is None else [name])
    if name is not None:
        playbook.check_requests([playbook.Request(name)], loaded)
    tree = _Tree(loaded.by_name)
    for number, task in enumerate(_roots(loaded.by_name) if name is None else [name]):
        if number:
            yield ""
        yield from tree.named(loaded.by_name[task], "", "", ())


def _roots(by_name: Mapping[str, Task]) -> list[str]:
    """The tasks that are neither called nor hooked, in name order."""
    below = {call.task for task in by_name.values() for call in task.calls()}
    hooks = {t.name for t in by_name.values() if t.before or t.after or t.failed}
    return sorted(name for name in by_name if name not in below | hooks)


class _Tree(Struct, frozen=True):
    by_name: Mapping[str, Task]

    def named(self, task: Task, indent: str, said: str, above: tuple[str, ...]) -> Iterator[str]:
        """A scheduled task with what is hooked to it, in the order in which they run."""
        if task.name in above:
            yield f"{indent}{task.name} (hooks into itself)"
            return
        inner = (*above, task.name)
        yield from self._hooks("before", task, indent, inner)
        yield indent + _title(task, task.name, said)
        yield from self._body(task, indent + _IN, inner)
        yield from self._hooks("after", task, indent, inner)
        yield from self._hooks("failed", task, indent, inner)

    def _hooks(self, when: str, task: Task, indent: str, above: tuple[str, ...]) -> Iterator[str]:
        for hook in sorted(self.by_name.values(), key=lambda hook: hook.name):
            if task.name in getattr(hook, when):
                said = f"if {task.name} fails" if when == "failed" else f"{when} {task.name}"
                if hook.apps:
                    said += f", for {', '.join(hook.apps)}"
                yield from self.named(hook, indent, said, above)

    def _body(self, task: Task, indent: str, above: tuple[str, ...]) -> Iterator[str]:
        for item in task.tasks or ():
            yield from self._item(item, indent, above)
        yield from self._steps(task.steps or (), indent)
        for name, steps in task.handlers.items():
            yield f"{indent}handler {name}:"
            yield from self._steps(steps, indent + _IN)
        if task.rollback:
            yield f"{indent}rollback:"
            yield from self._steps(task.rollback, indent + _IN)

    def _item(self, item: Item, indent: str, above: tuple[str, ...]) -> Iterator[str]:
        said = ", ".join(_of_item(item))
        if item.does is None:
            yield f"{indent}commit: from here on a failure no longer rolls back"
        elif isinstance(item.does, Call):
            yield from self.named(self.by_name[item.does.task], indent, said, above)
        else:
            yield indent + _title(item.does, item.name or "in place", said)
            yield from self._body(item.does, indent + _IN, above)

    def _steps(self, steps: Iterable[Step], indent: str) -> Iterator[str]:
        for step in steps:
            if isinstance(step.does, Block):
                yield indent + _with("block", _of_step(step))
                parts = (("", step.does.steps), ("rescue", step.does.rescue))
                for name, inner in (*parts, ("always", step.does.always)):
                    if name and inner:
                        yield f"{indent}{name}:"
                    yield from self._steps(inner, indent + _IN)
                continue
            yield f"{indent}- {_with(_does(step), _of_step(step))}"
            if isinstance(step.does, Call):
                called = self.by_name[step.does.task]
                yield from self._body(called, indent + _IN * 2, ())


def _title(task: Task, name: str, said: str) -> str:
    on = f"on {', '.join(task.roles)}" if task.roles is not None else ""
    title = _with(name, [part for part in (on, said) if part])
    return f"{title}: {task.desc}" if task.desc else title


def _with(title: str, said: Sequence[str]) -> str:
    return f"{title} ({', '.join(said)})" if said else title


def _does(step: Step) -> str:
    """The step's name as written, else the first line of what it runs."""
    if step.name is not None:
        return step.name.source
    if isinstance(step.does, Run):
        text = step.does.text.source if step.does.text else step.does.literal
        first, _, more = text.strip().partition("\n")
        return f"{first} …" if more else first
    if isinstance(step.does, Call):
        return step.does.task
    if isinstance(step.does, Download):
        return f"download {step.does.path.source}"
    return step.does.kind if isinstance(step.does, Control) else "block"


def _of_step(step: Step) -> list[str]:
    said = ["in a loop"] if step.loop else []
    said += [f"when {' and '.join(map(_written, step.mods.when))}"] if step.mods.when else []
    said += ["tried again"] if step.again else []
    said += ["on another host"] if step.delegate_to else []
    said += [f"notifies {', '.join(step.notify)}"] if step.notify else []
    return said


def _written(judgement: Judgement) -> str:
    return str(judgement).lower() if isinstance(judgement, bool) else judgement.source


def _of_item(item: Item) -> Iterator[str]:
    if item.name and isinstance(item.does, Call):
        yield f"as '{item.name}'"
    if item.mods.when:
        yield f"when {' and '.join(map(_written, item.mods.when))}"
    if item.once:
        yield "once, on any host" if item.anyone else "once"
    if item.batch:
        yield f"in batches of {', '.join(map(_share, item.batch))}"
    if item.max_failures is not None:
        yield f"at most {_share(item.max_failures)} may fail"


def _share(share: Share) -> str:
    return f"{share.number}%" if share.percent else str(share.number)
