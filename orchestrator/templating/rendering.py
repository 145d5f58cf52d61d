"""Compiled templates, and translation of the errors of their expressions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import CodeType, TracebackType
from typing import Any

from jinja2 import nodes
from jinja2.environment import Template
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.runtime import Context
from jinja2.utils import missing
from msgspec import Struct
from msgspec.structs import astuple

from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    OrchError,
    SourcePosition,
    suggest_nearest,
)
from orchestrator.model import ansible
from orchestrator.model.secret_masking import SecretMasker
from orchestrator.templating.environment import (
    MissingValue,
    TemplateEnvironment,
    UndefinedValueError,
)
from orchestrator.templating.free_names import (
    FreeNames,
    LazyLookupTransformer,
    counter_names,
    find_free_names,
)
from orchestrator.templating.limits import StepBudget, concat_parts
from orchestrator.templating.scope import (
    ResultPending,
    Scope,
    host_text_reads_of,
    reset_host_text_reads,
)
from orchestrator.templating.taint import propagate_taint, secrets_of, shows_secret
from orchestrator.templating.template_parser import ParsedTemplate, TemplateSource, too_deep_error
from orchestrator.templating.value_text import UnusableValueError

_RENDER_ERRORS = (
    TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
)


class RenderContext(Context):
    """One rendering: its scope, the values found there, and the value to keep.

    ``rendered_files`` are the template files that it is inside of.
    """

    def __init__(self, env: TemplateEnvironment, scope: Scope, mark: SourcePosition) -> None:
        """Start a rendering; ``mark`` is the position of the template."""
        super().__init__(env, {}, None, {})
        self.scope, self.mark = scope, mark
        self.found: dict[str, object] = {}
        self.kept: object = None
        self.work = StepBudget()
        self.rendered_files: tuple[str, ...] = ()
        self._masks: SecretMasker | None = None

    def look_up(self, name: str, *, asked: bool = False) -> object:
        """Return the scope's value of a name, or ``MissingValue``.

        ``asked``: the name is used only in a condition.
        """
        scope = self.scope
        host_text_reads = host_text_reads_of(scope) if asked else 0
        try:
            return scope.resolve(name)
        except KeyError as error:
            if error.args != (name,):
                raise
            return MissingValue(name=name)
        finally:
            if asked:
                reset_host_text_reads(scope, host_text_reads)

    def resolve_or_missing(self, key: str) -> Any:
        """Return the value of a name that Jinja looks up itself, or Jinja's ``missing``."""
        if key in self.environment.globals:
            return self.environment.globals[key]
        found = self.look_up(key)
        return missing if isinstance(found, MissingValue) else found

    def insert(self, value: object, index: int) -> str:
        """Return the text of a value for the placeholder ``index``."""
        raise NotImplementedError

    def propagate_taint(self, inputs: Iterable[object], output: Any) -> Any:
        """Return ``output``; if the inputs contain secrets, the output is masked as well."""
        masks = self._masker()
        return propagate_taint(masks, inputs, output) if masks else output

    def shows_secret(self, values: Iterable[object]) -> bool:
        """Return True if a text in the values contains a secret."""
        return shows_secret(self._masker(), values)

    def _masker(self) -> SecretMasker:
        if self._masks is None:
            self._masks = secrets_of(self.scope).masker
        return self._masks


class FieldAccess(Struct, frozen=True, eq=False):
    """A ``name.field`` in a template, at an offset of its text."""

    name: str
    field: str
    source: TemplateSource
    offset: int

    @property
    def mark(self) -> SourcePosition:
        """Return the position of the field."""
        return self.source.mark_at(self.offset)


