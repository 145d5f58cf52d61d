"""``exec --script`` runs a local script on every host, ``exec --stdin`` passes the input on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.projects import OrchProject, OrchResult


@pytest.fixture
def two(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1", "a2")


def outputs(done: OrchResult) -> list[str]:
    assert done.code == 0, done.err
    return [done.host_steps(host)[0]["stdout"] for host in ("a1", "a2")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("printf '%s|' \"$@\" $#", "a b|it's|-x|$(id)|4|"),
        ("#!/bin/bash\narray=(\"$@\"); echo \"${array[1]} ${#array[@]}\"\n", "it's 4"),
        ("#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:])\n", "['a b', \"it's\", '-x', '$(id)']"),
        ("#!/bin/sh -u\necho ${1} `cat`\n", "a b"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_script_runs_with_its_interpreter_and_arguments(
    two: OrchProject, tmp_path: Path, text: str, shown: str
) -> None:
    script = tmp_path / "my script"
    script.write_text(text)
    options = ("-s", "dev", "--json", "exec", "--script", str(script))
    done = two.orch(*options, "--", "a b", "it's", "-x", "$(id)")
    assert outputs(done) == [shown, shown]


def test_nothing_is_left_of_a_script_and_its_status_is_that_of_the_step(
    two: OrchProject, tmp_path: Path
) -> None:
    script = tmp_path / "s"
    script.write_text('echo "$0"; exit 7')
    done = two.orch("-s", "dev", "--json", "exec", "--script", str(script))
    step = done.host_steps("a1")[0]
    assert (done.code, step["exit_status"], step["name"]) == (1, 7, "s")
    assert step["stdout"].startswith("/tmp/orch.")
    assert not Path(step["stdout"]).exists()


def test_the_standard_input_reaches_every_host_as_it_is(two: OrchProject) -> None:
    text = "it's $(id) {{ x }}\n\n  \\ last\n"
    done = two.orch("-s", "dev", "--json", "exec", "--stdin", "--", "cat; echo .", stdin=text)
    assert outputs(done) == [f"{text}."] * 2


def test_without_stdin_a_command_reads_nothing(two: OrchProject) -> None:
    assert outputs(two.orch("-s", "dev", "--json", "exec", "--", "cat", stdin="x")) == ["", ""]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--script", "none"), "none"),
        (("--script", "nul"), "nul has a NUL byte, so it is not text"),
        (("--script", "s", "x"), "write `--` before the arguments of the script"),
        (("--script", "s", "--stdin"), "not both"),
        (("--stdin",), "write `--` before the command"),
        (("--", " "), "the command is empty"),
        ((), "write `--` before the command"),
    ],
)
def test_what_cannot_be_sent_is_refused(
    two: OrchProject, words: tuple[str, ...], message: str
) -> None:
    (two.root / "nul").write_bytes(b"\x7fELF\0")
    (two.root / "s").write_text("id")
    done = two.orch("-s", "dev", "exec", *words, stdin="x")
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not (two.root / ".orch").exists()


def test_input_with_a_nul_byte_is_refused(two: OrchProject) -> None:
    done = two.orch("-s", "dev", "exec", "--stdin", "--", "cat", stdin="a\0b")
    assert done.code == 2
    assert "--stdin has a NUL byte" in done.err
