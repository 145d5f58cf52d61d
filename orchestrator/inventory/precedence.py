"""The values that a host has in the end, each remembering what it overrode.

Which of two layers is the stronger, and where two that are not ranked disagree.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import TypeAlias

from msgspec import Struct

from orchestrator.inventory.records import Level
from orchestrator.model.host import Host, Layer
from orchestrator.model.marked_value import Value, Values, merge

Section: TypeAlias = Callable[[Layer], Values]

_OWN = frozenset(("host", "app"))


def variables_of(layer: Layer) -> Values:
    """The section that holds a layer's variables."""
    return layer.vars


def connect_of(layer: Layer) -> Values:
    """The section that holds a layer's connect settings."""
    return layer.connect


def environment_of(layer: Layer) -> Values:
    """The section that holds a layer's environment."""
    return layer.environment


def defaults_of(layer: Layer) -> Values:
    """The section that holds a layer's defaults of modules."""
    return layer.defaults


class _Node:
    """Some layers, merged; the nodes after it have one layer more."""

    __slots__ = ("after", "layer", "merged")

    def __init__(self, layer: Layer | None, merged: Values) -> None:
        self.layer = layer  # held, so that no other layer can get its id
        self.merged = merged
        self.after: dict[int, _Node] = {}


class Merger:
    """Merges one section of layers, weak to strong; what begins alike is merged once.

    The layers must not change afterwards. Several threads may ask at a time; at worst
    something is merged twice.
    """

    def __init__(self, section: Section = variables_of) -> None:
        self.section = section
        self._root = _Node(None, {})

    def merged(self, layers: Iterable[Layer]) -> Values:
        """Every name with its strongest value; ``under`` leads to the weaker ones."""
        node = self._root
        for layer in layers:
            below = node
            known = below.after.get(id(layer))
            node = known or _Node(layer, self._over(below.merged, layer))
            if known is None:
                below.after[id(layer)] = node
        return node.merged

    def of(
        self, host: Host, extra: Sequence[Layer] = (), below: Sequence[Layer] = ()
    ) -> Mapping[str, Value]:
        """A host's values, with ``extra`` layers over its own and those ``below`` under them."""
        return self.merged((*below, *host.layers, *extra))

    def _over(self, weak: Values, layer: Layer) -> Values:
        given = self.section(layer)
        if not given:
            return weak
        own = {n: merge(weak[n], v) if n in weak else v for n, v in given.items()}
        if layer.kind in _OWN and len(weak) > len(own):
            return ChainMap(own, weak)  # type: ignore[arg-type]  # never written to
        return {**weak, **own}


def variables(host: Host, extra: Sequence[Layer] = ()) -> Mapping[str, Value]:
    """One host's variables. For many hosts, ask one ``Merger``."""
    return Merger().of(host, extra)


def origins(host: Host) -> Mapping[str, Value]:
    """Who set each connect setting of a host, and what it overrode (``under``).

    What stands in no file (the user that ssh_config will name, a default) is not there.
    """
    return Merger(connect_of).of(host)


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