class CompiledTemplate(Struct, frozen=True, eq=False):
    """Compiled template code with the positions of its names, for errors."""

    source: TemplateSource
    env: TemplateEnvironment
    template: Template
    names: FreeNames
    name_positions: tuple[tuple[str, int, str], ...]
    code: CodeType
    own_filters: tuple[str, ...] = ()

    def to_plain(self) -> tuple[Any, ...]:
        """Return what ``restore_program`` needs, as plain data and code."""
        return self.code, astuple(self.names), self.name_positions, self.own_filters

    @property
    def fields(self) -> tuple[FieldAccess, ...]:
        """Return the field accesses of names that must exist."""
        return tuple(FieldAccess(name, of, self.source, at) for name, of, at in self.names.fields)

    def position_of(self, name: str) -> SourcePosition:
        """Return the first position of a name, or the template's own position."""
        at = (offset for found, offset, _ in self.name_positions if found == name)
        return self.source.mark_at(next(at, 0))

    def run(self, context: RenderContext) -> str:
        """Return the rendered text. Raises ``DefinitionError`` if an expression fails."""
        try:
            return concat_parts(self.template.root_render_func(context))
        except (OrchError, ResultPending):
            raise
        except UndefinedValueError as error:
            raise self.undefined_error(
                error.missing, context.scope, self._failed_offset(error)
            ) from None
        except UnusableValueError as unfit:
            raise self.source.error_at(unfit.what, self._failed_offset(unfit), unfit.hint) from None
        except SecurityError as error:
            raise self.source.error_at(
                f"not allowed here: {error}", self._failed_offset(error)
            ) from None
        except _RENDER_ERRORS as error:
            what = f"the expression fails: {_error_text(error)}"
            raise self.source.error_at(what, self._failed_offset(error)) from error
        except (RecursionError, MemoryError) as error:
            what = "the template recurses too deeply, or uses too much memory"
            raise self.source.error_at(what, self._failed_offset(error)) from None

    def undefined_error(self, what: MissingValue, scope: Scope, near: int) -> DefinitionError:
        """Return the error for an undefined name that is used near an offset."""
        name = what.name
        spots = [s for s in self.name_positions if s[0] == name]
        _, at, whole = min(spots, key=lambda s: abs(s[1] - near), default=(name, near, name))
        hint = scope.hint(name) if what.at_root else what.hint
        if what.at_root and name == ansible.FACTS_VARIABLE:
            fields = (
                field
                for field, _, whole in self.name_positions
                if whole in (f"{name}.{field}", f"{name}['{field}']")
            )
            hint = next((ansible.FACT_HINTS[f] for f in fields if f in ansible.FACT_HINTS), hint)
        hint = hint or ("" if what.at_root else suggest_nearest(name, what.siblings or []))
        if not hint and not what.at_root and what.siblings:
            hint = f"known: {', '.join(sorted(what.siblings)[:12])}"
        return DefinitionError(Diagnostic(f"'{whole}' is undefined", self.source.mark_at(at), hint))

    def _failed_offset(self, error: BaseException) -> int:
        """Return the offset of the failed statement, from the line of the generated code."""
        for frame, line in _template_frames(error.__traceback__):
            if frame == self.template.filename:
                return self.template.get_corresponding_lineno(line) - 1
        return 0


def _error_text(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"


def _template_frames(trace: TracebackType | None) -> Iterator[tuple[str, int]]:
    while trace:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next


def compile_tree(
    parsed: ParsedTemplate,
    env: TemplateEnvironment,
    names: FreeNames | None = None,
    otherwise: str | None = None,
) -> CompiledTemplate:
    """Compile a tree, which must not be used afterwards.

    ``otherwise`` is the value of ``X if Y`` without ``else`` if Y is false.
    """
    tree = parsed.tree
    names = names or find_free_names(tree)
    spots = tuple(_find_name_positions(tree))
    own = tuple(sorted(_used_filters(tree) & env.own_filters)) if env.own_filters else ()
    LazyLookupTransformer(
        names, otherwise, counter_names(tree, names.required | names.optional)
    ).visit(tree)
    try:
        code = env.compile(tree)
        template = Template.from_code(env, code, {})
    except TemplateSyntaxError as error:
        raise parsed.source.error_at(f"{error.message}", error.lineno - 1) from None
    except (SyntaxError, RecursionError, MemoryError):  # loops in 20 loops, ifs in 100 ifs, …
        raise too_deep_error(parsed.source, 0) from None
    return CompiledTemplate(parsed.source, env, template, names, spots, code=code, own_filters=own)


def restore_program(
    plain: tuple[Any, ...], source: TemplateSource, env: TemplateEnvironment
) -> CompiledTemplate | None:
    """Return the program of which ``to_plain`` returned this; the text is the same.

    Return None if the project no longer has a filter that it uses.
    """
    code, names, spots, own = plain
    if not env.own_filters.issuperset(own):
        return None
    template = Template.from_code(env, code, {})
    return CompiledTemplate(
        source, env, template, FreeNames(*names), spots, code=code, own_filters=own
    )


def _used_filters(tree: nodes.Template) -> set[str]:
    return {node.name for node in tree.find_all(nodes.Filter)}


def _find_name_positions(tree: nodes.Template) -> Iterator[tuple[str, int, str]]:
    """Yield each name and attribute used, with its offset and its full source form."""
    for node in tree.find_all((nodes.Name, nodes.Getattr, nodes.Getitem)):
        whole = _source_form(node)
        if isinstance(node, nodes.Name):
            yield node.name, node.lineno - 1, whole
        elif isinstance(node, nodes.Getattr):
            yield node.attr, node.lineno, whole  # its token is the dot
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            yield str(node.arg.value), node.arg.lineno - 1, whole


def _source_form(node: nodes.Node) -> str:
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        return f"{_source_form(node.node)}.{node.attr}"
    if isinstance(node, nodes.Getitem):
        key = repr(node.arg.value) if isinstance(node.arg, nodes.Const) else "…"
        return f"{_source_form(node.node)}[{key}]"
    return "(…)"
