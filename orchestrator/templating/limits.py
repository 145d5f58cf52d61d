"""Limits on the resources of a template, far above any legitimate use.

An operation that could exhaust memory at once (``'x' * 10**10``) is rejected before it is
evaluated; many small steps are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.templating.value_text import UnusableValueError

MAX_TEXT_CHARS = 1 << 24  # of one text
MAX_ITEMS = 1_000_000  # of one list or mapping, including nested values
MAX_BITS = 10_000  # of one integer: 3,010 digits; Python does not print more than 4,300
MAX_STEPS = 5_000_000  # of one rendering: rounds, calls, filters, and the data they handle
MACRO_CALL_STEPS = 10  # the additional cost of a macro call
MAX_WIDTH = 100_000  # of a width, length or precision

_PERCENT = lazy_regex(r"%(?:\([^()%]*\))?[-+ #0]*([0-9.]+)")
_BRACES = lazy_regex(r"\{[^{}:]*:([^{}]+)")
_NESTED = lazy_regex(r"\{[^{}]*\{")
_NUMBER = lazy_regex(r"[0-9]+")
_SHORT_CHARS = 16
_SEE_LOOPS = "check how many items its loops have"


class StepBudget:
    """The number of steps that a rendering has left."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def count_step(self, *values: object) -> None:
        """Count a step that handles these values.

        Raises UnusableValueError if the budget is used up.
        """
        self.left -= 1
        for value in values:
            if isinstance(value, str | bytes):
                self.left -= len(value) >> 6
            elif isinstance(value, list | tuple | dict | set | frozenset):
                self.left -= len(value) >> 3
        if self.left < 0:
            raise UnusableValueError(
                f"the template takes more than {MAX_STEPS:,} steps", _SEE_LOOPS
            )


class CountedRounds:
    """The values of a loop; each round costs as many steps as its body has."""

    __slots__ = ("_steps", "_value", "_work")

    def __init__(self, value: Any, work: StepBudget, steps: int = 1) -> None:
        self._value, self._work, self._steps = value, work, steps

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Iterator[Any]:
        return self._rounds(iter(self._value))

    def _rounds(self, values: Iterator[Any]) -> Iterator[Any]:
        work, steps = self._work, self._steps
        for value in values:
            work.left -= steps
            if work.left < 0:
                work.count_step()
            yield value


def concat_parts(parts: Iterable[str]) -> str:
    """Join the parts of a text. Raises UnusableValueError if it is too long."""
    parts = list(parts)
    check_length(sum(map(len, parts)))
    return "".join(parts)


def check_length(size: int) -> None:
    """Raise UnusableValueError for a text with more characters than allowed."""
    if size > MAX_TEXT_CHARS:
        raise UnusableValueError(
            f"this would be a text of more than {MAX_TEXT_CHARS:,} characters", _SEE_LOOPS
        )


def check_result(value: object) -> None:
    """Raise UnusableValueError for a number, text or list that is too large."""
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise UnusableValueError(
                f"this would be a number of more than {int(MAX_BITS * 0.30103):,} digits"
            )
    elif isinstance(value, str | bytes):
        check_length(len(value))
    elif isinstance(value, list | tuple | dict | set | frozenset):
        check_items(len(value))


