"""Templates whose result is not shell text: names, files and values from YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from jinja2 import nodes
from msgspec import Struct

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedValue
from orchestrator.model.secret import Secret
from orchestrator.templating.environment import (
    FUNCTIONS,
    INSERT_TEXT_FILTER,
    KEEP_FILTER,
    MissingValue,
    TemplateEnvironment,
    check_kept_value,
    template_environment,
)
from orchestrator.templating.free_names import FreeNames, counter_names, find_free_names, is_number
from orchestrator.templating.limits import check_all
from orchestrator.templating.rendering import (
    CompiledTemplate,
    FieldAccess,
    RenderContext,
    compile_tree,
)
from orchestrator.templating.scope import Scope
from orchestrator.templating.taint import secrets_of
from orchestrator.templating.template_parser import (
    ParsedTemplate,
    TemplateSource,
    apply_filter,
    parse_template,
)
from orchestrator.templating.value_text import UnusableValueError, text_of

if TYPE_CHECKING:
    from orchestrator.templating.shell.shell_template import ShellTemplate

_SINGLE_NAME = lazy_regex(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
_RESERVED_WORDS = FUNCTIONS | set("true false none True False None self super caller loop".split())
"""What is no name of the scope, or not always; Python's keywords count, too."""

_NO_LOADER: dict[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from … import",
    nodes.Extends: "extends",
    nodes.Block: "block",
}


class TextTemplate(Struct, frozen=True, eq=False):
    """Text with expressions in it; nothing is escaped."""

    source: str
    mark: SourcePosition
    names: frozenset[str]
    optional: frozenset[str]
    _program: CompiledTemplate | None = None

    @property
    def fields(self) -> tuple[FieldAccess, ...]:
        """What is taken of names that have to exist."""
        return self._program.fields if self._program else ()

    def position_of(self, name: str) -> SourcePosition:
        """Where one of the names stands first."""
        return self._program.position_of(name) if self._program else self.mark

    def render(self, scope: Scope) -> str:
        """The text. Raises ``DefinitionError`` for what is undefined, and what ``scope`` raises."""
        if self._program is None:
            return self.source
        return self._program.run(InsertingContext(self._program, scope))

    def parsed(self) -> ParsedTemplate:
        """The template, read anew."""
        return _parse_text(self.source, self.mark, template_environment(comments=True, trim=True))


class ValueTemplate(Struct, frozen=True, eq=False):
    """A value from YAML, any strings in it templates.

    A string that is one ``{{ … }}`` and nothing else gives the expression's own value (a
    number, a list, …); other strings with expressions give text, in which ``true`` and
    ``false`` are written as YAML does. ``source`` is the text of a string, else ''; ``parts`` are
    those of what a list or mapping holds.
    """

    source: str
    mark: SourcePosition
    names: frozenset[str]
    optional: frozenset[str]
    _render: Callable[[Scope], Any]
    programs: tuple[CompiledTemplate | _SingleName, ...] = ()
    parts: tuple[ValueTemplate | ShellTemplate, ...] = ()

    def parsed(self) -> ParsedTemplate:
        """The template of a string, read anew."""
        return _parse_text(self.source, self.mark, template_environment(comments=False))

    @property
    def fields(self) -> tuple[FieldAccess, ...]:
        """What is taken of names that have to exist."""
        return tuple(field for program in self.programs for field in program.fields)

    def position_of(self, name: str) -> SourcePosition:
        """Where one of the names stands first."""
        found = (each for each in self.programs if name in each.names.required)
        return next((program.position_of(name) for program in found), self.mark)

    @property
    def sources(self) -> frozenset[str]:
        """The names that its value is made of: none that only decides which it is."""
        return frozenset[str]().union(*(program.names.value_names for program in self.programs))

    @property
    def constant(self) -> bool:
        """Whether it asks the scope for nothing."""
        return not self.names and not self.optional

    def render(self, scope: Scope) -> Any:
        """The plain data. Raises ``DefinitionError`` and what ``scope`` raises."""
        return self._render(scope)


