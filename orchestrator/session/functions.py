"""The shell functions that a module's script runs on: as many of them as it names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

from orchestrator.model.regex import regex

_COMMENT = regex(r"^[ \t]*#.*\n", re.M)
_FUNCTION = regex(r"^([a-z_][a-z0-9_]*)\(\) (?:\{.*\}|\{\n(?s:.*?)^\})\n", re.M)
_DEFINED = regex(r"^\s*([a-z_][a-z0-9_]*)\(\)", re.M)
_WORD = regex(r"[a-z_][a-z0-9_]*")


def needed(text: str) -> frozenset[str]:
    """The functions that the text names, and those that these do."""
    return _closed(frozenset(_WORD.findall(text)).intersection(_functions()))


def parts(text: str) -> Iterator[tuple[str, str]]:
    """What the script of a module with this text begins with, piece by piece, each with its
    name: what all of them need, named '', and each function."""
    yield "", _core()
    names = needed(text)
    yield from _sources(names)


@cache
def _sources(names: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Functions with their texts, in the file's order."""
    return tuple((name, source) for name, source in _functions().items() if name in names)


@cache
def names() -> frozenset[str]:
    """The functions that a module's script may begin with."""
    return defined(_core()) | _functions().keys()


def defined(text: str) -> frozenset[str]:
    """The names of the functions that a script defines at its lines' beginnings."""
    return frozenset(_DEFINED.findall(text))


@cache
def _closed(names: frozenset[str]) -> frozenset[str]:
    found = set(names)
    left = list(names)
    while left:
        inner = set(_WORD.findall(_functions()[left.pop()])) & _functions().keys()
        left += inner - found
        found |= inner
    return frozenset(found)


@cache
def _core() -> str:
    return _read("session", "module.sh")


@cache
def _functions() -> Mapping[str, str]:
    """Each function's text by its name, in the file's order."""
    text = _read("library", "functions.sh")
    found = {match[1]: match[0] for match in _FUNCTION.finditer(text)}
    if "".join(found.values()) != text.strip("\n") + "\n":
        raise ValueError("library/functions.sh holds more than functions, each from column 1")
    return found


def _read(*path: str) -> str:
    text = files("orchestrator").joinpath(*path).read_text("utf-8")
    lines = _COMMENT.sub("", text).split("\n")
    return "".join(f"{line.lstrip()}\n" for line in lines if line.strip())
