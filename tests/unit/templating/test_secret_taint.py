"""What templates make of a secret is one, and what they do not make of it is none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from orchestrator import templating
from orchestrator.errors import SourcePosition, suggest_nearest
from orchestrator.model.marked_value import MarkedValue
from orchestrator.model.secret import SecretResolver

PW = "c4n4ry-bird"
NAMES: dict[str, Any] = {
    "pw": PW,
    "host": "h.example",
    "users": [{"name": "alice", "password": PW}, {"name": "bobby", "password": "other-word"}],
    "config": f"[main]\nport = 5432\npassword = {PW}\n",
}


class SecretScope:
    """Names with a secret among them."""

    def __init__(self) -> None:
        self.secrets = SecretResolver()
        self.secrets.masker.add_secret("pw", PW)

    def resolve(self, name: str) -> object:
        return NAMES[name]

    def from_host(self, name: str) -> bool:
        return False

    def hint(self, name: str) -> str:
        return suggest_nearest(name, self.names())

    def names(self) -> Iterable[str]:
        return NAMES

    def origin(self, name: str, hops: int = 0) -> None:
        return None

    def is_masked(self, text: str) -> bool:
        return text not in self.secrets.masker.mask_text(f"<{text}>")


def render_text(source: str, scope: SecretScope) -> Any:
    return templating.compile_value(MarkedValue(source, SourcePosition("f.yml", 1, 1))).render(
        scope
    )


@pytest.mark.parametrize(
    "source",
    [
        "{{ pw | upper }}",
        "{{ pw.title() }}",
        "{{ pw[:6] }}",
        "{{ pw[::-1] }}",
        "{{ pw | replace('c', 'k') ~ '!' }}",
        "{{ '%.6s' % pw }}",
        "{{ '%.6s' | format(pw) }}",
        "{{ ('u:' ~ pw ~ '@h') | upper }}",
        "{{ [pw] | map('upper') | first }}",
        "{{ users | map(attribute='password') | map('reverse') | first }}",
        "{% set x = pw | upper %}{{ x }}",
        "{% set x %}{{ pw }}{% endset %}{{ x | upper }}",
        "{% filter upper %}{{ pw }}{% endfilter %}",
        "{% macro m(x) %}{{ x | upper }}{% endmacro %}{{ m(pw) }}",
        "{% for u in users %}{% if loop.first %}{{ u.password | upper }}{% endif %}{% endfor %}",
        "{{ config | upper }}",
        "{{ {'a': pw} | to_json | upper }}",
    ],
)
def test_what_is_made_of_a_secret_is_hidden(source: str) -> None:
    scope = SecretScope()
    assert scope.is_masked(render_text(source, scope))


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{{ 'enabled' if pw else 'disabled' }}", "enabled"),
        ("{{ users | map(attribute='name') | first | upper }}", "ALICE"),
        ("{{ config.splitlines()[1] }}", "port = 5432"),
        ("{{ (config | indent(2)).splitlines()[1] | trim }}", "port = 5432"),
        ("{{ host | upper }}", "H.EXAMPLE"),
        ("{{ pw | length ~ ' characters' }}", "11 characters"),
        ("{% for u in users %}{{ u.name | upper }}{% endfor %}", "ALICEBOBBY"),
    ],
)
def test_what_is_not_made_of_a_secret_is_shown(source: str, shown: str) -> None:
    scope = SecretScope()
    assert render_text(source, scope) == shown
    assert not scope.is_masked(shown)
    assert not scope.is_masked("port = 5432")


@pytest.mark.parametrize("source", ["postgres://u:{{ pw }}@h", "{{ 'postgres://u:' ~ pw ~ '@h' }}"])
def test_of_a_text_around_a_secret_only_the_secret_is_hidden(source: str) -> None:
    scope = SecretScope()
    text = render_text(source, scope)
    assert scope.secrets.masker.mask_text(text) == "postgres://u:‹pw›@h"


@pytest.mark.parametrize(
    "source", ["echo {{ ('a b ' ~ pw) | words }}", 'x={{ pw ~ "\'" }}; echo "{{ pw }}"']
)
def test_commands_hide_what_they_quote(source: str) -> None:
    scope = SecretScope()
    text = templating.compile_shell(source, SourcePosition("f.yml", 1, 1)).render(scope)
    assert PW in text
    assert PW not in scope.secrets.masker.mask_text(text)


def test_the_words_of_a_secret_are_hidden_one_by_one() -> None:
    scope = SecretScope()
    scope.secrets.masker.add_secret("config", NAMES["config"])
    templating.compile_shell("echo {{ config | words }}", SourcePosition("f.yml", 1, 1)).render(
        scope
    )
    assert scope.is_masked("[main]")
    assert scope.is_masked("5432")
