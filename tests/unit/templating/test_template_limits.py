"""What a template may do has bounds; each is an error in time, and honest templates are far from it."""

from __future__ import annotations

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.model.marked_value import MarkedValue
from orchestrator.templating import compile_expression, compile_shell, compile_text, compile_value
from orchestrator.templating.limits import MAX_ITEMS, MAX_TEXT_CHARS
from tests.support.template_scope import HERE, PlainScope

TOO_LARGE = {
    "text": "'x' * 10**10",
    "text from the other side": "10**10 * 'x'",
    "list": "[1] * 10**10",
    "tuple": "(1,) * 10**8",
    "power": "10**(10**10)",
    "power of a large number": "(10**2000)**10",
    "product": "10**2000 * 10**2000",
    "negative power": "(-7)**(10**9)",
    "sum of texts": "'x' * 10000000 + 'x' * 10000000",
    "sum of lists": "[1] * 900000 + [1] * 900000",
    "join of texts": "('x' * 10000000) ~ ('x' * 10000000)",
    "%d": "'%1000000000d' % 1",
    "%(name)d": "'%(a)1000000000d' % {'a': 1}",
    "%.d": "'%.1000000000f' % 1",
    "%*d": "'%*d' % (1000000000, 1)",
    "%s": "('%s' * 10000) % ((('x' * 10000),) * 10000)",
    "format filter": "'%1000000000d' | format(1)",
    "format": "'{:>1000000000}'.format(1)",
    "format by name": "'{a:>1000000000}'.format(a=1)",
    "format in format": "'{:>{w}}'.format(1, w=1000000000)",
    "format_map": "'{a:>1000000000}'.format_map({'a': 1})",
    "center": "'x' | center(10**10)",
    "center method": "'x'.center(10**10)",
    "ljust": "'x'.ljust(10**10)",
    "zfill": "'1'.zfill(10**10)",
    "expandtabs": "'\\t'.expandtabs(10**10)",
    "expandtabs by name": "'\\t'.expandtabs(tabsize=10**10)",
    "replace": "('x' * 100000).replace('x', 'y' * 100000)",
    "replace of nothing": "('x' * 100000).replace('', 'y' * 100000)",
    "replace filter": "('x' * 100000) | replace('x', 'y' * 100000)",
    "join method": "('x' * 100000).join('y' * 100000)",
    "join method of what comes bit by bit": "('x' * 100000).join(range(100000) | map('string'))",
    "join filter": "(['y'] * 100000) | join('x' * 100000)",
    "translate": "('x' * 100000).translate({120: 'y' * 100000})",
    "indent": "'x' | indent(10**10)",
    "indent by a text": "('x\\n' * 100000) | indent('y' * 100000)",
    "wordwrap": "('x ' * 100000) | wordwrap(1, wrapstring='y' * 100000)",
    "batch": "[1] | batch(10**10, 'x') | list",
    "slice": "[1] | slice(10**10) | list",
    "batches of items": "['x'] | map('center', 10**10) | list",
    "round": "1.5 | round(10**9, 'ceil')",
    "bytes": "(1).to_bytes(10**10, 'big')",
    "encoded": "'x'.encode() * 10**10",
    "json": "[1] | to_json(indent=10**9)",
    "range": "range(10**12) | list",
    "large number of a text": "('0x' ~ 'f' * 100000) | int(0, 16)",
    "sum of many lists": "([[1] * 1000] * 10000) | sum(start=[])",
}


@pytest.mark.parametrize("what", TOO_LARGE)
def test_what_would_be_too_large_is_never_made(what: str) -> None:
    source = TOO_LARGE[what]
    with pytest.raises(DefinitionError) as error:
        compile_expression(f"({source}) == 1", HERE).value(PlainScope())
    assert error.value.diagnostics[0].mark == HERE
    with pytest.raises(DefinitionError):
        compile_value(MarkedValue(f"{{{{ {source} }}}}", HERE)).render(PlainScope())
    with pytest.raises(DefinitionError):
        compile_text(f"x {{{{ ({source}) | length }}}}", HERE).render(PlainScope())
    with pytest.raises(DefinitionError):
        compile_shell(f"echo {{{{ ({source}) | string | length }}}}", HERE).render(PlainScope())


