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

from orchestrator.errors import DefinitionError, Mark, OrchError, Problem, nearest
from orchestrator.model.secret_masking import Masks
from orchestrator.templating.environment import Language, Missing, NotDefined
from orchestrator.templating.free_names import Lazy, Names, counters, survey
from orchestrator.templating.limits import Work, concat
from orchestrator.templating.scope import Scope, Waits, heard_by, unhear
from orchestrator.templating.taint import follow, secrets_of
from orchestrator.templating.template_parser import Parsed, Source, too_deep
from orchestrator.templating.value_text import Unfit

_FAULTS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


class Rendering(Context):
    """One rendering: the scope it reads, what it found there, and the value it keeps."""

    def __init__(self, env: Language, scope: Scope) -> None:
        super().__init__(env, {}, None, {})
        self.scope = scope
        self.found: dict[str, object] = {}
        self.kept: object = None
        self.work = Work()
        self._masks: Masks | None = None

    def look_up(self, name: str, *, asked: bool = False) -> object:
        """The scope's value of a name, or ``Missing``. ``asked``: it only decides something."""
        scope = self.scope
        heard = heard_by(scope) if asked else 0
        try:
            return scope.resolve(name)
        except KeyError as error:
            if error.args != (name,):
                raise
            return Missing(name=name)
        finally:
            if asked:
                unhear(scope, heard)

    def resolve_or_missing(self, key: str) -> Any:
        """The value of a name that Jinja looks up itself, or Jinja's ``missing``."""
        if key in self.environment.globals:
            return self.environment.globals[key]
        found = self.look_up(key)
        return missing if isinstance(found, Missing) else found

    def insert(self, value: object, index: int) -> str:
        """The text of a value at one of the template's places."""
        raise NotImplementedError

    def follow(self, given: Iterable[object], made: Any) -> Any:
        """``made``, with secrets hidden in it if there are any in what it was made of."""
        if self._masks is None:
            self._masks = secrets_of(self.scope).masks
        return follow(self._masks, given, made) if self._masks else made


class Field(Struct, frozen=True, eq=False):
    """``name.field`` in a template, at an offset of its text."""

    name: str
    field: str
    source: Source
    offset: int

    @property
    def mark(self) -> Mark:
        """Where the field stands."""
        return self.source.at(self.offset)


class Program(Struct, frozen=True, eq=False):
    """Compiled template code with the places of its names, for errors."""

    source: Source
    env: Language
    template: Template
    names: Names
    spots: tuple[tuple[str, int, str], ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        """What the template takes of names that have to exist."""
        return tuple(Field(name, of, self.source, at) for name, of, at in self.names.fields)

    def place_of(self, name: str) -> Mark:
        """Where a name stands first; where that is not known, the template's own place."""
        at = (offset for found, offset, _ in self.spots if found == name)
        return self.source.at(next(at, 0))

    def run(self, context: Rendering) -> str:
        """The text it gives. Raises ``DefinitionError`` where an expression fails."""
        try:
            return concat(self.template.root_render_func(context))
        except (OrchError, Waits):
            raise
        except NotDefined as error:
            raise self.undefined(error.missing, context.scope, self._offset(error)) from None
        except Unfit as unfit:
            raise self.source.refuse(unfit.what, self._offset(unfit), unfit.hint) from None
        except SecurityError as error:
            raise self.source.refuse(f"not allowed here: {error}", self._offset(error)) from None
        except _FAULTS as error:
            what = f"the expression fails: {_told(error)}"
            raise self.source.refuse(what, self._offset(error)) from error
        except (RecursionError, MemoryError) as error:
            what = "the template calls itself too often, or takes too much memory"
            raise self.source.refuse(what, self._offset(error)) from None

    def undefined(self, what: Missing, scope: Scope, near: int) -> DefinitionError:
        """The error for a name that does not exist, used somewhere near an offset."""
        name = what.name
        spots = [s for s in self.spots if s[0] == name]
        _, at, whole = min(spots, key=lambda s: abs(s[1] - near), default=(name, near, name))
        hint = scope.hint(name) if what.at_root else nearest(name, what.siblings or [])
        if not hint and not what.at_root and what.siblings:
            hint = f"there is: {', '.join(sorted(what.siblings)[:12])}"
        return DefinitionError(Problem(f"'{whole}' is undefined", self.source.at(at), hint))

    def _offset(self, error: BaseException) -> int:
        """Where the statement stands that failed, from the line of the generated code."""
        for frame, line in _frames(error.__traceback__):
            if frame == self.template.filename:
                return self.template.get_corresponding_lineno(line) - 1
        return 0


def _told(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, int]]:
    while trace:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next


def compile_tree(
    parsed: Parsed, env: Language, names: Names | None = None, otherwise: str | None = None
) -> Program:
    """Make a tree ready to run. The tree is used up.

    ``otherwise`` is what ``X if Y`` without an ``else`` gives where Y is false.
    """
    tree = parsed.tree
    names = names or survey(tree)
    spots = tuple(_spots(tree))
    Lazy(names.lazy, otherwise, counters(tree, names.required | names.optional)).visit(tree)
    try:
        template = Template.from_code(env, env.compile(tree), {})
    except TemplateSyntaxError as error:
        raise parsed.source.refuse(f"{error.message}", error.lineno - 1) from None
    except (SyntaxError, RecursionError, MemoryError):  # loops in 20 loops, ifs in 100 ifs, …
        raise too_deep(parsed.source, 0) from None
    return Program(parsed.source, env, template, names, spots)


def _spots(tree: nodes.Template) -> Iterator[tuple[str, int, str]]:
    """Each name and attribute used: itself, its offset, and how it is written in full."""
    for node in tree.find_all((nodes.Name, nodes.Getattr, nodes.Getitem)):
        whole = _written(node)
        if isinstance(node, nodes.Name):
            yield node.name, node.lineno - 1, whole
        elif isinstance(node, nodes.Getattr):
            yield node.attr, node.lineno, whole  # its token is the dot
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            yield str(node.arg.value), node.arg.lineno - 1, whole


def _written(node: nodes.Node) -> str:
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        return f"{_written(node.node)}.{node.attr}"
    if isinstance(node, nodes.Getitem):
        key = repr(node.arg.value) if isinstance(node.arg, nodes.Const) else "…"
        return f"{_written(node.node)}[{key}]"
    return "(…)"
