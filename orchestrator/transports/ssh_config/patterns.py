"""Patterns of ssh_config(5), PATTERNS: ``*``, ``?``, ``!``, compiled once."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

WILDCARDS = frozenset("*?")


class PatternList(Struct, frozen=True):
    """A list of them: it matches what one of them does and none of the negated ones.

    ``literals`` holds the plain names among the positive ones, ``wildcard_regex`` the others.
    """

    literals: frozenset[str]
    wildcard_regex: re.Pattern[str] | None
    negated_regex: re.Pattern[str] | None

    def matches(self, text: str) -> bool:
        """Whether ``text`` is meant, letter by letter."""
        if text not in self.literals and (
            self.wildcard_regex is None or not self.wildcard_regex.fullmatch(text)
        ):
            return False
        return self.negated_regex is None or not self.negated_regex.fullmatch(text)


def compile_patterns(patterns: Iterable[str]) -> PatternList:
    """The list of these patterns, each with a ``!`` where it is negated."""
    every = list(patterns)
    positive = [one for one in every if not one.startswith("!")]
    return PatternList(
        frozenset(one for one in positive if not WILDCARDS & set(one)),
        _any_of([one for one in positive if WILDCARDS & set(one)]),
        _any_of([one[1:] for one in every if one.startswith("!")]),
    )


def _any_of(patterns: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(pattern_regex, patterns)), re.DOTALL) if patterns else None


def pattern_regex(pattern: str) -> str:
    """Return the pattern as a regular expression, for ``fullmatch`` with ``re.DOTALL``.

    What stands between two stars is looked for once: where it was found first is as good as
    any later place, and trying those would take a time that grows with each star's power.
    """
    first, *parts = ("".join(map(_character_regex, part)) for part in pattern.split("*"))
    if not parts:
        return first
    *middle, last = parts
    return first + "".join(f"(?>.*?{part})" for part in middle if part) + ".*" + last


def _character_regex(character: str) -> str:
    return "." if character == "?" else re.escape(character)
