"""A cache of compiled templates."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar, cast

from orchestrator import templating
from orchestrator.errors import SourcePosition
from orchestrator.model.marked_value import MarkedValue

if TYPE_CHECKING:
    from orchestrator.templating import (
        CommandTemplate,
        Expression,
        ShellTemplate,
        TextTemplate,
        ValueTemplate,
    )

T = TypeVar("T")


class TemplateCache:
    """Compiles each template once. Errors are not kept: the same text fails again."""

    def __init__(self) -> None:
        self._compiled: dict[Hashable, object] = {}
        self._values: dict[int, tuple[MarkedValue, ValueTemplate]] = {}
        self._commands: dict[int, tuple[MarkedValue, CommandTemplate]] = {}

    def shell(self, source: str, mark: SourcePosition) -> ShellTemplate:
        """As the function ``shell``."""
        return self._compile_once("shell", source, mark, templating.compile_shell)

    def text(self, source: str, mark: SourcePosition) -> TextTemplate:
        """As the function ``text``."""
        return self._compile_once("text", source, mark, templating.compile_text)

    def expression(self, source: str, mark: SourcePosition) -> Expression:
        """As the function ``expression``."""
        return self._compile_once("expression", source, mark, templating.compile_expression)

    def value(self, of: MarkedValue) -> ValueTemplate:
        """As the function ``value``; the same object is compiled once."""
        found = self._values.get(id(of))
        if found is None:  # the Value is kept so that its id stays its own
            found = self._values[id(of)] = (of, templating.compile_value(of))
        return found[1]

    def command(self, of: MarkedValue) -> CommandTemplate:
        """As the function ``command``; the same object is compiled once."""
        found = self._commands.get(id(of))
        if found is None:
            found = self._commands[id(of)] = (of, templating.compile_command(of))
        return found[1]

    def _compile_once(
        self,
        kind: str,
        source: str,
        mark: SourcePosition,
        compiled: Callable[[str, SourcePosition], T],
    ) -> T:
        key = (kind, source, mark)
        if key not in self._compiled:
            self._compiled[key] = compiled(source, mark)
        return cast("T", self._compiled[key])
