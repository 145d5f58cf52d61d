"""How much tasks are once their calls are unfolded: circles and what never ends are refused.

Reading the tasks that a run needs, and holding every call against what it calls.

Which parts of tasks the command line may name: tags and handlers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from msgspec import Struct, field

from orchestrator.errors import DefinitionError, Mark, Problem, Problems, nearest
from orchestrator.model import ansible
from orchestrator.model.lazy_regex import regex
from orchestrator.model.marked_value import Key
from orchestrator.playbook.model import Call, Request, Task
from orchestrator.playbook.task_index import KEYWORDS, Index, index
from orchestrator.playbook.task_parser import TaskReader
from orchestrator.yamlio.local_files import read_file, show
from orchestrator.yamlio.yaml_loader import load as load_yaml

MOST_STEPS = 20_000
"""How many steps a task may have on one host, those of loops and called tasks included."""
MOST_LEVELS = 50
"""How deep tasks may call each other."""


def refuse_endless(by_name: Mapping[str, Task], problems: Problems) -> None:
    """Note tasks that call each other in a circle, too deeply or too often."""
    hooks: dict[str, list[Task]] = {}
    for task in by_name.values():
        for hooked in {*task.before, *task.after, *task.failed}:
            hooks.setdefault(hooked, []).append(task)
    unfolding = _Unfolding(by_name, hooks, problems)
    for name, task in by_name.items():
        size = unfolding.visit(name, (), task.mark)
        if size.levels > MOST_LEVELS:
            what = f"tasks call each other more than {MOST_LEVELS} levels deep below '{name}'"
            problems.found.append(Problem(what, task.mark))
            return
        if size.steps > MOST_STEPS:
            what = f"task '{name}' has more than {MOST_STEPS} steps, with those of what it calls"
            problems.found.append(Problem(what, task.mark))
            return


class _Size(Struct, frozen=True):
    steps: int = 0
    levels: int = 0


class _Unfolding(Struct):
    by_name: Mapping[str, Task]
    hooks: Mapping[str, list[Task]]
    problems: Problems
    sizes: dict[str, _Size] = field(default_factory=dict)

    def visit(self, name: str, path: tuple[str, ...], mark: Mark) -> _Size:
        """Return how much the task is with all below it, or what is known of that where it stands
        below itself."""
        if name in path:
            circle = " → ".join((*path[path.index(name) :], name))
            what = f"tasks that call each other in a circle: {circle}"
            self.problems.found.append(Problem(what, mark))
            return _Size()
        if len(path) > MOST_LEVELS:
            return _Size()
        if name not in self.sizes:
            task, inner = self.by_name[name], (*path, name)
            below = [self.visit(call.task, inner, call.mark) for call in task.calls()]
            below += [
                self.visit(hook.name, inner, hook.mark)
                for hook in self.hooks.get(name, ())
                if hook.name not in inner  # the planner tells of circles of hooks
            ]
            steps = sum(1 for _ in task.all_steps()) + sum(each.steps for each in below)
            levels = max((each.levels + 1 for each in below), default=0)
            self.sizes[name] = _Size(min(steps, MOST_STEPS + 1), levels)
        return self.sizes[name]


_HOOK = regex(r"^[ \t]*[\"']?(before|after|failed)[\"']?\s*:|\b(before|after|failed):", re.M)


_NO_HANDLERS = "define it under `handlers:` of the task"


class Tasks(Struct, frozen=True):
    """The tasks that were read, by name; ``index`` knows the others' names."""

    index: Index
    by_name: Mapping[str, Task]


