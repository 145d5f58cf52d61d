"""A cache of compiled templates."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar, cast

from orchestrator import templating
from orchestrator.errors import Mark
from orchestrator.model.marked_value import Value

if TYPE_CHECKING:
    from orchestrator.templating import (
        CommandTemplate,
        Expression,
        ShellTemplate,
        TextTemplate,
        ValueTemplate,
    )

T = TypeVar("T")


class Templates:
    """Compiles each template once. Errors are not kept: the same text fails again."""

    def __init__(self) -> None:
        self._compiled: dict[Hashable, object] = {}
        self._values: dict[int, tuple[Value, ValueTemplate]] = {}
        self._commands: dict[int, tuple[Value, CommandTemplate]] = {}

    def shell(self, source: str, mark: Mark) -> ShellTemplate:
        """As the function ``shell``."""
        return self._once("shell", source, mark, templating.shell)

    def text(self, source: str, mark: Mark) -> TextTemplate:
        """As the function ``text``."""
        return self._once("text", source, mark, templating.text)

    def expression(self, source: str, mark: Mark) -> Expression:
        """As the function ``expression``."""
        return self._once("expression", source, mark, templating.expression)

    def value(self, of: Value) -> ValueTemplate:
        """As the function ``value``; the same object is compiled once."""
        found = self._values.get(id(of))
        if found is None:  # the Value is kept so that its id stays its own
            found = self._values[id(of)] = (of, templating.value(of))
        return found[1]

    def command(self, of: Value) -> CommandTemplate:
        """As the function ``command``; the same object is compiled once."""
        found = self._commands.get(id(of))
        if found is None:
            found = self._commands[id(of)] = (of, templating.command(of))
        return found[1]

    def _once(self, kind: str, source: str, mark: Mark, compiled: Callable[[str, Mark], T]) -> T:
        key = (kind, source, mark)
        if key not in self._compiled:
            self._compiled[key] = compiled(source, mark)
        return cast("T", self._compiled[key])
