"""Values given on the command line."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1").write(
        {
            "inventories/common/stage.yml": "vars: {size: 1, opts: {a: 1, b: 1}}\n",
            "tasks/t.yml": dedent("""\
                params: {n: {default: d}, l: {type: list, default: []}}
                steps:
                - run: printf '%s|' {{ n }} {{ size }} {{ opts.a }} {{ opts.b }} {{ l }}
                """),
        }
    )


def step_outputs(done: OrchResult) -> str:
    assert done.code == 0, done.err
    return str(done.host_steps("a1")[0]["stdout"])


def test_e_sets_variables_over_the_inventorys_and_text_is_never_a_template(
    one: OrchProject,
) -> None:
    done = one.orch("-s", "dev", "run", "t", "-e", "size={{ run.id }} $(id)", "--json")
    assert step_outputs(done) == "d|{{ run.id }} $(id)|1|1|"


def test_e_reads_a_file_as_the_inventory_is_read(one: OrchProject) -> None:
    one.write({"more.yml": "size: '{{ 2 + 3 }}'\nopts: {b: 2}\n"})
    done = one.orch("-s", "dev", "run", "t", "-e", "@more.yml", "-e", "n=x", "--json")
    assert step_outputs(done) == "x|5|1|2|"


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (("-e", "size"), 2, "write -e NAME=VALUE"),
        (("-e", "a-b=1"), 2, "write 'a_b'"),
        (("-e", "@none.yml"), 3, "none.yml"),
        (("n=1", "n=2"), 2, "given twice"),
        (("m=1",), 3, "it takes l, n"),
        (("--forks", "0"), 2, "--forks"),
        (("--bogus",), 2, "--bogus"),
    ],
)
def test_words_that_make_no_sense_are_refused_before_anything_runs(
    one: OrchProject, args: tuple[str, ...], code: int, word: str
) -> None:
    done = one.orch("-s", "dev", "run", "t", *args)
    assert done.code == code
    assert word in done.err
    assert not (one.root / ".orch").exists()


def test_an_argument_before_any_task_is_refused(one: OrchProject) -> None:
    done = one.orch("-s", "dev", "run", "n=1", "t")
    assert done.code == 2
    assert "must follow a task name" in done.err


@pytest.mark.parametrize(
    ("text", "words"), [("a,b c", "a|b c|"), ("[a, 'b, c']", "a|b, c|"), ("", ""), ("x", "x|")]
)
def test_a_list_is_given_by_commas_or_as_yaml(one: OrchProject, text: str, words: str) -> None:
    done = one.orch("-s", "dev", "run", "t", f"l={text}", "--json")
    assert step_outputs(done).removeprefix("d|1|1|1|") == words
