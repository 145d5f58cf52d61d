"""A template made ready to run, and what becomes of the errors of its expressions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from jinja2 import nodes
from jinja2.environment import Template
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.runtime import Context
from jinja2.utils import missing
from msgspec import Struct

from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    OrchError,
    SourcePosition,
    suggest_nearest,
)
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
from orchestrator.templating.taint import propagate_taint, secrets_of
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
    """One rendering: the scope it reads, what it found there, and the value it keeps."""

    def __init__(self, env: TemplateEnvironment, scope: Scope) -> None:
        super().__init__(env, {}, None, {})
        self.scope = scope
        self.found: dict[str, object] = {}
        self.kept: object = None
        self.work = StepBudget()
        self._masks: SecretMasker | None = None

    def look_up(self, name: str, *, asked: bool = False) -> object:
        """The scope's value of a name, or ``MissingValue``. ``asked``: it only decides something."""
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
        """The value of a name that Jinja looks up itself, or Jinja's ``missing``."""
        if key in self.environment.globals:
            return self.environment.globals[key]
        found = self.look_up(key)
        return missing if isinstance(found, MissingValue) else found

    def insert(self, value: object, index: int) -> str:
        """The text of a value at one of the template's places."""
        raise NotImplementedError

    def propagate_taint(self, inputs: Iterable[object], output: Any) -> Any:
        """``output``, with secrets hidden in it if there are any in what it was made of."""
        if self._masks is None:
            self._masks = secrets_of(self.scope).masker
        return propagate_taint(self._masks, inputs, output) if self._masks else output


class FieldAccess(Struct, frozen=True, eq=False):
    """``name.field`` in a template, at an offset of its text."""

    name: str
    field: str
    source: TemplateSource
    offset: int

    @property
    def mark(self) -> SourcePosition:
        """Where the field stands."""
        return self.source.mark_at(self.offset)


class CompiledTemplate(Struct, frozen=True, eq=False):
    """Compiled template code with the places of its names, for errors."""

    source: TemplateSource
    env: TemplateEnvironment
    template: Template
    names: FreeNames
    name_positions: tuple[tuple[str, int, str], ...]

    @property
    def fields(self) -> tuple[FieldAccess, ...]:
        """What the template takes of names that have to exist."""
        return tuple(FieldAccess(name, of, self.source, at) for name, of, at in self.names.fields)

    def position_of(self, name: str) -> SourcePosition:
        """Where a name stands first; where that is not known, the template's own place."""
        at = (offset for found, offset, _ in self.name_positions if found == name)
        return self.source.mark_at(next(at, 0))

    def run(self, context: RenderContext) -> str:
        """The text it gives. Raises ``DefinitionError`` where an expression fails."""
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
            what = "the template calls itself too often, or takes too much memory"
            raise self.source.error_at(what, self._failed_offset(error)) from None

    def undefined_error(self, what: MissingValue, scope: Scope, near: int) -> DefinitionError:
        """The error for a name that does not exist, used somewhere near an offset."""
        name = what.name
        spots = [s for s in self.name_positions if s[0] == name]
        _, at, whole = min(spots, key=lambda s: abs(s[1] - near), default=(name, near, name))
        hint = scope.hint(name) if what.at_root else suggest_nearest(name, what.siblings or [])
        if not hint and not what.at_root and what.siblings:
            hint = f"there is: {', '.join(sorted(what.siblings)[:12])}"
        return DefinitionError(Diagnostic(f"'{whole}' is undefined", self.source.mark_at(at), hint))

    def _failed_offset(self, error: BaseException) -> int:
        """Where the statement stands that failed, from the line of the generated code."""
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
    """Make a tree ready to run. The tree is used up.

    ``otherwise`` is what ``X if Y`` without an ``else`` gives where Y is false.
    """
    tree = parsed.tree
    names = names or find_free_names(tree)
    spots = tuple(_find_name_positions(tree))
    LazyLookupTransformer(
        names.lazy, otherwise, counter_names(tree, names.required | names.optional)
    ).visit(tree)
    try:
        template = Template.from_code(env, env.compile(tree), {})
    except TemplateSyntaxError as error:
        raise parsed.source.error_at(f"{error.message}", error.lineno - 1) from None
    except (SyntaxError, RecursionError, MemoryError):  # loops in 20 loops, ifs in 100 ifs, …
        raise too_deep_error(parsed.source, 0) from None
    return CompiledTemplate(parsed.source, env, template, names, spots)


def _find_name_positions(tree: nodes.Template) -> Iterator[tuple[str, int, str]]:
    """Each name and attribute used: itself, its offset, and how it is written in full."""
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
