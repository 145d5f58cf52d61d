"""The expression language of users: Jinja's, strict, without side effects and without Python."""

from __future__ import annotations

import operator
import posixpath
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Environment, nodes, pass_context, pass_environment, pass_eval_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import UndefinedError
from jinja2.filters import make_attrgetter
from jinja2.runtime import LoopContext, Macro, StrictUndefined, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import _PassArg, missing
from msgspec import Struct

from orchestrator.model.marked_value import NamedObject
from orchestrator.model.registered_result import RegisteredResult, UnknownResult
from orchestrator.model.text_encoding import repr_text
from orchestrator.templating import limits
from orchestrator.templating.filter_calls import NO_FILTERS, OwnFilter, OwnFilters
from orchestrator.templating.filters import ANSIBLE_FILTERS, ANSIBLE_TESTS, HOST_TEXT_HINTS, formats
from orchestrator.templating.lookups import LOOKUPS
from orchestrator.templating.scope import TEMPLATE_OBJECTS, host_text_reads_of
from orchestrator.templating.template_syntax import INLINE_SYNTAX, TemplateSyntax
from orchestrator.templating.value_text import (
    TEXT_FILTERS,
    UnusableValueError,
    check_text,
    default_filter,
    join_texts,
    require_text,
    text_of,
)

# Names of functions, as opposed to values: `range(3)` is one, a plain `range` is a variable.
_JINJA_FUNCTIONS = ("range", "dict", "namespace")
FUNCTIONS = frozenset({*_JINJA_FUNCTIONS, *LOOKUPS})
# Filters inserted when the tree is rewritten; users cannot write a blank in a filter's name.
FREE_NAME_FILTER, KEEP_FILTER, INSERT_FILTER = "a free name", "keep the value", "insert the value"
INSERT_TEXT_FILTER = "insert the value into a text"
CONDITION_NAME_FILTER = "a free name in a condition"
SLICE_FILTER = "a part of a value"
READS_FILTER, PROJECT_TEXT_FILTER = "reads of host text so far", "text of the project"
CONCAT_FILTER, ROUNDS_FILTER = "the texts of values", "the rounds of a loop"
_SIZED_FILTERS = (
    "center",
    "indent",
    "wordwrap",
    "batch",
    "slice",
    "round",
    "truncate",
    "to_json",
    "to_nice_json",
    "tojson",
)
"""Filters with an argument for a width, length or precision."""
_RESULT_HINT = "use a name that a step registers with `register:`"
_INTEGERS = {"+": operator.add, "*": operator.mul, "%": operator.mod}
_DATA_TYPES = frozenset({str, int, float, bool, list, tuple, dict})
_PLAIN_BITS = 14_000  # the size of about 4200 digits
_TRUE_WORDS, _FALSE_WORDS = (
    frozenset({"true", "yes", "on", "1"}),
    frozenset({"false", "no", "off", "0", ""}),
)


class UndefinedValueError(UndefinedError):
    """An operation on a missing value, which is ``missing``."""

    def __init__(self, message: str, missing: MissingValue) -> None:
        super().__init__(message)
        self.missing = missing


class MissingValue(StrictUndefined):
    """A value that does not exist.

    Its attributes and items are missing as well, so that ``a.b.c | default(1)`` works at each
    level; any other use raises ``UndefinedValueError``.
    """

    __slots__ = ()

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        if self._undefined_exception is UndefinedError:
            fail: Any = lambda message: UndefinedValueError(message, self)  # noqa: E731
            self._undefined_exception = fail

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return self

    def __getitem__(self, key: Any) -> MissingValue:  # type: ignore[override]
        return self

    @property
    def name(self) -> str:
        """Return the missing name."""
        return str(self._undefined_name)

    @property
    def siblings(self) -> list[str] | None:
        """Return the existing names of the object that lacks it, or None at a template's root."""
        if not isinstance(self._undefined_name, str) or self.at_root:
            return None
        owner = self._undefined_obj
        if isinstance(owner, Struct):
            attributes = {name: getattr(type(owner), name) for name in dir(owner) if name[0] != "_"}
            return [name for name, value in attributes.items() if not callable(value)]
        return [str(k) for k in owner] if isinstance(owner, Mapping) else []

    @property
    def hint(self) -> str:
        """Return what the object that lacks it suggests instead, or ''."""
        suggest = getattr(type(self._undefined_obj), "hint_for", None)
        return "" if suggest is None else str(suggest(self._undefined_obj, self.name))

    @property
    def at_root(self) -> bool:
        """Return True if the scope does not know the name."""
        return not self._undefined_hint and self._undefined_obj is missing


def mark_unbounded(node: nodes.BinExpr, yes: bool) -> None:
    """Mark a calculation as free of bounds checks, or as checked."""
    node.unbounded = yes  # type: ignore[attr-defined]