def load(root: Path, names: Iterable[str] | None) -> Tasks:
    """The named tasks of the project at ``root`` and all that they call; None: every task.

    Raises DefinitionError with everything that is wrong in any of them.
    """
    found = index(root)
    problems = Problems()
    wanted = list(found.files if names is None else names)
    wanted += [name for name, path in found.files.items() if _may_hook(path)]
    if names is None:
        problems.found.extend(problem for _, problem in found.refused)
    reader, by_name = TaskReader(problems), dict[str, Task]()
    broken: set[str] = set()
    while wanted:
        name = wanted.pop(0)
        for refused, problem in found.refused:
            if refused == name and found.find(name) and problem not in problems.found:
                problems.found.append(problem)
        path = found.find(name)
        if path is None or name in by_name or name in broken:
            continue
        try:
            value = load_yaml(path, show(path))
        except DefinitionError as error:
            problems.found.extend(error.problems)
            broken.add(name)
            continue
        by_name[name] = reader.task(name, value)
        wanted.extend(call.task for call in by_name[name].calls())
    for task in by_name.values():
        _check_calls(task, by_name, found, broken, reader)
        _check_hooks(task, found, problems)
    _check_notify(by_name, problems)
    if not problems.found:
        refuse_endless(by_name, problems)
    problems.raise_any()
    return Tasks(found, by_name)


def _may_hook(path: Path) -> bool:
    """Whether a task file may hook into others; every such file is read for every run, so that
    one in error is never a hook that silently does not fire."""
    try:
        return _HOOK.search(read_file(path).decode("utf-8", "replace")) is not None
    except OSError:
        return True  # reading it in earnest tells what is wrong


def check_requests(requests: Iterable[Request], tasks: Tasks) -> None:
    """Hold what the command line asks for against the tasks. Raises DefinitionError."""
    problems = Problems()
    place = Mark("<command line>")
    for request in requests:
        task = tasks.by_name.get(request.task)
        if task is None:
            _unknown(request.task, place, tasks.index, problems)
            continue
        known = params_below(task, tasks.by_name)
        for key in request.args:
            if key not in known:
                hint = nearest(key, known) or _takes(known)
                problems.add(f"task '{task.name}' has no param '{key}'", place, hint)
    problems.raise_any()


def params_below(task: Task, by_name: Mapping[str, Task]) -> set[str]:
    """What a task can be given: its own params and, in a playbook, those of its tasks."""
    known = set(task.params)
    for item in task.tasks or ():
        if isinstance(item.does, Call):
            known |= params_below(by_name[item.does.task], by_name)
        elif item.does is not None:
            known |= params_below(item.does, by_name)
    return known


def required_below(task: Task, by_name: Mapping[str, Task]) -> list[str]:
    """The params that a task cannot do without, and in a playbook those of its tasks."""
    needed = [param.name for param in task.params.values() if param.required]
    for item in task.tasks or ():
        written = set(item.does.args) if isinstance(item.does, Call) else set()
        below = by_name[item.does.task] if isinstance(item.does, Call) else item.does
        if below is not None:
            inner = required_below(below, by_name)
            needed += [name for name in inner if name not in written and name not in needed]
    return needed


def _check_calls(
    task: Task, by_name: Mapping[str, Task], found: Index, broken: set[str], reader: TaskReader
) -> None:
    called = list(task.called())
    for call in task.calls():
        callee = by_name.get(call.task)
        if callee is None:
            if call.task not in broken:
                _unknown(call.task, call.mark, found, reader.problems)
            continue
        for key, value in call.written.items():
            param = callee.params.get(key)
            call.args[key] = reader.compile.argument(
                value, commands=param is not None and param.runs
            )
            if param is not None:
                reader.typed(param, value)
                continue
            mark = next(k.mark for k in call.written if isinstance(k, Key) and k == key)
            hint = nearest(key, callee.params) or _takes(callee.params)
            reader.problems.add(f"task '{call.task}' has no param '{key}'", mark, hint)
        for key in call.judged if callee.module is None else ():
            reader.problems.add(
                f"`{key}` cannot stand on step `{call.task}`",
                key.mark,
                "it is for `run` and modules",
            )
        if callee.tasks is not None and any(call is c for c in called):
            reader.problems.add(
                f"'{call.task}' is a playbook, and a step cannot wait for other hosts",
                call.mark,
                "name it under `tasks:` of a playbook instead",
            )


def _check_hooks(task: Task, found: Index, problems: Problems) -> None:
    for hooked in (*task.before, *task.after, *task.failed):
        if found.find(hooked) is None:
            _unknown(hooked, hooked.mark, found, problems)


