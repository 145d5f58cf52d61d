"""Which of two layers is the stronger, and where two that are not ranked disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import TypeAlias

from msgspec import Struct

from orchestrator.inventory.values import connect_of, defaults_of, environment_of, variables_of
from orchestrator.inventory.written import Level
from orchestrator.model.host import Layer
from orchestrator.model.value import Value

Outer: TypeAlias = Mapping[str, frozenset[str]]
"""The roles that hold each role, over any number of roles between."""


class Kind(IntEnum):
    """What a layer is of; the greater is the stronger."""

    STAGE = 0
    ROLE = 1
    HOST = 2


class Placed(Struct, frozen=True):
    """A layer with all that decides its strength; ``depth`` is its role's, 0 for outermost."""

    layer: Layer
    kind: Kind
    level: Level
    role: str = ""
    depth: int = 0

    @property
    def rank(self) -> tuple[int, int, int]:
        """Layers in this order go from weak to strong."""
        return self.kind, self.level, self.depth

    def over(self, other: Placed, outer: Outer) -> bool:
        """Whether this one is stronger; of two equals, or two strangers, neither is."""
        if (self.kind, self.level) != (other.kind, other.level):
            return (self.kind, self.level) > (other.kind, other.level)
        return self.kind is Kind.ROLE and other.role in outer[self.role]


class Dispute(Struct, frozen=True):
    """Two layers of which neither is the stronger give one name different values."""

    what: str
    first: Placed
    one: Value
    second: Placed
    other: Value


_Setter: TypeAlias = tuple[Placed, Value]
_SECTIONS: tuple[tuple[str, Callable[[Layer], Mapping[str, Value]]], ...] = (
    ("the variable '", variables_of),
    ("the environment variable '", environment_of),
    ("the default '", defaults_of),
    ("'connect.", connect_of),
)


def disputes(placed: Sequence[Placed], outer: Outer) -> list[Dispute]:
    """Every name on which the layers disagree with no stronger one to settle it."""
    found: list[Dispute] = []
    if len(placed) < 2:
        return found
    for word, section in _SECTIONS:
        setters: dict[str, list[_Setter]] = {}
        for each in placed:
            for name, value in section(each.layer).items():
                setters.setdefault(name, []).append((each, value))
        for name, values in setters.items():
            if len(values) > 1:
                found += _compare(f"{word}{name}'", values, outer)
    return found


def _compare(what: str, setters: list[_Setter], outer: Outer) -> Iterator[Dispute]:
    replaced = [p for p, value in setters if not isinstance(value.data, dict)]
    live = [s for s in setters if not any(p.over(s[0], outer) for p in replaced)]
    for i, (first, one) in enumerate(live):
        for second, other in live[i + 1 :]:
            if isinstance(one.data, dict) and isinstance(other.data, dict):
                continue
            ranked = first.over(second, outer) or second.over(first, outer)
            if ranked or same(one, other) or _settled(live, (first, one), (second, other), outer):
                continue
            yield Dispute(what, first, one, second, other)
    below: dict[str, list[_Setter]] = {}
    for each, value in live:
        if isinstance(value.data, dict):
            for key, inner in value.data.items():
                below.setdefault(key, []).append((each, inner))
    for name, inside in below.items():
        if len(inside) > 1:
            yield from _compare(f"{what[:-1]}.{name}'", inside, outer)


def _settled(live: list[_Setter], first: _Setter, second: _Setter, outer: Outer) -> bool:
    """Whether a mapping over both replaces both; over one mapping it would merge with it."""
    if isinstance(first[1].data, dict) or isinstance(second[1].data, dict):
        return False
    return any(p.over(first[0], outer) and p.over(second[0], outer) for p, _ in live)


def same(one: Value, other: Value) -> bool:
    """Whether two values are equal and of one type; where they were written does not count."""
    a, b = one.data, other.data
    if type(a) is not type(b):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
