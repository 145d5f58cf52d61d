"""Merging of a host's values by precedence, and detection of conflicts between equals.

Each merged value remembers the values that it overrode.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import TypeAlias

from msgspec import Struct

from orchestrator.inventory.records import InventoryLevel
from orchestrator.model.host import Host, VariableLayer
from orchestrator.model.marked_value import MarkedValue, Values, merge_values, replace_value

SectionGetter: TypeAlias = Callable[[VariableLayer], Values]

_CONTEXT_NAMES = frozenset(("host", "app"))


def variables_of(layer: VariableLayer) -> Values:
    """Return the variables of a layer."""
    return layer.vars


def connect_of(layer: VariableLayer) -> Values:
    """Return the connect settings of a layer."""
    return layer.connect


def environment_of(layer: VariableLayer) -> Values:
    """Return the environment of a layer."""
    return layer.environment


def defaults_of(layer: VariableLayer) -> Values:
    """Return the module defaults of a layer."""
    return layer.defaults


class _MergeNode:
    """The merged values of some layers; the nodes in ``after`` have one more layer."""

    __slots__ = ("after", "layer", "merged")

    def __init__(self, layer: VariableLayer | None, merged: Values) -> None:
        self.layer = layer  # keeps the layer alive: its id is a key of ``after``
        self.merged = merged
        self.after: dict[int, _MergeNode] = {}


class DeferredValues(Mapping[str, MarkedValue]):
    """Merged values with those of an encrypted file among them, which is opened when it matters.

    ``weak`` are the values below the layer with ``own`` values; None if the layer is the encrypted
    one. ``merge`` returns all of them merged. A value that replaces whatever is below it is found
    without opening a file below it.
    """

    __slots__ = ("_merge", "_own", "_values", "_weak")

    def __init__(
        self, weak: Values, own: Values | None, merge: Callable[[Values], Values], *, replaces: bool
    ) -> None:
        self._weak, self._merge = weak, merge
        self._own = own if replaces else None
        self._values: Values | None = None

    def resolved(self) -> Values:
        """Return the values, which are merged only once. Raises OrchError."""
        if self._values is None:
            self._values = self._merge(_resolved(self._weak))
        return self._values

    def __getitem__(self, name: str) -> MarkedValue:
        values: Values = self
        while isinstance(values, DeferredValues) and values._values is None:
            if values._own is None:
                break
            if name in values._own:
                return values._own[name]
            values = values._weak
        return self.resolved()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.resolved())

    def __len__(self) -> int:
        return len(self.resolved())


class VariableMerger:
    """A merger of one section of layers, weak to strong; common beginnings are merged once.

    ``open_layer`` returns the variables of an encrypted layer, when a value is needed; without it,
    they are left out. The layers must not change afterwards. Several threads may use one merger; at
    worst a merge is done twice.
    """

    def __init__(
        self,
        section: SectionGetter = variables_of,
        open_layer: Callable[[VariableLayer], Values] | None = None,
    ) -> None:
        self.section, self.open_layer = section, open_layer
        self._root = _MergeNode(None, {})

    def merge_layers(self, layers: Iterable[VariableLayer]) -> Values:
        """Return every name with its strongest value; ``under`` links to the weaker ones."""
        node = self._root
        for layer in layers:
            below = node
            known = below.after.get(id(layer))
            node = known or _MergeNode(layer, self._overlay(below.merged, layer))
            if known is None:
                below.after[id(layer)] = node
        return node.merged

    def values_of(
        self, host: Host, extra: Sequence[VariableLayer] = (), below: Sequence[VariableLayer] = ()
    ) -> Mapping[str, MarkedValue]:
        """Return a host's values, merged over the ``below`` layers and under the ``extra`` ones."""
        return self.merge_layers((*below, *host.layers, *extra))

    def _overlay(self, weak: Values, layer: VariableLayer) -> Values:
        open_layer = self.open_layer
        if layer.encrypted is not None and open_layer is not None:
            return DeferredValues(
                weak,
                None,
                lambda below: self._overlay_values(below, layer, open_layer(layer)),
                replaces=layer.replaces,
            )
        layer_values = self.section(layer)
        if not layer_values:
            return weak
        if isinstance(weak, DeferredValues):
            return DeferredValues(
                weak,
                layer_values,
                lambda below: self._overlay_values(below, layer, layer_values),
                replaces=layer.replaces,
            )
        return self._overlay_values(weak, layer, layer_values)

    def _overlay_values(self, weak: Values, layer: VariableLayer, layer_values: Values) -> Values:
        merge = replace_value if layer.replaces else merge_values
        own = {n: merge(weak[n], v) if n in weak else v for n, v in layer_values.items()}
        if layer.kind in _CONTEXT_NAMES and len(weak) > len(own):
            return ChainMap(own, weak)  # type: ignore[arg-type]  # never written to
        return {**weak, **own}