def compile_text(text: str, mark: SourcePosition) -> TextTemplate:
    """Read a text template: plain Jinja as Ansible sets it up (a line's end after a block tag
    goes, the text's last stays), with strict undefined. Raises ``DefinitionError``."""
    if not any(sign in text for sign in ("{{", "{%", "{#")):
        return TextTemplate(text, mark, frozenset(), frozenset())
    env = template_environment(comments=True, trim=True)
    program = _compile_insertions(_parse_text(text, mark, env), env, otherwise="")
    return TextTemplate(text, mark, program.names.required, program.names.optional, program)


def compile_value(value: MarkedValue) -> ValueTemplate:
    """Read a value and all below it. Raises ``DefinitionError``."""
    data, mark = value.data, value.mark
    if value.literal:
        return _constant_template(value)
    if isinstance(data, str):
        return _string_template(data, value)
    if isinstance(data, Secret):
        return _secret_template(data, mark)
    if isinstance(data, list):
        items = [compile_value(item) for item in data]
        return _compose_values(items, mark, lambda scope: [item.render(scope) for item in items])
    if isinstance(data, dict):
        fields = {str(key): compile_value(item) for key, item in data.items()}
        return _compose_values(
            list(fields.values()),
            mark,
            lambda scope: {key: item.render(scope) for key, item in fields.items()},
        )
    return _constant_template(value)


def _compose_values(
    parts: list[ValueTemplate], mark: SourcePosition, render: Callable[[Scope], Any]
) -> ValueTemplate:
    names = frozenset[str]().union(*(part.names for part in parts))
    optional = frozenset[str]().union(*(part.optional for part in parts))
    programs = tuple(program for part in parts for program in part.programs)

    def checked(scope: Scope) -> Any:
        value = render(scope)
        try:
            check_all(value)
        except UnusableValueError as unfit:
            raise DefinitionError(Diagnostic(unfit.what, mark)) from None
        return value

    return ValueTemplate(
        "",
        mark,
        names=names,
        optional=optional - names,
        _render=checked if names or optional else render,
        programs=programs,
        parts=tuple(parts),
    )


def _secret_template(secret: Secret, mark: SourcePosition) -> ValueTemplate:
    none: frozenset[str] = frozenset()
    return ValueTemplate(
        "", mark, none, none, lambda scope: secrets_of(scope).resolve_secret(secret)
    )


def _constant_template(value: MarkedValue) -> ValueTemplate:
    source = value.data if isinstance(value.data, str) else ""
    return ValueTemplate(source, value.mark, frozenset(), frozenset(), lambda _: value.to_plain())


def _string_template(text: str, value: MarkedValue) -> ValueTemplate:
    if "{{" not in text and "{%" not in text:
        return _constant_template(value)
    alone = _SINGLE_NAME.fullmatch(text)
    if alone and not (alone[1] in _RESERVED_WORDS or iskeyword(alone[1])):
        return _name_template(alone[1], TemplateSource(text, value.mark), alone.start(1))
    return _compile_native_text(text, value.mark)


def _compile_native_text(text: str, mark: SourcePosition) -> ValueTemplate:
    env = template_environment(comments=False)
    parsed = _parse_text(text, mark, env)
    native = single_expression(parsed)
    if native is None:
        program = _compile_insertions(parsed, env)

        def render(scope: Scope) -> Any:
            return program.run(InsertingContext(program, scope))
    else:
        program = compile_native(parsed, env, native)

        def render(scope: Scope) -> Any:
            return render_native(program, scope)

    names = program.names
    return ValueTemplate(
        text,
        mark,
        names=names.required,
        optional=names.optional,
        _render=render,
        programs=(program,),
    )


class _SingleName(Struct, frozen=True, eq=False):
    """What a template asks for that is one name and nothing else."""

    names: FreeNames
    mark: SourcePosition
    fields: tuple[FieldAccess, ...] = ()

    def position_of(self, _: str) -> SourcePosition:
        return self.mark


