"""``hostname``: what it finds, what it makes of it."""

from __future__ import annotations

import pytest

from tests.library.machine import Machine, told
from tests.library.private import there

STARTS = {
    "other": "printf 'other\\n' >/etc/hostname",
    "none": "rm -f /etc/hostname",
    "empty": ": >/etc/hostname",
    "comment": "printf '# it\\n\\nother' >/etc/hostname",
}


@pytest.mark.parametrize("start", STARTS)
def test_the_name_is_set_and_kept(private: Machine, start: str) -> None:
    there(private, f"chmod 644 /etc/hostname; hostname before; {STARTS[start]}")
    outcome = private.sees({"hostname": {"name": "web-1.example"}}, "changed")
    kept = "other" if start in ("other", "comment") else None
    assert [(c.key, c.before) for c in outcome.changes] == [("name", "before"), ("kept", kept)]
    assert there(private, "hostname; cat /etc/hostname") == "web-1.example\n" * 2
    assert there(private, "ls -A /etc | grep orch || :") == ""
    assert there(private, "stat -c %a /etc/hostname") == "644\n"


def test_what_was_only_set_is_kept_too(private: Machine) -> None:
    there(private, "hostname web; printf 'other\\n' >/etc/hostname; ln /etc/hostname /etc/old")
    outcome = private.sees({"hostname": {"name": "web"}}, "changed")
    assert [c.key for c in outcome.changes] == ["kept"]
    assert there(private, "cat /etc/old") == "other\n", "it was not put in place in one step"


@pytest.mark.parametrize("name", ["", "a b", "$(id)", "-n", "über", "a\nb", "a.", "."])
def test_what_is_no_name_is_refused(private: Machine, name: str) -> None:
    before = there(private, "hostname; cat /etc/hostname")
    outcome = private.sees({"hostname": {"name": name}}, "failed")
    assert "no host name" in outcome.stderr.text, told(outcome)
    assert there(private, "hostname; cat /etc/hostname") == before
