"""lint notes values that a shell calculates with by way of a variable, and names."""

from __future__ import annotations

import subprocess

import pytest

from orchestrator import templating
from orchestrator.errors import DefinitionError, SourcePosition
from orchestrator.playbook.lint_warnings import _value_warnings, find_arithmetic_values
from tests.support.template_scope import PlainScope

HERE = SourcePosition("t.yml", 1, 1)
NOTED = [
    "x={{ v }}; echo $((x+1))",
    "x={{ v }}; echo $(( 1 + $x ))",
    'x="{{ v }}"\nif ((x > 3)); then echo; fi',
    "declare -i n; n={{ v }}; echo $((n))",
    "declare -i n={{ v }}",
    "local -ri n={{ v }}",
    "n={{ v }}; [[ $n -gt 3 ]]",
    "n={{ v }}; [[ 3 -lt $n ]]",
    "[[ {{ v }} -gt 3 ]]",
    "[[ 3 -eq {{ v }} ]]",
    "let x={{ v }}",
    "i={{ v }}; a=(1 2); echo ${a[i]}",
    "i={{ v }}; a=(1 2); echo ${a[$i]}",
    "i={{ v }}; s=abc; echo ${s:i}",
    "n={{ v }}; echo ${!n}",
    "printf -v {{ v }} %s 1",
    'n={{ v }}; printf -v "$n" %s 1',
    "[[ -v {{ v }} ]]",
    "test -v {{ v }}",
    "a=(1); unset {{ v }}",
    "read {{ v }} <f",
]
PLAIN = [
    "x=$(({{ v }})); echo $((x+1))",
    "x={{ v }}; echo $x",
    "x={{ v }}; y=1; echo $((y+1))",
    "[ {{ v }} -gt 3 ]",
    "x={{ v }}; [ $x -gt 3 ]",
    "[[ {{ v }} = a ]]",
    "x={{ v }}; [[ $x == a* ]]",
    "echo $(({{ v }} + 1))",
    "unset x; x={{ v }}",
    "maxx={{ v }}; echo $((x+1))",
    "read x <{{ v }}",
]


@pytest.mark.parametrize("text", NOTED)
def test_what_is_calculated_with_is_noted_at_the_value(text: str) -> None:
    found = dict(find_arithmetic_values(text))
    assert [text[at : at + 2] for at in found] == ["{{"], found


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_text_or_a_checked_number_is_not(text: str) -> None:
    assert list(find_arithmetic_values(text)) == []


@pytest.mark.parametrize("text", [t for t in NOTED if "local" not in t and "<f" not in t])
def test_bash_runs_a_command_in_what_is_noted(text: str, tmp_path: object) -> None:
    hostile = "a[$(echo ran >&2)0]"
    try:
        template = templating.compile_shell(text, HERE)
        command = template.render(PlainScope(v=hostile))
    except DefinitionError:
        return  # refused, which is more than a note
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "ran" in done.stderr
    assert any("evaluates this value as" in note for note, _ in _value_warnings(template))
