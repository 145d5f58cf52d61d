"""Everything that is wrong with a project, and what is merely odd.

What calls of modules lack: params that they require, and files that they name.

What can be judged of tasks with no host at hand: conditions and options without a name in
them, which come to the same wherever they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from orchestrator import playbook
from orchestrator.commands import lint_variables
from orchestrator.commands.context import new_run
from orchestrator.commands.lint_variables import undefined_names, unknown_app_variables
from orchestrator.commands.project import root_of
from orchestrator.errors import DefinitionError, Mark, OrchError, Problem, nearest
from orchestrator.inventory.precedence import Merger, defaults_of
from orchestrator.inventory.stage_loader import load as load_stage
from orchestrator.inventory.stages import default_stage, stages
from orchestrator.model.host import Stage
from orchestrator.modules import FOLDER
from orchestrator.planner.host_diagnostics import HostProblems
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.project_files import Files
from orchestrator.planner.request import Ask
from orchestrator.planner.resource_claims import check_claims
from orchestrator.planner.step_conditions import hold
from orchestrator.planner.step_options import number_of_seconds, option, variables
from orchestrator.planner.task_expander import Seen, loop_items
from orchestrator.planner.task_scope import Frame
from orchestrator.playbook.lint_warnings import notes_of
from orchestrator.playbook.model import (
    Call,
    Control,
    Download,
    Judgement,
    Modifiers,
    Payload,
    Run,
    Step,
    Task,
)
from orchestrator.templating import Expression, Templates, ValueTemplate
from orchestrator.yamlio.local_files import show

T = TypeVar("T")

Note = tuple[str, Mark]


def lint(directory: str | None, named: Sequence[str]) -> tuple[list[Problem], list[Note]]:
    """The errors and the notes of all tasks and of every stage, or of the stages named.

    The stages that are not named are read, since a task's role may be theirs; what is wrong
    with them is not told.
    """
    root = root_of(directory)
    known = stages(root)
    for name in named:
        known.check(name)
    told = _Told([] if named else [problem for _, problem in known.refused])
    default = told.unless_wrong(partial(default_stage, root))
    if default is not None and default.data not in known.names:
        listed = ", ".join(known.names)
        what = f"the default stage '{default.data}' does not exist"
        told.add([Problem(what, default.mark, f"the stages are: {listed}")])
    others = _Told([])
    found = {
        name: (told if not named or name in named else others).unless_wrong(
            partial(load_stage, root, name)
        )
        for name in known.names
    }
    loaded = told.unless_wrong(partial(playbook.load, root, None))
    of_tasks = list(loaded.by_name.values()) if loaded else []
    if None not in found.values() and not known.refused:
        roles = {role for stage in found.values() if stage for role in stage.roles}
        told.add(_unknown_roles(of_tasks, roles))
    told.add(problems_of(of_tasks))
    library = show(FOLDER) + "/"
    own = [task for task in of_tasks if not task.mark.path.startswith(library)]
    read = [stage for stage in found.values() if stage is not None]
    if loaded:
        told.add(call_problems(own, loaded.by_name, root, _with_defaults(read)))
    notes: list[Note] = []
    for stage in [found[name] for name in named or known.names]:
        if stage is None:
            continue
        notes += stage.notes
        if loaded:  # else who knows which names the tasks would give
            told.unless_wrong(
                partial(lint_variables.check, stage, lint_variables.later_names(of_tasks))
            )
            told.unless_wrong(partial(_claims, stage))
    if loaded and len(read) == len(known.names):  # else who knows what the others define
        problems, more = undefined_names(own, lint_variables.later_names(of_tasks), read)
        told.add(problems)
        told.add(unknown_app_variables(root, of_tasks, read))
        notes += more
    return told.problems, list(dict.fromkeys(notes + notes_of(own)))


def _with_defaults(stages: Iterable[Stage]) -> frozenset[str]:
    """The modules for which a host of any stage has defaults."""
    merger = Merger(defaults_of)
    hosts = (host for stage in stages for host in stage.hosts.values())
    return frozenset(str(name) for host in hosts for name in merger.of(host))


def _claims(stage: Stage) -> None:
    """Return if no two apps of the stage claim the same on a host. Raises DefinitionError."""
    problems = HostProblems(len(stage.hosts))
    apps, hosts = tuple(stage.apps.values()), tuple(stage.hosts.values())
    check_claims(Ask(stage, hosts, (), {}, new_run(0.0), apps=apps), problems)
    problems.raise_any()


class _Told:
    """The errors so far, each once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)

    def add(self, problems: Iterable[Problem]) -> None:
        """More of them."""
        self.problems += [p for p in dict.fromkeys(problems) if p not in self.problems]

    def unless_wrong(self, do: Callable[[], T]) -> T | None:
        """What it gives, or None where it raises errors, which are told."""
        try:
            return do()
        except OrchError as error:
            self.add(error.problems)
            return None


