from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import Mark
from orchestrator.inventory.precedence import Merger, variables
from orchestrator.model.host import Connect, Host, Layer
from orchestrator.model.marked_value import Key, Value, merge

MARK = Mark("f", 1, 1)
NAMES = st.sampled_from("abc")
SCALARS = (
    st.integers(0, 3) | st.sampled_from(["x", None, True]) | st.lists(st.integers(0, 1), max_size=2)
)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
VARS = st.dictionaries(NAMES, TREES, max_size=3)


def value(plain: Any) -> Value:
    if isinstance(plain, dict):
        return Value({Key(k, MARK): value(v) for k, v in plain.items()}, MARK)
    if isinstance(plain, list):
        return Value([value(v) for v in plain], MARK)
    return Value(plain, MARK)


def layer(plain: dict[str, Any], kind: str = "role") -> Layer:
    return Layer(kind, "n", {name: value(item) for name, item in plain.items()})


def host(*layers: Layer) -> Host:
    return Host("h", Connect("h"), (), layers, MARK)


def over(weak: Any, strong: Any) -> Any:
    """What merging means, said as simply as can be."""
    if isinstance(weak, dict) and isinstance(strong, dict):
        keys = weak.keys() | strong.keys()
        return {
            k: over(weak[k], strong[k]) if k in weak and k in strong else {**weak, **strong}[k]
            for k in keys
        }
    return strong


def typed(plain: Any) -> Any:
    """Distinguishes what Python finds equal (1 and True)."""
    if isinstance(plain, dict):
        return {k: typed(v) for k, v in plain.items()}
    return type(plain).__name__, plain


@given(st.lists(st.tuples(VARS, st.sampled_from(["stage", "role", "host", "app"])), max_size=5))
def test_dicts_merge_and_all_else_replaces(written: list[tuple[dict[str, Any], str]]) -> None:
    layers = [layer(plain, kind) for plain, kind in written]
    expected: dict[str, Any] = {}
    for plain, _ in written:
        expected = over(expected, plain)
    merged = variables(host(*layers))
    assert {k: typed(v.plain()) for k, v in merged.items()} == {
        k: typed(v) for k, v in expected.items()
    }
    assert len(merged) == len(expected)
    assert all(name in merged for name in expected)


@given(TREES, TREES)
def test_the_strong_value_wins_at_every_leaf(weak: Any, strong: Any) -> None:
    merged = merge(value(weak), value(strong))
    assert typed(merged.plain()) == typed(over(weak, strong))
    assert merged.under is not None
    assert typed(merged.under.plain()) == typed(weak)


SHAPED = st.fixed_dictionaries(
    {}, optional={"a": SCALARS, "b": st.dictionaries(NAMES, SCALARS, max_size=3), "c": SCALARS}
)


@given(SHAPED, SHAPED, SHAPED)
def test_where_no_name_changes_its_kind_the_grouping_does_not_matter(
    a: Any, b: Any, c: Any
) -> None:
    left = merge(merge(value(a), value(b)), value(c))
    right = merge(value(a), merge(value(b), value(c)))
    assert typed(left.plain()) == typed(right.plain())


@given(st.lists(VARS, min_size=1, max_size=4))
def test_under_leads_to_every_weaker_value(written: list[dict[str, Any]]) -> None:
    merged = variables(host(*map(layer, written)))
    for name, item in merged.items():
        count, below = 0, item
        while below.under is not None:
            count, below = count + 1, below.under
        assert count == sum(name in plain for plain in written) - 1


def test_hosts_with_equal_layers_share_what_is_merged() -> None:
    stage, role = layer({"a": {"x": 1}}, "stage"), layer({"a": {"y": 2}})
    merger = Merger()
    one = merger.of(host(stage, role, layer({"b": 1}, "host")))
    two = merger.of(host(stage, role, layer({"b": 2}, "host")))
    assert one["a"] is two["a"]
    assert merger.of(host(stage, role)) is merger.of(host(stage, role))
    assert (one["b"].data, two["b"].data) == (1, 2)


def test_extra_layers_are_stronger_and_those_below_are_weaker() -> None:
    own = layer({"a": "host", "b": "host"}, "host")
    merged = Merger().of(
        host(own), [layer({"a": "app"}, "app")], [layer({"b": "file", "c": "file"}, "task")]
    )
    assert {k: v.data for k, v in merged.items()} == {"a": "app", "b": "host", "c": "file"}
    assert merged["b"].under is not None
