"""``script``: a file of the project runs on the host, and is gone afterwards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.machine import ODD_NAME_CASES, ODD_NAMES, ShellMachine, result_message
from tests.support.watched_commands import watch_commands

REPORT = """\
#!/bin/sh
printf '<%s>' "$@"
echo "in $PWD" >&2
echo ran >>"$HOME/runs"
ls -l "$0" | cut -c1-10
"""


def write_script(machine: ShellMachine, text: str | bytes, name: str = "it.sh") -> str:
    """Write a file of the project; return its path."""
    path = machine.root.parent / f"{machine.root.name}-files" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.fixture
def temporary(machine: ShellMachine) -> Path:
    """Return the folder of the host's temporary files, with an odd name."""
    folder = machine.root / "it's $(tmp)"
    folder.mkdir()
    machine.environment["TMPDIR"] = str(folder)
    return folder


def run_count(machine: ShellMachine) -> int:
    runs = machine.home / "runs"
    return len(runs.read_text().splitlines()) if runs.exists() else 0


def test_a_script_runs_with_its_arguments_and_leaves_nothing(
    machine: ShellMachine, temporary: Path
) -> None:
    step = {"script": {"src": write_script(machine, REPORT), "args": ODD_NAMES}}
    before = machine.observable_state()
    outcome = machine.run_step(step, check=True)
    assert (outcome.status, run_count(machine)) == ("would_change", 0)
    assert machine.observable_state() == before
    foretold = outcome.changes
    outcome = machine.run_step(step)
    assert outcome.status == "changed", result_message(outcome)
    assert outcome.changes == foretold
    assert outcome.stdout.text == "".join(f"<{each}>" for each in ODD_NAMES) + "-rwx------"
    assert outcome.stderr.text == f"in {machine.home}"
    assert list(temporary.iterdir()) == []
    assert machine.run_step(step).status == "changed"
    assert run_count(machine) == 2


def test_a_script_that_changes_nothing_runs_in_a_check_and_is_no_change(
    machine: ShellMachine, temporary: Path
) -> None:
    source = write_script(machine, REPORT)
    step = {"script": {"src": source, "args": ODD_NAMES, "readonly": True}}
    for count, check in ((1, True), (2, False)):
        outcome = machine.run_step(step, check=check)
        assert outcome.status == "ok", result_message(outcome)
        assert not outcome.changes
        assert outcome.stdout.text == "".join(f"<{each}>" for each in ODD_NAMES) + "-rwx------"
        assert outcome.stderr.text == f"in {machine.home}"
        assert list(temporary.iterdir()) == []
        assert run_count(machine) == count
    step["script"]["creates"] = str(machine.home / "runs")
    assert machine.run_step(step, check=True).status == "ok"
    assert run_count(machine) == 2


@pytest.mark.parametrize("check", [False, True])
def test_a_script_that_changes_nothing_and_fails_fails_the_step(
    machine: ShellMachine, temporary: Path, check: bool
) -> None:
    source = write_script(machine, "echo one; echo two >&2; exit 7\n")
    outcome = machine.run_step({"script": {"src": source, "readonly": True}}, check=check)
    assert (outcome.status, outcome.exit_status) == ("failed", 7), result_message(outcome)
    assert (outcome.stdout.text, outcome.stderr.text) == ("one", "two")
    assert list(temporary.iterdir()) == []


def test_it_runs_once_if_it_creates_a_path(machine: ShellMachine) -> None:
    path = machine.root / "made"
    source = write_script(machine, f"#!/bin/sh\n: >'{path}'\n")
    machine.check_then_run({"script": {"src": source, "creates": str(path)}}, "changed")
    assert path.exists()


def test_it_runs_once_if_it_removes_a_path(machine: ShellMachine) -> None:
    path = machine.root / "made"
    path.symlink_to("nowhere")
    source = write_script(machine, f"#!/bin/sh\nrm '{path}'\n")
    machine.check_then_run({"script": {"src": source, "removes": str(path)}}, "changed")
    assert not path.is_symlink()


