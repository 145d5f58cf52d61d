"""Templates of command text in which no value can break out of its context."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from orchestrator.errors import SourcePosition
from orchestrator.model.marked_value import CommandText
from orchestrator.templating.compile_cache import filters_of
from orchestrator.templating.environment import (
    MissingValue,
    TemplateEnvironment,
    template_environment,
)
from orchestrator.templating.free_names import FreeNames, find_free_names
from orchestrator.templating.rendering import (
    CompiledTemplate,
    FieldAccess,
    RenderContext,
    compile_tree,
    restore_program,
)
from orchestrator.templating.scope import TEMPLATE_OBJECTS, Scope, host_text_reads_of
from orchestrator.templating.shell import heredoc_check
from orchestrator.templating.shell.escape import quote_value
from orchestrator.templating.shell.lexer_state import UnsafeShellError
from orchestrator.templating.shell.placeholders import Placeholder, restore_placeholder
from orchestrator.templating.template_parser import (
    ParsedTemplate,
    TemplateSource,
    parse_template,
)
from orchestrator.templating.value_text import UnusableValueError

if TYPE_CHECKING:
    from orchestrator.templating.compile_cache import CompileCache
    from orchestrator.templating.shell.rewriter import ShellTemplateRewriter

_HINT = (
    "in a command `{{` and `{%` begin a template; "
    "for literal text write `{% raw %}…{% endraw %}` around it"
)

_MAX_COMMAND_CHARS = 4096  # enough characters of a command to identify it


class ExpressionUse(Struct, frozen=True):
    """An expression in a command, for lint.

    ``filter``: raw, words or ''. ``sources``: the names that it is made of. ``command``: the text
    before it, from the name of its command on (truncated if very long); '' if it is not in a
    command, such as in a here-document.
    """

    mark: SourcePosition
    filter: str
    sources: frozenset[str]
    command: str


class ShellTemplate(Struct, frozen=True, eq=False):
    """Compiled command text.

    ``names`` must exist, ``optional`` names are tested before use.
    """

    source: str
    mark: SourcePosition
    names: frozenset[str]
    optional: frozenset[str]
    _program: CompiledTemplate
    _placeholders: list[Placeholder]

    @property
    def uses(self) -> tuple[ExpressionUse, ...]:
        """Return the expressions in the command, for lint."""
        return tuple(
            ExpressionUse(
                self._program.source.mark_at(each.offset),
                each.filter,
                each.sources,
                _command_before(self.source, each),
            )
            for each in self._placeholders
        )

    @property
    def sources(self) -> frozenset[str]:
        """Return the names that the text is made of, without those used only in conditions."""
        return self._program.names.value_names

    @property
    def env(self) -> TemplateEnvironment:
        """Return the environment that it was compiled in."""
        return self._program.env

    @property
    def programs(self) -> tuple[CompiledTemplate, ...]:
        """Return the compiled templates that it consists of."""
        return (self._program,)

    @property
    def fields(self) -> tuple[FieldAccess, ...]:
        """Return the field accesses of names that must exist."""
        return self._program.fields

    def position_of(self, name: str) -> SourcePosition:
        """Return the first position of a name."""
        return self._program.position_of(name)

    @property
    def raw_uses(self) -> tuple[ExpressionUse, ...]:
        """Return the expressions with a filter that bypasses the usual quoting."""
        return tuple(use for use in self.uses if use.filter)

    def parsed(self) -> ParsedTemplate:
        """Parse the template again and return its tree."""
        return parse_template(TemplateSource(self.source, self.mark), self.env, _HINT)

    def render(self, scope: Scope) -> str:
        """Return the command, with every value quoted for its context.

        Raises ``DefinitionError`` for an undefined value and for a value that cannot be quoted in
        its context. Exceptions of ``scope`` are passed on.
        """
        rendering = EscapingContext(self._program, scope, self._placeholders)
        text = self._program.run(rendering)
        if "\0" not in text:
            return text
        text, placeholder, unfit = heredoc_check.check_documents(text, self._placeholders)
        if placeholder and unfit:
            raise self._program.source.error_at(unfit.what, placeholder.offset, unfit.hint)
        return text


class EscapingContext(RenderContext):
    """A rendering that quotes each value for its context."""

    def __init__(
        self, program: CompiledTemplate, scope: Scope, placeholders: list[Placeholder]
    ) -> None:
        super().__init__(program.env, scope, program.source.mark)
        self.program, self.placeholders = program, placeholders
        self.host_text_reads = host_text_reads_of(scope)

    def insert(self, value: object, index: int) -> str:
        placeholder = self.placeholders[index]
        if isinstance(value, MissingValue):
            raise self.program.undefined_error(value, self.scope, placeholder.offset)
        if placeholder.filter and not isinstance(value, CommandText):
            self._refuse_host_text(placeholder)
        try:
            text: str = self.propagate_taint((value,), quote_value(placeholder, value))
            if placeholder.filter == "words":
                self.propagate_taint((value,), text.split())
        except UnusableValueError as unfit:
            raise self.program.source.error_at(unfit.what, placeholder.offset, unfit.hint) from None
        return heredoc_check.mark_value(index, text) if placeholder.documents else text

    def _refuse_host_text(self, placeholder: Placeholder) -> None:
        for name in sorted(placeholder.sources):
            through = (
                name in TEMPLATE_OBJECTS and host_text_reads_of(self.scope) != self.host_text_reads
            )
            if through or self.scope.from_host(name):
                what = f"`{placeholder.filter}` of '{name}', which came from a host"
                hint = "text from a host can only be inserted quoted"
                raise self.program.source.error_at(what, placeholder.offset, hint)


def _command_before(text: str, placeholder: Placeholder) -> str:
    """Return the text before a value in its command, or the beginning of a very long one."""
    return text[
        placeholder.command_start : min(
            placeholder.offset, placeholder.command_start + _MAX_COMMAND_CHARS
        )
    ].lstrip()


def compile_shell(
    text: str, mark: SourcePosition, cache: CompileCache | None = None
) -> ShellTemplate:
    """Compile command text. Raises ``DefinitionError`` if it cannot be made safe."""
    env = template_environment(filters_of(cache), comments=False)
    kept = cache.find("shell", text, mark) if cache else None
    if kept is not None:
        plain, placeholders = kept
        restored = restore_program(plain, TemplateSource(text, mark), env)
        if restored is not None:
            return _shell_template(restored, list(map(restore_placeholder, placeholders)))
    parsed, names, walk = rewriter_of(text, mark, env)
    walk.rewrite()
    program = compile_tree(parsed, env, names)
    if cache:
        cache.add(
            "shell", text, mark, (program.to_plain(), [p.to_plain() for p in walk.placeholders])
        )
    return _shell_template(program, walk.placeholders)


def _shell_template(program: CompiledTemplate, placeholders: list[Placeholder]) -> ShellTemplate:
    names = program.names
    return ShellTemplate(
        program.source.text,
        program.source.mark,
        names=names.required,
        optional=names.optional,
        _program=program,
        _placeholders=placeholders,
    )


def rewriter_of(
    text: str, mark: SourcePosition, env: TemplateEnvironment
) -> tuple[ParsedTemplate, FreeNames, ShellTemplateRewriter]:
    """Parse command text and find the context of each expression. Raises ``DefinitionError``."""
    # with compiled templates of earlier runs it is not needed
    from orchestrator.templating.shell.rewriter import ShellTemplateRewriter

    source = TemplateSource(text, mark)
    if "\0" in text:
        raise source.error_at("a NUL character in a command", text.index("\0"))
    parsed = parse_template(source, env, _HINT)
    names = find_free_names(parsed.tree)
    walk = ShellTemplateRewriter(parsed, names)
    try:
        walk.find_placeholders()
    except UnsafeShellError as refusal:
        raise source.error_at(refusal.what, refusal.offset, refusal.hint) from None
    if "alias" in text:
        for placeholder in walk.placeholders:
            placeholder.bare = False
    return parsed, names, walk
