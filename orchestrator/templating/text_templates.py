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
from orchestrator.templating.compile_cache import filters_of
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
from orchestrator.templating.linked_files import (
    LINKING_NODES,
    FileReader,
    LinkedSource,
    link_files,
)
from orchestrator.templating.rendering import (
    CompiledTemplate,
    FieldAccess,
    RenderContext,
    compile_tree,
    restore_program,
)
from orchestrator.templating.scope import Scope
from orchestrator.templating.taint import secrets_of
from orchestrator.templating.template_parser import (
    ParsedTemplate,
    TemplateSource,
    apply_filter,
    parse_template,
)
from orchestrator.templating.template_syntax import JINJA_SYNTAX, TemplateSyntax
from orchestrator.templating.value_text import UnusableValueError, text_of

if TYPE_CHECKING:
    from orchestrator.templating.compile_cache import CompileCache
    from orchestrator.templating.shell.shell_template import ShellTemplate

_SINGLE_NAME = lazy_regex(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
_RESERVED_WORDS = FUNCTIONS | set("true false none True False None self super caller loop".split())
"""Words that are never, or not always, names of the scope; Python's keywords as well."""

_NO_LOADER: dict[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from … import",
    nodes.Extends: "extends",
    nodes.Block: "block",
}


class TextTemplate(Struct, frozen=True, eq=False):
    """Text with expressions; nothing is escaped."""

    source: str
    mark: SourcePosition
    names: frozenset[str]
    optional: frozenset[str]
    _program: CompiledTemplate | None = None
    _read_file: FileReader | None = None
    _syntax: TemplateSyntax = JINJA_SYNTAX

    @property
    def fields(self) -> tuple[FieldAccess, ...]:
        """Return the field accesses of names that must exist."""
        return self._program.fields if self._program else ()

    def position_of(self, name: str) -> SourcePosition:
        """Return the first position of a name."""
        return self._program.position_of(name) if self._program else self.mark

    def render(self, scope: Scope, within: RenderContext | None = None) -> str:
        """Return the text. Raises ``DefinitionError``; passes on exceptions of ``scope``.

        ``within`` is the rendering that this one is a part of.
        """
        if self._program is None:
            return self.source
        context = InsertingContext(self._program, scope)
        if within is not None:
            context.work = within.work
            context.rendered_files = (*within.rendered_files, self.mark.path)
        return self._program.run(context)

    def parsed(self) -> ParsedTemplate:
        """Parse the template again and return its tree."""
        env = (
            self._program.env
            if self._program
            else template_environment(comments=True, syntax=self._syntax)
        )
        return _parse_text(self.source, self.mark, env, self._read_file)


class ValueTemplate(Struct, frozen=True, eq=False):
    """A value from YAML in which strings are templates.

    A string that consists of one ``{{ … }}`` gives the expression's native value (a number, a list
    and so on); other strings with expressions give text, in which ``true`` and ``false`` are
    written as in YAML. ``source`` is the text of a string, else ''; ``parts`` are the templates of
    the items of a list or mapping.
    """

    source: str
    mark: SourcePosition
    names: frozenset[str]
    optional: frozenset[str]
    _render: Callable[[Scope], Any]
    programs: tuple[CompiledTemplate | _SingleName, ...] = ()
    parts: tuple[ValueTemplate | ShellTemplate, ...] = ()

    def parsed(self) -> ParsedTemplate:
        """Parse the template of a string again and return its tree."""
        envs = (each.env for each in self.programs if isinstance(each, CompiledTemplate))
        env = next(envs, None) or template_environment(comments=False)
        return _parse_text(self.source, self.mark, env)

    @property
    def fields(self) -> tuple[FieldAccess, ...]:
        """Return the field accesses of names that must exist."""
        return tuple(field for program in self.programs for field in program.fields)

    def position_of(self, name: str) -> SourcePosition:
        """Return the first position of a name."""
        found = (each for each in self.programs if name in each.names.required)
        return next((program.position_of(name) for program in found), self.mark)

    @property
    def sources(self) -> frozenset[str]:
        """Return the names that the value is made of, without those used only in conditions."""
        return frozenset[str]().union(*(program.names.value_names for program in self.programs))

    @property
    def constant(self) -> bool:
        """Return True if it uses no names of the scope and no files."""
        reads_files = any(program.names.calls for program in self.programs)
        return not (self.names or self.optional or reads_files)

    def render(self, scope: Scope) -> Any:
        """Return the plain data. Raises ``DefinitionError``; passes on exceptions of ``scope``."""
        return self._render(scope)


def compile_text(
    text: str,
    mark: SourcePosition,
    cache: CompileCache | None = None,
    read_file: FileReader | None = None,
    syntax: TemplateSyntax = JINJA_SYNTAX,
) -> TextTemplate:
    """Compile a text template: Jinja configured like Ansible's, with strict undefined.

    A newline after a block tag is removed, unless ``syntax`` says otherwise; the last newline of
    the text is kept. ``read_file`` reads the other files that a file template may name; they have
    the same syntax. Raises ``DefinitionError``.
    """
    if not any(sign in text for sign in syntax.starts):
        return TextTemplate(text, mark, frozenset(), frozenset(), _syntax=syntax)
    env = template_environment(filters_of(cache), comments=True, syntax=syntax)
    kind = syntax.cache_kind
    kept = cache.find(kind, text, mark) if cache else None
    program = restore_program(kept, TemplateSource(text, mark), env) if kept else None
    if program is None:
        parsed = _parse_text(text, mark, env, read_file)
        program = _compile_insertions(parsed, env, otherwise="")
        if cache and not isinstance(parsed.source, LinkedSource):
            cache.add(kind, text, mark, program.to_plain())
    names = program.names
    return TextTemplate(
        text,
        mark,
        names=names.required,
        optional=names.optional,
        _program=program,
        _read_file=read_file,
        _syntax=syntax,
    )


def compile_value(value: MarkedValue, cache: CompileCache | None = None) -> ValueTemplate:
    """Compile a value and everything below it. Raises ``DefinitionError``."""
    data, mark = value.data, value.mark
    if value.literal:
        return _constant_template(value)
    if isinstance(data, str):
        return _string_template(data, value, cache)
    if isinstance(data, Secret):
        return _secret_template(data, mark)
    if isinstance(data, list):
        items = [compile_value(item, cache) for item in data]
        return _compose_values(items, mark, lambda scope: [item.render(scope) for item in items])
    if isinstance(data, dict):
        fields = {str(key): compile_value(item, cache) for key, item in data.items()}
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


def _string_template(text: str, value: MarkedValue, cache: CompileCache | None) -> ValueTemplate:
    if "{{" not in text and "{%" not in text:
        return _constant_template(value)
    alone = _SINGLE_NAME.fullmatch(text)
    if alone and not (alone[1] in _RESERVED_WORDS or iskeyword(alone[1])):
        return _name_template(alone[1], TemplateSource(text, value.mark), alone.start(1))
    return _compile_native_text(text, value.mark, cache)


def _compile_native_text(
    text: str, mark: SourcePosition, cache: CompileCache | None = None
) -> ValueTemplate:
    env = template_environment(filters_of(cache), comments=False)
    is_native, plain = (cache.find("value", text, mark) if cache else None) or (False, None)
    program = restore_program(plain, TemplateSource(text, mark), env) if plain else None
    if program is None:
        parsed = _parse_text(text, mark, env)
        native = single_expression(parsed)
        is_native = native is not None
        program = (
            _compile_insertions(parsed, env)
            if native is None
            else compile_native(parsed, env, native)
        )
        if cache:
            cache.add("value", text, mark, (is_native, program.to_plain()))

    def render(scope: Scope) -> Any:
        if is_native:
            return render_native(program, scope)
        return program.run(InsertingContext(program, scope))

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
    """The names of a template that is one name and nothing else."""

    names: FreeNames
    mark: SourcePosition
    fields: tuple[FieldAccess, ...] = ()

    def position_of(self, _: str) -> SourcePosition:
        return self.mark


def _name_template(name: str, source: TemplateSource, offset: int) -> ValueTemplate:
    """Compile ``{{ name }}`` without Jinja, in a tenth of the time; many values are of this form.

    If rendering fails, the template is compiled with Jinja for its error message.
    """

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


def _parse_text(
    text: str, mark: SourcePosition, env: TemplateEnvironment, read_file: FileReader | None = None
) -> ParsedTemplate:
    parsed = _parse_single(TemplateSource(text, mark), env)
    links = next(parsed.tree.find_all(LINKING_NODES), None)
    if read_file is not None and links is not None:
        return link_files(parsed, read_file, lambda source: _parse_single(source, env))
    source = parsed.source
    for node in parsed.tree.find_all(tuple(_NO_LOADER)):
        what = f"`{{% {_NO_LOADER[type(node)]} %}}`: a template cannot include others here"
        raise source.error_at(what, parsed.begin_of(node))
    return parsed


def _parse_single(source: TemplateSource, env: TemplateEnvironment) -> ParsedTemplate:
    start, end = env.block_start_string, env.block_end_string
    hint = f"for literal text write `{start} raw {end}…{start} endraw {end}` around it"
    parsed = parse_template(source, env, hint)
    for found in parsed.tree.find_all(nodes.Filter):
        if found.name in ("raw", "words"):
            what = f"`{found.name}` is for commands only; nothing is quoted here"
            raise source.error_at(what, found.lineno - 1, "leave it out")
    return parsed


def single_expression(parsed: ParsedTemplate) -> nodes.Expr | None:
    """Return the only expression of the template, or None if there is anything else in it."""
    body = parsed.tree.body
    if len(body) == 1 and isinstance(body[0], nodes.Output) and len(body[0].nodes) == 1:
        only = body[0].nodes[0]
        return None if isinstance(only, nodes.TemplateData) else only
    return None


def compile_native(
    parsed: ParsedTemplate, env: TemplateEnvironment, node: nodes.Expr
) -> CompiledTemplate:
    """Compile a program that keeps the expression's native value."""
    call = apply_filter(node, KEEP_FILTER, node.lineno)
    parsed.tree.body = [nodes.Output([call], lineno=node.lineno)]
    return compile_tree(parsed, env)


def render_native(program: CompiledTemplate, scope: Scope) -> Any:
    """Return the value of a program made by ``compile_native``; an iterator becomes a list."""
    rendering = RenderContext(program.env, scope, program.source.mark)
    program.run(rendering)
    value = rendering.kept
    if isinstance(value, MissingValue):
        raise program.undefined_error(value, scope, 0)
    return list(value) if isinstance(value, Iterator | range) else value


def _compile_insertions(
    parsed: ParsedTemplate, env: TemplateEnvironment, otherwise: str | None = None
) -> CompiledTemplate:
    """Compile a text into which the texts of values are inserted."""
    names = find_free_names(parsed.tree)
    mark_insertions(parsed, counter_names(parsed.tree, names.required | names.optional))
    return compile_tree(parsed, env, names, otherwise)


def mark_insertions(parsed: ParsedTemplate, numbers: frozenset[str] = frozenset()) -> None:
    """Wrap every expression for ``InsertingContext``, except numbers, which Jinja formats as well.

    ``numbers`` are names that only ever are numbers.
    """
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
    """A rendering that inserts the text of each value."""

    def __init__(self, program: CompiledTemplate, scope: Scope) -> None:
        super().__init__(program.env, scope, program.source.mark)
        self._program = program

    def insert(self, value: object, index: int) -> str:
        """Return the text of a value; ``index`` is the offset of its expression."""
        if isinstance(value, MissingValue):
            raise self._program.undefined_error(value, self.scope, index)
        try:
            return text_of(value)
        except UnusableValueError as unfit:
            raise self._program.source.error_at(unfit.what, index, unfit.hint) from None
