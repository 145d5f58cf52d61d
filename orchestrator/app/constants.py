"""What can be judged of tasks with no host at hand: conditions and options without a name in
them, which come to the same wherever they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from orchestrator.errors import DefinitionError, Problem
from orchestrator.plan.conditions import hold
from orchestrator.plan.frame import Frame
from orchestrator.plan.options import number_of_seconds, option, variables
from orchestrator.plan.scope import HostScope
from orchestrator.plan.walk import Seen, loop_items
from orchestrator.tasks.model import Control, Download, Judgement, Modifiers, Run, Step, Task
from orchestrator.templating import Expression, Templates, ValueTemplate

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
