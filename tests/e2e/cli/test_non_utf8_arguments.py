"""Arguments and output that are not UTF-8, and terminals with a small character set."""

from __future__ import annotations

import pytest

from tests.projects import OrchProject

TASK = """
    params: {x: {default: ""}}
    steps:
      - name: say {{ x }}
        run: printf '%s \\303\\251\\n' {{ x }}
        register: it
      - run: printf '%s\\n' {{ it.stdout }} >&2; exit 1
        when: it.stdout != 'x'
"""

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ARG = "x=\udcff$(id)"


@pytest.mark.parametrize(
    "args",
    [
        ("run", "t", ARG),
        ("plan", "t", ARG),
        ("vars", "a1", "-e", ARG, "--json"),
        ("exec", "--", "printf", "\udcff$(id)\n"),
    ],
    ids=lambda args: str(args[0]),
)
def test_a_verb_shows_them_where_nothing_but_ascii_can_be(
    project: OrchProject, args: tuple[str, ...]
) -> None:
    project.add_sandbox_stage("a1").write({"tasks/t.yml": TASK})
    done = project.orch("-s", "dev", *args, **ASCII)
    assert done.code == (args[0] == "run"), done.err
    assert "\\xff$(id)" in (done.out + done.err).replace("\\\\", "\\")


def test_json_has_them_and_text_as_it_is(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write({"tasks/t.yml": TASK})
    shown = project.orch("-s", "dev", "run", "t", ARG, "--json")
    first, second = shown.host_steps("a1")
    assert (first["stdout"], second["stderr"]) == ("\\xff$(id) é", "\\xff$(id) é")
    assert first["name"] == "say \\xff$(id)"


def test_what_orch_says_of_them_itself(project: OrchProject) -> None:
    project.add_sandbox_stage("a1")
    wrong = project.orch("-s", "dev", "run", "\udcff\u00e9", **ASCII)
    assert wrong.code == 3
    assert "no task '\\xff\\xc3\\xa9'" in wrong.err