class _BoundedCodeGenerator(CodeGenerator):
    """Jinja's code generator, with plain Python for calculations that need no bounds checks."""

    def visit_Add(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802
        """Write a sum."""
        self._plain(node, frame, "+") or super().visit_Add(node, frame)

    def visit_Mul(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802
        """Write a product."""
        self._plain(node, frame, "*") or super().visit_Mul(node, frame)

    def visit_Mod(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802
        """Write a remainder."""
        self._plain(node, frame, "%") or super().visit_Mod(node, frame)

    def _plain(self, node: nodes.BinExpr, frame: Frame, operation: str) -> bool:
        plain = getattr(node, "unbounded", False)
        if plain:
            self.write("(")
            self.visit(node.left, frame)
            self.write(f" {operation} ")
            self.visit(node.right, frame)
            self.write(")")
        return plain


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The Jinja environment. In a mapping, ``a.b`` is the key ``b`` rather than a method.

    Every operation that changes a text is reported to the rendering, which tracks secrets.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    concat = staticmethod(limits.concat_parts)
    code_generator_class = _BoundedCodeGenerator
    own_filters: frozenset[str] = frozenset()
    """The names of the project's own filters."""

    def call_binop(self, context: Any, operation: str, left: Any, right: Any) -> Any:
        """Calculate, or format a text, within bounds."""
        if type(left) is int and type(right) is int and operation != "**":
            if operation == "*" and left.bit_length() + right.bit_length() > limits.MAX_BITS:
                limits.check_operation(operation, left, right)
            output = _INTEGERS[operation](left, right)
            if output.bit_length() > limits.MAX_BITS:
                limits.check_result(output)
            return output
        if operation == "%" and isinstance(left, str):
            return self._formatted(context, left, right)
        limits.check_operation(operation, left, right)
        output = super().call_binop(context, operation, left, right)
        limits.check_result(output)
        context.work.count_step(output)
        return output

    def _formatted(self, context: Any, text: str, right: Any) -> Any:
        plain = type(right) is int or (type(right) is str and len(right) < limits.MAX_WIDTH)
        if not plain or not limits.is_short_percent(text):
            check_text(tuple(right.values()) if isinstance(right, Mapping) else right)
            limits.check_operation("%", text, right)
        output = text % right
        context.work.count_step(output)
        return context.propagate_taint((text, right), output)

    def call(*args: Any, **named: Any) -> Any:  # no named parameters: the call may use any name
        """Call a function or method; the result of a macro is tracked inside the macro."""
        self, context, function, *arguments = args
        owner = getattr(function, "__self__", None)
        if isinstance(function, LoopContext):  # enters another level of a recursive loop
            arguments = [limits.CountedRounds(value, context.work) for value in arguments]
        elif isinstance(owner, str | bytes):
            arguments = [list(each) if isinstance(each, Iterator) else each for each in arguments]
            limits.check_method(owner, function.__name__, (*arguments, *named.values()))
        elif isinstance(owner, int) and function.__name__ == "to_bytes":
            limits.check_sizes(owner, (*arguments, *named.values()))
        context.work.count_step(owner, *arguments)
        if isinstance(function, Macro):
            context.work.left -= limits.MACRO_CALL_STEPS
        output = super(TemplateEnvironment, self).call(context, function, *arguments, **named)
        limits.check_result(output)
        if isinstance(function, Macro):
            return output
        context.work.count_step(output)
        return context.propagate_taint((owner, *arguments, *named.values()), output)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Wrap ``format`` and ``format_map`` of a text to reject values without a text."""
        if type(value) is str:  # as most are
            return None
        format_ = super().wrap_str_format(value)
        if format_ is None:
            return None

        def checked(*args: Any, **named: Any) -> str:
            arguments = args[0].values() if value.__name__ == "format_map" and args else args
            check_text((*arguments, *named.values()))
            limits.check_format(value.__self__, (*arguments, *named.values()))
            return format_(*args, **named)

        return checked

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, MissingValue):  # its own attributes are not for templates
            return obj
        if isinstance(obj, NamedObject) and not attribute.startswith("_"):
            value = getattr(obj, attribute, None)
            # not a method, so the sandbox has nothing to hide
            if isinstance(value, str) or type(value) in _DATA_TYPES:
                return value
        elif isinstance(obj, Mapping) and not isinstance(obj, Undefined):
            try:
                return obj[attribute]
            except KeyError:
                pass
        return super().getattr(obj, attribute)


def template_environment(
    own: OwnFilters = NO_FILTERS, *, comments: bool, syntax: TemplateSyntax = INLINE_SYNTAX
) -> TemplateEnvironment:
    """Return the environment; there is one for each way of parsing the text around expressions.

    ``comments``: there are comments, such as ``{# … #}``. ``own`` are the filters of the project.
    """
    return _cached_environment(own, comments, syntax)


@lru_cache(16)
def _cached_environment(
    own: OwnFilters, comments: bool, syntax: TemplateSyntax
) -> TemplateEnvironment:
    comment = syntax.comment if comments else ("\0#", "#\0")
    env = TemplateEnvironment(
        undefined=MissingValue,
        keep_trailing_newline=True,
        trim_blocks=syntax.trim_blocks,
        lstrip_blocks=syntax.lstrip_blocks,
        variable_start_string=syntax.variable[0],
        variable_end_string=syntax.variable[1],
        block_start_string=syntax.block[0],
        block_end_string=syntax.block[1],
        comment_start_string=comment[0],
        comment_end_string=comment[1],
    )
    env.globals = {**{name: env.globals[name] for name in _JINJA_FUNCTIONS}, **LOOKUPS}
    for name in ("tojson", "xmlattr", "urlize", "forceescape", "safe", "escape", "e"):
        del env.filters[name]
    env.filters |= {
        "bool": to_bool,
        "basename": lambda path: posixpath.basename(str(path).rstrip("/")),
        "dirname": lambda path: posixpath.dirname(str(path).rstrip("/")),
        "tojson": formats.to_json,
        **ANSIBLE_FILTERS,
        **dict.fromkeys(("default", "d"), default_filter),
        "join": _join,
    }
    env.filters |= {name: require_text(env.filters[name]) for name in TEXT_FILTERS}
    env.filters |= {"format": _format, "replace": _replace, "sum": _sum(env.filters["sum"])}
    for name in _SIZED_FILTERS:
        env.filters[name] = _bound_arguments(env.filters[name])
    env.filters |= {name: _own_filter(one) for name, one in own.by_name.items()}
    env.filters = {name: _track_taint(of) for name, of in env.filters.items()}
    env.own_filters = frozenset(own.by_name)
    env.filters |= {
        "raw": _identity_filter,
        "words": _identity_filter,
        SLICE_FILTER: _slice,
        READS_FILTER: _host_text_reads,
        PROJECT_TEXT_FILTER: _project_text,
        FREE_NAME_FILTER: _free_name,
        CONDITION_NAME_FILTER: _asked_name,
        KEEP_FILTER: _keep_value,
        INSERT_FILTER: _insert_value,
        INSERT_TEXT_FILTER: _insert_text,
        CONCAT_FILTER: _concat,
        ROUNDS_FILTER: _count_rounds,
    }
    env.tests |= {
        **ANSIBLE_TESTS,
        **{word: _result_test(word) for word in ("changed", "failed", "skipped", "succeeded")},
    }
    return env


def to_bool(value: Any) -> bool:
    """Convert ``yes``, ``no``, ``on``, ``off``, 1, 0 and the like (the filter ``bool``)."""
    word = str(value).strip().lower()
    if value is None or word in _FALSE_WORDS:
        return False
    if word in _TRUE_WORDS:
        return True
    raise ValueError(f"{repr_text(value)} is neither true nor false")


def _identity_filter(value: Any) -> Any:
    """Return the value: ``raw`` and ``words`` are removed before rendering."""
    return value


def _track_taint(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the filter wrapped to report its inputs and output to the rendering."""
    pass_argument = _PassArg.from_obj(function)

    @pass_context
    def followed(context: Any, *args: Any, **named: Any) -> Any:
        context.work.count_step(*args)
        match pass_argument:
            case _PassArg.context:
                output = function(context, *args, **named)
            case _PassArg.eval_context:
                output = function(context.eval_ctx, *args, **named)
            case _PassArg.environment:
                output = function(context.environment, *args, **named)
            case _:
                output = function(*args, **named)
        limits.check_result(output)
        context.work.count_step(output)
        return context.propagate_taint((*args, *named.values()), output)

    return followed


def _own_filter(own: OwnFilter) -> Callable[..., Any]:
    @pass_context
    def called(context: Any, *args: Any, **named: Any) -> Any:
        def is_secret() -> bool:
            found: bool = context.shows_secret((*args, *named.values()))
            return found

        output = own.call(args, named, is_secret)
        limits.check_all(output)
        return output

    return called


def _bound_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the filter wrapped to reject sizes and values beyond the limits."""
    skipped = 0 if _PassArg.from_obj(function) is None else 1

    def bounded(*args: Any, **named: Any) -> Any:
        value, *sizes = args[skipped:]
        limits.check_all(value)
        limits.check_sizes(value, (*sizes, *named.values()))
        return function(*args, **named)

    if skipped:
        bounded.jinja_pass_arg = function.jinja_pass_arg  # type: ignore[attr-defined]
    return bounded


@pass_context
def _slice(context: Any, value: Any, start: Any, stop: Any, step: Any) -> Any:
    return context.propagate_taint((value,), value[start:stop:step])


@pass_context
def _host_text_reads(context: Any, _: object) -> int:
    return host_text_reads_of(context.scope)


@pass_context
def _project_text(
    context: Any, reads_before: int, value: Any, used_by: str, sources: tuple[str, ...]
) -> Any:
    """Return a value that is no text from a host, according to the names that it is made of.

    ``reads_before``: the number of values with host text that were read before this one. Raises
    UnusableValueError for text from a host.
    """
    scope = context.scope
    through = host_text_reads_of(scope) != reads_before
    for name in sources:
        if (name in TEMPLATE_OBJECTS and through) or scope.from_host(name):
            raise UnusableValueError(
                f"`{used_by}` of '{name}', which came from a host", HOST_TEXT_HINTS[used_by]
            )
    return value


@pass_context
def _concat(context: Any, values: list[Any]) -> str:
    """Return the result of ``~``."""
    text = limits.concat_parts(map(text_of, values))
    context.work.count_step(text)
    return text


@pass_context
def _count_rounds(context: Any, value: Any, steps: int) -> limits.CountedRounds:
    return limits.CountedRounds(value, context.work, steps)


@pass_context
def _free_name(context: Any, name: str) -> object:
    found: dict[str, object] = context.found
    if name not in found:
        found[name] = context.look_up(name)
    return found[name]


@pass_context
def _asked_name(context: Any, name: str) -> object:
    return context.look_up(name, asked=True)


@pass_context
def _keep_value(context: Any, value: object) -> str:
    if isinstance(value, Iterator):
        value = list(value)  # consumed here, so that errors are reported as the expression's
    check_kept_value(value)
    context.kept = value
    return ""


def check_kept_value(value: object) -> None:
    """Raise UnusableValueError or ValueError for a value that is too large to be kept."""
    if not isinstance(value, str):
        limits.check_all(value)
        _check_numbers(value)


def _check_numbers(value: object) -> None:
    """Raise ValueError for an integer too large for Python to print (4300 digits)."""
    if isinstance(value, int) and value.bit_length() > _PLAIN_BITS:
        raise ValueError("it is a number with too many digits")
    if isinstance(value, list | tuple):
        for item in value:
            _check_numbers(item)
    elif type(value) is dict:
        for item in value.values():
            _check_numbers(item)


@pass_context
def _insert_value(context: Any, value: object, index: int) -> str:
    text: str = context.insert(value, index)
    work = context.work
    work.left -= 1 + (len(text) >> 6)
    if work.left < 0:
        work.count_step()
    return text


@pass_context
def _insert_text(context: Any, value: object, index: int) -> str:
    """Insert like ``_insert_value``, but faster for text and integers."""
    if isinstance(value, str):
        work = context.work
        work.left -= 1 + (len(value) >> 6)
        if work.left < 0:
            work.count_step()
        return str(value)
    if type(value) is int:
        context.work.left -= 1
        return str(value)
    return _insert_value(context, value, index)


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = text_of(value), text_of(old), text_of(new)
    limits.check_replaced(text, old, new)
    return text.replace(old, new, -1 if count is None else count)


@pass_eval_context
def _join(context: Any, value: Any, between: str = "", attribute: Any = None) -> str:
    if isinstance(value, Undefined):
        return str(value)
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    parts, between = list(value), text_of(between)
    limits.check_joined(parts, between)
    return join_texts(context, parts, between)


def _sum(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return Jinja's ``sum``, wrapped to join lists in linear time."""

    @pass_environment
    def sum_(environment: Environment, values: Any, attribute: Any = None, start: Any = 0) -> Any:
        if not isinstance(start, list | tuple):
            return function(environment, values, attribute, start)
        if attribute is not None:
            values = map(make_attrgetter(environment, attribute), values)
        return limits.sum_lists(values, start)

    return sum_


def _format(value: Any, *args: Any, **named: Any) -> str:
    check_text((*args, *named.values()))
    limits.check_percent(text_of(value), (*args, *named.values()))
    return str(text_of(value) % (named or args))


def _result_test(word: str) -> Callable[[Any], bool]:
    def test(result: Any) -> bool:
        if isinstance(result, Undefined):
            return bool(result)  # raises the error for an undefined value
        if isinstance(result, Mapping) and word in result:
            return bool(result[word])
        if not isinstance(result, RegisteredResult | UnknownResult):
            raise UnusableValueError(f"`is {word}` requires the result of a step", _RESULT_HINT)
        return bool(getattr(result, word))

    return test
