"""``debconf``: answers in the real debconf of a private copy, which its packages then read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import outcome_changes
from tests.support.private_copy import run_in_copy
from tests.support.watched_commands import watch_commands

ASK = """
printf '%s\\n' 'GET orch/mode' 'FGET orch/mode seen' 'METAGET orch/mode type' | debconf-communicate orch
"""


@pytest.fixture
def host(private: ShellMachine) -> ShellMachine:
    # empty, which is faster; and in the overlay, into which debconf copies what it locks to read it
    run_in_copy(private, "for f in /var/cache/debconf/*.dat; do : >$f; done")
    return private


def debconf_step(**params: Any) -> dict[str, Any]:
    return {"debconf": {"name": "orch", "question": "orch/mode", "type": "string", **params}}


def answers(machine: ShellMachine) -> list[str]:
    """Return the answer, whether it was seen, and its type."""
    return [line.removeprefix("0").strip() for line in run_in_copy(machine, ASK).splitlines()]


def test_a_question_is_answered_before_its_package_asks(host: ShellMachine) -> None:
    outcome = host.check_then_run(debconf_step(value="Local only"), "changed")
    assert outcome_changes(outcome) == {"value": (None, "as given"), "seen": (None, "true")}
    assert answers(host) == ["Local only", "true", "string"]
    outcome = host.check_then_run(debconf_step(value="a  'b' \"c\" $d `e` \\\\f %s"), "changed")
    assert outcome_changes(outcome) == {"value": ("'Local only'", "as given")}
    assert answers(host)[0] == "a  'b' \"c\" $d `e` \\\\f %s"
    outcome = host.check_then_run(debconf_step(value="x", seen=False), "changed")
    assert answers(host) == ["x", "false", "string"]
    host.check_then_run(debconf_step(value=""), "changed")
    assert answers(host) == ["", "true", "string"]
    host.check_then_run(debconf_step(type="multiselect", value=["a", "b c"]), "changed")
    assert answers(host) == ["a, b c", "true", "multiselect"]


CONFIGURE = """
cat >/run/config <<'END'
#!/bin/sh -e
. /usr/share/debconf/confmodule
db_input high orch/mode || :
db_go
db_get orch/mode
echo "$RET" >/run/answer
END
chmod 755 /run/config
DEBIAN_FRONTEND=noninteractive /run/config >&2
cat /run/answer
"""


def test_the_answer_is_what_a_configuration_script_reads(host: ShellMachine) -> None:
    host.check_then_run(debconf_step(type="boolean", value=True), "changed")
    assert run_in_copy(host, CONFIGURE) == "true\n"
    host.check_then_run(debconf_step(type="boolean", value="false"), "changed")
    assert run_in_copy(host, CONFIGURE) == "false\n"


@pytest.mark.parametrize("machine", ["dash"], indirect=True)
def test_a_password_is_shown_nowhere(host: ShellMachine, tmp_path: Path) -> None:
    with watch_commands(host, tmp_path / "watched", ["se-cret"]) as watched:
        step = debconf_step(type="password", value="one-se-cret")
        outcome = host.check_then_run(step, "changed")
        assert outcome_changes(outcome)["value"] == (None, "as given")
        step["debconf"]["value"] = "two-se-cret"
        outcome = host.check_then_run(step, "changed")
        assert outcome_changes(outcome) == {"value": ("another password", "as given")}
        assert len(watched.all_words) > 1 and not watched.exposures("se-cret")
    found = run_in_copy(
        host, "cd /var/cache/debconf; grep -c two-se-cret config.dat passwords.dat || :"
    )
    assert found == "config.dat:0\npasswords.dat:1\n"


def test_what_debconf_cannot_take_is_refused(host: ShellMachine) -> None:
    for params, message in (
        ({"question": "a b", "value": "x"}, "'a b' is not the name"),
        ({"name": "#x", "value": "x"}, "'#x' is not the name"),
        ({"name": "x\ny", "value": "x"}, "is not the name"),
        ({"value": "a\nb"}, "`value` must be in one line"),
        ({"type": "boolean", "value": "yes"}, "`value` must be true or false"),
    ):
        outcome = host.check_then_run(debconf_step(**params), "failed")
        assert message in outcome.stderr.text, result_message(outcome)


def test_a_database_in_use_is_an_error_not_a_change(host: ShellMachine) -> None:
    hold = """
import fcntl, os
file = open("/var/cache/debconf/config.dat")
fcntl.flock(file, fcntl.LOCK_EX)
if os.fork():
    os._exit(0)
os.closerange(0, 3)
import signal
signal.pause()
"""
    run_in_copy(host, f"python3 -c '{hold}'")
    for check in (True, False):
        outcome = host.run_step(debconf_step(value="x"), check=check)
        assert outcome.status == "failed", result_message(outcome)
        assert "locked by another process" in outcome.stderr.text