@pytest.mark.parametrize(
    ("text", "interpreter", "expected"),
    [
        ("#!/usr/bin/env python3\nimport sys; print(sys.argv[1:], 7)\n", [], "['a b'] 7"),
        ("#! \t/usr/bin/printf   %s|%s| \n", [], "FILE|a b|"),
        ("echo plain $#\n", [], "plain 1"),
        ("import sys; print(sys.argv[1:], sys.flags.dont_write_bytecode)\n", ["python3", "-B"], "['a b'] 1"),
        ("#!/bin/false\necho $1\n", "bash", "a b"),
        ("", [], ""),
    ],
)  # fmt: skip
def test_what_runs_a_script(
    machine: ShellMachine, text: str, interpreter: object, expected: str
) -> None:
    source = write_script(machine, text)
    step = {"src": source, "args": "a b", "interpreter": interpreter}
    outcome = machine.run_step({"script": step})
    assert outcome.status == "changed", result_message(outcome)
    assert re.sub(r"/.*?/it\.sh", "FILE", outcome.stdout.text) == expected


def test_a_program_is_run_whatever_its_size(machine: ShellMachine, temporary: Path) -> None:
    program = Path("/usr/bin/dash").read_bytes()
    assert len(program) > 100_000
    source = write_script(machine, program, "program")
    outcome = machine.run_step({"script": {"src": source, "args": ["-c", "echo $0", "it"]}})
    assert (outcome.status, outcome.stdout.text) == ("changed", "it"), result_message(outcome)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", ODD_NAME_CASES)
def test_scripts_and_paths_have_any_name(machine: ShellMachine, temporary: Path, name: str) -> None:
    path = machine.root / f"made {name}"
    source = write_script(machine, 'printf %s "${0##*/}"; : >"$1"\n', name)
    step = {"script": {"src": source, "args": [str(path)], "creates": str(path)}}
    assert machine.check_then_run(step, "changed").stdout.text == name
    assert list(temporary.iterdir()) == []


def test_a_failing_script_fails_the_step_with_its_status(
    machine: ShellMachine, temporary: Path
) -> None:
    source = write_script(machine, "echo one; echo two >&2; exit 7\n")
    outcome = machine.run_step({"script": {"src": source}})
    assert (outcome.status, outcome.exit_status) == ("failed", 7)
    assert (outcome.stdout.text, outcome.stderr.text) == ("one", "two")
    assert list(temporary.iterdir()) == []
    ignored = {"script": {"src": source}, "failed_when": "result.exit_status != 7"}
    assert machine.run_step({**ignored, "changed_when": True}).status == "changed"
    source = write_script(machine, "exit 79\n")  # which means a change to the session
    outcome = machine.run_step({"script": {"src": source}})
    assert (outcome.status, outcome.exit_status) == ("failed", 79)
    # its program is missing
    missing = machine.run_step({"script": {"src": source, "interpreter": "orch-none"}})
    assert missing.status == "failed"
    assert "orch-none" in missing.stderr.text


def test_it_runs_in_the_folder_of_the_step(machine: ShellMachine) -> None:
    (machine.root / "in").mkdir()
    step = {
        "script": {"src": write_script(machine, "pwd; : >made\n"), "creates": "made"},
        "chdir": str(machine.root / "in"),
    }
    assert machine.check_then_run(step, "changed").stdout.text == str(machine.root / "in")


def test_nobody_sees_the_text_of_a_script(machine: ShellMachine, tmp_path: Path) -> None:
    source = write_script(machine, ": c5scscripttext; cat </dev/null\n")
    with watch_commands(machine, tmp_path / "watched", ["c5scscripttext"]) as watched:
        assert machine.run_step({"script": {"src": source}}).status == "changed"
        assert len(watched.all_words) > 1
        assert not watched.exposures("c5scscripttext")


def test_a_script_ended_by_its_timeout_leaves_nothing(
    machine: ShellMachine, temporary: Path
) -> None:
    source = write_script(machine, "sleep 60\n")
    outcome = machine.run_step({"script": {"src": source}, "timeout": "1s"})
    assert outcome.status == "timed_out"
    assert list(temporary.iterdir()) == []
