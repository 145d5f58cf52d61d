from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DefinitionError, SourcePosition
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.templating import ResultPending, compile_text, compile_value
from tests.support.template_scope import HERE, PlainScope


def load_value(data: Any, *, literal: bool = False) -> MarkedValue:
    if isinstance(data, dict):
        return MarkedValue(
            {MarkedKey(k, HERE): load_value(v) for k, v in data.items()}, HERE, literal=literal
        )
    if isinstance(data, list):
        return MarkedValue([load_value(v) for v in data], HERE, literal=literal)
    return MarkedValue(data, HERE, literal=literal)


def render_value(data: Any, **values: Any) -> Any:
    return compile_value(load_value(data)).render(PlainScope(**values))


@pytest.mark.parametrize("params", [1, 1.5, True, None, "a", [1, "b"], {"c": [None]}, "1", "[1]"])
def test_one_expression_gives_the_value_itself(params: Any) -> None:
    assert render_value("{{ x }}", x=params) == params
    assert type(render_value("{{ x }}", x=params)) is type(params)


def test_what_filters_give_bit_by_bit_becomes_a_list() -> None:
    assert render_value("{{ x | map('upper') }}", x=["a", "b"]) == ["A", "B"]
    assert render_value("{{ range(2) }}") == [0, 1]


def test_text_around_an_expression_makes_text_and_never_numbers() -> None:
    assert render_value("{{ x }}{{ y }}", x=1, y=2) == "12"
    assert render_value(" {{ x }}", x=1) == " 1"
    assert render_value("[{{ x }}]", x=1) == "[1]"
    assert render_value("a-{{ x }}-{{ y }}", x=True, y=1.5) == "a-true-1.5"


@pytest.mark.parametrize("params", [None, [1], {"a": 1}])
def test_text_refuses_what_has_no_one_writing(params: Any) -> None:
    with pytest.raises(DefinitionError):
        render_value("a {{ x }}", x=params)


@pytest.mark.parametrize("data", ["a", "", 1, 0.5, True, None, "${#x}", "{a}", "a {# b #}"])
def test_what_holds_no_expression_stays_as_it_is(data: Any) -> None:
    compiled = compile_value(load_value(data))
    assert compiled.constant
    assert compiled.render(PlainScope()) == data


def test_lists_and_mappings_are_rendered_inside() -> None:
    data = {"a": ["{{ x }}", "b{{ x }}", {"c": "{{ y }}"}], "{{ key }}": 1}
    assert render_value(data, x=1, y=[2]) == {"a": [1, "b1", {"c": [2]}], "{{ key }}": 1}
    compiled = compile_value(
        load_value(["{{ x }}", "{{ y | default(1) }}", "{{ x | default(2) }}"])
    )
    assert (compiled.names, compiled.optional) == ({"x"}, {"y"})


def test_literal_values_are_never_rendered() -> None:
    assert compile_value(load_value("{{ x }}", literal=True)).render(PlainScope(x=1)) == "{{ x }}"
    assert compile_value(load_value(["{{ x }}"], literal=True)).render(PlainScope(x=1)) == [
        "{{ x }}"
    ]


def test_text_that_a_value_holds_is_not_rendered_again() -> None:
    assert render_value("{{ x }}", x="{{ y }}") == "{{ y }}"
    assert render_value("a{{ x }}", x="{{ y }}") == "a{{ y }}"


def test_a_mapping_key_comes_before_a_method_of_that_name() -> None:
    assert render_value("{{ x.items }}", x={"items": [1]}) == [1]
    assert render_value("{{ x.items() | list }}", x={"a": 1}) == [("a", 1)]


