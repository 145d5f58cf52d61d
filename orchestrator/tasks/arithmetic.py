"""Values in commands that a shell calculates with, for ``orch lint``.

Where bash, ksh and zsh calculate, a variable's value is an expression of its own: ``a[$(cmd)]`` in
it runs the command (bash manual, 6.5 Shell Arithmetic; tried with bash 5.2). The same is so of
the names that some builtins are given. A value that stands there itself is held to be a whole
number; this finds the values that come there by way of a variable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.model.regex import regex

_ASSIGNED = regex(r"(?<![\w$])([A-Za-z_]\w*)\+?=[\"']?\{\{")
_COMPARES = r"-(?:eq|ne|lt|le|gt|ge)\b"
_ANY = r"[^\n;]*"

# What follows a value, or a name with it, that is calculated with. V stands for either.
_PLACES = {
    "((…))": r"\(\((?:(?!\)\)).)*?V",
    "let": rf"\blet\s{_ANY}?V",
    "declare -i": rf"\b(?:declare|local|typeset)\s+(?:-\w+\s+)*-\w*i\w*\s{_ANY}?V",
    "[[ … -gt … ]]": rf"\[\[(?:(?!\]\]).)*?(?:V[\"']?\s+{_COMPARES}|{_COMPARES}\s+[\"']?V)",
    "a[…]": r"\w\[[^\]\n]*?V",
    "${…:…}": r"\$\{\w+:(?![-+=?])[^}\n]*?V",
    "${!…}": r"\$\{!N\b",
    "printf -v": rf"\bprintf\s+-v\s*{_ANY}?V",
    "test -v": rf"(?:\btest|\[\[?)\s+-v\s+{_ANY}?V",
    "unset": rf"\bunset\s{_ANY}?V",
    "read": r"\bread\s[^\n;<>]*?V",
}
_BY_VALUE = ("printf -v", "test -v", "unset", "read")  # of a name only what it holds counts


def calculated(source: str) -> Iterator[tuple[int, str]]:
    """Yield the offset of each value in a command that is calculated with as text, or that names a
    variable, with what does so."""
    for found in _ASSIGNED.finditer(source):
        name, rest = found[1], source[found.end() :]
        for place in _PLACES:
            by_value = place in _BY_VALUE
            variable = rf"\$\{{?{name}\b" if by_value else rf"(?<![\w$])\$?\{{?{name}\b"
            if re.search(_pattern(place, variable, name), rest, re.S):
                yield found.end() - 2, place
                break
    for place in ("let", "declare -i", "[[ … -gt … ]]", *_BY_VALUE):
        value = r"(?:\w+\+?=)?[\"']?(\{\{[^}]*\}\})"
        for found in re.finditer(_pattern(place, value, "\0"), source):
            group = found.lastindex or 0
            yield found.start(group), place


def _pattern(place: str, value: str, name: str) -> str:
    return _PLACES[place].replace("V", value).replace("N", name)
