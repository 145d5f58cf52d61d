"""What a check is to know of a step for the sake of others: what it may make, and what it needs."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from orchestrator.model.command import Effects
from orchestrator.model.value import HomePath
from orchestrator.plan.frame import Frame
from orchestrator.tasks.model import ANYTHING, Module

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate

_LONG = 4096
"""Longer texts name nothing."""


class Where:
    """Where a step works. ``chdir`` is the folder that it is in, if not its user's home folder;
    ``user`` is '' for the one who logs in."""

    def __init__(self, chdir: str | None, user: str) -> None:
        self.user = user
        self._home = f"~{user}"
        self._folder = self._home if chdir is None else self.path(chdir, self._home)

    def path(self, text: str, folder: str | None = None) -> str:
        """A path, whole: it begins with / or with a home folder."""
        if text == "~" or text.startswith("~/"):
            return posixpath.normpath(self._home + text[1:])
        return posixpath.normpath(posixpath.join(folder or self._folder, text))

    def needs(self) -> Iterator[str]:
        """What every step needs there: its folder, and its user."""
        if self._folder != self._home:
            yield self._folder
        if self.user:
            yield self.user


def of_command(where: Where, creates: str | None, *, readonly: bool) -> Effects:
    """A command may do anything, or look at it."""
    needs = tuple(where.needs())
    if readonly:
        return Effects(needs=needs, looks=True)
    made = () if creates is None else (where.path(creates),)
    return Effects(made, anything=True, needs=needs, looks=True)


def of_download(where: Where, path: str) -> Effects:
    """It reads a file of the host."""
    return Effects(needs=(where.path(path), *where.needs()))


def of_module(module: Module, frame: Frame, where: Where) -> Effects:
    """What the module says of itself, else what its params tell. Raises Waits and DefinitionError.

    Without a word it makes what stands at its param ``path``; it is about its params where one of
    them is a path, unless it runs a command that it is given.
    """
    params = frame.task.params
    makes = module.makes if not module.readonly else ()
    if makes is None and "path" in params:
        made, anything = tuple(_paths(frame.resolve("path"), where)), False
    else:
        made, anything = _said(makes, frame, where), makes in (None, ANYTHING)
    if module.reads is not None:
        needs, looks = _said(module.reads, frame, where), module.reads == ANYTHING
    else:
        needs = tuple(each for name in params for each in _values(name, frame, where))
        looks = not any(param.type == "path" for param in params.values())
    runs = any(p.runs and frame.resolve(name) for name, p in params.items())
    looks = looks or runs or module.readonly
    return Effects(made, anything, (*needs, *where.needs()), looks)


def _said(
    said: Iterable[ValueTemplate] | str | None, frame: Frame, where: Where
) -> tuple[str, ...]:
    if said is None or isinstance(said, str):
        return ()
    found: list[str] = []
    for template in said:
        params = [frame.task.params.get(name) for name in template.names]
        path = any(param is not None and param.type == "path" for param in params)
        read = _paths if path else _named
        found += read(template.render(frame), where)
    return tuple(found)


def _values(name: str, frame: Frame, where: Where) -> Iterator[str]:
    param = frame.task.params[name]
    kind = param.type
    if not param.runs and kind not in ("file", "dict", "regex"):
        read = _paths if kind == "path" or name == "path" else _named
        yield from read(frame.resolve(name), where)


def _named(value: object, where: Where) -> Iterator[str]:
    """A name, or what can be one; where it has a slash in it, it can be a path."""
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _named(each, where)
    elif isinstance(value, (str, int)) and not isinstance(value, bool):
        text = str(value)
        if not text or len(text) > _LONG or "\n" in text:
            return
        if "/" in text or isinstance(value, HomePath):
            yield where.path(text)
        if text[0] not in "/~":
            yield text


def _paths(value: object, where: Where) -> Iterator[str]:
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _paths(each, where)
    elif isinstance(value, str) and value:
        yield where.path(value)
