"""Loading of the tasks that a run needs, and checks across them.

Every call is checked against the task it calls; recursive and oversized tasks are rejected; tags
and handlers named on the command line are checked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from msgspec import Struct, field

from orchestrator import templating
from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    DiagnosticCollector,
    SourcePosition,
    suggest_nearest,
)
from orchestrator.model import ansible
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedKey
from orchestrator.playbook.keywords import RESERVED_NAMES
from orchestrator.playbook.model import Task, TaskCall, TaskRequest
from orchestrator.playbook.own_filters import load_own_filters
from orchestrator.playbook.task_index import TaskIndex, index_tasks
from orchestrator.playbook.task_parser import TaskParser
from orchestrator.playbook.task_variables import VarsFileReader
from orchestrator.yamlio.local_files import display_path, read_file
from orchestrator.yamlio.yaml_loader import load_yaml

MAX_STEPS = 20_000
"""Maximum number of steps of a task on one host, including loops and called tasks."""
MAX_LEVELS = 50
"""Maximum depth of nested task calls."""


def check_call_cycles(by_name: Mapping[str, Task], problems: DiagnosticCollector) -> None:
    """Report tasks that call each other in a cycle, too deeply or too often."""
    hooks: dict[str, list[Task]] = {}
    for task in by_name.values():
        for hooked in {*task.before, *task.after, *task.failed}:
            hooks.setdefault(hooked, []).append(task)
    unfolding = _CallUnfolding(by_name, hooks, problems)
    for name, task in by_name.items():
        size = unfolding.size_of(name, (), task.mark)
        if size.levels > MAX_LEVELS:
            what = f"tasks call each other more than {MAX_LEVELS} levels deep below '{name}'"
            problems.diagnostics.append(Diagnostic(what, task.mark))
            return
        if size.steps > MAX_STEPS:
            what = f"task '{name}' has more than {MAX_STEPS} steps, including those of called tasks"
            problems.diagnostics.append(Diagnostic(what, task.mark))
            return


class _TaskSize(Struct, frozen=True):
    steps: int = 0
    levels: int = 0


class _CallUnfolding(Struct):
    by_name: Mapping[str, Task]
    hooks: Mapping[str, list[Task]]
    problems: DiagnosticCollector
    sizes: dict[str, _TaskSize] = field(default_factory=dict)

    def size_of(self, name: str, path: tuple[str, ...], mark: SourcePosition) -> _TaskSize:
        """Return the size of the task with everything it calls.

        For a task that calls itself, report the cycle and return an empty size.
        """
        if name in path:
            circle = " → ".join((*path[path.index(name) :], name))
            what = f"tasks call each other in a cycle: {circle}"
            self.problems.diagnostics.append(Diagnostic(what, mark))
            return _TaskSize()
        if len(path) > MAX_LEVELS:
            return _TaskSize()
        if name not in self.sizes:
            task, inner = self.by_name[name], (*path, name)
            below = [self.size_of(call.task, inner, call.mark) for call in task.all_calls()]
            below += [
                self.size_of(hook.name, inner, hook.mark)
                for hook in self.hooks.get(name, ())
                if hook.name not in inner  # the planner reports cycles of hooks
            ]
            steps = sum(1 for _ in task.all_steps()) + sum(each.steps for each in below)
            levels = max((each.levels + 1 for each in below), default=0)
            self.sizes[name] = _TaskSize(min(steps, MAX_STEPS + 1), levels)
        return self.sizes[name]


_HOOK = lazy_regex(r"^[ \t]*[\"']?(before|after|failed)[\"']?\s*:|\b(before|after|failed):", re.M)


_NO_HANDLERS = "define it under `handlers:` of the task"


class LoadedTasks(Struct, frozen=True):
    """The loaded tasks by name; ``index`` also has the names of the others."""

    index: TaskIndex
    by_name: Mapping[str, Task]


def load_tasks(root: Path, names: Iterable[str] | None) -> LoadedTasks:
    """Load the named tasks of the project at ``root`` and everything that they call.

    ``names`` is None for every task. Raises DefinitionError with every error in any of them.
    """
    found = index_tasks(root)
    problems = DiagnosticCollector()
    pending_names = list(found.files if names is None else names)
    pending_names += [name for name, path in found.files.items() if _may_hook(path)]
    problems.diagnostics.extend(
        problem for _, problem in found.refused if names is None or _is_hook(problem)
    )
    cache = templating.CompileCache(templating.cache_folder(), load_own_filters(root))
    reader, by_name = TaskParser(problems, cache), dict[str, Task]()
    vars_reader = VarsFileReader(root, found.folder_vars, problems)
    broken: set[str] = set()
    while pending_names:
        name = pending_names.pop(0)
        for refused, problem in found.refused:
            if refused == name and found.find_file(name) and problem not in problems.diagnostics:
                problems.diagnostics.append(problem)
        path = found.find_file(name)
        if path is None or name in by_name or name in broken:
            continue
        try:
            value = load_yaml(path, display_path(path))
        except DefinitionError as error:
            problems.diagnostics.extend(error.diagnostics)
            broken.add(name)
            continue
        by_name[name] = vars_reader.with_files(reader.parse_task(name, value), path)
        pending_names.extend(call.task for call in by_name[name].all_calls())
    for task in by_name.values():
        _check_calls(task, by_name, found, broken, reader)
        _check_hooks(task, found, problems)
    _check_notify(by_name, problems)
    if not problems.diagnostics:
        check_call_cycles(by_name, problems)
    problems.raise_any()
    cache.save()
    return LoadedTasks(found, by_name)


def _may_hook(path: Path) -> bool:
    """Return True if a task file may hook into others.

    Every such file is loaded for every run: a hook with an error in it must not be skipped
    silently.
    """
    try:
        return _HOOK.search(read_file(path).decode("utf-8", "replace")) is not None
    except OSError:
        return True  # loading the file reports the error


def _is_hook(refused: Diagnostic) -> bool:
    """Return True if a refused file would hook into others, or cannot be read."""
    path = Path(refused.mark.path if refused.mark else "")
    if not _may_hook(path):
        return False
    try:
        data = load_yaml(path, str(path)).data
    except DefinitionError:
        return True
    return isinstance(data, dict) and any(name in data for name in ("before", "after", "failed"))


def check_task_requests(requests: Iterable[TaskRequest], tasks: LoadedTasks) -> None:
    """Check the tasks and arguments of the command line. Raises DefinitionError."""
    problems = DiagnosticCollector()
    mark = SourcePosition("<command line>")
    for request in requests:
        task = tasks.by_name.get(request.task)
        if task is None:
            _report_unknown_task(request.task, mark, tasks.index, problems)
            continue
        known = effective_params(task, tasks.by_name)
        for key in request.args:
            if key not in known:
                hint = _param_hint(task.name, key, known)
                problems.add(f"task '{task.name}' has no param '{key}'", mark, hint)
    problems.raise_any()


def _param_hint(task: str, name: str, known: Collection[str]) -> str:
    written = ansible.param_hint(task, name, known)
    return written or suggest_nearest(name, known) or _params_hint(known)


def effective_params(task: Task, by_name: Mapping[str, Task]) -> set[str]:
    """Return the params that a task accepts: its own and, for a playbook, those of its tasks."""
    known = set(task.params)
    for item in task.tasks or ():
        if isinstance(item.action, TaskCall):
            known |= effective_params(by_name[item.action.task], by_name)
        elif item.action is not None:
            known |= effective_params(item.action, by_name)
    return known


def required_params(task: Task, by_name: Mapping[str, Task]) -> list[str]:
    """Return the params that a task requires and, for a playbook, those that its tasks require."""
    needed = [param.name for param in task.params.values() if param.required]
    for item in task.tasks or ():
        written = set(item.action.args) if isinstance(item.action, TaskCall) else set()
        below = by_name[item.action.task] if isinstance(item.action, TaskCall) else item.action
        if below is not None:
            inner = required_params(below, by_name)
            needed += [name for name in inner if name not in written and name not in needed]
    return needed


def _check_calls(
    task: Task, by_name: Mapping[str, Task], found: TaskIndex, broken: set[str], reader: TaskParser
) -> None:
    called = list(task.step_calls())
    for call in task.all_calls():
        callee = by_name.get(call.task)
        if callee is None:
            if call.task not in broken:
                _report_unknown_task(call.task, call.mark, found, reader.problems)
            continue
        for key, value in call.written.items():
            param = callee.params.get(key)
            call.args[key] = reader.compile.compile_argument(
                value, commands=param is not None and param.is_command
            )
            if param is not None:
                reader.typed_value(
                    param, value, ansible.value_hint(call.task, param.name, value.data)
                )
                continue
            mark = next(k.mark for k in call.written if isinstance(k, MarkedKey) and k == key)
            hint = _param_hint(call.task, key, callee.params)
            reader.problems.add(f"task '{call.task}' has no param '{key}'", mark, hint)
        for key in call.judged if callee.module is None else ():
            reader.problems.add(
                f"`{key}` is not allowed on step `{call.task}`",
                key.mark,
                "it is for `run` and modules",
            )
        waiting = next((s.waits_for_hosts for s in callee.steps or () if s.waits_for_hosts), "")
        if waiting and any(call is c for c in called):
            reader.problems.add(
                f"'{call.task}' has a step with `{waiting}`, and cannot be called as a step: hosts "
                "wait for each other only between tasks",
                call.mark,
                "name it under `tasks:` of a playbook instead",
            )
        if callee.tasks is not None and any(call is c for c in called):
            reader.problems.add(
                f"'{call.task}' is a playbook, and a step cannot wait for other hosts",
                call.mark,
                "name it under `tasks:` of a playbook instead",
            )


def _check_hooks(task: Task, found: TaskIndex, problems: DiagnosticCollector) -> None:
    for name in task.module.needs if task.module else ():
        if found.find_file(name) is None:
            _report_unknown_task(name, name.mark, found, problems)
    for hooked in (*task.before, *task.after, *task.failed):
        if found.find_file(hooked) is None:
            _report_unknown_task(hooked, hooked.mark, found, problems)


def _check_notify(by_name: Mapping[str, Task], problems: DiagnosticCollector) -> None:
    """Check that each `notify` names a handler in reach.

    The handlers in reach are those of the step's task, of the tasks that it calls, and of the tasks
    that call it: all of them run at the end of one planned task. Those of the playbooks that
    schedule one of them are in reach, too; the planner checks that they do in this run.
    """
    tasks = [inner for task in by_name.values() for inner in task.inline_tasks()]
    reach: dict[int, set[str]] = {}
    from_above: dict[str, set[str]] = {}
    for task in tasks:
        called = _called_names(task, by_name, set())
        reachable_handlers = reach[id(task)] = handlers_in_reach(task, by_name)
        for name in called:
            from_above.setdefault(name, set()).update(reachable_handlers)
        for name in _scheduled_names(task, by_name):
            from_above.setdefault(name, set()).update(task.notifiable_names())
    for task in tasks:
        known = reach[id(task)] | _enclosing_handlers(task, by_name)
        if by_name.get(task.name) is task:
            known = known | from_above.get(task.name, set())
        for name in (name for step in task.own_steps() for name in step.notify):
            if name not in known:
                listed = f"handlers: {', '.join(sorted(known))}" if known else _NO_HANDLERS
                what = f"task '{task.name}' has no handler '{name}'"
                problems.add(what, name.mark, suggest_nearest(name, known) or listed)


def handlers_in_reach(task: Task, by_name: Mapping[str, Task]) -> set[str]:
    """Return the names that notify handlers of the task, or of those that its steps call."""
    files = (by_name[name] for name in _called_names(task, by_name, set()) if name in by_name)
    return {name for each in (task, *files) for name in each.notifiable_names()}


def _scheduled_names(task: Task, by_name: Mapping[str, Task]) -> set[str]:
    """Return the names of the tasks that a playbook schedules, and of those that they call."""
    found: set[str] = set()
    open_ = [task]
    while open_:
        for inner in open_.pop().inline_tasks():
            found |= _called_names(inner, by_name, set())
            for call in inner.item_calls():
                if call.task not in found and call.task in by_name:
                    open_.append(by_name[call.task])
                found.add(call.task)
    return found


def _enclosing_handlers(task: Task, by_name: Mapping[str, Task]) -> set[str]:
    """Return the handlers of the playbooks in whose file an inline task stands."""
    return {
        name
        for file in by_name.values()
        for outer in file.inline_tasks()
        if outer is not task and any(inner is task for inner in outer.inline_tasks())
        for name in outer.notifiable_names()
    }


def _called_names(task: Task, by_name: Mapping[str, Task], visited: set[str]) -> set[str]:
    """Return the names of the tasks that the steps of a task call, directly or indirectly."""
    open_ = [task]
    while open_:
        for step in open_.pop().own_steps():
            if isinstance(step.action, TaskCall) and step.action.task not in visited:
                visited.add(step.action.task)
                if step.action.task in by_name:
                    open_.append(by_name[step.action.task])
    return visited


def _report_unknown_task(
    name: str, mark: SourcePosition, found: TaskIndex, problems: DiagnosticCollector
) -> None:
    hint = ansible.module_hint(name, found.modules) or suggest_nearest(
        name, [*found.all_names(), *RESERVED_NAMES]
    )
    if name in RESERVED_NAMES:
        hint = f"`{name}` is a keyword of task files: see `orch doc {name}`"
    if not hint:
        listed = ", ".join(list(found.files)[:12])
        hint = f"tasks: {listed}" if listed else "there are no files below tasks/"
    refused = [problem for refused, problem in found.refused if refused == name]
    problems.add(refused[0].message if refused else f"no task '{name}'", mark, hint)


def _params_hint(params: Iterable[str]) -> str:
    listed = ", ".join(sorted(params))
    return f"it takes {listed}" if listed else "it takes no params; declare it under `params:`"


SPECIAL_TAGS = frozenset({"always", "never"})
"""Tags with a meaning of their own even if no file uses them."""


def collect_tags(tasks: Iterable[Task]) -> set[str]:
    """Return every tag in these files: of tasks, items, steps, handlers and rollbacks."""
    tags: set[str] = set()
    for task in tasks:
        for mods in (*task.all_options(), *(step.options for step in task.all_steps())):
            tags.update(mods.tags)
    return tags


def collect_handlers(tasks: Iterable[Task]) -> set[str]:
    """Return the names of every handler in these files."""
    return {str(name) for task in tasks for inner in task.inline_tasks() for name in inner.handlers}


def check_selection(
    root: Path, run: LoadedTasks, named: Mapping[str, Collection[str]]
) -> tuple[str, ...]:
    """Check the names given to ``--tags``, ``--skip-tags`` and ``--handler``, keyed by option.

    Return a warning for each name that matches nothing in this run but exists in another task file
    of the project. Raises DefinitionError for names that no task file has, and if another task file
    cannot be read.
    """
    strange = {
        option: sorted({*names} - _known_names(option, run)) for option, names in named.items()
    }
    if not any(strange.values()):
        return ()
    every, problems = load_tasks(root, None), DiagnosticCollector()
    warnings = []
    for option, names in strange.items():
        known, what = _known_names(option, every), "handler" if option == "--handler" else "tag"
        for name in names:
            if name in known:
                warning = f"{option} {name}: no task of this run has the {what} '{name}'"
                warnings.append(warning)
                continue
            listed = ", ".join(sorted(known - SPECIAL_TAGS)[:12])
            hint = suggest_nearest(name, known) or f"{what}s: {listed or 'there are none'}"
            problems.add(f"no task file has the {what} '{name}'", SourcePosition(option), hint)
    problems.raise_any()
    return tuple(warnings)


def _known_names(option: str, tasks: LoadedTasks) -> set[str]:
    files = tasks.by_name.values()
    return collect_handlers(files) if option == "--handler" else collect_tags(files) | SPECIAL_TAGS
