"""File templates that include, import and extend other files of the project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.model.secret import SecretResolver
from orchestrator.planner.project_files import ProjectFiles
from tests.support.template_scope import PlainScope

FROM = SourcePosition("")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "p").mkdir()
    monkeypatch.chdir(tmp_path / "p")
    return tmp_path / "p"


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).removeprefix("\n"))


def render(root: Path, files: Mapping[str, str], **values: object) -> str:
    write(root, files)
    template = ProjectFiles(str(root)).template(root / "t.j2", FROM)
    return template.render(PlainScope(**values))


def error(root: Path, files: Mapping[str, str], **values: object) -> Diagnostic:
    with pytest.raises(DefinitionError) as caught:
        render(root, files, **values)
    (found,) = caught.value.diagnostics
    return found


def test_an_included_file_sees_all_variables_and_changes_none(root: Path) -> None:
    files = {
        "t.j2": """
            {% set a = 1 %}
            {% for x in [1, 2] %}
            {% include 'parts/p.j2' %}
            {% endfor %}
            {{ a }}
        """,
        "parts/p.j2": "{% set a = 5 %}\n{{ x }} {{ name }} {{ a }}\n{% include 'q.j2' %}\n",
        "parts/q.j2": "beside {{ x }}\n",
    }
    text = "1 n 5\nbeside 1\n2 n 5\nbeside 2\n1\n"
    assert render(root, files, name="n") == text
    assert ProjectFiles(str(root)).template(root / "t.j2", FROM).names == {"name"}


def test_a_file_that_may_be_missing_is_left_out(root: Path) -> None:
    files = {
        "t.j2": "a{% include 'no.j2' ignore missing %}b{% include ['no.j2', 'yes.j2'] %}",
        "yes.j2": "yes",
    }
    assert render(root, files) == "abyes"


def test_macros_are_imported_under_names_that_hide_nothing(root: Path) -> None:
    files = {
        "t.j2": """
            {% import 'm.j2' as m %}
            {% from 'm.j2' import twice as double, sign %}
            {% set prefix = 'own' %}
            {{ m.twice('a') }} {{ double('b') }} {{ sign }} {{ prefix }} {{ m.named(twice='x') }}
        """,
        "m.j2": """
            not shown
            {% set prefix = '>' %}
            {% set sign = '!' %}
            {% macro twice(x) %}{{ prefix }}{{ x }}{{ x }}{{ sign }}{% endmacro %}
            {% macro named(twice) %}{{ twice }}{% endmacro %}
        """,
    }
    assert render(root, files) == ">aa! >bb! ! own x\n"


def test_blocks_are_overridden_through_several_files(root: Path) -> None:
    files = {
        "t.j2": """
            {% extends 'middle.j2' %}
            {% from 'm.j2' import hi %}
            {% set title = 'T' %}
            dropped
            {% block head %}{{ hi(title) }}+{{ super() }}{% endblock %}
            {% block inner %}I{% endblock %}
        """,
        "middle.j2": "{% extends 'base.j2' %}{% block head %}mid {{ super() }}{% endblock %}",
        "base.j2": """
            {% block head %}base{% endblock %}

            {% for x in [1, 2] %}
            {% block body scoped %}{{ x }}{% block inner %}i{% endblock %}{% endblock %}

            {% endfor %}
            end
        """,
        "m.j2": "{% macro hi(x) %}hi {{ x }}{% endmacro %}",
    }
    assert render(root, files) == "hi T+mid base\n1I\n2I\nend\n"


class SecretScope(PlainScope):
    """A scope with secrets."""

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.secrets = SecretResolver()


def test_secrets_are_followed_through_files(root: Path) -> None:
    files = {
        "t.j2": "{% from 'm.j2' import up %}{{ up(pw) }}",
        "m.j2": "{% macro up(x) %}{{ x | upper }}{% endmacro %}",
    }
    write(root, files)
    scope = SecretScope(pw="s3cret-word")
    scope.secrets.masker.add_secret("pw", "s3cret-word")
    template = ProjectFiles(str(root)).template(root / "t.j2", FROM)
    assert template.render(scope) == "S3CRET-WORD"
    assert scope.secrets.masker.mask_text("S3CRET-WORD") == "‹pw›"


@pytest.mark.parametrize(
    ("files", "message", "position"),
    [
        ({"t.j2": "a\n{% include 'no.j2' %}"}, "the project has no file 'no.j2'", "t.j2:2:1"),
        ({"t.j2": "{% include x %}"}, "must be known before the run", "t.j2:1:4"),
        ({"t.j2": "{% include '../out.j2' %}"}, "'../out.j2' is outside of the project", "t.j2:1:4"),
        ({"t.j2": "{% include 't.j2' %}"}, "t.j2 leads back to itself", "t.j2:1:4"),
        ({"t.j2": "{% include 'a.j2' %}", "a.j2": "x\n{{ zz }}"}, "'zz' is undefined", "a.j2:2:1"),
        ({"t.j2": "x\n\n{{ zz }}{% include 'a.j2' %}", "a.j2": ""}, "'zz' is undefined", "t.j2:3:1"),
        ({"t.j2": "{% include 'a.j2' %}", "a.j2": "x\n{% if %}"}, "invalid template", "a.j2:2:1"),
        ({"t.j2": "{% include 'a.j2' %}", "a.j2": "x\n{{ 1 / 0 }}"}, "division", "a.j2:2:1"),
        ({"t.j2": "{% import 'a.j2' as a %}{{ a.b() }}", "a.j2": ""}, "'b', which is not", "t.j2:1:29"),
        ({"t.j2": "{% import 'a.j2' as a %}{{ a }}", "a.j2": ""}, "a whole imported file", "t.j2:1:28"),
        ({"t.j2": "{% from 'a.j2' import b %}", "a.j2": ""}, "importing 'b'", "t.j2:1:4"),
        ({"t.j2": "{{ 1 }}{% block a %}{{ super() }}{% endblock %}"}, "`super()` without", "t.j2:1:29"),
        ({"t.j2": "{% block a %}{% endblock %}{{ self.a() }}"}, "`self` other than", "t.j2:1:31"),
        ({"t.j2": "{% block a %}{% endblock %}{% block a %}{% endblock %}"}, "defined twice", "t.j2:1:31"),
        ({"t.j2": "{% include 'a.j2' %}", "a.j2": "$ANSIBLE_VAULT;1.1;AES256\n61\n"}, "is encrypted", "t.j2:1:4"),
    ],
)  # fmt: skip
def test_errors_are_told_in_the_file_in_which_they_are(
    root: Path, files: Mapping[str, str], message: str, position: str
) -> None:
    write(root.parent, {"out.j2": "secret of another project"})
    found = error(root, files)
    assert message in found.message
    assert str(found.mark) == position


def test_the_name_of_a_step_cannot_include_files() -> None:
    from orchestrator.templating import compile_text

    with pytest.raises(DefinitionError, match="cannot include others here"):
        compile_text("{% include 'x' %}", FROM)
