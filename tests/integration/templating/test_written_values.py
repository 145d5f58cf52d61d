"""How values look in a command: what a person reads in a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.templating import compile_shell
from tests.support.template_scope import HERE, SHELLS, PlainScope, run_shell


def render_command(text: str, **values: Any) -> str:
    return compile_shell(text, HERE).render(PlainScope(**values))


@pytest.mark.parametrize(
    "value",
    ["/srv/app/releases/20261123", "web-1.example.net", "blog", "10.0.0.5:22", "-n", "a@b", "1.10"],
)
def test_an_ordinary_value_alone_is_not_quoted(value: str) -> None:
    assert render_command("a {{ x }} b", x=value) == f"a {value} b"


@pytest.mark.parametrize(
    "value",
    ["", "a b", "a=b", "~", "~/a", "{a,b}", "*", "#a", "!", "=a", "a\rb", "é", "if", "done", "in"],
)
def test_a_value_that_could_mean_something_is_quoted(value: str) -> None:
    assert render_command("a {{ x }} b", x=value) == f"a '{value}' b"


def test_a_value_in_a_word_is_always_quoted() -> None:
    assert render_command("a i{{ x }} {{ y }}/c d={{ y }}", x="f", y="b") == "a i'f' 'b'/c d='b'"


def test_a_value_that_names_a_command_is_always_quoted() -> None:
    """So that it is no reserved word, assignment or alias."""
    assert render_command("{{ x }} {{ x }}", x="if") == "'if' 'if'"
    assert render_command("a; {{ x }} {{ y }}", x="b", y="c") == "a; 'b' 'c'"
    assert render_command("A=1 {{ x }} c", x="B=2") == "A=1 'B=2' c"
    assert render_command("{{ x }} d", x=["a", "b c"]) == "'a' 'b c' d"


def test_digits_before_a_redirection_are_no_descriptor() -> None:
    assert render_command("a {{ x }}>b {{ x }} >c", x=2) == "a '2'>b 2 >c"
    assert render_command("a {{ x }}<b", x=2) == "a '2'<b"


def test_a_list_alone_is_its_words() -> None:
    assert (
        render_command("a {{ x }} d", x=["b", "c d", "", 1, 1.5, True])
        == "a b 'c d' '' 1 1.5 true d"
    )
    assert (
        render_command("for i in {{ x }}; do b; done", x=("1", "2")) == "for i in 1 2; do b; done"
    )
    assert render_command("(a {{ x }})", x=["b"]) == "(a b)"
    assert render_command("a {{ x | map('upper') }}|b", x=["b", "c"]) == "a B C|b"
    assert render_command("a {{ range(3) }}", x=1) == "a 0 1 2"
    assert render_command("a > {{ x }}", x=["b"]) == "a > b"


def test_nothing_alone_is_no_word_and_empty_text_is_one() -> None:
    assert render_command("a {{ x }} b", x=[]) == "a  b"
    assert render_command("a {{ x }} b", x=None) == "a  b"
    assert render_command("a {{ x }} b", x="") == "a '' b"
    assert render_command("a {{ '-v' if x }} b", x=False) == "a  b"


def test_quotes_of_the_command_are_closed_around_what_is_special() -> None:
    """A backslash would be the rest of another character in some locales, and nothing in others."""
    assert render_command('a "b {{ x }} c"', x="d e") == 'a "b d e c"'
    assert render_command('a "b {{ x }} c"', x="it's (d)") == 'a "b it\'s (d) c"'
    assert render_command('a "b {{ x }} c"', x="$d") == 'a "b "\'$d\'" c"'
    assert render_command('a "b {{ x }} c"', x="é") == 'a "b "\'é\'" c"'
    assert render_command("a 'b {{ x }} c'", x="it's") == "a 'b it'\"'\"'s c'"
    assert render_command("a b{{ x }}", x="it's") == "a b'it'\"'\"'s'"


def test_what_could_be_read_together_is_kept_apart() -> None:
    assert render_command("a 'é{{ x }}'", x="1") == "a 'é''1'"
    assert render_command("a 'é{{ x }}'", x="b") == "a 'éb'"
    assert render_command("a '{{ x }}1' '{{ x }}'", x="日") == "a '日''1' '日'"
    assert render_command('a "é{{ x }}\\"b"', x="") == 'a "é""\\"b"'
    assert render_command("cat <<E\n{{ x }}\nE", x="é$1 $2") == "cat <<E\né${0+}\\$1 \\$2\nE"
    assert render_command("cat <<E\n{{ x }}\\n é{{ y }}\nE", x="é", y="`") == (
        "cat <<E\né${0+}\\n é${0+}\\`\nE"
    )


def test_truth_values_are_written_as_yaml_does() -> None:
    assert (
        render_command('a {{ x }} "{{ y }}" b{{ x }}', x=True, y=False)
        == "a true \"false\" b'true'"
    )


def test_integers_in_arithmetic_are_decimal() -> None:
    assert render_command("a $((1 - {{ x }}))", x=-5) == "a $((1 - (-5)))"
    assert render_command("a $((1 + {{ x }}))", x="010") == "a $((1 + 10))"
    assert render_command("((a = {{ x }}))", x=3) == "((a = 3))"
    assert render_command("[[ {{ x }} -gt {{ y }} && {{ z }} == b ]]", x="08", y=-1, z="a") == (
        "[[ 8 -gt -1 && 'a' == b ]]"
    )


def test_words_splits_as_a_shell_would_and_quotes_each() -> None:
    text = "a {{ x | words }}"
    assert render_command(text, x="b 'c d' \"$e\" f\\ g *") == "a b 'c d' '$e' 'f g' '*'"
    assert render_command(text, x="") == "a "
    assert render_command(text, x=["b c", "d"]) == "a 'b c' d"
    assert render_command("{{ x | words }}", x="a; b") == "'a;' b"


def test_raw_is_inserted_as_it_is() -> None:
    assert render_command("{{ x | raw }}", x="a $b | c 'd'") == "a $b | c 'd'"
    assert render_command("a {{ x | raw }}; {{ y }}", x="$b", y="c") == "a $b; 'c'"
    assert render_command("{{ x | raw }}\n{{ y }} z", x="cat <<E\na\nE\n", y="c") == (
        "cat <<E\na\nE\n\n'c' z"
    )


def test_raw_does_not_join_the_operators_around_it() -> None:
    assert render_command("a &{{ x | raw }}&", x="& b &") == "a & & b & &"


def test_braces_that_are_no_template_stay() -> None:
    text = "echo ${#a} {# b #} ${a%b} {a,b} {% raw %}{{ c }} {% d %}{% endraw %} e"
    assert render_command(text) == "echo ${#a} {# b #} ${a%b} {a,b} {{ c }} {% d %} e"


def test_text_without_expressions_stays_byte_for_byte() -> None:
    text = "a\r\nb\rc\n\n printf '\x1c%s\\n' \"é\" \n"
    assert render_command(text) == text


def test_set_for_and_if_work_in_a_command() -> None:
    text = (
        "{% set a = x ~ ' y' %}"
        "{% for i in [1, 2] if i > 1 %}b {{ a }} {{ loop.index }} {% else %}c{% endfor %}"
        "{% if x == 'q' %} d{% elif x %} e {{ a }}{% else %} f{% endif %}"
    )
    assert render_command(text, x="z") == "b 'z y' 1  e 'z y'"


def test_a_branch_not_taken_asks_for_nothing() -> None:
    scope = PlainScope(later=["b"], a=False)
    text = "x {% if a %}{{ b.stdout }} {{ undefined }}{% endif %}{{ b if a else 'c' }}"
    assert compile_shell(text, HERE).render(scope) == "x 'c'"
    assert "b" not in scope.asked


def test_aliases_made_in_the_command_do_not_replace_values(tmp_path: Path) -> None:
    text = "alias b='echo no'\nalias c='printf \"%s \" '\nprintf '%s\\n' {{ x }}\nc {{ x }}\n"
    script = render_command(text, x="b")
    folder = tmp_path / "folder"
    folder.mkdir()
    for which in SHELLS[0], SHELLS[2]:  # bash knows aliases only when it is interactive
        assert run_shell(which, script, folder)[0] == b"b\nb "


def test_uses_tell_lint_what_each_expression_is_given_to() -> None:
    text = (
        "a; sudo sh -c 'rm {{ x }}' && ssh h \"{{ y }}\" | if eval {{ z | words }}; then\n"
        "$(b {{ x }}); fi; case a in b) c {{ x | raw }};; esac; cat <<E\n{{ x }}\nE\n"
    )
    template = compile_shell(text, HERE)
    assert [use.command for use in template.uses] == [
        "sudo sh -c 'rm ",
        'ssh h "',
        "eval ",
        "b ",
        "c ",
        "",
    ]
    assert [(use.filter, use.sources) for use in template.raw_uses] == [
        ("words", {"z"}),
        ("raw", {"x"}),
    ]
