"""Filters of numbers of bytes and bits, under Ansible's names and with its meaning."""

from __future__ import annotations

from typing import Any

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.templating.value_text import UnusableValueError, text_of

_UNITS = "BKMGTPEZY"
"""Each is 1024 times the one before it."""
_WORDS = dict(zip(_UNITS, ("", *"kilo mega giga tera peta exa zeta yotta".split()), strict=True))
_AMOUNT = lazy_regex(r"([0-9]*\.?[0-9]+)(?:\s*([A-Za-z]+))?\s*")


def human_readable(size: Any, isbits: bool = False, unit: str | None = None) -> str:
    """Return a number of bytes, or bits, with two decimals and a unit, like ``1.50 KB``.

    The unit is the largest that gives at least 1, or the one given.
    """
    number = _number(size)
    base = "bits" if isbits else "Bytes"
    power = 0
    if unit:
        power = _UNITS.find(str(unit)[0].upper())
        if power < 0 or len(str(unit)) > 1:
            raise UnusableValueError(
                f"there is no unit '{unit}'", f"it is one of {', '.join(_UNITS)}"
            )
    else:
        while power < len(_UNITS) - 1 and number >= 1024 ** (power + 1):
            power += 1
    suffix = _UNITS[power] + base[0] if power else base
    return f"{number / 1024**power:.2f} {suffix}"


def human_to_bytes(text: Any, default_unit: str | None = None, isbits: bool = False) -> int:
    """Return the number of bytes, or bits, of a text like ``10K`` or ``1.5 GB``.

    Raises UnusableValueError for a text that is none, and for bits where bytes are meant.
    """
    text = text_of(text)
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise UnusableValueError(
            f"'{text}' is no number of bytes", "write it like '10K' or '1.5 GB'"
        )
    unit = found[2] or default_unit
    if not unit:
        return round(float(found[1]))
    power = _UNITS.find(unit[0].upper())
    letter, word = ("b", "bit") if isbits else ("B", "byte")
    short, long = f"{unit[0].upper()}{letter}", f"{_WORDS.get(unit[0].upper())}{word}"
    known = len(unit) == 1 or unit.lower() == long or (power > 0 and unit == short)
    if power < 0 or not known:
        raise UnusableValueError(
            f"there is no unit '{unit}' of {word}s", f"write it like K, K{letter} or kilo{word}"
        )
    return round(float(found[1]) * (1 << 10 * power))


def _number(size: Any) -> float:
    if isinstance(size, int | float):
        return size
    try:
        return float(text_of(size))
    except ValueError:
        raise UnusableValueError(f"'{text_of(size)}' is not a number") from None
