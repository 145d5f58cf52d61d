"""Patterns of ssh_config(5), PATTERNS: ``*``, ``?``, ``!``, compiled once."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

WILD = frozenset("*?")


class Patterns(Struct, frozen=True):
    """A list of them: it matches what one of them does and none of the negated ones.

    ``literal`` holds the plain names among the positive ones, ``wild`` the others.
    """

    literal: frozenset[str]
    wild: re.Pattern[str] | None
    negated: re.Pattern[str] | None

    def match(self, text: str) -> bool:
        """Whether ``text`` is meant, letter by letter."""
        if text not in self.literal and (self.wild is None or not self.wild.fullmatch(text)):
            return False
        return self.negated is None or not self.negated.fullmatch(text)


def compiled(patterns: Iterable[str]) -> Patterns:
    """The list of these patterns, each with a ``!`` where it is negated."""
    every = list(patterns)
    positive = [one for one in every if not one.startswith("!")]
    return Patterns(
        frozenset(one for one in positive if not WILD & set(one)),
        _any([one for one in positive if WILD & set(one)]),
        _any([one[1:] for one in every if one.startswith("!")]),
    )


def _any(patterns: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(regex_of, patterns)), re.DOTALL) if patterns else None


def regex_of(pattern: str) -> str:
    """Return the pattern as a regular expression, for ``fullmatch`` with ``re.DOTALL``.

    What stands between two stars is looked for once: where it was found first is as good as
    any later place, and trying those would take a time that grows with each star's power.
    """
    first, *parts = ("".join(map(_sign, part)) for part in pattern.split("*"))
    if not parts:
        return first
    *middle, last = parts
    return first + "".join(f"(?>.*?{part})" for part in middle if part) + ".*" + last


def _sign(sign: str) -> str:
    return "." if sign == "?" else re.escape(sign)
