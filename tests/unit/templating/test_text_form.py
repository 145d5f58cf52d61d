"""What an expression puts into a text is text, and never Python's notation of something."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import templating
from orchestrator.errors import DefinitionError, SourcePosition
from orchestrator.model.marked_value import MarkedValue
from orchestrator.model.registered_result import RegisteredResult
from orchestrator.planner.template_objects import (
    AppView,
    HostView,
    LazyMapping,
    NamedView,
    run_view,
)
from tests.support.template_scope import PlainScope

HERE = SourcePosition("t.yml", 1, 1)
OBJECTS: dict[str, Any] = {
    "host": HostView("web1", "10.0.0.1", ("web",), {"a": 1}),
    "stage": NamedView("dev", "for tests"),
    "task": NamedView("deploy:publish"),
    "app": AppView("blog", "", roles=(), hosts=("web1",), vars={}, _lock="~/lock"),
    "run": run_view("20260101-ab", "me", 0.0),
    "hosts": LazyMapping({"web1": 1}, lambda name: name),
    "r": RegisteredResult("ok"),
    "words": ["a", "b"],
    "none": None,
    "deep": [{"a": [1, 2]}],
    "yes": True,
    "half": 0.5,
}


def scope() -> PlainScope:
    names = PlainScope()
    names.values = OBJECTS
    return names


def render_in_command(expression: str) -> str:
    return templating.compile_shell(f"echo x{{{{ {expression} }}}}", HERE).render(scope())


def render_in_file(expression: str) -> str:
    return templating.compile_text(f"x{{{{ {expression} }}}}", HERE).render(scope())


def render_in_value(expression: str) -> str:
    text = templating.compile_value(MarkedValue(f"x{{{{ {expression} }}}}", HERE)).render(scope())
    assert isinstance(text, str)
    return text


RENDERERS = [render_in_command, render_in_file, render_in_value]


@pytest.mark.parametrize("position", RENDERERS)
@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("host", "web1"),
        ("stage", "dev"),
        ("task", "deploy:publish"),
        ("app", "blog"),
        ("run", "20260101-ab"),
        ("host ~ '-' ~ stage", "web1-dev"),
        ("[host, app] | join('-')", "web1-blog"),
        ("host | upper", "WEB1"),
        ("'%s.%s' % (host, stage)", "web1.dev"),
        ("'%s' | format(app)", "blog"),
        ("'{}'.format(host)", "web1"),
        ("'{h}'.format_map({'h': host})", "web1"),
        ("host | to_json", '"web1"'),
        ("yes", "true"),
        ("yes ~ ''", "true"),
        ("half", "0.5"),
        ("none | default('d')", "d"),
        ("deep[0].a | join('+')", "1+2"),
        ("deep | map(attribute='a') | map('join', '+') | join", "1+2"),
        ("deep | to_json", '[{"a": [1, 2]}]'),
    ],
)
def test_names_and_values_have_a_text(position: Any, expression: str, text: str) -> None:
    assert position(expression).removeprefix("echo ").replace("'", "") == f"x{text}"


@pytest.mark.parametrize("position", RENDERERS)
@pytest.mark.parametrize(
    "expression",
    [
        "words",
        "words ~ ''",
        "words | string",
        "words | upper",
        "words | trim",
        "deep | join('-')",
        "deep[0]",
        "'%s' % [words]",
        "'%s' % (words,)",
        "'%s' | format(words)",
        "'%(w)s' | format(w=words)",
        "'{}'.format(words)",
        "'{w}'.format_map({'w': words})",
        "hosts",
        "hosts | string",
        "host.vars",
        "host.roles",
        "r",
        "r ~ ''",
        "[r] | join",
        "'%s' % r",
        "none",
        "none ~ ''",
        "[none] | join",
        "'a'.upper",
        "'a'.upper ~ ''",
        "dict(a=1)",
    ],
)
def test_what_has_no_text_is_refused_at_its_place(position: Any, expression: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        position(expression)
    problem = caught.value.diagnostics[0]
    assert problem.mark is not None and problem.mark.path == "t.yml"
    assert "object" not in problem.message and "<" not in problem.message


@pytest.mark.parametrize("word", ["changed", "failed", "skipped", "succeeded"])
def test_results_can_be_tested_in_any_template(word: str) -> None:
    result = RegisteredResult("changed", changed=True)
    shown = templating.compile_text(f"{{{{ r is {word} }}}}", HERE).render(PlainScope(r=result))
    assert shown == ("true" if word in ("changed", "succeeded") else "false")
    with pytest.raises(DefinitionError, match=f"`is {word}` requires the result of a step"):
        templating.compile_text(f"{{{{ x is {word} }}}}", HERE).render(PlainScope(x="text"))
    with pytest.raises(DefinitionError, match="'nope' is undefined"):
        templating.compile_text(f"{{{{ nope is {word} }}}}", HERE).render(PlainScope())