def _name_template(name: str, source: TemplateSource, offset: int) -> ValueTemplate:
    """Read ``{{ name }}``, which so many values are, at a tenth of what Jinja takes for it; it
    says what is wrong where something is."""

    def render(scope: Scope) -> Any:
        try:
            value = scope.resolve(name)
        except KeyError as error:
            if error.args != (name,):
                raise
            return _compile_native_text(source.text, source.mark).render(scope)
        try:
            check_kept_value(value)
        except (UnusableValueError, ValueError):
            return _compile_native_text(source.text, source.mark).render(scope)
        return list(value) if isinstance(value, Iterator | range) else value

    asks = frozenset({name})
    names = FreeNames(asks, frozenset(), asks, {})
    program = _SingleName(names, source.mark_at(offset))
    return ValueTemplate(
        source.text,
        source.mark,
        names=asks,
        optional=frozenset(),
        _render=render,
        programs=(program,),
    )


def _parse_text(text: str, mark: SourcePosition, env: TemplateEnvironment) -> ParsedTemplate:
    source = TemplateSource(text, mark)
    hint = "for text that is no template write `{% raw %}…{% endraw %}` around it"
    parsed = parse_template(source, env, hint)
    for node in parsed.tree.find_all(tuple(_NO_LOADER)):
        what = f"`{{% {_NO_LOADER[type(node)]} %}}`: a template stands by itself here"
        raise source.error_at(what, parsed.begin_of(node))
    for found in parsed.tree.find_all(nodes.Filter):
        if found.name in ("raw", "words"):
            what = f"`{found.name}` is for commands only; nothing is quoted here"
            raise source.error_at(what, found.lineno - 1, "leave it out")
    return parsed


def single_expression(parsed: ParsedTemplate) -> nodes.Expr | None:
    """The expression that the template is, and nothing beside it."""
    body = parsed.tree.body
    if len(body) == 1 and isinstance(body[0], nodes.Output) and len(body[0].nodes) == 1:
        only = body[0].nodes[0]
        return None if isinstance(only, nodes.TemplateData) else only
    return None


def compile_native(
    parsed: ParsedTemplate, env: TemplateEnvironment, node: nodes.Expr
) -> CompiledTemplate:
    """A program that keeps the expression's value."""
    call = apply_filter(node, KEEP_FILTER, node.lineno)
    parsed.tree.body = [nodes.Output([call], lineno=node.lineno)]
    return compile_tree(parsed, env)


def render_native(program: CompiledTemplate, scope: Scope) -> Any:
    """The value of a program made by ``compile_native``; what a filter gives bit by bit, as a list."""
    rendering = RenderContext(program.env, scope)
    program.run(rendering)
    value = rendering.kept
    if isinstance(value, MissingValue):
        raise program.undefined_error(value, scope, 0)
    return list(value) if isinstance(value, Iterator | range) else value


def _compile_insertions(
    parsed: ParsedTemplate, env: TemplateEnvironment, otherwise: str | None = None
) -> CompiledTemplate:
    """Compile a text into whose places the texts of values are put."""
    names = find_free_names(parsed.tree)
    mark_insertions(parsed, counter_names(parsed.tree, names.required | names.optional))
    return compile_tree(parsed, env, names, otherwise)


def mark_insertions(parsed: ParsedTemplate, numbers: frozenset[str] = frozenset()) -> None:
    """Give every expression over to ``InsertingContext`` but those that give numbers, as these names
    do: Jinja writes them as well."""
    for output in parsed.tree.find_all(nodes.Output):
        output.nodes = [
            node
            if isinstance(node, nodes.TemplateData) or is_number(node, numbers)
            else apply_filter(
                node,
                INSERT_TEXT_FILTER,
                node.lineno,
                nodes.Const(parsed.begin_of(node), lineno=node.lineno),
            )
            for node in output.nodes
        ]


class InsertingContext(RenderContext):
    """A rendering that puts the text of each value in."""

    def __init__(self, program: CompiledTemplate, scope: Scope) -> None:
        super().__init__(program.env, scope)
        self._program = program

    def insert(self, value: object, index: int) -> str:
        """The text of a value; ``index`` is the offset of its expression."""
        if isinstance(value, MissingValue):
            raise self._program.undefined_error(value, self.scope, index)
        try:
            return text_of(value)
        except UnusableValueError as unfit:
            raise self._program.source.error_at(unfit.what, index, unfit.hint) from None
