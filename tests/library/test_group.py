"""``group``: what it finds, what it makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.library.machine import Machine, told
from tests.library.private import there


def group(**given: Any) -> dict[str, Any]:
    return {"group": {"name": "orchtest", **given}}


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


def test_groups_are_made_changed_and_removed(private: Machine) -> None:
    for start, given, status, then in TABLE:
        there(private, "groupdel orchtest 2>/dev/null || :")
        if start:
            there(private, f"groupadd -g {start} orchtest")
        private.sees(group(**given), status)
        found = there(private, "getent group orchtest || :")
        if isinstance(then, bool):
            assert found.startswith("orchtest:"), (start, given)
            assert (int(found.split(":")[2]) < 1000) == bool(given.get("system"))
        else:
            assert found == (f"orchtest:x:{then}:\n" if then else ""), (start, given)


def test_the_states_are_what_a_person_would_say(private: Machine) -> None:
    outcome = private.sees(group(gid=7654), "changed")
    said = [(c.key, c.before, c.after) for c in outcome.changes]
    assert said == [("state", "absent", "present"), ("gid", None, "7654")]
    assert private.sees(group(gid=7655), "changed").changes[0].before == "7654"


def test_a_name_that_begins_like_another_or_is_a_number_is_not_that_one(private: Machine) -> None:
    there(private, "groupadd -g 7654 orchtest2")
    private.sees(group(state="absent"), "ok")
    private.sees({"group": {"name": "7654", "state": "absent"}}, "ok")
    private.sees(group(name="orchtes.*", state="absent"), "ok")


REFUSED = ["with space", 'say "hi"', "a\nb", "-n", "--help", "~", "#x"]


@pytest.mark.parametrize("name", [*REFUSED, "", "a:b", "a,b"])
def test_what_is_no_name_makes_no_group(private: Machine, name: str) -> None:
    before = there(private, "cat /etc/group")
    outcome = private.sees(group(name=name), "failed")
    assert outcome.stderr.text, told(outcome)
    assert there(private, "cat /etc/group") == before


def test_what_the_tool_takes_as_a_name_is_that_name(private: Machine) -> None:
    for name in ("it's", "$(id)", "über", "back\\slash"):
        private.sees(group(name=name), "changed")
        assert f"\n{name}:x:" in there(private, "cat /etc/group")
        private.sees(group(name=name, state="absent"), "changed")


def test_a_number_that_is_taken_is_found_by_a_check(private: Machine) -> None:
    for start in ("", "groupadd -g 7654 orchtest"):
        there(private, start)
        for check in (True, False):
            outcome = private.one(group(gid=0), check=check)
            assert outcome.status == "failed"
            assert "0 is root's number already" in outcome.stderr.text, told(outcome)


def test_a_group_that_is_somebodys_stays(private: Machine) -> None:
    there(private, "groupadd orchtest; useradd -g orchtest orchuser")
    for check in (True, False):
        outcome = private.one(group(state="absent"), check=check)
        assert outcome.status == "failed"
        assert "orchtest is the primary group of orchuser" in outcome.stderr.text, told(outcome)
