"""``alternatives``: with the update-alternatives of Debian, on programs of our own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import outcome_changes
from tests.support.private_copy import run_in_copy

SETUP = r"""
mkdir -p /srv/bin
for name in one two 'a b'; do
  printf '#!/bin/sh\necho "%s"\n' "$name" >"/srv/bin/$name"; chmod 755 "/srv/bin/$name"
  echo "$name" >"/srv/bin/$name.page"
done
"""


@pytest.fixture
def host(private: ShellMachine) -> ShellMachine:
    run_in_copy(private, SETUP)
    return private


def choice(program: str, **params: Any) -> dict[str, Any]:
    given = {"name": "orch-it", "path": f"/srv/bin/{program}", "link": "/usr/local/bin/orch-it"}
    return {"alternatives": {**given, **params}}


def test_a_program_is_chosen(host: ShellMachine) -> None:
    outcome = host.check_then_run(choice("one"), "changed")
    assert outcome_changes(outcome) == {
        "registered": ("false", "true"),
        "link": (None, "/usr/local/bin/orch-it"),
        "mode": (None, "manual"),
        "selected": (None, "/srv/bin/one"),
    }
    assert run_in_copy(host, "/usr/local/bin/orch-it") == "one\n"
    outcome = host.check_then_run(choice("a b", priority=70, state="auto"), "changed")
    assert run_in_copy(host, "/usr/local/bin/orch-it") == "a b\n"
    host.check_then_run(choice("one", state="present"), "ok")
    host.check_then_run(choice("two", state="present", priority=90), "changed")
    assert run_in_copy(host, "/usr/local/bin/orch-it") == "two\n"
    outcome = host.check_then_run(choice("two", state="present", priority=5), "changed")
    assert outcome_changes(outcome) == {"priority": ("90", "5")}
    step = {"alternatives": {"name": "orch-it", "path": "/srv/bin/two"}}
    host.check_then_run(step, "changed")
    assert run_in_copy(host, "/usr/local/bin/orch-it") == "two\n"
    host.check_then_run(choice("two", state="absent"), "changed")
    assert "one" not in run_in_copy(host, "/usr/local/bin/orch-it")


def test_slaves_are_not_taken_for_programs(host: ShellMachine) -> None:
    slave = "--slave /usr/local/share/orch-page orch-page"
    install = "update-alternatives --install /usr/local/bin/orch-it orch-it"
    run_in_copy(
        host,
        f"exec >&2; {install} /srv/bin/one 5 {slave} /srv/bin/one.page; {install} /srv/bin/two 9",
    )
    host.check_then_run(choice("two", state="present"), "ok")
    host.check_then_run(choice("one.page", state="absent"), "ok")
    host.check_then_run(choice("one"), "changed")
    assert run_in_copy(host, "cat /usr/local/share/orch-page") == "one\n"


def test_what_cannot_be_chosen_is_found_by_a_check(host: ShellMachine) -> None:
    for step, message in (
        (choice("none"), "there is no program /srv/bin/none"),
        ({"alternatives": {"name": "orch-new", "path": "/srv/bin/one"}}, "orch-new is a new name"),
        (choice("one", name="-x"), "not a valid name"),
    ):
        outcome = host.check_then_run(step, "failed")
        assert message in outcome.stderr.text, result_message(outcome)
