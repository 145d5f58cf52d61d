"""Patterns of ssh_config(5): ``*``, ``?`` and ``!``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

WILDCARDS = frozenset("*?")


class PatternList(Struct, frozen=True):
    """A compiled list. A text matches if a positive pattern and no negated one matches it.

    ``literals`` are the positive patterns without wildcards, ``wildcard_regex`` the others.
    """

    literals: frozenset[str]
    wildcard_regex: re.Pattern[str] | None
    negated_regex: re.Pattern[str] | None

    def matches(self, text: str) -> bool:
        """Return True if ``text`` matches. Case-sensitive."""
        if text not in self.literals and (
            self.wildcard_regex is None or not self.wildcard_regex.fullmatch(text)
        ):
            return False
        return self.negated_regex is None or not self.negated_regex.fullmatch(text)


def compile_patterns(patterns: Iterable[str]) -> PatternList:
    """Compile patterns; a negated one begins with ``!``."""
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

    The text between two stars is searched for only once: its first match is as good as a later
    one, and trying all of them would take exponential time.
    """
    first, *parts = ("".join(map(_character_regex, part)) for part in pattern.split("*"))
    if not parts:
        return first
    *middle, last = parts
    return first + "".join(f"(?>.*?{part})" for part in middle if part) + ".*" + last


def _character_regex(character: str) -> str:
    return "." if character == "?" else re.escape(character)
