"""What is refused in a command, with the exact file, line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.templating import ResultPending, compile_shell
from tests.support.template_scope import HERE, PlainScope

# `@@` stands before the character that the error has to point at.
AT_LOAD = (
    ("echo $@@{{ x }}", "right after `$`"),
    ('echo "a$@@{{ x }}"', "right after `$`"),
    ('echo "$(a $@@{{ x }})"', "right after `$`"),
    ("cat <<E\n$@@{{ x }}\nE", "right after `$`"),
    ("echo $((1 + $@@{{ x }}))", "right after `$`"),
    ("echo $\\\n@@{{ x }}", "right after `$`"),
    ("echo \\@@{{ x }}", "right after a backslash"),
    ('echo "\\@@{{ x }}"', "right after a backslash"),
    ('echo "\\\\\\@@{{ x }}"', "right after a backslash"),
    ("cat <<E\n\\@@{{ x }}\nE", "right after a backslash"),
    ('echo "$name@@{{ x }}"', "after a variable's name"),
    ('echo "$1@@{{ x }}"', "after a variable's name"),
    ("cat <<E\n$name@@{{ x }}\nE", "after a variable's name"),
    ('echo "$na{% if a %}me{% endif %}@@{{ x }}"', "after a variable's name"),
    ("echo $'a@@{{ x }}'", "inside `$'…'`"),
    ("echo `a @@{{ x }}`", "inside backticks"),
    ("echo `a $(b '@@{{ x }}')`", "inside backticks"),
    ("echo ${a:-@@{{ x }}}", "inside `${…}`"),
    ('echo "${a:-$(b @@{{ x }})}"', "inside `${…}`"),
    ("echo ${#@@{{ x }}}", "inside `${…}`"),
    ("cat <<E\n${a#@@{{ x }}}\nE", "inside `${…}`"),
    ("# @@{{ x }}", "in a comment"),
    ("echo a # it's @@{{ x }}", "in a comment"),
    ("echo $(a # @@{{ x }}\n)", "in a comment"),
    ("cat <<@@{{ x }}\nE", "here-document's delimiter"),
    ("cat << @@{{ x }}\nE", "here-document's delimiter"),
    ("cat <<-E@@{{ x }}\nE", "here-document's delimiter"),
    ("cat <<'E'@@{{ x }}\nE", "here-document's delimiter"),
    ("{{ x }}@@=1", "assignment's name"),
    ("A_{{ x }}@@=1 b", "assignment's name"),
    ("A=1 {{ x }}B@@=1 c", "assignment's name"),
    ("{{ x }}{{ y }}+@@=1", "assignment's name"),
    ("a; ! {{ x }}@@=1", "assignment's name"),
    ("a[@@{{ x }}]=1", "array's index"),
    ("a['@@{{ x }}']=1", "array's index"),
    ("a=([@@{{ x }}]=1)", "array's index"),
    ("unset a[@@{{ x }}]", "array's index"),
    ("[[ -v @@{{ x }} ]]", "as a variable's name"),
    ("echo ~@@{{ x }}", "after `~`"),
    ("A=~a@@{{ x }}/b", "after `~`"),
    ("A=b:~@@{{ x }}", "after `~`"),
    ("for @@{{ x }} in a; do b; done", "loop's variable"),
    ("case a @@{{ x }} b) c;; esac", "instead of `in`"),
    ("function @@{{ x }} { a; }", "function's name"),
    ("{{ x }}@@() { a; }", "right before `(`"),
    ("a >&b@@{{ x }}", "after `>&`"),
    ("a >&@@{{ x }}b", "after `>&`"),
    ("a >&\"@@{{ x }}\"", "after `>&`"),
    ("a <&'@@{{ x }}'", "after `>&`"),
    ("a=(b|@@{{ x }})", "parse differently"),
    ("echo @(a|@@{{ x }})", "inside a pattern's parentheses"),
    ("[[ a =~ ^(b|@@{{ x }})$ ]]", "inside a pattern's parentheses"),
    ("echo $[ @@{{ x }} ]", "parse differently"),
    ("echo $'it\\'s'; echo @@{{ x }}", "parse differently"),
    ("echo \"${a:-'b}\" @@{{ x }}", "parse differently"),
    ("cat <<\"$a\"\nE\n@@{{ x }}", "parse differently"),
    ("cat <<E\n$(cat <<'F'\n@@{{ x }}\nF\n)\nE", "in a quoted here-document inside another"),
    ("cat <<E\n$(\nE\n)\nE\n@@{{ x }}", "parse differently"),
    ("cat <<E\na\\\nE\n@@{{ x }}\nE", "parse differently"),
    ("((cat <<E) | b)\n@@{{ x }}", "parse differently"),
    ("echo $(cat <<E\nE)\n@@{{ x }}\nE\n)", "parse differently"),
    ("echo )\n@@{{ x }} a", "parse differently"),
    ("x=$(a=(\\' @@{{ x }}))", "a backslash in an array in `$(…)`"),
    ("cat < <(a+=(it\\'s\n@@{{ x }}))", "a backslash in an array in `$(…)`"),
    ("x=$(f() { local a=(b\\ c); }; f)\n@@{{ x }} a", "a backslash in an array in `$(…)`"),
    ("x=$(a; case b in c) @@{{ x }};; esac)", "bash before 5.2"),
    ('x="$(if case a in b) c;; esac; then d; fi)" e=@@{{ x }}', "bash before 5.2"),
    ("x=$(case a in b) case c in d) e;; esac;; f) g @@{{ x }};; esac)", "bash before 5.2"),
    ("x=$(cat <(case a in b) @@{{ x }};; esac))", "bash before 5.2"),
    ("x=$(ls case)\na @@{{ x }}", "bash before 5.2"),
    ("x=$({ cat <<E; cat <<F; }\na\nE\n@@{{ x }}\nF\n)", "bash before 5.2"),
    ("x=$(a # b\n# it's\n)\nc @@{{ x }}", "bash before 5.2"),
    ("x=$(cat <<E\nEnd\n@@{{ x }}\nE\n)", "begins with its delimiter"),
    ('echo "É\\"" @@{{ x }}', "`É\\`, which bash may read as one character"),
    ("echo É`a` @@{{ x }}", "`É``"),
    ("echo É| cat @@{{ x }}", "`É|`"),
    ("echo 日; cat @@{{ x }}", "`日;`"),
    ('echo "日1" @@{{ x }}', '`日1"`'),
    ("echo '日1'\necho @@{{ x }}", "`日1'`"),
    ("echo 日1 @@{{ x }}", "`日1 `"),
    ("cat <<E\nÉ\\$(\n@@{{ x }}\n)\nE", "`É\\`"),
    ("echo $'É\\\\' @@{{ x }}", "`É\\`"),
    ("echo 日1@@{{ x }}", "right after a non-ASCII character and a digit"),
    ('echo "日1@@{{ x }}"', "right after a non-ASCII character and a digit"),
    ("echo '日1@@{{ x }}'", "right after a non-ASCII character and a digit"),
    ('declare -a "a=(@@{{ x }})"', "may take for an array's words"),
    ("f() { local a='('@@{{ x }}; }", "may take for an array's words"),
    ("declare -A a=$b@@{{ x }}", "may take for an array's words"),
    ("export -{{ x }} a=(b) c=\"(@@{{ x }})\"", "may take for an array's words"),
    ("declare @@{{ x }}", "as a variable's name after `declare`"),
    ("f() { local -r a=b @@{{ x }}=c; }", "as a variable's name after `local`"),
    ("builtin typeset a@@{{ x }}", "as a variable's name after `typeset`"),
    ("a ;;\nb @@{{ x }}", "parse differently"),
    ("echo @@'a", "`'` is not closed"),
    ('echo @@"a', '`"` is not closed'),
    ("a @@$(b", "`$(` is not closed"),
    ("a @@`b", "a backtick is not closed"),
    ("a @@${b", "`${` is not closed"),
    ("a @@$((b)", "`((` is not closed"),
    ("a $((b) @@{{ x }})", "parse differently"),
    ("a $((b)@@{{ x }})", "after a `)` in arithmetic"),
    ("@@(a", "`(` is not closed"),
    ("case@@ a in b) c", "`case` is not closed"),
    ("cat @@<<E", "'E' does not end"),
    ("cat @@<<E\na", "'E' does not end"),
    ("cat <<E @@<<F\na\nE\nb", "'F' does not end"),
    ("cat @@<<-E\n E", "'E' does not end"),
    ("@@{% if a %}'{% endif %}b'", "the branches of this `if` differ"),
    ("a @@{% if a %}\"b{% else %}'b{% endif %}", "the branches of this `if` differ"),
    ("a @@{% if a %}b{% elif c %}$(d{% else %}e{% endif %}", "differ: "),
    ("@@{% if a %}cat <<E{% endif %}\nb\nE\n", "the branches of this `if` differ"),
    ("@@{% for a in b %}'{% endfor %}", "the start and the end of this `for` differ"),
    ("a @@{% for a in b %}\"{{ a }}{% endfor %}\"", "differ: "),
    ("@@{% for a in b %}(c;{% else %}){% endfor %}", "differ: "),
    ("cat <<E\nb\n{% if a %}E{% endif %}@@\nE\n", "depends on an `if` or `for`"),
    ("a {% if b %}c{% endif %}@@#d", "`#` begins a comment depends"),
    ("{% if a %}b{% endif %}case@@ c in d) ;; esac", "the keyword `case`"),
    ("{{ x }} case@@ a in b) ;; esac", "the keyword `case`"),
    ("a ${% if b %}@@c{% endif %}", "right after `$`"),
    ("a \\{% if b %}@@c{% endif %}", "right after `\\`"),
    ("a >{% if b %}@@>c{% endif %}", "right after `>`"),
    ("a |{% if b %}{% endif %}@@| c", "right after `|`"),
    ("cat <<{% if b %}@@E{% endif %}\nE", "right after `<<`"),
    ("cat <<E{% if b %}@@F{% endif %}\nE", "right after `<<`"),
    ("a; @@{% include 'b' %}", "`{% include %}` is not allowed in a command"),
    ("@@{% import 'b' as c %}", "`{% import %}` is not allowed in a command"),
    ("@@{% from 'b' import c %}", "`{% from %}` is not allowed in a command"),
    ("@@{% extends 'b' %}", "`{% extends %}` is not allowed in a command"),
    ("@@{% macro a() %}{% endmacro %}", "`{% macro %}` is not allowed in a command"),
    ("@@{% call a() %}{% endcall %}", "`{% call %}` is not allowed in a command"),
    ("@@{% block a %}{% endblock %}", "`{% block %}` is not allowed in a command"),
    ("@@{% filter upper %}{% endfilter %}", "`{% filter %}` is not allowed in a command"),
    ("@@{% with a = 1 %}{% endwith %}", "`{% with %}` is not allowed in a command"),
    ("@@{% set a %}b{% endset %}", "`{% set … endset %}` is not allowed in a command"),
    ("@@{% for a in b recursive %}{% endfor %}", "recursive"),
    ("@@{{ restart_command }}", "the whole command is one expression"),
    ("\n@@{{ restart_command }}\n", "the whole command is one expression"),
    ("a @@{{ x | raw }}b", "`raw` in the middle of a word"),
    ("a b@@{{ x | raw }}", "`raw` where it is not"),
    ("a > @@{{ x | raw }}", "`raw` where it is not"),
    ("a '@@{{ x | raw }}'", "`raw` inside a `'`"),
    ('a "@@{{ x | words }}"', '`words` inside a `"`'),
    ("a $((@@{{ x | raw }}))", "`raw` inside `((`"),
    ("a @@{{ x | words }}/b", "`words` in the middle of a word"),
    ("A=@@{{ x | words }}", "`words` where it is not"),
    ("a {{ x | @@raw | upper }}", "the last filter"),
    ("{% set a = b | @@raw %}c", "the last filter"),
    ("{% if b | @@raw %}c{% endif %}", "the last filter"),
    ("{% for a in b | @@words %}c{% endfor %}", "the last filter"),
    ("a {{ x | @@raw(1) }}", "takes no arguments"),
    ("a@@\0b", "NUL"),
    ("docker ps --format '{{@@.Names}}'", "unexpected '.'"),
    ("a {{ x @@y }}", "expected token"),
    ("a {{ x ~@@? }}", "unexpected char '?'"),
    ("a {{ x | @@uper }}", "there is no filter 'uper'"),
    ("a {{ x | @@quote }}", "`quote` in a command would quote the value twice"),
    ("a {{ x | @@ansible.builtin.combin }}", "there is no filter 'ansible.builtin.combin'"),
    ("a {% if b @@is defind %}{% endif %}", "there is no test 'defind'"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "what"), AT_LOAD)
def test_is_refused_at_load_at_its_exact_place(text: str, what: str, tmp_path: Path) -> None:
    problem, location = refused_problem(text, tmp_path)
    assert what in problem.message
    assert problem.mark == location


AT_RENDER: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("a @@{{ x }}", "NUL", {"x": "b\0c"}),
    ("a '@@{{ x }}'", "NUL", {"x": "\0"}),
    ("a @@{{ x }}", "NUL", {"x": ["b", "\0"]}),
    ("a @@{{ x }}", "UTF-8", {"x": "\ud800"}),
    ("cat <<E\n@@{{ x }}\nE", "end the here-document: 'E'", {"x": "E"}),
    ("cat <<E\n@@{{ x }}\nE", "end the here-document: 'E'", {"x": "a\nE\nb"}),
    ("cat <<'EOF'\nE@@{{ x }}\nEOF", "'EOF'", {"x": "OF"}),
    ("cat <<EOF\n@@{{ x }}OF\nEOF", "'EOF'", {"x": "a\nE"}),
    ("cat <<EOF\nE@@{{ x }}OF\nEOF", "'EOF'", {"x": ""}),
    ("cat <<EOF\nE\\\n@@{{ x }}\nEOF", "'EOF'", {"x": "OF"}),
    ("cat <<EOF\n@@{{ x }}\nEOF", "dash loses a byte", {"x": "EOé"}),
    ("cat <<'EOF'\nE@@{{ x }}\nEOF", "dash loses a byte", {"x": "é"}),
    ("cat <<-E\n\t@@{{ x }}\n\tE", "'E'", {"x": "E"}),
    ("cat <<-E\n@@{{ x }}\nE", "begins with a tab", {"x": "\ta"}),
    ("cat <<-E\na@@{{ x }}\nE", "begins with a tab", {"x": "\n\ta"}),
    ("cat <<E\n$(b '@@{{ x }}')\nE", "'E'", {"x": "a\nE\n"}),
    ("a $(cat <<E\n@@{{ x }}\nE\n)", "'Ex) ; id'", {"x": "Ex) ; id"}),
    ("a $(cat <<'E'\n@@{{ x }}\nE\n)", "U+0001", {"x": "\x01"}),
    ("a $(cat <<'E'\n@@{{ x }}\nE\n)", "ends in a backslash", {"x": "a\\"}),
    ("a $(cat <<'E'\n\\@@{{ x }}\nE\n)", "ends in a backslash", {"x": ""}),
    ("a $(cat <<E\n@@{{ x }}\nE\n)", "'Ex", {"x": "Ex"}),
    ("declare -a a=@@{{ x }}", "begins with `(`", {"x": "(b)"}),
    ("local a='@@{{ x }}'", "begins with `(`", {"x": "(b)"}),
    ("typeset a+=\"@@{{ x }}\"", "begins with `(`", {"x": "(b)"}),
    ("export -a a={{ y }}@@{{ x }}", "begins with `(`", {"y": "", "x": "("}),
    ("a=($(b=(@@{{ x }})))", "U+0001 or U+007F", {"x": "\x01"}),
    ("a=($(b=(@@{{ x }})))", "U+0001 or U+007F", {"x": ["a", "b\x01\x01"]}),
    ("declare -a a=@@{{ x }}", "for an array's words", {"x": ["(b)"]}),
    ("a=(\"$(cat <<E\n@@{{ x }}\nE\n)\")", "U+0001 or U+007F", {"x": "\x7f"}),
    ("a; @@{{ x | raw }}", "middle of something", {"x": "echo 日1"}),
    ("a $((1 + @@{{ x }}))", "is not an integer", {"x": "a"}),
    ("a $((1 + @@{{ x }}))", "is not an integer", {"x": "1 "}),
    ("a $((1 + @@{{ x }}))", "is not an integer", {"x": 1.5}),
    ("a $((1 + @@{{ x }}))", "is not an integer", {"x": True}),
    ("a $((1 + @@{{ x }}))", "is not an integer", {"x": None}),
    ("a $((1 + @@{{ x }}))", "is not an integer", {"x": ["1"]}),
    ("a $((1 + @@{{ x }}))", "is not an integer", {"x": "b[$(id)]"}),
    ("a $((1 + @@{{ x }}))", "is not an integer", {"x": "１"}),
    ("a $((1 + @@{{ x }}))", "too large", {"x": 2**63}),
    ("((a = @@{{ x }}))", "is not an integer", {"x": "a"}),
    ("for ((a = @@{{ x }}; a; a--)); do b; done", "is not an integer", {"x": "a"}),
    ("[[ @@{{ x }} -eq 1 ]]", "is not an integer", {"x": "a[$(id)]"}),
    ("[[ 1 -lt \"@@{{ x }}\" ]]", "is not an integer", {"x": "a[$(id)]"}),
    ("a b@@{{ x }}", "a list, in the middle of a word", {"x": ["c"]}),
    ("a @@{{ x }}b", "a list, in the middle of a word", {"x": ["c"]}),
    ("a '@@{{ x }}'", "the value is a list", {"x": ["c"]}),
    ("a \"@@{{ x }}\"", "the value is a list", {"x": []}),
    ("cat <<E\n@@{{ x }}\nE", "the value is a list", {"x": ["a"]}),
    ("a @@{{ x }}/b", "none, in the middle of a word", {"x": None}),
    ("A=@@{{ x }}", "none, in the middle of a word", {"x": None}),
    ("a \"@@{{ x }}\"", "the value is none", {"x": None}),
    ("a @@{{ x }}", "a mapping", {"x": {"b": 1}}),
    ("a @@{{ x }}", "a mapping", {"x": [{"b": 1}]}),
    ("a @@{{ x }}", "a list or mapping inside", {"x": [["b"]]}),
    ("a @@{{ x }}", "has no text", {"x": b"b"}),
    ("a > @@{{ x }}", "no words", {"x": []}),
    ("a >@@{{ x }} b", "no words", {"x": None}),
    ("a 2>& @@{{ x }}", "2 words", {"x": ["a", "b"]}),
    ("a <<< @@{{ x }}", "no words", {"x": None}),
    ("a >& @@{{ x }}", "is not a file descriptor", {"x": "b"}),
    ("a 2>&@@{{ x }}", "is not a file descriptor", {"x": ""}),
    ("case @@{{ x }} in b) ;; esac", "no words", {"x": None}),
    ("case a in @@{{ x }}) ;; esac", "2 words", {"x": ["a", "b"]}),
    ("case a in b | @@{{ x }}) ;; esac", "no words", {"x": []}),
    ("[[ @@{{ x }} == a ]]", "no words", {"x": None}),
    ("a @@{{ x | words }}", "no closing quotation", {"x": "b 'c"}),
    ("a; @@{{ x | raw }}", "a `'` is not closed in it", {"x": "b 'c"}),
    ("a; @@{{ x | raw }}", "a comment is not closed in it", {"x": "b # c"}),
    ("a; @@{{ x | raw }}", "a here-document is not closed in it", {"x": "b <<E\nE"}),
    ("a; @@{{ x | raw }}", "middle of something", {"x": "b <<E"}),
    ("a; @@{{ x | raw }}", "middle of something", {"x": "b \\"}),
    ("a; @@{{ x | raw }}", "middle of something", {"x": "b $"}),
    ("a; @@{{ x | raw }}", "middle of a command", {"x": "b >"}),
    ("a; @@{{ x | raw }}", "middle of a command", {"x": "[[ b"}),
    ("a; @@{{ x | raw }}", "`case` is not closed", {"x": "case a in"}),
    ("a; @@{{ x | raw }}", "a `)` without a `(`", {"x": "b) c"}),
    ("a; @@{{ x | raw }}", "parse differently", {"x": "b $'\\''"}),
    ("cat <<E\n$(@@{{ x | raw }})\nE", "'E'", {"x": "b\nE\n"}),
    ("a {{ @@x }}", "'x' is undefined", {}),
    ("a \"{{ @@x }}\"", "'x' is undefined", {}),
    ("a {{ x.@@y }}", "'x.y' is undefined", {"x": {"z": 1}}),
    ("a {{ x[@@'y'] }}", "\"x['y']\" is undefined".replace('"', "'"), {"x": {"z": 1}}),
    ("a {{ @@x.y.z }}", "'x' is undefined", {}),
    ("a {{ y ~ @@x }}", "'x' is undefined", {"y": ""}),
    ("{% if @@x %}a{% endif %}", "'x' is undefined", {}),
    ("{% for y in @@x %}a{% endfor %}", "'x' is undefined", {}),
    ("{% set y = @@x + 1 %}a", "'x' is undefined", {}),
    ("a\nb {{ y }}\nc {{ y | default(z) }} {{ @@x }}", "'x' is undefined", {"y": 1}),
)  # fmt: skip


@pytest.mark.parametrize(("text", "what", "values"), AT_RENDER)
def test_is_refused_when_rendered_at_its_exact_place(
    text: str, what: str, values: dict[str, Any], tmp_path: Path
) -> None:
    problem, location = refused_problem(text, tmp_path, **values)
    assert what in problem.message
    assert problem.mark == location


def refused_problem(text: str, folder: Path, **values: Any) -> tuple[Diagnostic, SourcePosition]:
    """Return the problem of a command, and the position marked with `@@`."""
    before, _, after = text.partition("@@")
    file = folder / "task.yml"
    plain = before + after
    body = plain.replace("\n", "\n      ")
    file.write_text(f"steps:\n  - run: |\n      {body}\n", newline="")
    row, column = before.count("\n"), len(before) - before.rfind("\n") - 1
    with pytest.raises(DefinitionError) as caught:
        compile_shell(plain, SourcePosition(str(file), 2, 10)).render(PlainScope(**values))
    (problem,) = caught.value.diagnostics
    return problem, SourcePosition(str(file), 3 + row, 7 + column)


def problem_hint(text: str, **values: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        compile_shell(text, HERE).render(PlainScope(**values))
    return caught.value.diagnostics[0].hint


def test_an_undefined_name_comes_with_the_nearest_known_one() -> None:
    assert problem_hint("a {{ relase }}", release="1", other="2") == "did you mean 'release'?"
    assert problem_hint("a {{ x.adress }}", x={"address": 1}) == "did you mean 'address'?"
    assert problem_hint("a {{ x.qqqqq }}", x={"b": 1, "a": 1}) == "known: a, b"


def test_errors_at_braces_hint_at_raw() -> None:
    assert "{% raw %}" in problem_hint("docker ps --format '{{.Names}}'")
    assert "{% raw %}" in problem_hint("echo {%x%}")
    assert "{% raw %}" in problem_hint("a; {% macro b() %}{% endmacro %}")


def test_a_whole_command_in_one_expression_hints_at_words_and_raw() -> None:
    assert "| words" in problem_hint("{{ a }}")
    assert "| raw" in problem_hint("{{ a }}")


@pytest.mark.parametrize("filter_", ["raw", "words"])
@pytest.mark.parametrize(
    "text",
    [
        "a {{ x | FILTER }}",
        "a {{ ('b' ~ x[0][0]) | FILTER }}",
        "a {{ (x[0][0] ~ 'b') | FILTER }}",
        "a {{ y | default(x) | FILTER }}",
        "a {{ (x if y else y) | FILTER }}",
        "a {{ {'b': [x]}['b'][0] | FILTER }}",
        "{% set b = x %}a {{ b | FILTER }}",
        "{% set b = x[0][0] %}{% set c = b ~ y %}a {{ c | FILTER }}",
        "{% set b = y %}{% if y %}{% set b = x %}{% endif %}a {{ b | FILTER }}",
        "{% for b in x %}a {{ b | FILTER }}\n{% endfor %}",
        "{% for b in [1] %}a {{ x[b] | FILTER }}\n{% endfor %}",
        "{% for b in x %}a {{ loop.nextitem | FILTER }}\n{% endfor %}",
        "{% for b, c in x %}a {{ c | FILTER }}\n{% endfor %}",
        "{% set b = namespace(c=y) %}{% set b.c = x %}a {{ b.c | FILTER }}",
        "a {{ x | FILTER }}{% set x = y %}",
    ],
)
def test_raw_and_words_refuse_text_from_a_host(text: str, filter_: str) -> None:
    template = compile_shell(text.replace("FILTER", filter_), HERE)
    with pytest.raises(DefinitionError, match="came from a host"):
        template.render(PlainScope(host=["x"], x=[["1", "2"], ["3", "4"]], y="b"))


def test_raw_and_words_take_other_text_beside_text_from_a_host() -> None:
    template = compile_shell("a {{ x }} {{ y | raw }} {{ z | words }}", HERE)
    assert template.render(PlainScope(host=["x"], x="$1", y="b | c", z="d 'e f'")) == (
        "a '$1' b | c 'd' 'e f'"
    )


def test_a_value_that_is_still_to_come_is_not_undefined() -> None:
    with pytest.raises(ResultPending) as caught:
        compile_shell("a {{ before.stdout }}", HERE).render(PlainScope(later=["before"]))
    assert caught.value.names == {"before"}
