"""``timezone``: what the host's programs then take for the time."""

from __future__ import annotations

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.private_copy import run_in_copy

SETUP = r"""
mkdir -p /usr/share/zoneinfo/Orch
printf 'TZif2' >/usr/share/zoneinfo/Orch/One; printf 'TZif2two' >/usr/share/zoneinfo/Orch/Two
echo Orch/One >/etc/timezone
"""
STARTS = {
    "link": ("ln -sf ../usr/share/zoneinfo/Orch/One /etc/localtime", "Orch/One"),
    "copy": ("rm -f /etc/localtime; cp /usr/share/zoneinfo/Orch/Two /etc/localtime", "a copy of its file"),
    "file": ("rm -f /etc/localtime; echo x >/etc/localtime", "a file of its own"),
    "none": ("rm -f /etc/localtime", None),
}  # fmt: skip


@pytest.mark.parametrize("start", STARTS)
def test_the_zone_is_set(private: ShellMachine, start: str) -> None:
    script, before = STARTS[start]
    run_in_copy(private, SETUP + script)
    outcome = private.check_then_run({"timezone": {"name": "Orch/Two"}}, "changed")
    assert [(c.key, c.before) for c in outcome.changes] == [("zone", before), ("file", "Orch/One")]
    assert run_in_copy(private, "readlink /etc/localtime; cat /etc/timezone") == (
        "/usr/share/zoneinfo/Orch/Two\nOrch/Two\n"
    )
    assert run_in_copy(private, "ls -A /etc | grep orch || :") == ""


def test_what_is_no_zone_is_refused(private: ShellMachine) -> None:
    run_in_copy(private, SETUP + "rm -f /etc/timezone")
    for name in ("", "a b", "../passwd", "/etc", "$(id)", "-n", "a/../b"):
        outcome = private.check_then_run({"timezone": {"name": name}}, "failed")
        assert "not a valid name" in outcome.stderr.text, result_message(outcome)
    for name in ("Orch/None", "Orch"):
        outcome = private.check_then_run({"timezone": {"name": name}}, "failed")
        assert f"there is no time zone {name}" in outcome.stderr.text, result_message(outcome)
    private.check_then_run({"timezone": {"name": "Orch/One"}}, "changed")
    assert run_in_copy(private, "ls /etc/timezone 2>/dev/null || :") == ""
