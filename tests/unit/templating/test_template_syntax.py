"""File templates with delimiters of their own, and with or without the blanks around blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError, SourcePosition
from orchestrator.planner.project_files import ProjectFiles
from orchestrator.templating.template_syntax import JINJA_SYNTAX, TemplateSyntax
from tests.support.template_scope import PlainScope

FROM = SourcePosition("")
SQUARE = TemplateSyntax(variable=("[[", "]]"), block=("[%", "%]"), comment=("[#", "#]"))
LATEX = TemplateSyntax(
    variable=("\\VAR{", "}"), block=("\\BLOCK{", "}"), comment=("\\#{", "}"), lstrip_blocks=True
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def render(root: Path, text: str, syntax: TemplateSyntax, **values: object) -> str:
    (root / "t").write_bytes(text.encode())
    return ProjectFiles(str(root)).template(root / "t", FROM, syntax).render(PlainScope(**values))


def test_what_has_the_delimiters_of_jinja_is_text(root: Path) -> None:
    text = "{{ a }} [[ a ]] {% if %} [# no #][% if a %]yes[% endif %] {# stays #}\n"
    assert render(root, text, SQUARE, a="1") == "{{ a }} 1 {% if %} yes {# stays #}\n"
    assert render(root, "{{ a }} {#\n", SQUARE) == "{{ a }} {#\n"


def test_delimiters_may_be_words_of_another_language(root: Path) -> None:
    text = (
        "\\begin{x}\n  \\BLOCK{ for i in a }\n\\item \\VAR{ i }\\#{ comment }\n \\BLOCK{ endfor }\n"
    )
    assert render(root, text, LATEX, a=[1, 2]) == "\\begin{x}\n\\item 1\\item 2"


@pytest.mark.parametrize(
    ("syntax", "rendered"),
    [
        (JINJA_SYNTAX, "a\n  b\n  c"),
        (TemplateSyntax(trim_blocks=False), "a\n  \nb\n  \nc"),
        (TemplateSyntax(lstrip_blocks=True), "a\nb\nc"),
        (TemplateSyntax(trim_blocks=False, lstrip_blocks=True), "a\n\nb\n\nc"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blanks_around_blocks_go_or_stay(
    root: Path, syntax: TemplateSyntax, rendered: str, end: str
) -> None:
    text = "a\n  {% if 1 %}\nb\n  {% endif %}\nc"
    assert render(root, text.replace("\n", end), syntax) == rendered.replace("\n", end)


def test_files_that_it_includes_have_its_delimiters(root: Path) -> None:
    (root / "inner").write_text("{{ a }}[[ a ]]")
    assert render(root, "[% include 'inner' %]", SQUARE, a="1") == "{{ a }}1"


def test_one_file_may_be_read_in_two_ways(root: Path) -> None:
    """Compiled templates are kept on disk, too."""
    text = "{{ a }}[[ a ]]"
    for _ in range(2):
        assert render(root, text, JINJA_SYNTAX, a="1") == "1[[ a ]]"
        assert render(root, text, SQUARE, a="1") == "{{ a }}1"


def test_an_error_has_its_position_and_the_delimiters_as_written(root: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        render(root, "{{ x }}\n  [[ a b ]]", SQUARE)
    (found,) = caught.value.diagnostics
    assert found.mark.line == 2
    assert found.message == "invalid template: expected token '`]]`', got 'b'"
    assert found.hint == "for literal text write `[% raw %]…[% endraw %]` around it"
    with pytest.raises(DefinitionError) as caught:
        render(root, "\n[[ nope ]]", SQUARE)
    assert "nope" in caught.value.diagnostics[0].message
    assert caught.value.diagnostics[0].mark.line == 2
