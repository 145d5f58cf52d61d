"""JSON that a host printed: checked and bounded."""

from __future__ import annotations

import json
from collections.abc import Iterable

MAX_DIGITS = 18
"""The most digits of a number that a host reports."""
_MAX_DEPTH = 20
_MAX_VALUES = 20_000


def parse_host_json(text: str, what: str) -> object:
    """Return the value of a host's JSON, in which texts may contain any control character.

    Raises ValueError if it is not JSON, or too large.
    """
    try:
        value: object = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_bounded_int, strict=False
        )
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{what} is not JSON: {reason}") from None
    level, count = [value], 0
    for _ in range(_MAX_DEPTH):
        count += len(level)
        level = [inner for each in level for inner in _children(each)]
        if not level:
            break
    if level or count > _MAX_VALUES:
        raise ValueError(f"{what} is too large, or nested too deeply")
    return value


def _children(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is not a number of JSON")


def _bounded_int(text: str) -> int:
    if len(text) > MAX_DIGITS + 1:
        raise ValueError("a number has too many digits")
    return int(text)