def _check_notify(by_name: Mapping[str, Task], problems: Problems) -> None:
    """Hold each `notify` against the handlers in reach: those of its task, of the tasks that this
    calls, and of those that call it, for they all run at the end of one scheduled task."""
    tasks = [inner for task in by_name.values() for inner in task.in_place()]
    reach: dict[int, set[str]] = {}
    from_above: dict[str, set[str]] = {}
    for task in tasks:
        called = _called_below(task, by_name, set())
        files = (by_name[name] for name in called if name in by_name)
        here = reach[id(task)] = {name for each in (task, *files) for name in each.handlers}
        for name in called:
            from_above.setdefault(name, set()).update(here)
    for task in tasks:
        known = reach[id(task)]
        if by_name.get(task.name) is task:
            known = known | from_above.get(task.name, set())
        for name in (name for step in task.own_steps() for name in step.notify):
            if name not in known:
                listed = f"handlers: {', '.join(sorted(known))}" if known else _NO_HANDLERS
                what = f"task '{task.name}' has no handler '{name}'"
                problems.add(what, name.mark, nearest(name, known) or listed)


def _called_below(task: Task, by_name: Mapping[str, Task], seen: set[str]) -> set[str]:
    """The names of the tasks that steps of a task call, and that those call."""
    open_ = [task]
    while open_:
        for step in open_.pop().own_steps():
            if isinstance(step.does, Call) and step.does.task not in seen:
                seen.add(step.does.task)
                if step.does.task in by_name:
                    open_.append(by_name[step.does.task])
    return seen


def _unknown(name: str, mark: Mark, found: Index, problems: Problems) -> None:
    hint = ansible.module(name, found.modules) or nearest(name, [*found.names(), *KEYWORDS])
    if name in KEYWORDS:
        hint = f"`{name}` is a word of task files: see `orch doc {name}`"
    if not hint:
        listed = ", ".join(list(found.files)[:12])
        hint = f"tasks: {listed}" if listed else "there are no files below tasks/"
    refused = [problem for refused, problem in found.refused if refused == name]
    problems.add(refused[0].what if refused else f"no task '{name}'", mark, hint)


def _takes(params: Iterable[str]) -> str:
    listed = ", ".join(sorted(params))
    return f"it takes {listed}" if listed else "it takes none; declare it under `params:`"


USUAL = frozenset({"always", "never"})
"""Tags that mean something where no file has them."""


def tags_of(tasks: Iterable[Task]) -> set[str]:
    """Return every tag in these files: of tasks, items, steps, handlers and rollbacks."""
    tags: set[str] = set()
    for task in tasks:
        for mods in (*task.modifiers(), *(step.mods for step in task.all_steps())):
            tags.update(mods.tags)
    return tags


def handlers_of(tasks: Iterable[Task]) -> set[str]:
    """Return the names of every handler in these files."""
    return {str(name) for task in tasks for inner in task.in_place() for name in inner.handlers}


def check_parts(root: Path, run: Tasks, named: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Hold the names given to ``--tags``, ``--skip-tags`` and ``--handler`` (by option) against
    the tasks of the run, and where one is not in them, against every task of the project.

    Return a warning for each that chooses nothing in this run. Raises DefinitionError for those
    that no task file has, and where one of the other files cannot be read.
    """
    strange = {option: sorted({*names} - _known(option, run)) for option, names in named.items()}
    if not any(strange.values()):
        return ()
    every, problems = load(root, None), Problems()
    warnings = []
    for option, names in strange.items():
        known, what = _known(option, every), "handler" if option == "--handler" else "tag"
        for name in names:
            if name in known:
                told = f"{option} {name}: no task of this run has the {what} '{name}'"
                warnings.append(told)
                continue
            listed = ", ".join(sorted(known - USUAL)[:12])
            hint = nearest(name, known) or f"{what}s: {listed or 'there are none'}"
            problems.add(f"no task file has the {what} '{name}'", Mark(option), hint)
    problems.raise_any()
    return tuple(warnings)


def _known(option: str, tasks: Tasks) -> set[str]:
    files = tasks.by_name.values()
    return handlers_of(files) if option == "--handler" else tags_of(files) | USUAL