@pytest.mark.parametrize(
    "expression",
    [
        "x.__class__",
        "x.__class__.__mro__",
        "x['__class__']",
        "''.format.__globals__",
        "x.append(1)",
    ],
)
def test_expressions_reach_neither_python_nor_change_values(expression: str) -> None:
    with pytest.raises(DefinitionError):
        render_value("{{ " + expression + " }}", x=[])


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("1 / 0", "division by zero"),
        ("'a' + 1", "the expression fails"),
        ("x.y.z", "'x' is undefined"),
        ("y['z']", "is undefined"),
        ("y | raw", "for commands only"),
        ("'maybe' | bool", "neither true nor false"),
    ],
)
def test_errors_of_expressions_name_their_place(expression: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    file.write_text(f'a: "b {{{{ {expression} }}}}"\n')
    with pytest.raises(DefinitionError, match=what) as caught:
        compile_value(
            MarkedValue(f"b {{{{ {expression} }}}}", SourcePosition(str(file), 1, 4))
        ).render(PlainScope(y={}))
    mark = caught.value.diagnostics[0].mark
    assert mark and (mark.path, mark.line) == (str(file), 1)
    assert mark.column > 4


def test_waiting_passes_through() -> None:
    with pytest.raises(ResultPending):
        compile_value(load_value("{{ x }}")).render(PlainScope(later=["x"]))


def test_filters_that_people_expect() -> None:
    assert render_value("{{ 'yes' | bool }}") is True
    assert render_value("{{ 'off' | bool }}") is False
    assert render_value("{{ '/a/b.c' | basename }}") == "b.c"
    assert render_value("{{ '/a/b.c' | dirname }}") == "/a"
    assert render_value("{{ [1, 2, 3] | reject('in', [1, 2]) | list }}") == [3]
    assert (
        render_value("{{ x | to_json }}", x={"a": ["é", None, "<&'"]})
        == '{"a": ["é", null, "<&\'"]}'
    )


def test_file_text_is_plain_jinja_with_ansibles_blanks() -> None:
    source = "{# note #}\na\n{% for i in x %}\n  {{ i }}\n{% endfor %}\n{{ y }} {{ z }}\n"
    assert (
        compile_text(source, HERE).render(PlainScope(x=[1, 2], y=True, z="$<'"))
        == "a\n  1\n  2\ntrue $<'\n"
    )


def test_file_text_keeps_its_line_ends() -> None:
    assert compile_text("a\r\n{{ x }}\r\nb\r", HERE).render(PlainScope(x=1)) == "a\r\n1\r\nb\r"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("{# note #}\na\n{% for i in x %}\n {{ i }}\n{% endfor %}\nb\n", "a\n 1\n 2\nb\n"),
        ("{% if x %}\n\na\n\n{% endif %}\n\n", "\na\n\n\n"),
        ("{% if x +%}\na{% endif +%}\n{#- c +#}\n", "\na\n"),
        ("a\n\n{%- if x -%}\n\n b\n{%- endif %}\nc\n", "abc\n"),
        ("{% raw %}\n{% if %}\n{% endraw %}\nc{# d #}\n", "\n{% if %}\nc"),
        ("{% set y %}\na\n{% endset %}\n{{ y }}\n", "a\n\n"),
        ("{% if x %}{{ '%}\n' }}{% endif %}\n", "%}\n"),
        ("a{% if x %}\n{% endif %}\n", "a"),
    ],
)
def test_what_is_trimmed_is_so_whatever_ends_lines(source: str, lines: str) -> None:
    """A carriage return belongs to the line's end, behind a tag as well."""
    for end in ("\n", "\r\n"):
        rendered = compile_text(source.replace("\n", end), HERE).render(PlainScope(x=[1, 2]))
        assert rendered == lines.replace("\n", end)


def test_file_text_is_strict_and_stands_alone() -> None:
    with pytest.raises(DefinitionError, match="'x' is undefined"):
        compile_text("a {{ x }}", HERE).render(PlainScope())
    with pytest.raises(DefinitionError, match="include"):
        compile_text("{% include 'a' %}", HERE)
    with pytest.raises(DefinitionError, match="block"):
        compile_text("{% block a %}{% endblock %}", HERE)
    with pytest.raises(DefinitionError, match="for commands only"):
        compile_text("{{ a | raw }}", HERE)
    assert compile_text("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(x) }}", HERE).render(
        PlainScope(x=1)
    ) == ("<1>")
