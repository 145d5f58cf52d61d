"""Commands that are given as values: an argument, a default, a variable of the inventory."""

from __future__ import annotations

from collections.abc import Iterable

from jinja2 import nodes
from msgspec import Struct

from orchestrator.errors import DefinitionError, Mark, Problem
from orchestrator.model.marked_value import CommandText, Value
from orchestrator.model.secret import Secret
from orchestrator.templating.environment import language
from orchestrator.templating.rendering import Field
from orchestrator.templating.scope import Scope
from orchestrator.templating.shell.shell_template import ShellTemplate, Use, compile_shell
from orchestrator.templating.template_parser import Source, parse
from orchestrator.templating.text_templates import ValueTemplate, compile_value, only_expression

_FILTERS = ("raw", "words")


class CommandTemplate(Struct, frozen=True, eq=False):
    """The value of a param of type ``command``, as written, or of a list of them.

    It is a command's text, compiled as that of `run` is, or one expression: then its value has
    to be such a command already, a list of them, or none. ``uses`` are for lint.
    """

    mark: Mark
    _made: ShellTemplate | ValueTemplate
    _items: tuple[CommandTemplate, ...] | None = None

    @property
    def template(self) -> ShellTemplate | ValueTemplate:
        """The template of its text, or of its one expression."""
        return self._made

    @property
    def source(self) -> str:
        """Its text as written."""
        return self._made.source

    @property
    def names(self) -> frozenset[str]:
        """Those that have to exist."""
        return self._made.names

    @property
    def optional(self) -> frozenset[str]:
        """Those that are asked after first."""
        return self._made.optional

    @property
    def sources(self) -> frozenset[str]:
        """Those that its text is made of."""
        return self._made.sources

    @property
    def fields(self) -> tuple[Field, ...]:
        """What is taken of names that have to exist."""
        return self._made.fields

    @property
    def constant(self) -> bool:
        """Whether it asks the scope for nothing."""
        return not self.names and not self.optional

    def place_of(self, name: str) -> Mark:
        """Where one of the names stands first."""
        return self._made.place_of(name)

    @property
    def uses(self) -> tuple[Use, ...]:
        """The expressions in it."""
        if self._items is not None:
            return tuple(use for item in self._items for use in item.uses)
        return self._made.uses if isinstance(self._made, ShellTemplate) else ()

    def render(self, scope: Scope) -> CommandText | list[CommandText] | None:
        """The command, or the list, every value in it quoted for its place.

        Raises ``DefinitionError`` for what is undefined, cannot stand at its place or is no
        command, and what ``scope`` raises.
        """
        if self._items is not None:
            return [text for item in self._items for text in _listed(item.render(scope))]
        value = self._made.render(scope)
        if isinstance(self._made, ShellTemplate):
            return CommandText(value)
        if value is None or isinstance(value, CommandText):
            return value
        if isinstance(value, list) and all(isinstance(item, CommandText) for item in value):
            return value
        if value == "" and isinstance(value, str):
            return CommandText()
        what = f"`{self.source.strip()}` gives a text, where a command has to be written"
        raise DefinitionError(Problem(what, self.mark, _HINT))


def _listed(rendered: CommandText | list[CommandText] | None) -> list[CommandText]:
    if rendered is None:
        return []
    return [rendered] if isinstance(rendered, CommandText) else rendered


_HINT = (
    "write the command itself, with the values in it; `| raw` runs a text as it is, and what a "
    "param of `type: command` was given can be handed on"
)


def compile_command(value: Value) -> CommandTemplate:
    """Read a command. Raises ``DefinitionError`` where it is none."""
    data, mark = value.data, value.mark
    if isinstance(data, str) and not value.literal:
        whole = "{{" in data and _hands_on(data, mark)
        return CommandTemplate(mark, compile_value(value) if whole else compile_shell(data, mark))
    if data is None:
        return CommandTemplate(mark, compile_value(value))
    if isinstance(data, str | Secret):
        return CommandTemplate(mark, _as_it_is(value))
    if isinstance(data, list):
        items = tuple(compile_command(item) for item in data)
        return CommandTemplate(mark, _all_of(items, mark), items)
    raise DefinitionError(Problem("must be a command", mark, "write its text"))


def _all_of(items: tuple[CommandTemplate, ...], mark: Mark) -> ValueTemplate:
    """What all of them ask for; it is never rendered."""
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


def _as_it_is(value: Value) -> ValueTemplate:
    """A text of which nothing is a template: its user wrote all of it."""
    made = compile_value(value)
    none: Iterable[str] = ()
    return ValueTemplate(
        made.source,
        value.mark,
        frozenset(none),
        frozenset(none),
        lambda scope: CommandText(made.render(scope)),
    )


def _hands_on(text: str, mark: Mark) -> bool:
    """Whether it is one expression, which is not inserted as it is."""
    only = only_expression(parse(Source(text, mark), language(comments=False)))
    return only is not None and not (isinstance(only, nodes.Filter) and only.name in _FILTERS)
