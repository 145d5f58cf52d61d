"""The names in task files that a command line can use: params, tags, handlers, scheduled tasks.

The files are read, but their templates are not compiled: this is for completion, which must be
quick. A file with an error has no names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from msgspec import Struct

from orchestrator.errors import DefinitionError
from orchestrator.playbook.task_index import TaskIndex
from orchestrator.yamlio.local_files import display_path
from orchestrator.yamlio.yaml_loader import load_yaml

_STEP_LISTS = ("steps", "rollback", "block", "rescue", "always")


class ParamOutline(Struct, frozen=True):
    """A param: its help, and its possible values if they are few."""

    help: str = ""
    values: tuple[str, ...] = ()


class TaskOutlines:
    """The outlines of a project's tasks; each file is read once."""

    def __init__(self, index: TaskIndex) -> None:
        self.index = index
        self._bodies: dict[str, dict[str, Any]] = {}
        self._params: dict[str, dict[str, ParamOutline]] = {}

    def params(self, name: str) -> dict[str, ParamOutline]:
        """Return the params that a task accepts, and of a playbook those that its tasks accept."""
        if name not in self._params:
            self._params[name] = {}  # for a playbook that contains itself
            self._params[name] = self._params_of(self._body(name))
        return self._params[name]

    def tags(self, names: Iterable[str]) -> list[str]:
        """Return the tags in these tasks and in those that they call."""
        found: set[str] = set()
        for mapping in self._mappings(names):
            tags = mapping.get("tags")
            found.update(tag for tag in _texts(tags) if "{" not in tag)
        return sorted(found)

    def handlers(self, names: Iterable[str]) -> list[str]:
        """Return the names of the handlers of these tasks and of those that they call."""
        found: set[str] = set()
        for mapping in self._mappings(names):
            handlers = mapping.get("handlers")
            found.update(handlers if isinstance(handlers, dict) else ())
        return sorted(found)

    def step_names(self, names: Iterable[str]) -> list[str]:
        """Return the names of steps in these tasks and in those that they call, in order.

        Steps without a name, and names that are templates, are left out.
        """
        found: dict[str, None] = {}
        for name in names:
            self._add_step_names(self._body(name), found, {name})
        return list(found)

    def _add_step_names(
        self, body: Mapping[str, Any], found: dict[str, None], visited: set[str]
    ) -> None:
        for key in ("steps", "block", "rescue", "always", "tasks"):
            for item in _items(body.get(key)):
                name = item.get("name") if isinstance(item, dict) else None
                if key != "tasks" and isinstance(name, str) and "{" not in name:
                    found[name] = None
                callee, _ = self._call(item)
                if callee and callee not in visited:
                    visited.add(callee)
                    self._add_step_names(self._body(callee), found, visited)
                elif not callee and isinstance(item, dict):
                    self._add_step_names(item, found, visited)

    def scheduled(self, names: Iterable[str]) -> list[str]:
        """Return what these tasks schedule, in order: the tasks, and the groups with a name."""
        found: dict[str, None] = {}
        for name in names:
            if name not in found and self.index.find_file(name):
                found[name] = None
                self._add_scheduled(self._body(name), found)
        return list(found)

    def _body(self, name: str) -> dict[str, Any]:
        if name not in self._bodies:
            path = self.index.find_file(name)
            self._bodies[name] = {}
            with suppress(DefinitionError):
                data = load_yaml(path, display_path(path)).to_plain() if path else None
                self._bodies[name] = data if isinstance(data, dict) else {}
        return self._bodies[name]

    def _params_of(self, body: Mapping[str, Any]) -> dict[str, ParamOutline]:
        written = body.get("params")
        found = {
            name: _param_outline(param if isinstance(param, dict) else {})
            for name, param in (written.items() if isinstance(written, dict) else ())
        }
        for item in _items(body.get("tasks")):
            callee, args = self._call(item)
            if callee:
                inner = self.params(callee)
            else:
                inner = self._params_of(item) if isinstance(item, dict) else {}
            found |= {
                name: param
                for name, param in inner.items()
                if name not in args and name not in found
            }
        return found

    def _add_scheduled(self, body: Mapping[str, Any], found: dict[str, None]) -> None:
        for item in _items(body.get("tasks")):
            callee, _ = self._call(item)
            if isinstance(item, dict) and isinstance(item.get("name"), str):
                found[item["name"]] = None
            if callee and callee not in found:
                found[callee] = None
                self._add_scheduled(self._body(callee), found)
            elif not callee and isinstance(item, dict):
                self._add_scheduled(item, found)

    def _mappings(self, names: Iterable[str]) -> Iterator[Mapping[str, Any]]:
        """Yield every file, item, block and step of these tasks and of those that they call."""
        open_names, known = list(names), set[str]()
        while open_names:
            name = open_names.pop()
            if name in known:
                continue
            known.add(name)
            open_mappings: list[Any] = [self._body(name)]
            while open_mappings:
                mapping = open_mappings.pop()
                callee, _ = self._call(mapping)
                if callee:
                    open_names.append(callee)
                if not isinstance(mapping, dict):
                    continue
                yield mapping
                for key in (*_STEP_LISTS, "tasks"):
                    open_mappings += _items(mapping.get(key))
                handlers = mapping.get("handlers")
                for steps in handlers.values() if isinstance(handlers, dict) else ():
                    open_mappings += _items(steps) or [steps]

    def _call(self, item: object) -> tuple[str, Mapping[str, Any]]:
        """Return the task that a step or an item calls, or '', and its arguments."""
        if isinstance(item, str):
            return (item if self.index.find_file(item) else ""), {}
        for key, value in item.items() if isinstance(item, dict) else ():
            if key in self.index.files or key in self.index.modules:
                return key, value if isinstance(value, dict) else {}
        return "", {}


def _param_outline(param: Mapping[str, Any]) -> ParamOutline:
    choices = param.get("choices")
    values = [_shown_value(choice) for choice in choices] if isinstance(choices, list) else []
    if not values and param.get("type") == "bool":
        values = ["true", "false"]
    text = param.get("help")
    return ParamOutline(" ".join(text.split()) if isinstance(text, str) else "", tuple(values))


def _shown_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in _items(value) if isinstance(item, str)]
