"""The filters of a project, which are its own functions in Python.

A filter is called with copies, as plain data, so that it cannot change a variable that other
templates use. What it returns has to be plain data as well. Its errors are those of the expression
that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any

from msgspec import Struct, field

from orchestrator.errors import SourcePosition
from orchestrator.model.text_encoding import repr_text


class OwnFilter(Struct, frozen=True, eq=False):
    """A filter of the project. ``load`` returns its function, and runs its file the first time."""

    name: str
    desc: str
    mark: SourcePosition
    load: Callable[[], Callable[..., Any]]

    def call(
        self, args: Sequence[Any], named: Mapping[str, Any], is_secret: Callable[[], bool]
    ) -> Any:
        """Return the filter's value. Raises UnusableValueError if it fails.

        ``is_secret`` returns True if an argument contains a secret; then no error shows a message
        of the filter, which may have been made of it.
        """
        from orchestrator.templating.filters.formats import plain_value  # loads Jinja
        from orchestrator.templating.value_text import UnusableValueError

        plain_args = [plain_value(each) for each in args]
        plain_named = {name: plain_value(each) for name, each in named.items()}
        function = self.load()
        try:
            return _plain_result(function(*plain_args, **plain_named))
        except _UnfitResultError as unfit:
            what = f"filter '{self.name}' returns {unfit.kind if is_secret() else unfit.what}"
            raise UnusableValueError(what, _RESULT_HINT) from None
        except (Exception, SystemExit) as error:
            text, place = error_text(error), self._place_of(error)
            if is_secret():
                text = f"{type(error).__name__}, with a message that is hidden: its value is secret"
            raise UnusableValueError(f"filter '{self.name}' fails: {text}", place) from None

    def _place_of(self, error: BaseException) -> str:
        """Return the line of the project's file that an error comes from, as a hint."""
        line = failed_line(error, self.mark.path) or self.mark.line
        return f"see {self.mark.path}:{line}"


class OwnFilters(Struct, frozen=True, eq=False):
    """The filters of a project by name."""

    by_name: Mapping[str, OwnFilter] = field(default_factory=dict)


_RESULT_HINT = "it can be text, a number, true, false, none, or a list or mapping of those"

NO_FILTERS = OwnFilters()
"""The filters of a project that has none of its own."""


class _UnfitResultError(Exception):
    """A value that a filter must not return: what it is, without and with its content."""

    def __init__(self, kind: str, what: str = "") -> None:
        super().__init__(kind)
        self.kind, self.what = kind, what or kind


def _plain_result(value: Any) -> Any:
    """Return what a filter returned, as plain data. Raises _UnfitResultError for anything else."""
    from orchestrator.templating.limits import MAX_ITEMS

    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {_plain_key(key): _plain_result(item) for key, item in value.items()}
    if isinstance(value, Iterator):  # it may never end
        value = list(islice(value, MAX_ITEMS + 1))
    if isinstance(value, list | tuple | range):
        return [_plain_result(item) for item in value]
    raise _UnfitResultError(f"a value of the type '{type(value).__name__}'")


def _plain_key(key: Any) -> Any:
    if isinstance(key, str):
        return str(key)
    if key is None or type(key) in (bool, int, float):
        return key
    kind = f"a mapping with a key of the type '{type(key).__name__}'"
    raise _UnfitResultError(kind, f"{kind}: {repr_text(key)}")


def error_text(error: BaseException) -> str:
    """Return the type and the message of an error of the project's code, in one line."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind


def failed_line(error: BaseException, path: str) -> int:
    """Return the innermost line of a file that an error passed through, 0 if there is none."""
    line, trace = 0, error.__traceback__
    while isinstance(trace, TracebackType):
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
