"""``limits``: lines of pam_limits in a file."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message

TEXT = "# x\n*  soft\tnofile  1024\n@ops - nproc 10\n#a.b hard nofile 1\naxb hard nofile 2\n# End of file\n"


def limit(machine: ShellMachine, **params: Any) -> dict[str, Any]:
    path = str(machine.root / "limits.conf")
    return {
        "limits": {
            "domain": "*",
            "limit_type": "soft",
            "limit_item": "nofile",
            "path": path,
            **params,
        }
    }


@pytest.mark.parametrize(
    ("params", "old", "new"),
    [
        ({"value": "2048"}, "*  soft\tnofile  1024\n", "* soft nofile 2048\n"),
        (
            {"domain": "@ops", "limit_type": "-", "limit_item": "nproc", "value": 5},
            "- nproc 10",
            "- nproc 5",
        ),
        (
            {"domain": "a.b", "limit_type": "hard", "value": "unlimited"},
            "# End of file\n",
            "a.b hard nofile unlimited\n# End of file\n",
        ),
        ({"state": "absent"}, "*  soft\tnofile  1024\n", ""),
    ],
)
def test_one_line_is_changed(
    machine: ShellMachine, params: dict[str, Any], old: str, new: str
) -> None:
    path = machine.root / "limits.conf"
    path.write_text(TEXT)
    machine.check_then_run(limit(machine, **params), "changed")
    assert path.read_text() == TEXT.replace(old, new)


def test_a_new_file_has_the_line_alone(machine: ShellMachine) -> None:
    machine.check_then_run(limit(machine, state="absent"), "ok")
    outcome = machine.check_then_run(limit(machine, value="infinity"), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("value", None, "infinity")]
    assert (machine.root / "limits.conf").read_text() == "* soft nofile infinity\n"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"value": "many"},
        {"value": "1 2"},
        {"value": "-"},
        {"value": "1", "domain": "a b"},
        {"value": "1", "domain": "#a"},
        {"value": "1", "domain": "a\nb hard nofile 1"},
        {"value": "1", "limit_item": "no-file"},
    ],
)
def test_what_is_no_limit_is_refused(machine: ShellMachine, params: dict[str, Any]) -> None:
    outcome = machine.check_then_run(limit(machine, **params), "failed")
    assert "must be a number" in outcome.stderr.text or "is not valid" in outcome.stderr.text, (
        result_message(outcome)
    )
