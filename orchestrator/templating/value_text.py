"""The text form of values that are inserted into a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2.filters import do_join
from jinja2.nodes import EvalContext
from jinja2.runtime import Undefined

from orchestrator.model.marked_value import NamedObject
from orchestrator.model.registered_result import RegisteredResult

# Jinja filters that convert their argument to text.
TEXT_FILTERS = (
    *("upper", "lower", "capitalize", "title", "trim", "replace", "center", "indent", "truncate"),
    *("wordwrap", "wordcount", "striptags", "string", "basename", "dirname"),
)


class UnusableValueError(Exception):
    """A value that cannot be used in its context, with the reason and a hint."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def text_of(value: object) -> str:
    """Return the text of a value; booleans are written as in YAML.

    Raises UnusableValueError for a value without a text form, so that no Python notation gets into
    a text, and UndefinedValueError for an undefined value.
    """
    if isinstance(value, str | Undefined):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | NamedObject):
        return str(value)
    if value is None:
        raise UnusableValueError("the value is none, inside a text", "see `| default('')`")
    if isinstance(value, Mapping | list | tuple | set | frozenset | range | Iterator):
        raise UnusableValueError("a list or mapping inside a text", "see `| join` and `| to_json`")
    if isinstance(value, RegisteredResult):
        raise UnusableValueError("a result has no text", "select a part of it, like `.stdout`")
    if callable(value):
        raise UnusableValueError(
            "a function has no text", "call it: `()` is missing after its name"
        )
    raise UnusableValueError("the value has no text", "select a part of it")


def check_text(value: object) -> None:
    """Raise UnusableValueError if a value, or one in a tuple of values, has no text form."""
    for each in value if isinstance(value, tuple) else (value,):
        text_of(each)


def require_text(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the filter wrapped to reject a value without a text form."""

    def checked(value: object, *args: Any, **named: Any) -> Any:
        return function(text_of(value), *args, **named)

    def checked_in(first: object, value: object, *args: Any, **named: Any) -> Any:
        return function(first, text_of(value), *args, **named)

    pass_argument = getattr(function, "jinja_pass_arg", None)
    if pass_argument is None:
        return checked
    checked_in.jinja_pass_arg = pass_argument  # type: ignore[attr-defined]
    return checked_in


def join_texts(context: EvalContext, values: Iterable[object], between: str) -> str:
    """Join the texts of values."""
    return str(do_join(context, [text_of(each) for each in values], between))


def default_filter(value: Any, instead: Any = "", boolean: bool = False) -> Any:
    """Return ``instead`` for an undefined value or none; with ``boolean``, for any false value."""
    missing = value is None or isinstance(value, Undefined)
    return instead if missing or (boolean and not value) else value