ENDLESS = {
    "loops": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "a loop over itself": "{% for i in a recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "doubling by ~": "{% set n = namespace(x='x') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling by +": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "squaring": "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "nesting": "{% set n = namespace(x=1) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | to_json }}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "much text": "{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
    "much text in a block": "{% set x %}{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}{% endset %}",
    "many words": "{% for i in range(100000) %}" + "{{ a }} " * 1000 + "{% endfor %}",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_would_take_for_ever_ends(what: str) -> None:
    with pytest.raises(DefinitionError) as error:
        compile_text(ENDLESS[what], HERE).render(PlainScope(a=[1, 2]))
    assert "Traceback" not in error.value.diagnostics[0].message


DEEP = {
    "parentheses": "(" * 5000 + "1" + ")" * 5000,
    "lists": "[" * 3000 + "]" * 3000,
    "not": "not " * 5000 + "1",
    "minus": "- " * 5000 + "1",
    "plus": "1 + " * 5000 + "1",
    "and": "a and " * 5000 + "a",
    "attributes": "a" + ".b" * 5000,
    "filters": "a" + " | string" * 5000,
    "calls": "a" + "()" * 3000,
    "conditions": "1 if a else " * 3000 + "2",
}


@pytest.mark.parametrize("what", DEEP)
def test_what_is_nested_too_deeply_is_told(what: str) -> None:
    for compile_ in (
        lambda source: compile_expression(source, HERE),
        lambda source: compile_value(MarkedValue(f"{{{{ {source} }}}}", HERE)),
        lambda source: compile_text(f"x {{{{ {source} }}}}", HERE),
        lambda source: compile_shell(f"echo {{{{ {source} }}}}", HERE),
    ):
        with pytest.raises(DefinitionError, match="nested too deeply"):
            compile_(DEEP[what])


@pytest.mark.parametrize(
    "source",
    [
        "{% if a %}" * 3000 + "x" + "{% endif %}" * 3000,
        "{% for i in a %}" * 30 + "x" + "{% endfor %}" * 30,
        "{% if a %}x" + "{% elif a %}y" * 6000 + "{% endif %}",  # Python 3.13 compiles 3000
        "{{ " * 20_000,
    ],
)
def test_so_are_blocks(source: str) -> None:
    with pytest.raises(DefinitionError):
        compile_text(source, HERE)


def test_what_is_large_and_no_more_is_fine() -> None:
    names = PlainScope(hosts=[f"web{n}" for n in range(10_000)], ports=list(range(20)))
    lines = "{% for h in hosts %}{% for p in ports %}{{ h }}:{{ p }}\n{% endfor %}{% endfor %}"
    assert compile_text(lines, HERE).render(names).count("\n") == 200_000
    assert len(compile_text("{{ 'x' * 16000000 }}", HERE).render(names)) < MAX_TEXT_CHARS
    assert (
        len(compile_value(MarkedValue("{{ range(100000) | list * 9 }}", HERE)).render(names))
        < MAX_ITEMS
    )
    assert compile_value(MarkedValue("{{ [[1], [2], [3]] | sum(start=[]) }}", HERE)).render(
        names
    ) == [1, 2, 3]
    assert (
        compile_value(
            MarkedValue("{{ hosts | sum(start='') }}" if False else "{{ ports | sum }}", HERE)
        ).render(names)
        == 190
    )
    many = " or ".join(f"a == {n}" for n in range(90))
    assert compile_expression(many, HERE).value(PlainScope(a=89)) is True
    assert (
        compile_value(
            MarkedValue("{{ '%05d' % 7 ~ '{:>6}'.format(8) ~ 'a' | center(5) }}", HERE)
        ).render(names)
        == "00007     8  a  "
    )


def test_a_loop_knows_how_long_it_is() -> None:
    source = "{% for x in a %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% else %}none{% endfor %}"
    assert compile_text(source, HERE).render(PlainScope(a=["p", "q"])) == "1/2,2/2"
    assert compile_text(source, HERE).render(PlainScope(a=[])) == "none"
    once = "{% for x in a | map('upper') %}{{ x }}{{ loop.length }}{% endfor %}"
    assert compile_text(once, HERE).render(PlainScope(a=["p", "q"])) == "P2Q2"
    tree = "{% for x in a recursive %}{{ x.n }}{% if x.c %}({{ loop(x.c) }}){% endif %}{% endfor %}"
    assert (
        compile_text(tree, HERE).render(PlainScope(a=[{"n": 1, "c": [{"n": 2, "c": []}]}]))
        == "1(2)"
    )


def test_the_place_of_an_undefined_loop_is_told() -> None:
    with pytest.raises(DefinitionError, match="'nope' is undefined"):
        compile_text("a\n{% for x in nope %}{% endfor %}", HERE).render(PlainScope())
