"""``hostname``: what it finds, what it makes of it."""

from __future__ import annotations

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.private_copy import run_in_copy

STARTS = {
    "other": "printf 'other\\n' >/etc/hostname",
    "none": "rm -f /etc/hostname",
    "empty": ": >/etc/hostname",
    "comment": "printf '# it\\n\\nother' >/etc/hostname",
}


@pytest.mark.parametrize("start", STARTS)
def test_the_name_is_set_and_kept(private: ShellMachine, start: str) -> None:
    run_in_copy(private, f"chmod 644 /etc/hostname; hostname before; {STARTS[start]}")
    outcome = private.check_then_run({"hostname": {"name": "web-1.example"}}, "changed")
    kept = "other" if start in ("other", "comment") else None
    assert [(c.key, c.before) for c in outcome.changes] == [("name", "before"), ("kept", kept)]
    assert run_in_copy(private, "hostname; cat /etc/hostname") == "web-1.example\n" * 2
    assert run_in_copy(private, "ls -A /etc | grep orch || :") == ""
    assert run_in_copy(private, "stat -c %a /etc/hostname") == "644\n"


def test_what_was_only_set_is_kept_too(private: ShellMachine) -> None:
    run_in_copy(
        private, "hostname web; printf 'other\\n' >/etc/hostname; ln /etc/hostname /etc/old"
    )
    outcome = private.check_then_run({"hostname": {"name": "web"}}, "changed")
    assert [c.key for c in outcome.changes] == ["kept"]
    assert run_in_copy(private, "cat /etc/old") == "other\n", "it was not put in place in one step"


@pytest.mark.parametrize("name", ["", "a b", "$(id)", "-n", "über", "a\nb", "a.", "."])
def test_what_is_no_name_is_refused(private: ShellMachine, name: str) -> None:
    before = run_in_copy(private, "hostname; cat /etc/hostname")
    outcome = private.check_then_run({"hostname": {"name": name}}, "failed")
    assert "not a valid host name" in outcome.stderr.text, result_message(outcome)
    assert run_in_copy(private, "hostname; cat /etc/hostname") == before
