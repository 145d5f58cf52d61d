"""Effects of steps: what a step creates and needs, so check mode can explain failures."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from orchestrator.model.command import StepEffects
from orchestrator.model.marked_value import HomePath
from orchestrator.planner.task_scope import TaskScope
from orchestrator.playbook.model import ANYTHING, ModuleSpec

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate

_MAX_NAME_LENGTH = 4096
"""Longer texts are not names."""


class WorkingDirectory:
    """The folder in which a step works: ``chdir``, or its user's home folder.

    ``user`` is '' for the login user.
    """

    def __init__(self, chdir: str | None, user: str) -> None:
        """Resolve ``chdir`` below the user's home folder."""
        self.user = user
        self._home = f"~{user}"
        self._folder = self._home if chdir is None else self.absolute_path(chdir, self._home)

    def absolute_path(self, text: str, folder: str | None = None) -> str:
        """Return an absolute path, or one that starts with a home folder."""
        if text == "~" or text.startswith("~/"):
            return posixpath.normpath(self._home + text[1:])
        return posixpath.normpath(posixpath.join(folder or self._folder, text))

    def needed_names(self) -> Iterator[str]:
        """Yield what every step needs: its folder and its user."""
        if self._folder != self._home:
            yield self._folder
        if self.user:
            yield self.user


def command_effects(
    workdir: WorkingDirectory, creates: str | None, *, readonly: bool
) -> StepEffects:
    """Return the effects of a command: it may change anything; a read-only one only reads."""
    needs = tuple(workdir.needed_names())
    if readonly:
        return StepEffects(needed_names=needs, may_read_anything=True)
    created = () if creates is None else (workdir.absolute_path(creates),)
    return StepEffects(
        created, may_change_anything=True, needed_names=needs, may_read_anything=True
    )


def download_effects(workdir: WorkingDirectory, path: str) -> StepEffects:
    """Return the effects of a download, which reads a file of the host."""
    return StepEffects(needed_names=(workdir.absolute_path(path), *workdir.needed_names()))


def module_effects(
    module: ModuleSpec, task_scope: TaskScope, workdir: WorkingDirectory
) -> StepEffects:
    """Return the effects that a module declares with ``makes`` and ``reads``.

    Without ``makes`` it creates the path in its param ``path`` or, if it has none, anything.
    Without ``reads`` it needs what its params name, and may read anything unless one of them is a
    path. A module that runs a given command may read anything. Raises ResultPending and
    DefinitionError.
    """
    params = task_scope.task.params
    makes = module.makes if not module.readonly else ()
    if makes is None and "path" in params:
        created, anything = tuple(_path_effects(task_scope.resolve("path"), workdir)), False
    else:
        created, anything = _declared_effects(makes, task_scope, workdir), makes in (None, ANYTHING)
    if module.reads is not None:
        needs, looks = (
            _declared_effects(module.reads, task_scope, workdir),
            module.reads == ANYTHING,
        )
    else:
        needs = tuple(each for name in params for each in _param_effects(name, task_scope, workdir))
        looks = not any(param.type == "path" for param in params.values())
    runs_command = any(p.is_command and task_scope.resolve(name) for name, p in params.items())
    looks = looks or runs_command or module.readonly
    found = StepEffects(created, anything, (*needs, *workdir.needed_names()), looks)
    return replace(
        found,
        module=task_scope.task.name,
        needed_modules=tuple(map(str, module.needs)),
        observed_names=found.needed_names
        if module.returns
        else tuple(_host_payload_effects(module, task_scope, workdir)),
    )


def _host_payload_effects(
    module: ModuleSpec, task_scope: TaskScope, workdir: WorkingDirectory
) -> Iterator[str]:
    """Yield the host's path whose content the module copies, if it copies one."""
    for payload in module.payloads:
        if payload.kind == "host":
            yield from _path_effects(payload.what.render(task_scope), workdir)


def _declared_effects(
    declared: Iterable[ValueTemplate] | str | None, task_scope: TaskScope, workdir: WorkingDirectory
) -> tuple[str, ...]:
    if declared is None or isinstance(declared, str):
        return ()
    found: list[str] = []
    for template in declared:
        params = [task_scope.task.params.get(name) for name in template.names]
        is_path = any(param is not None and param.type == "path" for param in params)
        read = _path_effects if is_path else _name_effects
        found += read(template.render(task_scope), workdir)
    return tuple(found)


def _param_effects(name: str, task_scope: TaskScope, workdir: WorkingDirectory) -> Iterator[str]:
    param = task_scope.task.params[name]
    kind = param.type
    if not param.is_command and kind not in ("file", "dict", "regex"):
        read = _path_effects if kind == "path" or name == "path" else _name_effects
        yield from read(task_scope.resolve(name), workdir)


def _name_effects(value: object, workdir: WorkingDirectory) -> Iterator[str]:
    """Yield a value that may be a name; if it contains a slash, also as a path."""
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _name_effects(each, workdir)
    elif isinstance(value, (str, int)) and not isinstance(value, bool):
        text = str(value)
        if not text or len(text) > _MAX_NAME_LENGTH or "\n" in text:
            return
        if "/" in text or isinstance(value, HomePath):
            yield workdir.absolute_path(text)
        if text[0] not in "/~":
            yield text


def _path_effects(value: object, workdir: WorkingDirectory) -> Iterator[str]:
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _path_effects(each, workdir)
    elif isinstance(value, str) and value:
        yield workdir.absolute_path(value)
