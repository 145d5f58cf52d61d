"""What calls of modules lack: params that they require, and files that they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from orchestrator.errors import DefinitionError, Problem
from orchestrator.plan.files import Files
from orchestrator.plan.frame import Frame
from orchestrator.plan.scope import HostScope
from orchestrator.source.folder import show
from orchestrator.tasks.model import Call, Payload, Task
from orchestrator.templating import Templates


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