def check_all(value: object) -> None:
    """Raise UnusableValueError for a value with too many nested values, counting repetitions."""
    left, stack = MAX_ITEMS, [value]
    while stack:
        inner = stack.pop()
        if isinstance(inner, dict):
            stack.extend(inner.values())
        elif isinstance(inner, list | tuple):
            stack.extend(inner)
        else:
            continue
        left -= len(inner)
        if left < 0:
            check_items(MAX_ITEMS + 1)


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Raise UnusableValueError for an operation whose result would be too large."""
    if operator == "%":
        if isinstance(left, str):
            _check_percent_of(left, right)
    elif operator == "*":
        _check_product(left, right)
        _check_product(right, left)
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        if left.bit_length() * right > MAX_BITS and abs(left) > 1:
            check_result(1 << MAX_BITS)
    elif operator == "+" and isinstance(left, Sequence) and isinstance(right, Sequence):
        _check_size(left, len(left) + len(right))


def _check_percent_of(text: str, right: Any) -> None:
    if isinstance(right, str | int):
        check_percent(text, (right,))
    elif isinstance(right, Mapping):
        check_percent(text, right.values())
    else:
        check_percent(text, right if isinstance(right, tuple) else (right,))


def check_percent(text: str, arguments: Iterable[object]) -> None:
    """Raise UnusableValueError if the result of ``text % arguments`` would be too long."""
    arguments = list(arguments)
    wide = "*" in text and any(
        isinstance(each, int) and abs(each) > MAX_WIDTH for each in arguments
    )
    _check_formatted(text, arguments, _sum_widths(_PERCENT.findall(text)), "%", wide=wide)


@lru_cache(256)
def is_short_percent(text: str) -> bool:
    """Return True if ``text % value`` is short for every value of ordinary size."""
    few = len(text) < MAX_WIDTH and text.count("%") < 16 and "*" not in text
    return few and _sum_widths(_PERCENT.findall(text)) < MAX_WIDTH


def check_format(text: str, arguments: Iterable[object]) -> None:
    """Raise UnusableValueError if the result of ``text.format(arguments)`` would be too long."""
    arguments = list(arguments)
    big = any(isinstance(each, int) and abs(each) > MAX_WIDTH for each in arguments)
    wide = big and _NESTED.search(text) is not None
    _check_formatted(text, arguments, _sum_widths(_BRACES.findall(text)), "{", wide=wide)


def check_method(owner: str | bytes, name: str, args: Sequence[Any]) -> None:
    """Raise UnusableValueError for a method of a text whose result would be too long."""
    match name, args:
        case (("center" | "ljust" | "rjust" | "zfill"), [int(width), *_]):
            check_length(width)
        case "expandtabs", [int(width), *_]:
            tab: Any = "\t" if isinstance(owner, str) else b"\t"
            check_length(len(owner) + owner.count(tab) * width)
        case "replace", [old, new, *_] if isinstance(old, type(owner)):
            check_replaced(owner, old, new)
        case "join", [parts] if isinstance(parts, Sequence):
            check_joined(parts, owner)
        case "translate", [Mapping() as table]:
            longest = max(
                (len(each) for each in table.values() if isinstance(each, str)), default=1
            )
            check_length(len(owner) * longest)


def check_replaced(text: Any, old: Any, new: Any) -> None:
    """Raise UnusableValueError if replacing ``old`` by ``new`` would make the text too long."""
    if isinstance(new, type(text)):
        check_length(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def check_joined(parts: Sequence[object], between: str | bytes) -> None:
    """Raise UnusableValueError if the joined parts would be too long."""
    sizes = (len(part) for part in parts if isinstance(part, str | bytes))
    check_length(sum(sizes) + len(parts) * len(between))


def check_sizes(value: object, arguments: Iterable[object]) -> None:
    """Raise UnusableValueError for arguments that would make the result too large.

    The arguments are a width, length or precision of the result.
    """
    for each in arguments:
        if isinstance(each, int) and abs(each) > MAX_WIDTH:
            raise UnusableValueError(f"a size is above {MAX_WIDTH:,}")
        if isinstance(value, str) and isinstance(each, str) and len(each) > _SHORT_CHARS:
            check_length(len(value) * len(each))


def sum_lists(parts: Iterable[Any], start: list[Any] | tuple[Any, ...]) -> Any:
    """Return the sum of lists, in linear time. Raises TypeError for other values."""
    kind = type(start)
    parts = list(parts)
    for part in parts:
        if not isinstance(part, kind):
            raise TypeError(f"can only add {kind.__name__}s to a {kind.__name__}")
    check_items(len(start) + sum(map(len, parts)))
    return kind(chain(start, *parts))


def _check_product(left: Any, right: Any) -> None:
    if not isinstance(right, int):
        return
    if isinstance(left, int):
        if left.bit_length() + right.bit_length() > MAX_BITS + 2:
            check_result(1 << MAX_BITS)
    elif isinstance(left, Sequence) and right > 1:
        _check_size(left, len(left) * right)


def _check_size(kind: object, size: int) -> None:
    if isinstance(kind, str | bytes):
        check_length(size)
    else:
        check_items(size)


def check_items(size: int) -> None:
    """Raise UnusableValueError for a list with more values than allowed."""
    if size > MAX_ITEMS:
        raise UnusableValueError(
            f"this would be a list of more than {MAX_ITEMS:,} values", _SEE_LOOPS
        )


def _sum_widths(specs: Iterable[str]) -> int:
    """Return the sum of all numbers in formats; above all limits if one of them is."""
    numbers = [number for spec in specs for number in _NUMBER.findall(spec)]
    return MAX_TEXT_CHARS + 1 if any(len(each) > 5 for each in numbers) else sum(map(int, numbers))


def _check_formatted(
    text: str, arguments: Sequence[object], widths: int, sign: str, *, wide: bool
) -> None:
    if wide or widths > MAX_TEXT_CHARS:
        raise UnusableValueError(f"a width in a format is above {MAX_WIDTH:,}")
    longest = max([len(each) if isinstance(each, str) else 400 for each in arguments], default=0)
    check_length(len(text) + text.count(sign) * longest + widths)
