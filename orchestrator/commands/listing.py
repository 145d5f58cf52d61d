"""What the project holds, as rows; what cannot be read is said in its row.

One task, explained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from orchestrator import playbook
from orchestrator.commands.project import root_of
from orchestrator.errors import DefinitionError, Problem
from orchestrator.inventory.stage_loader import load as load_stage
from orchestrator.inventory.stages import stages
from orchestrator.playbook.keywords import MEANINGS
from orchestrator.playbook.model import Call, Item, Module, Param, Rule, Run, Step, Task
from orchestrator.playbook.task_index import index, shipped
from orchestrator.yamlio.local_files import show
from orchestrator.yamlio.yaml_loader import load


class Listed(Struct, frozen=True):
    """One stage or task. ``hosts`` is None and ``error`` set where it could not be read."""

    name: str
    desc: str = ""
    hosts: int | None = None
    error: str = ""


def stages_of(directory: str | None) -> tuple[list[Listed], Sequence[Problem]]:
    """Every stage, and what looks like one but cannot be."""
    root = root_of(directory)
    known = stages(root)
    rows = []
    for name in known.names:
        try:
            stage = load_stage(root, name)
        except DefinitionError as error:
            rows.append(Listed(name, error=_in_error(error)))
            continue
        protected = "protected" if stage.protected else ""
        desc = " · ".join(part for part in (stage.desc, protected) if part)
        rows.append(Listed(name, desc, len(stage.hosts)))
    return rows, [problem for _, problem in known.refused]


def tasks_of(directory: str | None) -> tuple[list[Listed], Sequence[Problem]]:
    """Every task, and files whose names cannot be tasks'."""
    root = root_of(directory)
    found = index(root)
    rows = []
    for name in found.files:
        try:
            rows.append(Listed(name, playbook.load(root, [name]).by_name[name].desc))
        except DefinitionError as error:
            rows.append(Listed(name, error=_in_error(error)))
    return rows, [problem for _, problem in found.refused]


def _in_error(error: DefinitionError) -> str:
    first, more = error.problems[0], len(error.problems) - 1
    others = f" (and {more} more; see `orch lint`)" if more else ""
    return f"in error: {first.mark}: {first.what}{others}"


def modules() -> list[tuple[str, str]]:
    """The modules that ship, each with what it is for."""
    return [
        (name, str(load(path, show(path)).plain()["desc"]).strip())
        for name, path in shipped().items()
    ]


def doc_of(directory: str | None, name: str) -> Iterator[str]:
    """What the task is for, its params, its steps. Raises DefinitionError."""
    if name in MEANINGS:
        yield f"{name}: a word of task files"
        yield f"  {MEANINGS[name]}"
        return
    root = root_of(directory)
    request = playbook.Request(name)
    loaded = playbook.load(root, [name])
    playbook.check_requests([request], loaded)
    task = loaded.by_name[name]
    yield f"{task.name}: {task.desc}" if task.desc else task.name
    yield f"  in {task.mark.path}"
    if task.roles is not None:
        yield f"  on {', '.join(task.roles)}"
    params = _params(task, loaded.by_name)
    if params:
        yield ""
        yield "params:"
        for param in params.values():
            yield from _param(param)
        yield from (f"  {_rule(rule)}" for rule in task.rules)
    yield ""
    if task.module is not None:
        yield from _module(task.module)
    else:
        yield "steps:" if task.steps is not None else "tasks:"
        parts: list[Step | Item] = [*(task.steps or ()), *(task.tasks or ())]
        for number, part in enumerate(parts, 1):
            yield f"  {number:>2}  {_part(part)}"
    yield ""
    if task.example:
        yield "example:"
        yield from (f"  {line}" for line in task.example.rstrip().splitlines())
        return
    needed = "".join(f" {name}=…" for name in playbook.required_below(task, loaded.by_name))
    yield f"example: orch -s STAGE run {task.name}{needed}"


def _module(module: Module) -> Iterator[str]:
    """What a module compares and, where it changes something, that it does."""
    if module.want:
        yield "wants:"
        for key, value in module.want.items():
            yield f"  {key}: {' '.join(str(value.source).split())}"
        yield ""
    yield "changes nothing" if module.readonly else "changes what differs"


def _params(task: Task, by_name: Mapping[str, Task]) -> dict[str, Param]:
    """The params of a task and, of a playbook, those of its tasks that it does not write itself."""
    found = dict(task.params)
    for item in task.tasks or ():
        inner = by_name[item.does.task] if isinstance(item.does, Call) else item.does
        written = item.does.args if isinstance(item.does, Call) else {}
        for name, param in (_params(inner, by_name) if inner else {}).items():
            if name not in written and not (name in found and found[name].help):
                found[name] = param
    return found


def _rule(rule: Rule) -> str:
    if rule.kind == "one_of":
        return f"exactly one of {', '.join(rule.names)} is given"
    return f"no path in {' or '.join(rule.names)} is, or is inside, another"


def _param(param: Param) -> Iterator[str]:
    said = [f"{param.type} of {param.elements}" if param.elements else param.type]
    if param.absolute:
        said.append("absolute, or from ~/ on")
    if param.required:
        said.append("required")
    elif param.written_default is not None and not param.secret:
        said.append(f"default {param.written_default.plain()!r}")
    if param.secret:
        said.append("secret")
    if param.choices:
        said.append(f"one of {', '.join(map(str, param.choices))}")
    yield f"  {param.name} ({', '.join(said)})"
    if param.help:
        yield f"      {param.help}"


def _part(part: Step | Item) -> str:
    if isinstance(part.does, Run):
        source = part.does.text.source if part.does.text else part.does.literal
        shown = source.strip().split("\n")
        name = part.name.source if isinstance(part, Step) and part.name else ""
        return name or shown[0] + (" …" if len(shown) > 1 else "")
    if isinstance(part.does, Call):
        given = "".join(f" {key}=…" for key in part.does.args)
        return f"{part.does.task}{given}"
    return f"{part.does.name} (in place)" if isinstance(part.does, Task) else ""
