"""What a run shows at its end, and how `--output` and `--diff-hosts` change it."""

from __future__ import annotations

import shlex
import textwrap

import pytest

from tests.projects import OrchProject


@pytest.fixture
def three(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("web1", "web2", "web3")


def test_the_command_at_the_end_repeats_the_run_where_it_failed(three: OrchProject) -> None:
    three.write(
        {
            "tasks/t.yml": """\
        params: {text: {}}
        steps:
          - run: test -e {{ text }}
            when: host.name != 'web3'
        """
        }
    )
    result = three.orch("-s", "dev", "run", "--keep-going", "t", "text=it's here", "-e", "a=b c")
    assert result.code == 1
    last = result.out.rstrip().split("\n")[-2]
    words = shlex.split(last.removeprefix("again, where it failed: "))
    assert words == [
        *("orch", "-s", "dev", "run", "-l", "@failed", "-e", "a=b c", "t", "text=it's here")
    ]
    again = three.orch(*words[1:4], "--json", *words[4:])
    assert sorted(again.host_rows) == ["web1", "web2"]


def test_exec_is_repeated_with_its_command_after_the_dashes(three: OrchProject) -> None:
    command = ["--", "case $PWD in */web2) exit 3;; esac"]
    result = three.orch("-s", "dev", "exec", "--readonly", *command)
    last = result.out.rstrip().split("\n")[-2]
    words = shlex.split(last.removeprefix("again, where it failed: "))
    assert words == ["orch", "-s", "dev", "exec", "--readonly", "-l", "@failed", *command]


def test_a_retried_step_tells_how_often_it_was_run(three: OrchProject) -> None:
    three.write(
        {
            "tasks/t.yml": """\
        steps:
          - run: echo x >>tries; test "$(wc -l <tries)" -ge 3
            retries: 5
            delay: 0
            until: not result.failed
        """
        }
    )
    result = three.orch("-s", "dev", "--json", "run", "t", "-l", "web1")
    assert [step["attempts"] for step in result.host_steps("web1")] == [3]


@pytest.mark.parametrize("how", ["option", "environment"])
def test_output_is_folded_or_left_out_in_a_pipe_too(three: OrchProject, how: str) -> None:
    def run(mode: str) -> str:
        option = ["--output", mode] if how == "option" else []
        environ = {"ORCH_OUTPUT": mode} if how == "environment" else {}
        return three.orch("-s", "dev", "exec", *option, "--", "echo hi", **environ).out

    assert run("folded").startswith("web[1-3]: hi\n")
    assert run("lines").count(" | hi\n") == 3
    assert "hi" not in run("quiet")


@pytest.mark.parametrize("how", ["lines", "folded"])
def test_values_for_later_steps_are_shown_only_if_asked_for(three: OrchProject, how: str) -> None:
    three.write(
        {
            "tasks/t.yml": """\
        steps:
          - stat: {path: /}
            register: found
          - stat: {path: /tmp}
          - run: echo a {{ found.type }}
            readonly: true
        """
        }
    )
    words = ("-s", "dev", "run", "--output", how, "t")
    usual, all_of_it = (three.orch(*words, *more).out for more in ([], ["-v"]))
    assert "a directory" in usual and "path=/tmp" in usual
    assert "path=/\n" not in usual and "path=/\n" in all_of_it


def test_the_mode_can_precede_the_command(three: OrchProject) -> None:
    """`orch show` has a flag of the same name."""
    shown = three.orch("-s", "dev", "--output", "folded", "exec", "--", "echo hi").out
    assert shown.startswith("web[1-3]: hi\n")
    assert "hi" in three.orch("--output", "show").out


def test_an_unknown_mode_is_refused_and_names_the_variable_that_it_came_from(
    three: OrchProject,
) -> None:
    result = three.orch("-s", "dev", "exec", "--", "true", ORCH_OUTPUT="loud")
    assert result.code == 2
    assert "ORCH_OUTPUT" in result.err
    assert "'folded'" in result.err


def test_diff_hosts_shows_the_host_that_differs(three: OrchProject) -> None:
    command = "echo same; case $PWD in */web2) echo other;; *) echo usual;; esac"
    result = three.orch("-s", "dev", "exec", "--diff-hosts", "--", command)
    assert result.out.startswith(
        textwrap.dedent("""\
        ── web[1,3] ──
          same
          usual
        ── web2 ──
          --- stdout of web[1,3]
          +++ stdout of web2
          @@ -1,2 +1,2 @@
           same
          -usual
          +other
        """)
    )
