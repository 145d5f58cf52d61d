"""``service_step``: what it finds, what it makes of it, with scripts in /etc/init.d."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import check_nothing_left
from tests.support.private_copy import run_in_copy

# A real daemon, that counts its reloads; as LSB wants it, but for what a test breaks of it.
SCRIPT = r"""
cat >/etc/init.d/orchtest <<'END'
#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
### BEGIN INIT INFO
# Provides: orchtest
# Required-Start:
# Required-Stop:
# Default-Start: 2 3 4 5
# Default-Stop: 0 1 6
### END INIT INFO
daemon="start-stop-daemon --pidfile /run/orchtest.pid --exec /bin/sleep"
echo "$1" >>/run/orchtest.log
case $1 in
start) [ -e /etc/broken ] && { echo "it is broken" >&2; exit 1; }
  $daemon --start --oknodo --background --make-pidfile -- 1000;;
stop) $daemon --stop --oknodo --retry 5 --remove-pidfile;;
restart) "$0" stop; "$0" start;;
reload) :;;
status) $daemon --status;;
*) exit 3;;
esac
END
chmod 755 /etc/init.d/orchtest
"""
START, STOP = "/etc/init.d/orchtest start >&2", "/etc/init.d/orchtest stop >&2"


def service_step(**params: Any) -> dict[str, Any]:
    return {"service": {"name": "orchtest", **params}}


def script_calls(machine: ShellMachine) -> list[str]:
    """Return the actions of the script since the last call, except status."""
    found = run_in_copy(machine, "cat /run/orchtest.log; : >/run/orchtest.log").split()
    return [word for word in found if word != "status"]


@pytest.fixture
def host(private: ShellMachine) -> ShellMachine:
    run_in_copy(private, SCRIPT)
    return private


def test_a_service_is_started_and_stopped(host: ShellMachine) -> None:
    outcome = host.check_then_run(service_step(state="started"), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("state", "stopped", "started")
    ]
    assert script_calls(host) == ["start"]
    run_in_copy(host, "kill -0 $(cat /run/orchtest.pid)")
    host.check_then_run(service_step(state="started"), "ok")
    host.check_then_run(service_step(state="stopped"), "changed")
    assert script_calls(host) == ["stop"]
    assert run_in_copy(host, "[ -e /run/orchtest.pid ] || echo gone") == "gone\n"
    host.check_then_run(service_step(state="stopped"), "ok")


@pytest.mark.parametrize(
    ("state", "running", "done"),
    [
        ("restarted", True, ["restart", "stop", "start"]),
        ("restarted", False, ["restart", "stop", "start"]),
        ("reloaded", True, ["reload"]),
        ("reloaded", False, ["start"]),
    ],
)
def test_a_restart_is_always_a_change(
    host: ShellMachine, state: str, running: bool, done: list[str]
) -> None:
    run_in_copy(host, START if running else STOP)
    script_calls(host)
    before = "started" if running else "stopped"
    foretold = host.run_step(service_step(state=state), check=True)
    assert foretold.status == "would_change", result_message(foretold)
    assert [(c.before, c.after) for c in foretold.changes] == [(before, state)]
    assert script_calls(host) == []
    outcome = host.run_step(service_step(state=state))
    assert outcome.status == "changed", result_message(outcome)
    assert outcome.changes == foretold.changes
    assert script_calls(host) == done
    again = host.run_step(service_step(state=state))
    assert (again.status, again.changes[0].before) == ("changed", "started")


def test_it_starts_with_the_host_or_does_not(host: ShellMachine) -> None:
    outcome = host.check_then_run(service_step(enabled=True), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("enabled", "false", "true")]
    assert run_in_copy(host, "ls -d /etc/rc2.d/S??orchtest")
    host.check_then_run(service_step(enabled=False), "changed")
    assert run_in_copy(host, "ls -d /etc/rc2.d/S??orchtest || :") == ""
    host.check_then_run(service_step(enabled=True, state="started"), "changed")
    host.check_then_run(service_step(enabled=True, state="started"), "ok")
    assert run_in_copy(host, "ls -d /etc/rc2.d/S??orchtest")


def test_a_service_that_is_not_there_is_told_by_a_check_as_well(host: ShellMachine) -> None:
    for arguments in ({"state": "started"}, {"state": "stopped"}, {"enabled": True}):
        for check in (True, False):
            outcome = host.run_step({"service": {"name": "orchnone", **arguments}}, check=check)
            assert outcome.status == "failed"
            output = "there is no service orchnone on this host"
            assert output in outcome.stderr.text, result_message(outcome)


@pytest.mark.parametrize("state", ["started", "restarted", "reloaded"])
def test_what_does_not_start_is_a_failure(host: ShellMachine, state: str) -> None:
    """Also a script of Debian's tells why on stdout."""
    run_in_copy(host, "touch /etc/broken")
    outcome = host.check_then_run(service_step(state=state), "failed")
    assert "it is broken" in outcome.stderr.text, result_message(outcome)
    run_in_copy(host, "sed -i 's/ >&2; exit 1/; exit 1/' /etc/init.d/orchtest")
    with check_nothing_left(host.root.parent / "tmp", host):
        outcome = host.check_then_run(service_step(state=state), "failed")
        assert "it is broken" in outcome.stderr.text, result_message(outcome)


def test_what_is_gone_after_a_restart_is_a_failure(host: ShellMachine) -> None:
    run_in_copy(
        host, "sed -i 's/^start).*/start) exit 0;;/; s/^  .daemon --start.*//' /etc/init.d/orchtest"
    )
    outcome = host.run_step(service_step(state="restarted"))
    assert outcome.status == "failed"
    assert "state is 'stopped', expected 'restarted'" in outcome.reason


def test_a_systemd_that_does_not_answer_is_told_as_such(host: ShellMachine) -> None:
    run_in_copy(host, "mkdir -p /run/systemd/system")
    outcome = host.check_then_run(service_step(state="started"), "failed")
    assert outcome.reason.startswith("its probe failed")
    assert "systemd" in outcome.stderr.text or "bus" in outcome.stderr.text, result_message(outcome)


@pytest.mark.parametrize("name", ["", "a b", "-n", "../x", "*", "a\nb", ".."])
def test_what_is_no_name_is_refused(machine: ShellMachine, name: str) -> None:
    outcome = machine.check_then_run(service_step(name=name, state="started"), "failed")
    assert "not a valid service name" in outcome.stderr.text, result_message(outcome)


def test_that_nothing_is_asked_for_is_told(machine: ShellMachine) -> None:
    outcome = machine.check_then_run(service_step(), "failed")
    assert "give one of `state`, `enabled`" in outcome.stderr.text, result_message(outcome)
