"""``cron``: what it finds, what it makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.library.machine import ODD, Machine, told
from tests.library.private import there

JOB = r"echo 'it''s' \"$(id)\" \\n `x` 100\% # über"


def cron(**given: Any) -> dict[str, Any]:
    return {"cron": {"name": "it", "job": JOB, **given}}


TIMES = [
    ({}, "* * * * *"),
    (
        {"minute": 0, "hour": "*/2", "day": "1-5,7", "month": "jan", "weekday": 7},
        "0 */2 1-5,7 jan 7",
    ),
    ({"special": "daily"}, "@daily"),
]


@pytest.mark.parametrize(("given", "times"), TIMES)
def test_a_job_is_in_a_file_of_its_own_user(
    machine: Machine, given: dict[str, Any], times: str
) -> None:
    file = machine.root / "jobs"
    outcome = machine.sees(cron(file=str(file), **given), "changed")
    assert file.read_text() == f"# orch: it\n{times} root {JOB}\n"
    assert [(c.key, c.before) for c in outcome.changes] == [("entry", None)]
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(machine.root.iterdir()) == [file]
    machine.sees(cron(file=str(file), user="www", **given), "changed")
    assert file.read_text() == f"# orch: it\n{times} www {JOB}\n"
    machine.sees({"cron": {"name": "it", "file": str(file), "state": "absent"}}, "changed")
    assert not file.exists()


BEFORE = {
    "": "N",
    "A=1\n\n# orch: other\n1 1 1 1 1 x": "A=1\n\n# orch: other\n1 1 1 1 1 x\nN",
    "a\n# orch: it\nold\n\\n b\n": "a\nN\\n b\n",
    "# orch: it\nold\n# orch: it\nold\nb\n": "Nb\n",
    "b\n# orch: it\n": "b\nN",
    "# orch: it2\nb\n # orch: it\nc\n": "# orch: it2\nb\n # orch: it\nc\nN",
}


@pytest.mark.parametrize("before", BEFORE)
def test_the_other_lines_of_a_file_stay(machine: Machine, before: str) -> None:
    file = machine.root / "jobs"
    file.write_text(before)
    file.chmod(0o600)
    machine.sees(cron(file=str(file)), "changed")
    new = f"# orch: it\n* * * * * root {JOB}\n"
    assert file.read_text() == BEFORE[before].replace("N", new)
    assert file.stat().st_mode & 0o777 == 0o600
    machine.sees(cron(file=str(file), state="absent"), "changed")
    left = BEFORE[before].replace("N", "")
    assert (file.read_text() if file.exists() else "") == left


@pytest.mark.parametrize("name", [name for name in ODD if "\n" not in name])
def test_any_name_of_a_job_and_of_a_file(machine: Machine, name: str) -> None:
    file = machine.root / name
    machine.sees(cron(file=str(file), name=name), "changed")
    assert file.read_text() == f"# orch: {name}\n* * * * * root {JOB}\n"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"name": "a\nb"}, "newline"),
        ({"job": "a\nb"}, "newline"),
        ({"job": " "}, "no job"),
        ({"job": None}, "no job"),
        ({"hour": "1 2"}, "not five"),
        ({"hour": ""}, "not five"),
    ],
)
def test_what_is_no_line_of_crons_is_refused(
    machine: Machine, given: dict[str, Any], why: str
) -> None:
    file = machine.root / "jobs"
    outcome = machine.sees(cron(file=str(file), **given), "failed")
    assert why in outcome.stderr.text, told(outcome)
    assert not file.exists()


def test_a_users_crontab_is_changed(private: Machine) -> None:
    there(private, "useradd orchtest; echo '5 5 5 5 5 old' | crontab -u orchtest -")
    private.sees(cron(user="orchtest", special="weekly"), "changed")
    new = f"# orch: it\n@weekly {JOB}\n"
    assert there(private, "crontab -u orchtest -l") == f"5 5 5 5 5 old\n{new}"
    outcome = private.sees(cron(user="orchtest", hour=4), "changed")
    assert outcome.changes[0].before == f"@weekly {JOB}"
    private.sees(cron(user="orchtest", state="absent"), "changed")
    assert there(private, "crontab -u orchtest -l") == "5 5 5 5 5 old\n"


def test_a_crontab_is_begun(private: Machine) -> None:
    private.sees(cron(state="absent"), "ok")
    private.sees(cron(), "changed")
    assert there(private, "crontab -l") == f"# orch: it\n* * * * * {JOB}\n"


def test_what_crontab_refuses_is_a_failure(private: Machine) -> None:
    there(private, "echo '5 5 5 5 5 old' | crontab -")
    outcome = private.sees(cron(minute="99"), "failed")
    assert "bad minute" in outcome.stderr.text, told(outcome)
    assert there(private, "crontab -l") == "5 5 5 5 5 old\n"
    outcome = private.sees(cron(user="orchnone"), "failed")
    assert "orchnone" in outcome.stderr.text, told(outcome)


def test_a_host_without_crontab_says_so(private: Machine) -> None:
    there(private, "rm $(command -v crontab)")
    assert private.one(cron(), check=True).status == "would_change"
    assert "no crontab" in private.sees(cron(), "failed").stderr.text
