"""Whatever the text around it, sense or nonsense, a value never becomes a command.

Scraps of shell are thrown together (not `>(`, with which a `cat` may wait for itself). Where such a text is taken as a template, values that try
to run a command or to make a file are put in, and three shells run what comes out.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import DefinitionError
from orchestrator.templating import compile_shell
from tests.support.template_scope import HERE, SHELLS, PlainScope

SCRAPS = (
    "a", "echo ", ": ", "b=1 ", "c", "=", "E", "1", "2", " ", " ", "\n", "\n", "\t", "\r", ";",
    "&", "&&", "||", "|", "(", ")", "{ ", "}", "[[ ", " ]]", "[", "]", "((", "))", "$((", "$(",
    "${", "${a:-", "${#", "$", "$a", "$1", "$#", "$'", '$"', "'", '"', "`", "\\", "\\\n", "\\\\",
    "\\'", '\\"', "#", " #", "!", "case", "case a in ", " in ", "esac", "a) ", "(a) ", "*) ", ";;",
    "if ", "then ", "else ", "fi", "for i in ", "do ", "done", "function f", "f()", "time ", "<<E",
    "<<'E'", "<<-E", "<<\\E", "<<E\n", "<<F", "\nE\n", "\nE\n", "\nE\n", "\nF\n", "<<<", "<", ">",
    "> /dev/null", "2>", "2>&1", ">&", "<&", "&>", ">|", "<(", "a=(", "@(", "!(", "*", "~",
    "{a,", ",b}", "-eq ", "=~ ", "+=", "a[", "$[", "cat ", "export ", "$(cat ", '"$(', "if [[ ",
    "{{ x }}", "{{ x }}", "{{ x }}", "{{ x }}", "{{ x }}", "{% if yes %}", "{% else %}",
    "{% endif %}", "{% for i in range(2) %}", "{% endfor %}",
)  # fmt: skip
ENDS = (
    "",
    "\n",
    "\nE\n",
    ")",
    "'",
    '"',
    "}",
    " esac",
    "\nesac",
    " ))",
    "\nE\n)",
    ')"',
    " ]]",
    " fi",
)
RUN = "touch CAUGHT"
VALUES = (
    "';%s;'", '";%s;"', "$(%s)", "`%s`", "\n%s\n", ";%s;", ")\n%s\n(", "'\n%s\n'", '"\n%s\n"',
    "\\\n%s\n", "\nE\n%s\n", "E\n%s\n", "\nF\n%s\n", "E) ;%s;", "}\n%s\n{", "a'\n%s #", "\\';%s;'",
    '\\";%s;"', "$'\\';%s;'", ">CAUGHT", "&>CAUGHT", "|tee CAUGHT", "a>CAUGHT", "E\n>CAUGHT\n",
    "\\\nE\n%s\n", "\t\nE\n%s\n", "`\n%s\n`", "))\n%s\n", ";;esac\n%s\n", "a[$(%s)]", "]]\n%s\n",
    "$(%s)) ;%s;", "a\n%s\nE", "\n%s",
)  # fmt: skip


@pytest.mark.parametrize("which", SHELLS, ids=" ".join)
@given(
    scraps=st.lists(st.sampled_from(SCRAPS), min_size=2, max_size=14),
    at=st.integers(0, 14),
    end=st.sampled_from(ENDS),
    values=st.lists(st.sampled_from(VALUES), min_size=1, max_size=3, unique=True),
)
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_value_never_becomes_a_command_or_a_redirection(
    which: tuple[str, ...], scraps: list[str], at: int, end: str, values: list[str], tmp_path: Path
) -> None:
    text = "".join([*scraps[:at], "{{ x }}", *scraps[at:], end])
    try:
        template = compile_shell(text, HERE)
    except DefinitionError:
        return
    for value in values:
        try:
            script = template.render(PlainScope(x=value.replace("%s", RUN), yes=True))
        except DefinitionError:
            continue
        subprocess.run(
            [*which, "-c", script],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert not (tmp_path / "CAUGHT").exists(), script
