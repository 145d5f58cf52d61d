"""``cron_step``: what it finds, what it makes of it."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.support.machine import ODD_NAME_CASES, ShellMachine, result_message
from tests.support.private_copy import run_in_copy

JOB = r"echo 'it''s' \"$(id)\" \\n `x` 100\% # über"


def cron_step(**params: Any) -> dict[str, Any]:
    return {"cron": {"name": "it", "job": JOB, **params}}


def marked_lines(line: str, name: str = "it") -> str:
    """Return a job's marker and the line below it."""
    done = subprocess.run(["cksum"], input=f"{line}\n".encode(), capture_output=True, check=True)
    return f"# orch: {name} [{done.stdout.split()[0].decode()}]\n{line}\n"


TIMES = [
    ({}, "* * * * *"),
    (
        {"minute": 0, "hour": "*/2", "day": "1-5,7", "month": "jan", "weekday": 7},
        "0 */2 1-5,7 jan 7",
    ),
    ({"special": "daily"}, "@daily"),
]


@pytest.mark.parametrize(("params", "times"), TIMES)
def test_a_job_is_in_a_file_of_its_own_user(
    machine: ShellMachine, params: dict[str, Any], times: str
) -> None:
    file = machine.root / "jobs"
    outcome = machine.check_then_run(cron_step(file=str(file), **params), "changed")
    assert file.read_text() == marked_lines(f"{times} root {JOB}")
    assert [(c.key, c.before) for c in outcome.changes] == [("entry", None)]
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(machine.root.iterdir()) == [file]
    machine.check_then_run(cron_step(file=str(file), user="www", **params), "changed")
    assert file.read_text() == marked_lines(f"{times} www {JOB}")
    machine.check_then_run(
        {"cron": {"name": "it", "file": str(file), "state": "absent"}}, "changed"
    )
    assert not file.exists()


OLD = marked_lines("old")
MARKER = OLD.splitlines()[0]
BEFORE = {
    "": "N",
    f"A=1\n\n{marked_lines('x', 'other')}1 1 1 1 1 x": f"A=1\n\n{marked_lines('x', 'other')}1 1 1 1 1 x\nN",
    f"a\n{OLD}\\n b\n": "a\nN\\n b\n",
    f"{OLD}{OLD}b\n": "Nb\n",
    f"{marked_lines('old', 'it2')}b\n {OLD}c\n": f"{marked_lines('old', 'it2')}b\n {OLD}c\nN",
    f"{marked_lines('old', 'it [1]')}b\n": f"{marked_lines('old', 'it [1]')}b\nN",
    # what was not written with the marker stays
    f"b\n{MARKER}\n": "b\nN",
    f"{MARKER}\n5 5 * * * other\nb\n": "5 5 * * * other\nb\nN",
    f"{MARKER}\nMAILTO=a@example\nb\n": "MAILTO=a@example\nb\nN",
    f"{MARKER}\n# a comment\nb\n": "# a comment\nb\nN",
    f"{MARKER}\n\nb\n": "\nb\nN",
    f"{MARKER}\n{OLD}b\n": "Nb\n",
    f"{MARKER}\n{marked_lines('x', 'other')}": marked_lines("x", "other") + "N",
    "# orch: it\nold\n": "# orch: it\nold\nN",
}


@pytest.mark.parametrize("before", BEFORE)
def test_the_other_lines_of_a_file_stay(machine: ShellMachine, before: str) -> None:
    file = machine.root / "jobs"
    file.write_text(before)
    file.chmod(0o600)
    machine.check_then_run(cron_step(file=str(file)), "changed")
    new = marked_lines(f"* * * * * root {JOB}")
    assert file.read_text() == BEFORE[before].replace("N", new)
    assert file.stat().st_mode & 0o777 == 0o600
    machine.check_then_run(cron_step(file=str(file)), "ok")
    machine.check_then_run(cron_step(file=str(file), state="absent"), "changed")
    left = BEFORE[before].replace("N", "")
    assert (file.read_text() if file.exists() else "") == left


@pytest.mark.parametrize("name", [case for case in ODD_NAME_CASES if case != "a\nb"])
def test_any_name_of_a_job_and_of_a_file(machine: ShellMachine, name: str) -> None:
    file = machine.root / name
    machine.check_then_run(cron_step(file=str(file), name=name), "changed")
    assert file.read_text() == marked_lines(f"* * * * * root {JOB}", name)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"name": "a\nb"}, "newline"),
        ({"job": "a\nb"}, "newline"),
        ({"job": " "}, "no job"),
        ({"job": None}, "no job"),
        ({"hour": "1 2"}, "expected five"),
        ({"hour": ""}, "expected five"),
    ],
)
def test_what_is_no_line_of_crons_is_refused(
    machine: ShellMachine, params: dict[str, Any], why: str
) -> None:
    file = machine.root / "jobs"
    outcome = machine.check_then_run(cron_step(file=str(file), **params), "failed")
    assert why in outcome.stderr.text, result_message(outcome)
    assert not file.exists()


