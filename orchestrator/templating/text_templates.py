"""Templates whose result is not shell text: names, files and values from YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from jinja2 import nodes
from msgspec import Struct

from orchestrator.errors import DefinitionError, Mark, Problem
from orchestrator.model.lazy_regex import regex
from orchestrator.model.marked_value import Value
from orchestrator.model.secret import Secret
from orchestrator.templating.environment import (
    FUNCTIONS,
    INSERT_TEXT,
    KEEP,
    Language,
    Missing,
    check_kept,
    language,
)
from orchestrator.templating.free_names import Names, counters, is_number, survey
from orchestrator.templating.limits import check_all
from orchestrator.templating.rendering import Field, Program, Rendering, compile_tree
from orchestrator.templating.scope import Scope
from orchestrator.templating.taint import secrets_of
from orchestrator.templating.template_parser import Parsed, Source, apply_filter, parse
from orchestrator.templating.value_text import Unfit, text_of

if TYPE_CHECKING:
    from orchestrator.templating.shell.shell_template import ShellTemplate

_NAME = regex(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
_WORDS = FUNCTIONS | set("true false none True False None self super caller loop".split())
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
    mark: Mark
    names: frozenset[str]
    optional: frozenset[str]
    _program: Program | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        """What is taken of names that have to exist."""
        return self._program.fields if self._program else ()

    def place_of(self, name: str) -> Mark:
        """Where one of the names stands first."""
        return self._program.place_of(name) if self._program else self.mark

    def render(self, scope: Scope) -> str:
        """The text. Raises ``DefinitionError`` for what is undefined, and what ``scope`` raises."""
        if self._program is None:
            return self.source
        return self._program.run(Inserting(self._program, scope))

    def parsed(self) -> Parsed:
        """The template, read anew."""
        return _parse(self.source, self.mark, language(comments=True, trim=True))


class ValueTemplate(Struct, frozen=True, eq=False):
    """A value from YAML, any strings in it templates.

    A string that is one ``{{ … }}`` and nothing else gives the expression's own value (a
    number, a list, …); other strings with expressions give text, in which ``true`` and
    ``false`` are written as YAML does. ``source`` is the text of a string, else ''; ``parts`` are
    those of what a list or mapping holds.
    """

    source: str
    mark: Mark
    names: frozenset[str]
    optional: frozenset[str]
    _render: Callable[[Scope], Any]
    programs: tuple[Program | _Name, ...] = ()
    parts: tuple[ValueTemplate | ShellTemplate, ...] = ()

    def parsed(self) -> Parsed:
        """The template of a string, read anew."""
        return _parse(self.source, self.mark, language(comments=False))

    @property
    def fields(self) -> tuple[Field, ...]:
        """What is taken of names that have to exist."""
        return tuple(field for program in self.programs for field in program.fields)

    def place_of(self, name: str) -> Mark:
        """Where one of the names stands first."""
        found = (each for each in self.programs if name in each.names.required)
        return next((program.place_of(name) for program in found), self.mark)

    @property
    def sources(self) -> frozenset[str]:
        """The names that its value is made of: none that only decides which it is."""
        return frozenset[str]().union(*(program.names.told for program in self.programs))

    @property
    def constant(self) -> bool:
        """Whether it asks the scope for nothing."""
        return not self.names and not self.optional

    def render(self, scope: Scope) -> Any:
        """The plain data. Raises ``DefinitionError`` and what ``scope`` raises."""
        return self._render(scope)


def compile_text(text: str, mark: Mark) -> TextTemplate:
    """Read a text template: plain Jinja as Ansible sets it up (a line's end after a block tag
    goes, the text's last stays), with strict undefined. Raises ``DefinitionError``."""
    if not any(sign in text for sign in ("{{", "{%", "{#")):
        return TextTemplate(text, mark, frozenset(), frozenset())
    env = language(comments=True, trim=True)
    program = _inserting(_parse(text, mark, env), env, otherwise="")
    return TextTemplate(text, mark, program.names.required, program.names.optional, program)


def compile_value(value: Value) -> ValueTemplate:
    """Read a value and all below it. Raises ``DefinitionError``."""
    data, mark = value.data, value.mark
    if value.literal:
        return _constant(value)
    if isinstance(data, str):
        return _string(data, value)
    if isinstance(data, Secret):
        return _secret(data, mark)
    if isinstance(data, list):
        items = [compile_value(item) for item in data]
        return _tree(items, mark, lambda scope: [item.render(scope) for item in items])
    if isinstance(data, dict):
        fields = {str(key): compile_value(item) for key, item in data.items()}
        return _tree(
            list(fields.values()),
            mark,
            lambda scope: {key: item.render(scope) for key, item in fields.items()},
        )
    return _constant(value)


def _tree(parts: list[ValueTemplate], mark: Mark, render: Callable[[Scope], Any]) -> ValueTemplate:
    names = frozenset[str]().union(*(part.names for part in parts))
    optional = frozenset[str]().union(*(part.optional for part in parts))
    programs = tuple(program for part in parts for program in part.programs)

    def checked(scope: Scope) -> Any:
        value = render(scope)
        try:
            check_all(value)
        except Unfit as unfit:
            raise DefinitionError(Problem(unfit.what, mark)) from None
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


def _secret(secret: Secret, mark: Mark) -> ValueTemplate:
    none: frozenset[str] = frozenset()
    return ValueTemplate("", mark, none, none, lambda scope: secrets_of(scope).value(secret))


def _constant(value: Value) -> ValueTemplate:
    source = value.data if isinstance(value.data, str) else ""
    return ValueTemplate(source, value.mark, frozenset(), frozenset(), lambda _: value.plain())


def _string(text: str, value: Value) -> ValueTemplate:
    if "{{" not in text and "{%" not in text:
        return _constant(value)
    alone = _NAME.fullmatch(text)
    if alone and not (alone[1] in _WORDS or iskeyword(alone[1])):
        return _name(alone[1], Source(text, value.mark), alone.start(1))
    return _template(text, value.mark)


def _template(text: str, mark: Mark) -> ValueTemplate:
    env = language(comments=False)
    parsed = _parse(text, mark, env)
    native = only_expression(parsed)
    if native is None:
        program = _inserting(parsed, env)

        def render(scope: Scope) -> Any:
            return program.run(Inserting(program, scope))
    else:
        program = keeping(parsed, env, native)

        def render(scope: Scope) -> Any:
            return kept(program, scope)

    names = program.names
    return ValueTemplate(
        text,
        mark,
        names=names.required,
        optional=names.optional,
        _render=render,
        programs=(program,),
    )


class _Name(Struct, frozen=True, eq=False):
    """What a template asks for that is one name and nothing else."""

    names: Names
    mark: Mark
    fields: tuple[Field, ...] = ()

    def place_of(self, _: str) -> Mark:
        return self.mark


def _name(name: str, source: Source, offset: int) -> ValueTemplate:
    """Read ``{{ name }}``, which so many values are, at a tenth of what Jinja takes for it; it
    says what is wrong where something is."""

    def render(scope: Scope) -> Any:
        try:
            value = scope.resolve(name)
        except KeyError as error:
            if error.args != (name,):
                raise
            return _template(source.text, source.mark).render(scope)
        try:
            check_kept(value)
        except (Unfit, ValueError):
            return _template(source.text, source.mark).render(scope)
        return list(value) if isinstance(value, Iterator | range) else value

    asks = frozenset({name})
    names = Names(asks, frozenset(), asks, {})
    program = _Name(names, source.at(offset))
    return ValueTemplate(
        source.text,
        source.mark,
        names=asks,
        optional=frozenset(),
        _render=render,
        programs=(program,),
    )


def _parse(text: str, mark: Mark, env: Language) -> Parsed:
    source = Source(text, mark)
    hint = "for text that is no template write `{% raw %}…{% endraw %}` around it"
    parsed = parse(source, env, hint)
    for node in parsed.tree.find_all(tuple(_NO_LOADER)):
        what = f"`{{% {_NO_LOADER[type(node)]} %}}`: a template stands by itself here"
        raise source.refuse(what, parsed.begin(node))
    for found in parsed.tree.find_all(nodes.Filter):
        if found.name in ("raw", "words"):
            what = f"`{found.name}` is for commands only; nothing is quoted here"
            raise source.refuse(what, found.lineno - 1, "leave it out")
    return parsed


def only_expression(parsed: Parsed) -> nodes.Expr | None:
    """The expression that the template is, and nothing beside it."""
    body = parsed.tree.body
    if len(body) == 1 and isinstance(body[0], nodes.Output) and len(body[0].nodes) == 1:
        only = body[0].nodes[0]
        return None if isinstance(only, nodes.TemplateData) else only
    return None


def keeping(parsed: Parsed, env: Language, node: nodes.Expr) -> Program:
    """A program that keeps the expression's value."""
    call = apply_filter(node, KEEP, node.lineno)
    parsed.tree.body = [nodes.Output([call], lineno=node.lineno)]
    return compile_tree(parsed, env)


def kept(program: Program, scope: Scope) -> Any:
    """The value of a program made by ``keeping``; what a filter gives bit by bit, as a list."""
    rendering = Rendering(program.env, scope)
    program.run(rendering)
    value = rendering.kept
    if isinstance(value, Missing):
        raise program.undefined(value, scope, 0)
    return list(value) if isinstance(value, Iterator | range) else value


def _inserting(parsed: Parsed, env: Language, otherwise: str | None = None) -> Program:
    """Compile a text into whose places the texts of values are put."""
    names = survey(parsed.tree)
    put(parsed, counters(parsed.tree, names.required | names.optional))
    return compile_tree(parsed, env, names, otherwise)


def put(parsed: Parsed, numbers: frozenset[str] = frozenset()) -> None:
    """Give every expression over to ``Inserting`` but those that give numbers, as these names
    do: Jinja writes them as well."""
    for output in parsed.tree.find_all(nodes.Output):
        output.nodes = [
            node
            if isinstance(node, nodes.TemplateData) or is_number(node, numbers)
            else apply_filter(
                node,
                INSERT_TEXT,
                node.lineno,
                nodes.Const(parsed.begin(node), lineno=node.lineno),
            )
            for node in output.nodes
        ]


class Inserting(Rendering):
    """A rendering that puts the text of each value in."""

    def __init__(self, program: Program, scope: Scope) -> None:
        super().__init__(program.env, scope)
        self._program = program

    def insert(self, value: object, index: int) -> str:
        """The text of a value; ``index`` is the offset of its expression."""
        if isinstance(value, Missing):
            raise self._program.undefined(value, self.scope, index)
        try:
            return text_of(value)
        except Unfit as unfit:
            raise self._program.source.refuse(unfit.what, index, unfit.hint) from None
