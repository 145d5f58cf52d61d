"""The values that a host has in the end, each remembering what it overrode."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from orchestrator.model.host import Host, Layer
from orchestrator.model.value import Value, Values, merge

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
