"""Lists the stages, tasks and modules of the project; documents a single task.

An invalid stage or task is listed with its error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator import playbook
from orchestrator.commands import reference, troubleshooting
from orchestrator.commands.inventory_access import inventory_access
from orchestrator.commands.project import optional_project_root, resolve_project_root
from orchestrator.errors import DefinitionError, Diagnostic, UsageError, suggest_nearest
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.inventory.stages import list_stages
from orchestrator.playbook.model import (
    ModuleSpec,
    ParamRule,
    PlaybookItem,
    RunStep,
    Step,
    Task,
    TaskCall,
    TaskParam,
)
from orchestrator.playbook.own_filters import load_own_filters
from orchestrator.playbook.task_index import TaskIndex, index_tasks, shipped_modules
from orchestrator.yamlio.local_files import display_path
from orchestrator.yamlio.yaml_loader import load_yaml


class ListEntry(Struct, frozen=True):
    """One stage or task. ``hosts`` is None and ``error`` set if it could not be read."""

    name: str
    desc: str = ""
    hosts: int | None = None
    error: str = ""


def list_stage_entries(directory: str | None) -> tuple[list[ListEntry], Sequence[Diagnostic]]:
    """Return every stage, and errors for folders with invalid names."""
    root = resolve_project_root(directory)
    stage_list = list_stages(root)
    entries = []
    for name in stage_list.names:
        try:
            stage = load_stage(root, name, inventory_access(root, os.environ))
        except DefinitionError as error:
            entries.append(ListEntry(name, error=_error_summary(error)))
            continue
        protected = "protected" if stage.protected else ""
        desc = " · ".join(part for part in (stage.desc, protected) if part)
        entries.append(ListEntry(name, desc, len(stage.hosts)))
    return entries, [diagnostic for _, diagnostic in stage_list.refused]


def list_tasks(directory: str | None) -> tuple[list[ListEntry], Sequence[Diagnostic]]:
    """Return every task, and errors for files with invalid names."""
    root = resolve_project_root(directory)
    task_index = index_tasks(root)
    entries = []
    for name in task_index.files:
        try:
            entries.append(ListEntry(name, playbook.load_tasks(root, [name]).by_name[name].desc))
        except DefinitionError as error:
            entries.append(ListEntry(name, error=_error_summary(error)))
    return entries, [diagnostic for _, diagnostic in task_index.refused]


def _error_summary(error: DefinitionError) -> str:
    first, more = error.diagnostics[0], len(error.diagnostics) - 1
    others = f" (and {more} more; see `orch lint`)" if more else ""
    return f"in error: {first.mark}: {first.message}{others}"


def list_modules() -> list[tuple[str, str]]:
    """Return the built-in modules with their descriptions."""
    return [
        (name, str(load_yaml(path, display_path(path)).to_plain()["desc"]).strip())
        for name, path in shipped_modules().items()
    ]


def list_topics() -> list[tuple[str, str]]:
    """Return the topics of the reference and of troubleshooting with their titles."""
    topics = [(name, make().title) for name, make in reference.reference_topics().items()]
    return [*topics, (troubleshooting.TOPIC, troubleshooting.TITLE)]


def doc_lines(directory: str | None, name: str, width: int) -> Iterator[str]:
    """Return the documentation of a task, module, topic, key or error in ``width`` columns.

    Tasks of the project and modules come first, then topics, then keys, then sections of the
    troubleshooting page. Outside a project, there are no tasks. Raises DefinitionError and
    UsageError.
    """
    topics, modules = reference.reference_topics(), shipped_modules()
    root = optional_project_root(directory)
    index = TaskIndex({}, (), modules) if root is None else index_tasks(root)
    tasks = index.all_names()
    lines = reference.key_lines(name, width)
    if name in tasks:
        also = ["", *lines] if lines and name not in modules else []
        return chain(_task_doc_lines(root or Path.cwd(), name), also)
    if name in topics:
        topic = topics[name]()
        if name == "filters" and root is not None:
            topic = _with_own_filters(topic, root)
        return reference.topic_lines(topic, width)
    if name == "commit":
        return reference.topic_lines(topics["playbook"](), width)
    if lines:
        return iter(lines)
    if name == troubleshooting.TOPIC:
        return troubleshooting.overview_lines(width)
    if section := troubleshooting.load_sections().get(name):
        return troubleshooting.section_lines(section)
    if root is not None and name in dict(index.refused):
        return _task_doc_lines(root, name)  # tells why it cannot be a task
    sections = troubleshooting.load_sections()
    known = [*topics, *tasks, *reference.all_keys(), troubleshooting.TOPIC, *sections]
    hint = suggest_nearest(name, known) or "`orch doc` lists them"
    if root is not None:
        message = f"there is no task, module, topic or key '{name}'"
        raise DefinitionError(Diagnostic(message, None, hint))
    hint += "; a task is shown in its project, and `orch init DIR` creates a new one"
    message = f"there is no topic or module '{name}', and no project here that has a task"
    raise UsageError(Diagnostic(message, None, hint))


def _with_own_filters(topic: reference.ReferenceTopic, root: Path) -> reference.ReferenceTopic:
    """Return the topic with the project's own filters in front. Raises DefinitionError."""
    own = load_own_filters(root).by_name
    if not own:
        return topic
    texts = {
        name: f"{one.desc} ({one.mark.path})" if one.desc else one.mark.path
        for name, one in own.items()
    }
    table = reference.help_table("Filters of the project", ("filter", "meaning"), texts)
    return replace(topic, tables=(table, *topic.tables))


