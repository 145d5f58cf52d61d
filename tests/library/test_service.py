"""``service``: what it finds, what it makes of it, with scripts in /etc/init.d."""

from __future__ import annotations

from typing import Any

import pytest

from tests.library.files import nothing_left_in
from tests.library.machine import Machine, told
from tests.library.private import there

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


def service(**given: Any) -> dict[str, Any]:
    return {"service": {"name": "orchtest", **given}}


def calls(machine: Machine) -> list[str]:
    """What the script was called to do since the last time, apart from its status."""
    found = there(machine, "cat /run/orchtest.log; : >/run/orchtest.log").split()
    return [word for word in found if word != "status"]


@pytest.fixture
def host(private: Machine) -> Machine:
    there(private, SCRIPT)
    return private


def test_a_service_is_started_and_stopped(host: Machine) -> None:
    outcome = host.sees(service(state="started"), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("state", "stopped", "started")
    ]
    assert calls(host) == ["start"]
    there(host, "kill -0 $(cat /run/orchtest.pid)")
    host.sees(service(state="started"), "ok")
    host.sees(service(state="stopped"), "changed")
    assert calls(host) == ["stop"]
    assert there(host, "[ -e /run/orchtest.pid ] || echo gone") == "gone\n"
    host.sees(service(state="stopped"), "ok")


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
    host: Machine, state: str, running: bool, done: list[str]
) -> None:
    there(host, START if running else STOP)
    calls(host)
    before = "started" if running else "stopped"
    foretold = host.one(service(state=state), check=True)
    assert foretold.status == "would_change", told(foretold)
    assert [(c.before, c.after) for c in foretold.changes] == [(before, state)]
    assert calls(host) == []
    outcome = host.one(service(state=state))
    assert outcome.status == "changed", told(outcome)
    assert outcome.changes == foretold.changes
    assert calls(host) == done
    again = host.one(service(state=state))
    assert (again.status, again.changes[0].before) == ("changed", "started")


def test_it_starts_with_the_host_or_does_not(host: Machine) -> None:
    outcome = host.sees(service(enabled=True), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("enabled", "false", "true")]
    assert there(host, "ls -d /etc/rc2.d/S??orchtest")
    host.sees(service(enabled=False), "changed")
    assert there(host, "ls -d /etc/rc2.d/S??orchtest || :") == ""
    host.sees(service(enabled=True, state="started"), "changed")
    host.sees(service(enabled=True, state="started"), "ok")
    assert there(host, "ls -d /etc/rc2.d/S??orchtest")


def test_a_service_that_is_not_there_is_told_by_a_check_as_well(host: Machine) -> None:
    for given in ({"state": "started"}, {"state": "stopped"}, {"enabled": True}):
        for check in (True, False):
            outcome = host.one({"service": {"name": "orchnone", **given}}, check=check)
            assert outcome.status == "failed"
            said = "there is no service orchnone on this host"
            assert said in outcome.stderr.text, told(outcome)


@pytest.mark.parametrize("state", ["started", "restarted", "reloaded"])
def test_what_does_not_start_is_a_failure(host: Machine, state: str) -> None:
    """Also a script of Debian's tells why on stdout."""
    there(host, "touch /etc/broken")
    outcome = host.sees(service(state=state), "failed")
    assert "it is broken" in outcome.stderr.text, told(outcome)
    there(host, "sed -i 's/ >&2; exit 1/; exit 1/' /etc/init.d/orchtest")
    with nothing_left_in(host.root.parent / "tmp", host):
        outcome = host.sees(service(state=state), "failed")
        assert "it is broken" in outcome.stderr.text, told(outcome)


def test_what_is_gone_after_a_restart_is_a_failure(host: Machine) -> None:
    there(
        host, "sed -i 's/^start).*/start) exit 0;;/; s/^  .daemon --start.*//' /etc/init.d/orchtest"
    )
    outcome = host.one(service(state="restarted"))
    assert outcome.status == "failed"
    assert "state is 'stopped', wanted 'restarted'" in outcome.reason


def test_a_systemd_that_does_not_answer_is_told_as_such(host: Machine) -> None:
    there(host, "mkdir -p /run/systemd/system")
    outcome = host.sees(service(state="started"), "failed")
    assert outcome.reason.startswith("its probe failed")
    assert "systemd" in outcome.stderr.text or "bus" in outcome.stderr.text, told(outcome)


@pytest.mark.parametrize("name", ["", "a b", "-n", "../x", "*", "a\nb", ".."])
def test_what_is_no_name_is_refused(machine: Machine, name: str) -> None:
    outcome = machine.sees(service(name=name, state="started"), "failed")
    assert "no name" in outcome.stderr.text, told(outcome)


def test_that_nothing_is_asked_for_is_told(machine: Machine) -> None:
    outcome = machine.sees(service(), "failed")
    assert "neither state nor enabled" in outcome.stderr.text, told(outcome)
