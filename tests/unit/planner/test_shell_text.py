"""The text that a host gets: every value is quoted, and nothing else is added."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import DefinitionError
from orchestrator.model.marked_value import HomePath
from orchestrator.planner.shell_text import guard_script, shell_word, wrap_script
from tests.unit.planner.plan_project import PlanProject, resumed_command

HOSTILE = [
    "a b",
    "it's",
    '"',
    "$(id)",
    "`id`",
    "$HOME",
    "a\nb",
    "; rm -rf /",
    "&& x",
    "| x",
    "> x",
    "*",
    "~",
    "~root",
    "-n",
    "#",
    "\\",
    "a\\\nb",
    "'\"'\"'",
    "",
    "{{ x }}",
    "%s",
    "EOF",
    "!",
]
"""Values that break wrong quoting."""

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def split_words(text: str) -> list[str]:
    """Return the words of a command; quotes may stand between the bytes of a character."""
    return [word.encode("utf-8", "surrogateescape").decode() for word in shlex.split(text)]


@given(TEXTS)
def test_a_text_is_one_word(text: str) -> None:
    assert split_words(shell_word(text)) == [text]


@given(TEXTS)
def test_a_home_path_is_one_word_below_the_home_folder(text: str) -> None:
    word = shell_word(HomePath(f"~/{text}"))
    assert word.startswith("~/")
    assert split_words(word) == [f"~/{text}"]


def test_the_home_folder_itself_stays_unquoted() -> None:
    assert shell_word(HomePath("~")) == "~"
    assert shell_word("~") == "'~'"
    assert shell_word(HomePath("~/")) == "~/"


def test_a_script_is_wrapped_in_its_folder_then_its_environment() -> None:
    assert wrap_script("x", None, {}) == "x"
    assert wrap_script("x\ny", "a b", {"A": "1 2", "B": ""}) == (
        "cd -- 'a b'\nexport A='1 2'\nexport B=''\nx\ny"
    )
    assert wrap_script("x", "/a", {}, on_cd_failure=" || exit 2") == "cd -- /a || exit 2\nx"


@given(TEXTS, TEXTS)
def test_no_folder_or_environment_reaches_another_line(folder: str, value: str) -> None:
    script = wrap_script("end", folder, {"A": value})
    assert split_words(script) == ["cd", "--", folder, "export", f"A={value}", "end"]


def test_values_and_home_paths_mean_themselves_to_a_shell() -> None:
    words = [*map(shell_word, HOSTILE), shell_word(HomePath("~/$x y")), shell_word(HomePath("~"))]
    done = subprocess.run(
        ["sh"],
        input="printf '%s\\0' " + " ".join(words),
        env={"HOME": "/home/it"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\0")[:-1] == [*HOSTILE, "/home/it/$x y", "/home/it"]


def guard_status(folder: Path, *guards: str | None) -> int:
    done = subprocess.run(["sh"], input=guard_script(*guards), cwd=folder, text=True, check=False)
    return done.returncode


@pytest.mark.parametrize(
    ("creates", "removes", "unless", "onlyif", "status"),
    [
        (None, None, None, None, 0),
        ("file", None, None, None, 1),
        ("broken link", None, None, None, 1),
        ("missing", None, None, None, 0),
        (None, "file", None, None, 0),
        (None, "broken link", None, None, 0),
        (None, "missing", None, None, 1),
        (None, None, "true", None, 1),
        (None, None, "false", None, 0),
        (None, None, "no-such-command", None, 127),
        (None, None, "true\nfalse\ntrue", None, 0),
        (None, None, None, "true", 0),
        (None, None, None, "false", 1),
        (None, None, None, "exit 9", 1),
        (None, None, None, "no-such-command", 127),
        (None, None, None, "false\ntrue", 1),
        ("missing", "file", "false", "true", 0),
        ("missing", "file", "true", "true", 1),
    ],
)
def test_guards_let_the_step_run_skip_it_or_fail(
    tmp_path: Path,
    creates: str | None,
    removes: str | None,
    unless: str | None,
    onlyif: str | None,
    status: int,
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "broken link").symlink_to("nowhere")
    assert guard_status(tmp_path, creates, removes, unless, onlyif) == status


def test_guards_of_a_step_run_in_its_folder_with_its_environment(plans: PlanProject) -> None:
    plans.variables("name: a b")
    command = plans.command("""
        - run: make
          chdir: /x
          environment: {A: "1"}
          creates: "{{ name }}"
          onlyif: test {{ name }}
    """)
    assert command.guard.splitlines()[:3] == [
        "cd -- /x || exit 2",
        "export A=1",
        "if [ -e 'a b' ] || [ -L 'a b' ]; then exit 1; fi",
    ]
    assert "test 'a b'" in command.guard


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("echo {{ x }}", "echo 'a b'"),
        ("echo x{{ x }}y", "echo x'a b'y"),
        ('echo "{{ x }}"', 'echo "a b"'),
        ("echo '{{ x }}'", "echo 'a b'"),
        ("echo $(cat {{ x }})", "echo $(cat 'a b')"),
        ("rm -- {{ many }}", "rm -- a 'b c'"),
        ("echo {{ many | join(',') }}", "echo 'a,b c'"),
        ("echo {{ x | words }}", "echo a b"),
        ("echo {{ x | raw }}", "echo a b"),
        ("echo {{ n }} {{ yes }}", "echo 3 true"),
        ("cat <<E\n{{ x }}\nE\n", "cat <<E\na b\nE\n"),
    ],
)
def test_a_value_is_quoted_for_the_place_where_it_stands(
    plans: PlanProject, command: str, text: str
) -> None:
    plans.variables("x: a b\nmany: [a, b c]\nn: 3\nyes: true")
    plans.write_task(
        "steps:\n- run: |-\n" + "".join(f"    {line}\n" for line in command.split("\n"))
    )
    (planned,) = plans.planned_tasks("t", limit="web1")
    step = planned.hosts[0].steps[0]
    assert step.command is not None
    assert step.command.text == text.rstrip("\n")


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("template", ["{{ r.stdout }}", '"{{ r.stdout }}"', "'{{ r.stdout }}'"])
def test_a_result_stays_one_word_in_a_waiting_step(
    plans: PlanProject, template: str, value: str
) -> None:
    plans.write_task(
        f"steps:\n- {{run: x, register: r}}\n- run: |-\n    printf '<%s>' {template}\n"
    )
    (planned,) = plans.planned_tasks("t", limit="web1")
    text = resumed_command(planned.hosts[0].steps[1], r=value).text
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == f"<{value}>"


@settings(max_examples=40)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_list_is_its_words_whatever_they_are(values: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plans = PlanProject(Path(folder))
        step = plans.step("- {run: x, register: r}\n- set: {v: '{{ r }}'}\n- run: rm -- {{ v }}")
        assert split_words(resumed_command(step, v=values).text) == ["rm", "--", *values]


@pytest.mark.parametrize("filtered", ["raw", "words"])
def test_text_from_a_host_is_never_inserted_unquoted(plans: PlanProject, filtered: str) -> None:
    step = plans.step(f"- {{run: x, register: r}}\n- run: echo {{{{ r.stdout | {filtered} }}}}")
    with pytest.raises(DefinitionError, match="from a host") as caught:
        resumed_command(step, r="a b")
    assert str(caught.value.diagnostics[0].mark).startswith("tasks/t.yml:3:")


def test_the_text_of_a_plan_is_the_text_that_is_sent(plans: PlanProject) -> None:
    plans.variables("x: it's")
    for step in plans.steps("""
        - run: echo {{ x }}
        - {run: "echo {{ host.name }}", chdir: /a, environment: {B: "{{ x }}"}}
        - {run: "cat {{ x }}", readonly: true, creates: x}
    """):
        assert step.command is not None
        assert step.display_text == step.command.text
