"""What a step may make and what it needs, for a check to know which failures tell nothing."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from orchestrator.model.command import Effects
from orchestrator.model.marked_value import HomePath
from orchestrator.planner.task_scope import Frame
from orchestrator.playbook.model import ANYTHING, Module

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate

_LONG = 4096
"""Longer texts name nothing."""


class Workdir:
    """The folder that a step works in: ``chdir``, or its user's home folder. ``user`` is '' for
    the one who logs in."""

    def __init__(self, chdir: str | None, user: str) -> None:
        self.user = user
        self._home = f"~{user}"
        self._folder = self._home if chdir is None else self.path(chdir, self._home)

    def path(self, text: str, folder: str | None = None) -> str:
        """Return a path that begins with / or with a home folder."""
        if text == "~" or text.startswith("~/"):
            return posixpath.normpath(self._home + text[1:])
        return posixpath.normpath(posixpath.join(folder or self._folder, text))

    def needs(self) -> Iterator[str]:
        """Yield what every step needs: its folder and its user."""
        if self._folder != self._home:
            yield self._folder
        if self.user:
            yield self.user


def of_command(workdir: Workdir, creates: str | None, *, readonly: bool) -> Effects:
    """Return the effects of a command: it may change anything, a read-only one only read it."""
    needs = tuple(workdir.needs())
    if readonly:
        return Effects(needs=needs, looks=True)
    made = () if creates is None else (workdir.path(creates),)
    return Effects(made, anything=True, needs=needs, looks=True)


def of_download(workdir: Workdir, path: str) -> Effects:
    """Return the effects of a download, which reads a file of the host."""
    return Effects(needs=(workdir.path(path), *workdir.needs()))


def of_module(module: Module, frame: Frame, workdir: Workdir) -> Effects:
    """Return the effects that a module declares with ``makes`` and ``reads``.

    Without ``makes`` it makes its param ``path``, or, if it has none, anything. Without ``reads``
    it needs what its params name, and looks at no more if one of them is a path. One that runs a
    command that it is given looks at anything. Raises Waits and DefinitionError.
    """
    params = frame.task.params
    makes = module.makes if not module.readonly else ()
    if makes is None and "path" in params:
        made, anything = tuple(_paths(frame.resolve("path"), workdir)), False
    else:
        made, anything = _declared(makes, frame, workdir), makes in (None, ANYTHING)
    if module.reads is not None:
        needs, looks = _declared(module.reads, frame, workdir), module.reads == ANYTHING
    else:
        needs = tuple(each for name in params for each in _values(name, frame, workdir))
        looks = not any(param.type == "path" for param in params.values())
    runs = any(p.runs and frame.resolve(name) for name, p in params.items())
    looks = looks or runs or module.readonly
    return Effects(made, anything, (*needs, *workdir.needs()), looks)


def _declared(
    declared: Iterable[ValueTemplate] | str | None, frame: Frame, workdir: Workdir
) -> tuple[str, ...]:
    if declared is None or isinstance(declared, str):
        return ()
    found: list[str] = []
    for template in declared:
        params = [frame.task.params.get(name) for name in template.names]
        path = any(param is not None and param.type == "path" for param in params)
        read = _paths if path else _named
        found += read(template.render(frame), workdir)
    return tuple(found)


def _values(name: str, frame: Frame, workdir: Workdir) -> Iterator[str]:
    param = frame.task.params[name]
    kind = param.type
    if not param.runs and kind not in ("file", "dict", "regex"):
        read = _paths if kind == "path" or name == "path" else _named
        yield from read(frame.resolve(name), workdir)


def _named(value: object, workdir: Workdir) -> Iterator[str]:
    """A name, or what can be one; where it has a slash in it, it can be a path."""
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _named(each, workdir)
    elif isinstance(value, (str, int)) and not isinstance(value, bool):
        text = str(value)
        if not text or len(text) > _LONG or "\n" in text:
            return
        if "/" in text or isinstance(value, HomePath):
            yield workdir.path(text)
        if text[0] not in "/~":
            yield text


def _paths(value: object, workdir: Workdir) -> Iterator[str]:
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _paths(each, workdir)
    elif isinstance(value, str) and value:
        yield workdir.path(value)
