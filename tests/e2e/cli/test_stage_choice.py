"""Selection of the stage: it is always shown or rejected, never guessed."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.projects import OrchProject

UNAME = {
    "tasks/uname.yml": dedent("""\
    steps:
      - run: uname
        readonly: true
    """)
}


@pytest.fixture
def two(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1").add_sandbox_stage("b1", stage="prod").write(UNAME)


def test_without_a_stage_the_refusal_lists_them_and_repeats_the_task_not_the_last_word(
    two: OrchProject,
) -> None:
    done = two.orch("run", "uname", "FOO=bar")
    assert done.code == 2
    assert done.out == ""
    assert "Please specify one of: dev, prod (e.g. `orch -s dev run uname" in done.err


def test_the_example_in_the_refusal_can_be_run_as_it_stands(two: OrchProject) -> None:
    done = two.orch("exec", "--", "echo", "a b")
    assert "`orch -s dev exec -- echo 'a b''" in done.err


def test_without_any_stage_it_says_where_it_looked_and_how_to_make_one(
    project: OrchProject,
) -> None:
    done = project.write(UNAME).orch("run", "uname")
    assert done.code == 2
    assert "no stages" in done.err
    assert "create one: orch init -s dev ." in done.err


def test_without_a_project_it_says_so(project: OrchProject) -> None:
    done = project.orch("stages", cwd=project.root.parent)
    assert done.code == 2
    assert "has `inventories/`" in done.err


def test_a_stage_named_twice_is_a_usage_error(two: OrchProject) -> None:
    done = two.orch("-s", "dev", "run", "uname", "-s", "prod")
    assert done.code == 2
    assert "dev and prod" in done.err


def test_a_stage_in_the_wrong_case_is_told_with_the_right_one(two: OrchProject) -> None:
    done = two.orch("-s", "Dev", "run", "uname")
    assert done.code == 2
    assert "did you mean 'dev'?" in done.err


def test_a_default_stage_is_used_and_said(two: OrchProject) -> None:
    two.write({"inventories/common/stage.yml": "default_stage: dev\n"})
    done = two.orch("run", "uname", "--json")
    assert done.code == 0
    assert list(done.host_rows) == ["a1"]
    assert "Defaulting to dev" in done.err


def test_a_default_stage_that_does_not_exist_is_an_error_only_when_used(two: OrchProject) -> None:
    two.write({"inventories/common/stage.yml": "default_stage: nope\n"})
    assert two.orch("-s", "dev", "run", "uname").code == 0
    used = two.orch("run", "uname")
    assert used.code == 2
    assert "inventories/common/stage.yml:1:16" in used.err
    lint = two.orch("lint")
    assert lint.code == 3
    assert "'nope' does not exist" in lint.err


def test_the_environment_names_a_stage_and_the_option_wins(two: OrchProject) -> None:
    assert list(two.orch("run", "uname", "--json", ORCH_STAGE="prod").host_rows) == ["b1"]
    done = two.orch("-s", "dev", "run", "uname", "--json", ORCH_STAGE="prod")
    assert list(done.host_rows) == ["a1"]


@pytest.mark.parametrize(
    "words",
    [
        ("-s", "dev", "-l", "a1", "run", "uname", "--json"),
        ("run", "-s", "dev", "uname", "-l", "a1", "--json"),
        ("run", "uname", "--json", "--limit=a1", "--stage=dev"),
        ("--json", "run", "uname", "-la1", "-sdev"),
    ],
)
def test_options_choose_the_same_hosts_wherever_they_stand(
    two: OrchProject, words: tuple[str, ...]
) -> None:
    two.write({"inventories/dev/hosts/a2.yml": ""})
    done = two.orch(*words)
    assert (done.code, list(done.host_rows)) == (0, ["a1"])


def test_stage_is_no_variable(two: OrchProject) -> None:
    done = two.orch("-s", "dev", "run", "uname", "-e", "stage=prod")
    assert done.code == 2
    assert "select a stage with -s STAGE" in done.err


def test_a_broken_stage_does_not_keep_others_from_working(two: OrchProject) -> None:
    two.write({"inventories/prod/stage.yml": "desc: [\n"})
    assert two.orch("-s", "dev", "run", "uname").code == 0
    listed = two.orch("stages")
    assert listed.code == 0
    assert "dev" in listed.out
    assert "in error: inventories/prod/stage.yml:2:1" in listed.out
    broken = two.orch("-s", "prod", "run", "uname")
    assert broken.code == 3
    assert "inventories/prod/stage.yml:2:1" in broken.err


@pytest.mark.parametrize("limit", ["", "a2", "web:!prodution", "!a1"])
def test_a_limit_that_means_nothing_is_an_error_and_never_every_host(
    two: OrchProject, limit: str
) -> None:
    two.write({"inventories/dev/roles/web.yml": "[a1]\n"})
    done = two.orch("-s", "dev", "run", "uname", "--limit", limit)
    assert done.code == 3
    assert done.out == ""


def test_exec_refuses_to_guess_which_words_are_options(two: OrchProject) -> None:
    done = two.orch("-s", "dev", "exec", "ls", "-l", "a1")
    assert done.code == 2
    assert "write `--` before the command" in done.err


def test_exec_hands_on_each_word_as_it_stands(two: OrchProject) -> None:
    words = ("a b", "$(id)", "`id`", "{{ host.name }}", "-n", "'", '"', "*", "a\nb", "")
    done = two.orch("-s", "dev", "exec", "--json", "--", "printf", r"<%s>\n", *words)
    assert done.host_steps("a1")[0]["stdout"].rstrip("\n") == "\n".join(f"<{w}>" for w in words)


def test_a_single_word_of_exec_is_shell_text(two: OrchProject) -> None:
    done = two.orch("-s", "dev", "exec", "--json", "--", "echo one two | wc -w")
    assert done.host_steps("a1")[0]["stdout"].strip() == "2"