def _resolved(values: Values) -> Values:
    return values.resolved() if isinstance(values, DeferredValues) else values


def host_variables(host: Host, extra: Sequence[VariableLayer] = ()) -> Mapping[str, MarkedValue]:
    """Return one host's variables. For many hosts, share one ``VariableMerger``."""
    return VariableMerger().values_of(host, extra)


def connection_origins(host: Host) -> Mapping[str, MarkedValue]:
    """Return the source of each connect setting of a host, and what it overrode (``under``).

    Settings that are not in any inventory file (a user set in ssh_config, a default) are missing.
    """
    return VariableMerger(connect_of).values_of(host)


OuterRoles: TypeAlias = Mapping[str, frozenset[str]]
"""The roles that contain each role, directly or indirectly."""


class LayerKind(IntEnum):
    """The kind of a layer; the greater kind is stronger."""

    STAGE = 0
    ROLE = 1
    HOST = 2


class RankedLayer(Struct, frozen=True):
    """A layer with everything that decides its precedence.

    ``depth`` is that of its role, 0 for an outermost role.
    """

    layer: VariableLayer
    kind: LayerKind
    level: InventoryLevel
    role: str = ""
    depth: int = 0

    @property
    def rank(self) -> tuple[int, int, int]:
        """Return the sort key that orders layers from weak to strong."""
        return self.kind, self.level, self.depth

    def overrides(self, other: RankedLayer, outer: OuterRoles) -> bool:
        """Return True if this layer is stronger; False for equal and for unrelated layers."""
        if (self.kind, self.level) != (other.kind, other.level):
            return (self.kind, self.level) > (other.kind, other.level)
        return self.kind is LayerKind.ROLE and other.role in outer[self.role]


class VariableConflict(Struct, frozen=True):
    """Two layers of equal precedence that give one name different values."""

    what: str
    first: RankedLayer
    first_value: MarkedValue
    second: RankedLayer
    second_value: MarkedValue


_Setter: TypeAlias = tuple[RankedLayer, MarkedValue]
_SECTIONS: tuple[tuple[str, Callable[[VariableLayer], Mapping[str, MarkedValue]]], ...] = (
    ("the variable '", variables_of),
    ("the environment variable '", environment_of),
    ("the default '", defaults_of),
    ("'connect.", connect_of),
)


def find_conflicts(
    ranked_layers: Sequence[RankedLayer], outer: OuterRoles
) -> list[VariableConflict]:
    """Return every name on which layers disagree and no stronger layer overrides them."""
    found: list[VariableConflict] = []
    if len(ranked_layers) < 2:
        return found
    for word, section in _SECTIONS:
        setters: dict[str, list[_Setter]] = {}
        for each in ranked_layers:
            for name, value in section(each.layer).items():
                setters.setdefault(name, []).append((each, value))
        for name, values in setters.items():
            if len(values) > 1:
                found += _compare_setters(f"{word}{name}'", values, outer)
    return found


def _compare_setters(
    what: str, setters: list[_Setter], outer: OuterRoles
) -> Iterator[VariableConflict]:
    replaced = [p for p, value in setters if not isinstance(value.data, dict)]
    live = [s for s in setters if not any(p.overrides(s[0], outer) for p in replaced)]
    for i, (first, one) in enumerate(live):
        for second, other in live[i + 1 :]:
            if isinstance(one.data, dict) and isinstance(other.data, dict):
                continue
            ranked = first.overrides(second, outer) or second.overrides(first, outer)
            if (
                ranked
                or values_equal(one, other)
                or _is_settled(live, (first, one), (second, other), outer)
            ):
                continue
            yield VariableConflict(what, first, one, second, other)
    below: dict[str, list[_Setter]] = {}
    for each, value in live:
        if isinstance(value.data, dict):
            for key, inner in value.data.items():
                below.setdefault(key, []).append((each, inner))
    for name, inside in below.items():
        if len(inside) > 1:
            yield from _compare_setters(f"{what[:-1]}.{name}'", inside, outer)


def _is_settled(live: list[_Setter], first: _Setter, second: _Setter, outer: OuterRoles) -> bool:
    """Return True if a stronger value replaces both values.

    A mapping would merge with another mapping instead of replacing it, so two values of which one
    is a mapping are not settled.
    """
    if isinstance(first[1].data, dict) or isinstance(second[1].data, dict):
        return False
    return any(p.overrides(first[0], outer) and p.overrides(second[0], outer) for p, _ in live)


def values_equal(one: MarkedValue, other: MarkedValue) -> bool:
    """Return True if two values are equal and of one type, regardless of their positions."""
    a, b = one.data, other.data
    if type(a) is not type(b):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(values_equal(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(values_equal, a, b))
    return a == b
