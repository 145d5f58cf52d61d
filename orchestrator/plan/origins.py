"""Where a value was written in the first place, for errors that point at it."""

from __future__ import annotations

import re

from orchestrator.model.regex import regex
from orchestrator.model.value import Value
from orchestrator.templating import Scope

HOPS = 9
"""How many names are followed; values that need each other are an error elsewhere."""

_LONE = regex(
    r"\s*\{\{-?\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*(?:(?:\||if\b)[^{}]*)?-?\}\}\s*", re.ASCII
)


def lone_name(source: str) -> str:
    """The name whose value a template gives on, as ``{{ x | raw }}`` does; '' where none does."""
    found = _LONE.fullmatch(source)
    return found["name"] if found else ""


def followed(value: Value, scope: Scope, hops: int) -> Value:
    """What the value gives on, as it was written; the value itself where it is no such template."""
    name = lone_name(value.data) if isinstance(value.data, str) and not value.literal else ""
    return (name and hops and scope.origin(name, hops - 1)) or value


def item_of(value: Value, index: int) -> Value:
    """One item of a list as written; the value itself where it is written in another way."""
    items = value.data if isinstance(value.data, list) else []
    return items[index] if index < len(items) else value
