"""``group_step``: what it finds, what it makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.private_copy import run_in_copy


def group_step(**params: Any) -> dict[str, Any]:
    return {"group": {"name": "orchtest", **params}}


# start (a gid or nothing), what is asked for, status, what is there then
TABLE: list[tuple[int | None, dict[str, Any], str, int | bool | None]] = [
    (None, {}, "changed", True),
    (None, {"gid": 7654}, "changed", 7654),
    (None, {"system": True}, "changed", True),
    (None, {"state": "absent"}, "ok", None),
    (7654, {}, "ok", 7654),
    (7654, {"gid": 7654}, "ok", 7654),
    (7654, {"gid": 7655}, "changed", 7655),
    (7654, {"system": True}, "ok", 7654),
    (7654, {"state": "absent"}, "changed", None),
    (7654, {"state": "absent", "gid": 1}, "changed", None),
]


def test_groups_are_made_changed_and_removed(private: ShellMachine) -> None:
    for start, arguments, status, then in TABLE:
        run_in_copy(private, "groupdel orchtest 2>/dev/null || :")
        if start:
            run_in_copy(private, f"groupadd -g {start} orchtest")
        private.check_then_run(group_step(**arguments), status)
        found = run_in_copy(private, "getent group orchtest || :")
        if isinstance(then, bool):
            assert found.startswith("orchtest:"), (start, arguments)
            assert (int(found.split(":")[2]) < 1000) == bool(arguments.get("system"))
        else:
            assert found == (f"orchtest:x:{then}:\n" if then else ""), (start, arguments)


def test_the_states_are_what_a_person_would_say(private: ShellMachine) -> None:
    outcome = private.check_then_run(group_step(gid=7654), "changed")
    output = [(c.key, c.before, c.after) for c in outcome.changes]
    assert output == [("state", "absent", "present"), ("gid", None, "7654")]
    assert private.check_then_run(group_step(gid=7655), "changed").changes[0].before == "7654"


def test_a_name_that_begins_like_another_or_is_a_number_is_not_that_one(
    private: ShellMachine,
) -> None:
    run_in_copy(private, "groupadd -g 7654 orchtest2")
    private.check_then_run(group_step(state="absent"), "ok")
    private.check_then_run({"group": {"name": "7654", "state": "absent"}}, "ok")
    private.check_then_run(group_step(name="orchtes.*", state="absent"), "ok")


REFUSED = ["with space", 'say "hi"', "a\nb", "-n", "--help", "~", "#x"]


@pytest.mark.parametrize("name", [*REFUSED, "", "a:b", "a,b"])
def test_what_is_no_name_makes_no_group(private: ShellMachine, name: str) -> None:
    before = run_in_copy(private, "cat /etc/group")
    outcome = private.check_then_run(group_step(name=name), "failed")
    assert outcome.stderr.text, result_message(outcome)
    assert run_in_copy(private, "cat /etc/group") == before


def test_what_the_tool_takes_as_a_name_is_that_name(private: ShellMachine) -> None:
    for name in ("it's", "$(id)", "über", "back\\slash"):
        private.check_then_run(group_step(name=name), "changed")
        assert f"\n{name}:x:" in run_in_copy(private, "cat /etc/group")
        private.check_then_run(group_step(name=name, state="absent"), "changed")


def test_a_number_that_is_taken_is_found_by_a_check(private: ShellMachine) -> None:
    for start in ("", "groupadd -g 7654 orchtest"):
        run_in_copy(private, start)
        for check in (True, False):
            outcome = private.run_step(group_step(gid=0), check=check)
            assert outcome.status == "failed"
            assert "0 is root's number" in outcome.stderr.text, result_message(outcome)


def test_a_group_that_is_somebodys_stays(private: ShellMachine) -> None:
    run_in_copy(private, "groupadd orchtest; useradd -g orchtest orchuser")
    for check in (True, False):
        outcome = private.run_step(group_step(state="absent"), check=check)
        assert outcome.status == "failed"
        assert "orchtest is the primary group of orchuser" in outcome.stderr.text, result_message(
            outcome
        )


def test_two_groups_may_have_one_number(private: ShellMachine) -> None:
    private.check_then_run(group_step(gid=7001), "changed")
    other = {"group": {"name": "orchother", "gid": 7001}}
    assert "number" in private.check_then_run(other, "failed").stderr.text
    other["group"]["non_unique"] = True
    private.check_then_run(other, "changed")
    private.check_then_run({"group": {"name": "orchother", "gid": 7002}}, "changed")
    private.check_then_run(other, "changed")
    assert run_in_copy(private, "getent group orchother | cut -d: -f3") == "7001\n"