def test_a_users_crontab_is_changed(private: ShellMachine) -> None:
    run_in_copy(private, "useradd orchtest; echo '5 5 5 5 5 old' | crontab -u orchtest -")
    private.check_then_run(cron_step(user="orchtest", special="weekly"), "changed")
    new = marked_lines(f"@weekly {JOB}")
    assert run_in_copy(private, "crontab -u orchtest -l") == f"5 5 5 5 5 old\n{new}"
    outcome = private.check_then_run(cron_step(user="orchtest", hour=4), "changed")
    assert outcome.changes[0].before == f"@weekly {JOB}"
    private.check_then_run(cron_step(user="orchtest", state="absent"), "changed")
    assert run_in_copy(private, "crontab -u orchtest -l") == "5 5 5 5 5 old\n"


def test_a_crontab_is_begun(private: ShellMachine) -> None:
    private.check_then_run(cron_step(state="absent"), "ok")
    private.check_then_run(cron_step(), "changed")
    assert run_in_copy(private, "crontab -l") == marked_lines(f"* * * * * {JOB}")


def test_what_crontab_refuses_is_a_failure(private: ShellMachine) -> None:
    run_in_copy(private, "echo '5 5 5 5 5 old' | crontab -")
    outcome = private.check_then_run(cron_step(minute="99"), "failed")
    assert "bad minute" in outcome.stderr.text, result_message(outcome)
    assert run_in_copy(private, "crontab -l") == "5 5 5 5 5 old\n"
    for check in (True, False):
        outcome = private.run_step(cron_step(user="orchnone"), check=check)
        assert outcome.status == "failed"
        assert "there is no user orchnone" in outcome.stderr.text, result_message(outcome)
    private.check_then_run(cron_step(user="orchnone", state="absent"), "ok")


def test_a_host_without_crontab_says_so(private: ShellMachine) -> None:
    run_in_copy(private, "rm $(command -v crontab)")
    assert "no crontab" in private.run_step(cron_step(), check=True).stderr.text
    private.check_then_run(cron_step(state="absent"), "ok")
    assert "no crontab" in private.check_then_run(cron_step(), "failed").stderr.text


def test_only_the_marker_of_a_line_that_is_somebody_elses_is_removed(machine: ShellMachine) -> None:
    file = machine.root / "jobs"
    file.write_text(f"{MARKER}\n5 5 * * * root other\n")
    machine.check_then_run(
        {"cron": {"name": "it", "file": str(file), "state": "absent"}}, "changed"
    )
    assert file.read_text() == "5 5 * * * root other\n"
    file.write_text(f"\n{OLD}\n  \n\n")
    machine.check_then_run(
        {"cron": {"name": "it", "file": str(file), "state": "absent"}}, "changed"
    )
    assert not file.exists()


def test_a_variable_comes_before_the_jobs(machine: ShellMachine) -> None:
    file = machine.root / "jobs"
    file.write_text("# it\n* * * * * root echo A=1\n")

    def env_step(name: str, **params: Any) -> dict[str, Any]:
        return {"cron": {"name": name, "variable": True, "file": str(file), **params}}

    outcome = machine.check_then_run(env_step("PATH", job=" a b'$(id)"), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("entry", None, "PATH= a b'$(id)")
    ]
    assert file.read_text() == 'PATH=" a b\'$(id)"\n# it\n* * * * * root echo A=1\n'
    file.write_text("A=1\n'PATH' = \" a b'$(id)\" \n* * * * * x\nPATH=2\nPATHS=3")
    machine.check_then_run(env_step("PATH", job='say "hi"'), "changed")
    assert file.read_text() == "A=1\nPATH='say \"hi\"'\n* * * * * x\nPATHS=3\n"
    file.write_text("A=1\nPATH = x\n")
    machine.check_then_run(env_step("PATH", job="x"), "ok")
    machine.check_then_run(env_step("PATH", state="absent"), "changed")
    machine.check_then_run(env_step("A", state="absent"), "changed")
    assert not file.exists()
    machine.check_then_run(env_step("A", job=""), "changed")
    assert file.read_text() == 'A=""\n'


def test_a_job_is_kept_as_a_comment(machine: ShellMachine) -> None:
    file = machine.root / "jobs"
    machine.check_then_run(cron_step(file=str(file)), "changed")
    machine.check_then_run(cron_step(file=str(file), disabled=True), "changed")
    assert file.read_text() == marked_lines(f"# * * * * * root {JOB}")
    machine.check_then_run(cron_step(file=str(file)), "changed")
    assert file.read_text() == marked_lines(f"* * * * * root {JOB}")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"name": "a b"}, "not the name of a variable"),
        ({"job": 'it\'s "so"'}, "both kinds of quotes"),
        ({"minute": 5}, "a variable has no times"),
        ({"job": None}, "the value of the variable, is missing"),
    ],
)
def test_what_is_no_variable_is_refused(
    machine: ShellMachine, params: dict[str, Any], message: str
) -> None:
    given = {
        "name": "A",
        "job": "x",
        "variable": True,
        "file": str(machine.root / "jobs"),
        **params,
    }
    step = {"cron": {name: value for name, value in given.items() if value is not None}}
    outcome = machine.check_then_run(step, "failed")
    assert message in outcome.stderr.text, result_message(outcome)
