from __future__ import annotations

import pytest

from orchestrator.templating import compile_expression, compile_shell, compile_text
from tests.support.template_scope import HERE


@pytest.mark.parametrize(
    ("source", "names", "optional"),
    [
        ("a {{ x.y[z] }} {{ w | join(v) }}", "x z w v", ""),
        ("a {{ x | default('b') }} {{ y | d(z) }}", "", "x y z"),
        ("a {{ x.y.z | default('b') }}", "", "x"),
        ("a {{ x[y] | default('b') }}", "y", "x"),
        ("a {{ x | default('b') }} {{ x }}", "x", ""),
        ("{% if x is defined %}a {{ x.y }}{% endif %}", "", "x"),
        ("{% if x.y is defined %}a {{ x.y }}{% endif %}", "", "x"),
        ("{% if x is undefined or y %}a{% endif %}", "y", "x"),
        ("{% for i in x if i > y %}a {{ i }} {{ loop.index }}{% endfor %}", "x y", ""),
        ("{% set a = x %}b {{ a }}", "x", ""),
        ("a {{ y }}{% set y = 1 %}", "y", ""),
        ("{% if x %}{% set y = 1 %}{% endif %}a {{ y }}", "x y", ""),
        ("a {{ range(x) }} {{ loop }}", "x loop", ""),
        ("a {{ range }}", "range", ""),
        ("a {{ 'x' if y else z }}", "y z", ""),
    ],
)
def test_names_are_those_the_scope_must_have_and_optional_those_asked_after(
    source: str, names: str, optional: str
) -> None:
    template = compile_shell(source, HERE)
    assert template.names == set(names.split())
    assert template.optional == set(optional.split())


def test_expressions_and_text_templates_tell_their_names_too() -> None:
    compiled = compile_expression("a.changed and b is defined", HERE)
    assert (compiled.names, compiled.optional) == ({"a"}, {"b"})
    template = compile_text("{% macro m(a) %}{{ a }}{{ b }}{% endmacro %}{{ m(c) }}", HERE)
    assert (template.names, template.optional) == ({"b", "c"}, set())