def _unknown_roles(found: Iterable[Task], roles: set[str]) -> Iterator[Problem]:
    for task in found:
        for role in task.roles or ():
            if role not in roles:
                what = f"no stage has the role '{role}' of task '{task.name}'"
                yield Problem(what, role.mark, nearest(role, roles))


def call_problems(
    tasks: Iterable[Task], by_name: Mapping[str, Task], root: Path, defaults: frozenset[str]
) -> list[Problem]:
    """Return what a run would refuse of the steps that call a task or module: required params that
    are not written, and files of the project that do not exist. ``defaults``: the modules for which
    a stage or role has defaults, which may bring any of their params."""
    scope = HostScope({}, {}, {}, Templates(), files=Files(str(root)))
    found: dict[Problem, None] = {}
    for task in tasks:
        for call in task.called():
            callee = by_name.get(call.task)
            if callee is not None and call.task not in defaults:
                found |= dict.fromkeys(_params(call, callee))
            if callee is not None:
                found |= dict.fromkeys(_files(call, callee, scope))
    return list(found)


def _params(call: Call, callee: Task) -> Iterator[Problem]:
    for name, param in callee.params.items():
        if param.required and name not in call.args:
            what = f"task '{call.task}' needs a value for its param '{name}'"
            yield Problem(what, call.mark, f"write {name}: …")
    payloads = callee.module.payloads if callee.module else ()
    names = [name for each in payloads for name in sorted(each.what.names)]
    if len(payloads) > 1 and not call.args.keys() & set(names):
        yield Problem(f"task '{call.task}' needs one of {' and '.join(names)}", call.mark)


def _files(call: Call, callee: Task, scope: HostScope) -> Iterator[Problem]:
    frame = Frame(callee, scope, written=call.args, caller=scope)
    for payload in callee.module.payloads if callee.module else ():
        names = payload.what.names
        written = [call.args[name] for name in names if name in call.args]
        if payload.kind == "text" or len(written) != len(names):
            continue
        if all(template.constant for template in written):
            yield from _file(payload, frame)


def _file(payload: Payload, frame: Frame) -> Iterator[Problem]:
    try:
        value = payload.what.render(frame)
    except DefinitionError as error:
        yield from error.problems
        return
    mark = next(frame.written[name].mark for name in payload.what.names)
    if isinstance(value, str) and not Path(value).exists():
        yield Problem(f"cannot read {show(Path(value))}: no such file or directory", mark)
    elif isinstance(value, str) and payload.kind == "template":
        try:
            frame.host.files.template(Path(value), mark)
        except DefinitionError as error:
            yield from error.problems


Check = Callable[[], object]


def problems_of(tasks: Iterable[Task]) -> list[Problem]:
    """What would fail on every host that came to it, each once."""
    found: dict[Problem, None] = {}
    for task in tasks:
        for check in _task(task, Frame(task, HostScope({}, {}, {}, Templates()))):
            try:
                check()
            except DefinitionError as error:
                found |= dict.fromkeys(error.problems)
    return list(found)


def _task(task: Task, frame: Frame) -> Iterator[Check]:
    for mods in task.modifiers():
        yield from _mods(mods, frame)
    for step in task.all_steps():
        yield from _mods(step.mods, frame)
        yield from _step(step, frame)


def _mods(mods: Modifiers, frame: Frame) -> Iterator[Check]:
    yield from _judgements(mods.when, frame)
    yield from _option(mods.chdir, frame, "chdir", path=True)
    if mods.timeout is not None and mods.timeout.constant:
        yield partial(number_of_seconds, Seen(mods.timeout, frame))
    for name, template in mods.environment.items():
        if template.constant:
            yield partial(variables, {}, [(name, Seen(template, frame))])


def _step(step: Step, frame: Frame) -> Iterator[Check]:
    judged = (*(step.changed_when or ()), *(step.failed_when or ()), step.ignore_errors)
    until = step.again.until if step.again else ()
    that = step.does.that if isinstance(step.does, Control) else ()
    yield from _judgements((*judged, *until, *that), frame)
    yield from _option(step.delegate_to, frame, "delegate_to")
    if isinstance(step.does, Run):
        yield from _option(step.does.creates, frame, "creates", path=True)
        yield from _option(step.does.removes, frame, "removes", path=True)
        yield from _option(step.does.stdin, frame, "stdin")
    if isinstance(step.does, Download):
        yield from _option(step.does.path, frame, "path", path=True)
        yield from _option(step.does.to, frame, "to", path=True)
    if step.loop is not None and not step.loop.over.names | step.loop.over.optional:
        yield partial(loop_items, step, frame)


def _judgements(judgements: Iterable[Judgement], frame: Frame) -> Iterator[Check]:
    for judgement in judgements:
        if isinstance(judgement, Expression) and not judgement.names | judgement.optional:
            yield partial(hold, (judgement,), frame)


def _option(
    template: ValueTemplate | None, frame: Frame, what: str, *, path: bool = False
) -> Iterator[Check]:
    if template is not None and template.constant:
        yield partial(option, template, frame, what, path=path)
