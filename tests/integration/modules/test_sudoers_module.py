"""``sudoers``: rules of sudo, checked by the real visudo, in a copy of this machine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.private_copy import give_own_tmp, run_in_copy

FILE = "/etc/sudoers.d/app"
RULE = {"user": "deploy", "commands": ["/usr/bin/id", "/bin/ls /root"]}


def rule(**params: Any) -> dict[str, Any]:
    return {"sudoers": {"name": "app", **params}}


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (RULE, "deploy ALL=NOPASSWD: /usr/bin/id, /bin/ls /root\n"),
        (
            {"group": "ops", "commands": ["ALL"], "runas": "www-data:ALL", "nopassword": False},
            "%ops ALL=(www-data:ALL) ALL\n",
        ),
        (
            {**RULE, "noexec": True, "setenv": True, "for_host": "web1", "runas": "root"},
            "deploy web1=(root) NOPASSWD: NOEXEC: SETENV: /usr/bin/id, /bin/ls /root\n",
        ),
        ({"content": "Defaults:deploy !requiretty\n"}, "Defaults:deploy !requiretty\n"),
    ],
)
def test_the_rule_is_written_in_the_syntax_of_sudo(
    private: ShellMachine, params: dict[str, Any], text: str
) -> None:
    give_own_tmp(private)
    private.check_then_run(rule(**params), "changed")
    assert run_in_copy(private, f"cat {FILE}; stat -c '%a %u %g' {FILE}") == f"{text}440 0 0\n"
    assert run_in_copy(private, "visudo -c >/dev/null && ls -A /etc/sudoers.d") == "README\napp\n"
    run_in_copy(private, f"chmod 644 {FILE}; chown 1:1 {FILE}")
    outcome = private.check_then_run(rule(**params), "changed")
    assert [change.key for change in outcome.changes] == ["mode", "owner", "group"]
    private.check_then_run(rule(state="absent"), "changed")
    assert run_in_copy(private, "ls -A /etc/sudoers.d") == "README\n"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({**RULE, "commands": ["id"]}, "fully-qualified path"),
        ({"content": "nonsense\n"}, "syntax error"),
        ({**RULE, "name": "a.b"}, "sudo ignores files"),
        ({**RULE, "user": "deploy ALL=ALL\nroot"}, "a value contains a newline"),
        ({**RULE, "group": "x"}, "not both"),
        ({"commands": ["ALL"]}, "is missing"),
        ({"user": "deploy"}, "`commands` is missing"),
    ],
)
def test_what_would_break_sudo_is_not_put_in_place(
    private: ShellMachine, params: dict[str, Any], message: str
) -> None:
    give_own_tmp(private)
    outcome = private.check_then_run(rule(**params), "failed")
    assert message in outcome.stderr.text, result_message(outcome)
    assert run_in_copy(private, "ls -A /etc/sudoers.d") == "README\n"
