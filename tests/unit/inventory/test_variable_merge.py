from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import SourcePosition
from orchestrator.inventory.precedence import VariableMerger, host_variables
from orchestrator.model.host import ConnectionOptions, Host, VariableLayer
from orchestrator.model.marked_value import MarkedKey, MarkedValue, merge_values

MARK = SourcePosition("f", 1, 1)
NAMES = st.sampled_from("abc")
SCALARS = (
    st.integers(0, 3) | st.sampled_from(["x", None, True]) | st.lists(st.integers(0, 1), max_size=2)
)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
VARS = st.dictionaries(NAMES, TREES, max_size=3)


def marked_value(plain: Any) -> MarkedValue:
    if isinstance(plain, dict):
        return MarkedValue({MarkedKey(k, MARK): marked_value(v) for k, v in plain.items()}, MARK)
    if isinstance(plain, list):
        return MarkedValue([marked_value(v) for v in plain], MARK)
    return MarkedValue(plain, MARK)


def make_layer(plain: dict[str, Any], kind: str = "role") -> VariableLayer:
    return VariableLayer(kind, "n", {name: marked_value(item) for name, item in plain.items()})


def make_host(*layers: VariableLayer) -> Host:
    return Host("h", ConnectionOptions("h"), (), layers, MARK)


def merge_plain(weak: Any, strong: Any) -> Any:
    """Return the merged value by a simple reference implementation."""
    if isinstance(weak, dict) and isinstance(strong, dict):
        keys = weak.keys() | strong.keys()
        return {
            k: merge_plain(weak[k], strong[k])
            if k in weak and k in strong
            else {**weak, **strong}[k]
            for k in keys
        }
    return strong


def with_types(plain: Any) -> Any:
    """Distinguishes what Python finds equal (1 and True)."""
    if isinstance(plain, dict):
        return {k: with_types(v) for k, v in plain.items()}
    return type(plain).__name__, plain


@given(st.lists(st.tuples(VARS, st.sampled_from(["stage", "role", "host", "app"])), max_size=5))
def test_dicts_merge_and_all_else_replaces(written: list[tuple[dict[str, Any], str]]) -> None:
    layers = [make_layer(plain, kind) for plain, kind in written]
    expected: dict[str, Any] = {}
    for plain, _ in written:
        expected = merge_plain(expected, plain)
    merged = host_variables(make_host(*layers))
    assert {k: with_types(v.to_plain()) for k, v in merged.items()} == {
        k: with_types(v) for k, v in expected.items()
    }
    assert len(merged) == len(expected)
    assert all(name in merged for name in expected)


@given(TREES, TREES)
def test_the_strong_value_wins_at_every_leaf(weak: Any, strong: Any) -> None:
    merged = merge_values(marked_value(weak), marked_value(strong))
    assert with_types(merged.to_plain()) == with_types(merge_plain(weak, strong))
    assert merged.overridden is not None
    assert with_types(merged.overridden.to_plain()) == with_types(weak)


SHAPED = st.fixed_dictionaries(
    {}, optional={"a": SCALARS, "b": st.dictionaries(NAMES, SCALARS, max_size=3), "c": SCALARS}
)


@given(SHAPED, SHAPED, SHAPED)
def test_where_no_name_changes_its_kind_the_grouping_does_not_matter(
    a: Any, b: Any, c: Any
) -> None:
    left = merge_values(merge_values(marked_value(a), marked_value(b)), marked_value(c))
    right = merge_values(marked_value(a), merge_values(marked_value(b), marked_value(c)))
    assert with_types(left.to_plain()) == with_types(right.to_plain())


@given(st.lists(VARS, min_size=1, max_size=4))
def test_under_leads_to_every_weaker_value(written: list[dict[str, Any]]) -> None:
    merged = host_variables(make_host(*map(make_layer, written)))
    for name, item in merged.items():
        count, below = 0, item
        while below.overridden is not None:
            count, below = count + 1, below.overridden
        assert count == sum(name in plain for plain in written) - 1


def test_hosts_with_equal_layers_share_what_is_merged() -> None:
    stage, role = make_layer({"a": {"x": 1}}, "stage"), make_layer({"a": {"y": 2}})
    merger = VariableMerger()
    one = merger.values_of(make_host(stage, role, make_layer({"b": 1}, "host")))
    two = merger.values_of(make_host(stage, role, make_layer({"b": 2}, "host")))
    assert one["a"] is two["a"]
    assert merger.values_of(make_host(stage, role)) is merger.values_of(make_host(stage, role))
    assert (one["b"].data, two["b"].data) == (1, 2)


def test_extra_layers_are_stronger_and_those_below_are_weaker() -> None:
    own = make_layer({"a": "host", "b": "host"}, "host")
    merged = VariableMerger().values_of(
        make_host(own),
        [make_layer({"a": "app"}, "app")],
        [make_layer({"b": "file", "c": "file"}, "task")],
    )
    assert {k: v.data for k, v in merged.items()} == {"a": "app", "b": "host", "c": "file"}
    assert merged["b"].overridden is not None
