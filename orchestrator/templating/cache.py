"""A cache of compiled templates."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar, cast

from orchestrator import templating
from orchestrator.errors import SourcePosition
from orchestrator.model.marked_value import MarkedValue
from orchestrator.templating.filter_calls import NO_FILTERS, OwnFilters

if TYPE_CHECKING:
    from orchestrator.templating import (
        CommandTemplate,
        CompileCache,
        Expression,
        ShellTemplate,
        TextTemplate,
        ValueTemplate,
    )

T = TypeVar("T")


class TemplateCache:
    """A cache that compiles each template once. Errors are not cached.

    ``filters`` are those of the project, which the templates may use.
    """

    def __init__(self, filters: OwnFilters = NO_FILTERS) -> None:
        self._filters = templating.CompileCache(None, filters)
        self._compiled: dict[Hashable, object] = {}
        self._values: dict[int, tuple[MarkedValue, ValueTemplate]] = {}
        self._commands: dict[int, tuple[MarkedValue, CommandTemplate]] = {}

    def shell(self, source: str, mark: SourcePosition) -> ShellTemplate:
        """Compile like ``compile_shell``."""
        return self._compile_once("shell", source, mark, templating.compile_shell)

    def text(self, source: str, mark: SourcePosition) -> TextTemplate:
        """Compile like ``compile_text``."""
        return self._compile_once("text", source, mark, templating.compile_text)

    def expression(self, source: str, mark: SourcePosition) -> Expression:
        """Compile like ``compile_expression``."""
        return self._compile_once("expression", source, mark, templating.compile_expression)

    def value(self, of: MarkedValue) -> ValueTemplate:
        """Compile like ``compile_value``; the same object is compiled once."""
        found = self._values.get(id(of))
        if found is None:  # a reference to the value keeps its id from being reused
            found = self._values[id(of)] = (
                of,
                templating.compile_value(of, self._filters),
            )
        return found[1]

    def command(self, of: MarkedValue) -> CommandTemplate:
        """Compile like ``compile_command``; the same object is compiled once."""
        found = self._commands.get(id(of))
        if found is None:
            found = self._commands[id(of)] = (
                of,
                templating.compile_command(of, self._filters),
            )
        return found[1]

    def _compile_once(
        self,
        kind: str,
        source: str,
        mark: SourcePosition,
        compiled: Callable[[str, SourcePosition, CompileCache | None], T],
    ) -> T:
        key = (kind, source, mark)
        if key not in self._compiled:
            self._compiled[key] = compiled(source, mark, self._filters)
        return cast("T", self._compiled[key])