def _task_doc_lines(root: Path, name: str) -> Iterator[str]:
    """Yield the task's description, params and steps. Raises DefinitionError."""
    request = playbook.TaskRequest(name)
    loaded = playbook.load_tasks(root, [name])
    playbook.check_task_requests([request], loaded)
    task = loaded.by_name[name]
    yield f"{task.name}: {task.desc}" if task.desc else task.name
    yield f"  in {task.mark.path}"
    if task.roles is not None:
        yield f"  on {', '.join(task.roles)}"
    params = _documented_params(task, loaded.by_name)
    if params:
        yield ""
        yield "params:"
        for param in params.values():
            yield from _param_lines(param)
        yield from (f"  {_rule_text(rule)}" for rule in task.rules)
    yield ""
    if task.module is not None:
        yield from _module_lines(task.module)
    else:
        yield "steps:" if task.steps is not None else "tasks:"
        parts: list[Step | PlaybookItem] = [*(task.steps or ()), *(task.tasks or ())]
        for number, part in enumerate(parts, 1):
            yield f"  {number:>2}  {_part_text(part)}"
    yield ""
    if task.example:
        yield "example:"
        yield from (f"  {line}" for line in task.example.rstrip().splitlines())
        return
    needed = "".join(f" {name}=…" for name in playbook.required_params(task, loaded.by_name))
    yield f"example: orch -s STAGE run {task.name}{needed}"


def _module_lines(module: ModuleSpec) -> Iterator[str]:
    """Yield what a module compares and returns, and whether it changes anything."""
    if module.returns:
        yield "fields of its result:"
        for param in module.returns.values():
            yield from _param_lines(param)
        yield ""
    if module.want:
        yield "desired state:"
        for key, value in module.want.items():
            yield f"  {key}: {' '.join(str(value.source).split())}"
        yield ""
    yield "changes nothing" if module.readonly else "changes only what differs"


def _documented_params(task: Task, by_name: Mapping[str, Task]) -> dict[str, TaskParam]:
    """Return the task's params and, of a playbook, its tasks' params that it does not set."""
    found = dict(task.params)
    for item in task.tasks or ():
        inner = by_name[item.action.task] if isinstance(item.action, TaskCall) else item.action
        written = item.action.args if isinstance(item.action, TaskCall) else {}
        for name, param in (_documented_params(inner, by_name) if inner else {}).items():
            if name not in written and not (name in found and found[name].help):
                found[name] = param
    return found


def _rule_text(rule: ParamRule) -> str:
    if rule.kind == "one_of":
        return f"exactly one of {', '.join(rule.names)} is given"
    return f"no path in {' or '.join(rule.names)} is, or is inside, another"


def _param_lines(param: TaskParam) -> Iterator[str]:
    traits = [f"{param.type} of {param.elements}" if param.elements else param.type]
    if param.absolute:
        traits.append("absolute, or starting with ~/")
    if param.required:
        traits.append("required")
    elif param.written_default is not None and not param.secret:
        traits.append(f"default {param.written_default.to_plain()!r}")
    if param.secret:
        traits.append("secret")
    if param.choices:
        traits.append(f"one of {', '.join(map(str, param.choices))}")
    yield f"  {param.name} ({', '.join(traits)})"
    if param.help:
        yield f"      {param.help}"


def _part_text(part: Step | PlaybookItem) -> str:
    if isinstance(part.action, RunStep):
        source = part.action.text.source if part.action.text else part.action.literal
        lines = source.strip().split("\n")
        name = part.name.source if isinstance(part, Step) and part.name else ""
        return name or lines[0] + (" …" if len(lines) > 1 else "")
    if isinstance(part.action, TaskCall):
        arguments = "".join(f" {key}=…" for key in part.action.args)
        return f"{part.action.task}{arguments}"
    return f"{part.action.name} (in place)" if isinstance(part.action, Task) else ""
