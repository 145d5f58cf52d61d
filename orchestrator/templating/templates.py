"""All kinds of templates by one name each, and a cache of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

from orchestrator.errors import Mark
from orchestrator.model.value import Value
from orchestrator.templating.expressions import Expression
from orchestrator.templating.expressions import compile_expression as expression
from orchestrator.templating.shelltext.template import ShellTemplate
from orchestrator.templating.shelltext.template import compile_shell as shell
from orchestrator.templating.values import TextTemplate, ValueTemplate
from orchestrator.templating.values import compile_text as text
from orchestrator.templating.values import compile_value as value

__all__ = ["Templates", "expression", "shell", "text", "value"]

T = TypeVar("T")


class Templates:
    """Compiles each template once. Errors are not kept: the same text fails again."""

    def __init__(self) -> None:
        self._compiled: dict[Hashable, object] = {}
        self._values: dict[int, tuple[Value, ValueTemplate]] = {}

    def shell(self, source: str, mark: Mark) -> ShellTemplate:
        """As the function ``shell``."""
        return self._once("shell", source, mark, shell)

    def text(self, source: str, mark: Mark) -> TextTemplate:
        """As the function ``text``."""
        return self._once("text", source, mark, text)

    def expression(self, source: str, mark: Mark) -> Expression:
        """As the function ``expression``."""
        return self._once("expression", source, mark, expression)

    def value(self, of: Value) -> ValueTemplate:
        """As the function ``value``; the same object is compiled once."""
        found = self._values.get(id(of))
        if found is None:  # the Value is kept so that its id stays its own
            found = self._values[id(of)] = (of, value(of))
        return found[1]

    def _once(self, kind: str, source: str, mark: Mark, compiled: Callable[[str, Mark], T]) -> T:
        key = (kind, source, mark)
        if key not in self._compiled:
            self._compiled[key] = compiled(source, mark)
        return cast("T", self._compiled[key])
