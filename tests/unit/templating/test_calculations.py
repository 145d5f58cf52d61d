"""Calculations with loop counters are written as plain Python, all others keep their bounds."""

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.templating import compile_text
from tests.support.template_scope import HERE, PlainScope


def render_value(source: str, **names: object) -> str:
    return compile_text(source, HERE).render(PlainScope(**names))


@pytest.mark.parametrize(
    ("source", "gives"),
    [
        ("{% for i in range(3) %}{{ i * 7 + n }} {{ (i + n) % 2 }} {% endfor %}", "5 1 12 0 19 1 "),
        ("{% for i in range(2) %}{{ i + 0.5 }} {{ i - 1 }} {% endfor %}", "0.5 -1 1.5 0 "),
        ("{% for i in range(2) %}{{ '%02d' % i }} {{ 'ab' * i }}|{% endfor %}", "00 |01 ab|"),
        ("{% for i in ['a', 'b'] %}{{ i * 2 + s }}{% endfor %}", "aasbbs"),
        ("{% for i in range(1) %}{{ i + 1 }}{% endfor %}{{ i * 2 }}", "1zz"),
        (
            "{% macro m(i) %}{{ i * 2 }}{% endmacro %}{% for i in range(1) %}{{ m('x') }}{% endfor %}",
            "xx",
        ),
    ],
)
def test_what_is_calculated_with_a_loop_counter(source: str, gives: str) -> None:
    assert render_value(source, n=5, s="s", i="z") == gives


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(2) %}{{ 'x' * 99999999 * (i + 1) }}{% endfor %}",
        "{% for i in range(2) %}{{ s * (i + 99999999) }}{% endfor %}",
        "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=2) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{% for i in range(9) %}{% set i = 'x' %}{{ (i * 99999999)[:1] }}{% endfor %}",
        "{% for i in range(9) %}{{ (i + 2) ** 99999999 }}{% endfor %}",
        "{% for i in range(1) %}{{ i }}{% endfor %}{{ (i * 99999999)[:1] }}",
        "{% macro m(i) %}{{ (i * 99999999)[:1] }}{% endmacro %}{% for i in range(1) %}{{ m('x') }}{% endfor %}",
    ],
)
def test_a_loop_counter_lifts_no_bound(source: str) -> None:
    with pytest.raises(DefinitionError, match="more than"):
        render_value(source, s="s", i="z")
