"""Commands passed as values: an argument, a default, or an inventory variable."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from jinja2 import nodes
from msgspec import Struct

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.model.marked_value import CommandText, MarkedValue
from orchestrator.model.secret import Secret
from orchestrator.templating.compile_cache import filters_of
from orchestrator.templating.environment import template_environment
from orchestrator.templating.rendering import FieldAccess
from orchestrator.templating.scope import Scope
from orchestrator.templating.shell.shell_template import ExpressionUse, ShellTemplate, compile_shell
from orchestrator.templating.template_parser import TemplateSource, parse_template
from orchestrator.templating.text_templates import ValueTemplate, compile_value, single_expression

if TYPE_CHECKING:
    from orchestrator.templating.compile_cache import CompileCache

_FILTERS = ("raw", "words")


class CommandTemplate(Struct, frozen=True, eq=False):
    """The value of a param of type ``command``, or of a list of commands.

    The value is the text of a command, compiled like that of `run`, or a single expression. The
    result of an expression must be such a command, a list of them, or none. ``uses`` are for lint.
    """

    mark: SourcePosition
    _template: ShellTemplate | ValueTemplate
    _items: tuple[CommandTemplate, ...] | None = None

    @property
    def template(self) -> ShellTemplate | ValueTemplate:
        """Return the template of the text or of the single expression."""
        return self._template

    @property
    def source(self) -> str:
        """Return the text as written."""
        return self._template.source

    @property
    def names(self) -> frozenset[str]:
        """Return the names that must exist."""
        return self._template.names

    @property
    def optional(self) -> frozenset[str]:
        """Return the names that are tested before use."""
        return self._template.optional

    @property
    def sources(self) -> frozenset[str]:
        """Return the names that the text is made of."""
        return self._template.sources

    @property
    def fields(self) -> tuple[FieldAccess, ...]:
        """Return the field accesses of names that must exist."""
        return self._template.fields

    @property
    def constant(self) -> bool:
        """Return True if it uses no names of the scope."""
        return not self.names and not self.optional

    def position_of(self, name: str) -> SourcePosition:
        """Return the first position of a name."""
        return self._template.position_of(name)

    @property
    def uses(self) -> tuple[ExpressionUse, ...]:
        """Return the expressions in the command."""
        if self._items is not None:
            return tuple(use for item in self._items for use in item.uses)
        return self._template.uses if isinstance(self._template, ShellTemplate) else ()

    def render(self, scope: Scope) -> CommandText | list[CommandText] | None:
        """Return the command or list of commands, with every value quoted for its context.

        Raises ``DefinitionError`` for an undefined value, for a value that cannot be quoted in its
        context, and for a result that is not a command. Exceptions of ``scope`` are passed on.
        """
        if self._items is not None:
            return [text for item in self._items for text in _as_list(item.render(scope))]
        value = self._template.render(scope)
        if isinstance(self._template, ShellTemplate):
            return CommandText(value)
        if value is None or isinstance(value, CommandText):
            return value
        if isinstance(value, list) and all(isinstance(item, CommandText) for item in value):
            return value
        if value == "" and isinstance(value, str):
            return CommandText()
        what = f"`{self.source.strip()}` evaluates to text, but a command is required here"
        raise DefinitionError(Diagnostic(what, self.mark, _HINT))


def _as_list(rendered: CommandText | list[CommandText] | None) -> list[CommandText]:
    if rendered is None:
        return []
    return [rendered] if isinstance(rendered, CommandText) else rendered


_HINT = (
    "write the command itself, with the values in it; use `| raw` to run text unchanged, or pass "
    "on a param of `type: command`"
)


def compile_command(value: MarkedValue, cache: CompileCache | None = None) -> CommandTemplate:
    """Compile a command. Raises ``DefinitionError`` if it is invalid."""
    data, mark = value.data, value.mark
    if isinstance(data, str) and not value.literal:
        whole = "{{" in data and _is_single_expression(data, mark, cache)
        return CommandTemplate(
            mark, compile_value(value, cache) if whole else compile_shell(data, mark, cache)
        )
    if data is None:
        return CommandTemplate(mark, compile_value(value))
    if isinstance(data, str | Secret):
        return CommandTemplate(mark, _literal_template(value))
    if isinstance(data, list):
        items = tuple(compile_command(item, cache) for item in data)
        return CommandTemplate(mark, _combine_items(items, mark), items)
    raise DefinitionError(Diagnostic("must be a command", mark, "write its text"))


def _combine_items(items: tuple[CommandTemplate, ...], mark: SourcePosition) -> ValueTemplate:
    """Return a template with the names of all items; it is never rendered."""
    names = frozenset[str]().union(*(item.names for item in items))
    optional = frozenset[str]().union(*(item.optional for item in items))
    parts = tuple(item.template for item in items)
    programs = tuple(program for part in parts for program in part.programs)
    return ValueTemplate(
        "",
        mark,
        names=names,
        optional=optional - names,
        _render=lambda _: None,
        programs=programs,
        parts=parts,
    )


def _literal_template(value: MarkedValue) -> ValueTemplate:
    """Return the template of a literal text, which its user wrote completely."""
    literal = compile_value(value)
    none: Iterable[str] = ()
    return ValueTemplate(
        literal.source,
        value.mark,
        frozenset(none),
        frozenset(none),
        lambda scope: CommandText(literal.render(scope)),
    )


def _is_single_expression(text: str, mark: SourcePosition, cache: CompileCache | None) -> bool:
    """Return True if the text is one expression without ``raw`` or ``words``."""
    env = template_environment(filters_of(cache), comments=False)
    only = single_expression(parse_template(TemplateSource(text, mark), env))
    return only is not None and not (isinstance(only, nodes.Filter) and only.name in _FILTERS)
