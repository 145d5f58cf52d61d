"""``service_step`` under systemd: what enables units is the real systemctl, on files; what runs is made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.private_copy import run_in_copy

SYSTEMD = r"""
mkdir -p /run/systemd/system /run/fake /opt/x
cp /usr/bin/systemctl /usr/bin/systemctl.real
cat >/usr/bin/systemctl <<'END'
#!/bin/sh
verb= keys= name=
real() { SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl.real "$@"; }
all="$*"
while [ $# -gt 0 ]; do
  case $1 in
  -p) keys="$keys $2"; shift;;
  -*) ;;
  *) if [ "$verb" ]; then name=$1; else verb=$1; fi;;
  esac
  shift
done
[ -e /run/fake/.denied ] && case $verb in start|enable) echo 'Access denied' >&2; exit 4;; esac
case $verb in is-enabled|enable|disable) real $all;; cat) exec cat /usr/lib/systemd/system/$name;; esac
case $name in *.*) id=$name;; *) id=$name.service;; esac
for dir in /etc/systemd/system /usr/lib/systemd/system; do
  [ ! -L $dir/$id ] || case $(readlink $dir/$id) in /*) ;; *) id=$(readlink $dir/$id);; esac
done
Id=$id ActiveState=inactive Type=simple RemainAfterExit=no Result=success CanReload=no forgets=
ExecMainExitTimestampMonotonic=0 LoadState=not-found FragmentPath= NeedDaemonReload=no
for dir in /usr/lib/systemd/system /etc/systemd/system; do
  [ ! -e $dir/$id ] || LoadState=loaded FragmentPath=$dir/$id
done
case $(readlink "$FragmentPath") in /dev/null) LoadState=masked;; esac
touch /run/fake/$id
. /run/fake/$id
set_() { echo "$1" >>/run/fake/$id; }
case $verb in
show) for key in $keys; do eval "echo $key=\$$key"; done;;
start|restart)
  [ "$LoadState" = loaded ] || { echo "cannot start: $LoadState" >&2; exit 1; }
  echo "$verb" >>/run/fake/$id.did
  case $Type in
  oneshot) [ "$forgets" ] || set_ ExecMainExitTimestampMonotonic=7
    [ $RemainAfterExit = no ] || set_ ActiveState=active;;
  *) set_ ActiveState=active;;
  esac;;
stop) set_ ActiveState=inactive;;
reload) echo reload >>/run/fake/$id.did;;
esac
END
unit() { printf '[Service]\nExecStart=/bin/true\n' >$1; shift; for line; do echo "$line" >>$file; done; }
at=/usr/lib/systemd/system
for each in plain once stays static wanted timed indirect linked broken; do
  file=$at/orch-$each.service
  [ $each != linked ] || file=/opt/x/orch-linked.service
  printf '[Service]\nExecStart=/bin/true\n' >$file
  case $each in
  static|wanted|timed) ;;
  indirect) printf '[Install]\nAlso=orch-indirect.socket\n' >>$file;;
  *) printf '[Install]\nWantedBy=multi-user.target\n' >>$file;;
  esac
done
printf '[Socket]\nListenStream=9\n[Install]\nWantedBy=sockets.target\n' >$at/orch-indirect.socket
ln -s orch-plain.service $at/orch-alias.service
ln -s /opt/x/orch-linked.service /etc/systemd/system/orch-linked.service
ln -s /dev/null /etc/systemd/system/orch-masked.service
cd /run/fake
echo WantedBy=sysinit.target >orch-wanted.service
echo TriggeredBy=orch-timed.timer >orch-timed.service
echo Type=oneshot >orch-once.service
printf 'Type=oneshot\nRemainAfterExit=yes\n' >orch-stays.service
printf 'LoadState=bad-setting\nLoadError="it is odd"\n' >orch-broken.service
"""


@pytest.fixture
def machine(tmp_path: Path) -> ShellMachine:
    root = tmp_path / "root"
    root.mkdir()
    return ShellMachine("dash", root)


@pytest.fixture
def host(private: ShellMachine) -> ShellMachine:
    run_in_copy(private, SYSTEMD)
    return private


def service_step(name: str, **params: Any) -> dict[str, Any]:
    return {"service": {"name": f"orch-{name}", **params}}


def check_fails(host: ShellMachine, message: str, step: dict[str, Any]) -> None:
    """Check the message in check mode and in a run."""
    for check in (True, False):
        outcome = host.run_step(step, check=check)
        assert outcome.status == "failed", result_message(outcome)
        assert message in outcome.stderr.text, result_message(outcome)


@pytest.mark.parametrize("name", ["plain", "alias", "indirect", "linked"])
def test_what_can_be_enabled_is(host: ShellMachine, name: str) -> None:
    host.check_then_run(service_step(name, enabled=False), "ok")
    outcome = host.check_then_run(service_step(name, enabled=True), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("enabled", "false", "true")]
    if name == "linked":  # to disable it takes the link away
        assert host.run_step(service_step(name, enabled=False)).status == "changed"
        return
    host.check_then_run(service_step(name, enabled=False, state="started"), "changed")
    host.check_then_run(service_step(name, enabled=True, state="started"), "changed")


def test_what_is_enabled_until_the_next_start_only_is_not(host: ShellMachine) -> None:
    run_in_copy(host, "systemctl enable -q --runtime orch-plain.service")
    host.check_then_run(service_step("plain", enabled=False), "ok")
    host.check_then_run(service_step("plain", enabled=True), "changed")


def test_what_cannot_be_enabled_is_said_by_a_check_as_well(host: ShellMachine) -> None:
    for name in ("static", "wanted", "timed", "masked"):
        host.check_then_run(service_step(name, enabled=False), "ok")
    host.check_then_run(service_step("wanted", enabled=True), "ok")
    check_fails(host, "the units that need it start it", service_step("static", enabled=True))
    check_fails(host, "enable orch-timed.timer", service_step("timed", enabled=True))
    check_fails(
        host, "`systemctl unmask orch-masked.service`", service_step("masked", enabled=True)
    )
    check_fails(
        host, "`systemctl unmask orch-masked.service`", service_step("masked", state="started")
    )
    check_fails(
        host,
        "cannot load orch-broken.service: it is odd",
        service_step("broken", state="restarted"),
    )
    host.check_then_run(service_step("masked", state="stopped"), "ok")
    check_fails(
        host, "there is no service orch-none on this host", service_step("none", enabled=True)
    )
    check_fails(
        host, "there is no service orch-none on this host", service_step("none", state="stopped")
    )
    check_fails(host, "no service orch-plain.timer", service_step("plain.timer", state="started"))


@pytest.mark.parametrize("name", ["once", "stays"])
def test_what_did_its_work_is_started(host: ShellMachine, name: str) -> None:
    for state in ("restarted", "reloaded"):
        if name == "once":
            outcome = host.run_step(service_step(name, state=state))
            assert outcome.status == "changed", result_message(outcome)
    run_in_copy(host, f"echo ExecMainExitTimestampMonotonic=0 >>/run/fake/orch-{name}.service")
    host.check_then_run(service_step(name, state="started"), "changed")
    host.check_then_run(service_step(name, state="stopped"), "ok" if name == "once" else "changed")
    run_in_copy(host, f"echo Result=exit-code ActiveState=failed >>/run/fake/orch-{name}.service")
    outcome = host.run_step(service_step(name, state="started"), check=True)
    assert [c.before for c in outcome.changes] == ["failed"]


def test_what_systemd_forgot_is_started_again(host: ShellMachine) -> None:
    run_in_copy(host, "echo forgets=1 >>/run/fake/orch-once.service")
    for _ in range(2):
        assert (
            host.run_step(service_step("once", state="started"), check=True).status
            == "would_change"
        )
        assert host.run_step(service_step("once", state="started")).status == "changed"


def test_only_what_can_be_reloaded_is(host: ShellMachine) -> None:
    run_in_copy(
        host, "systemctl start orch-plain; echo CanReload=no >>/run/fake/orch-plain.service"
    )
    check_fails(
        host, "cannot be reloaded: use `restarted`", service_step("plain", state="reloaded")
    )
    run_in_copy(host, "echo CanReload=yes >>/run/fake/orch-plain.service")
    assert host.run_step(service_step("plain", state="reloaded")).status == "changed"
    assert run_in_copy(host, "cat /run/fake/orch-plain.service.did") == "start\nreload\n"


def test_that_root_is_needed_is_said(host: ShellMachine) -> None:
    run_in_copy(host, "touch /run/fake/.denied; chmod 777 /run/fake; chmod 666 /run/fake/*")
    run_in_copy(host, f"chown nobody '{host.home}'; chmod -R go+rwX /run/fake")
    host.wrapper = (*host.wrapper, "/usr/bin/setpriv", "--reuid=nobody", "--clear-groups")
    for arguments in ({"state": "started"}, {"enabled": True}):
        outcome = host.run_step(service_step("plain", **arguments))
        assert outcome.status == "failed"
        assert "`become: true` runs the step as root" in outcome.stderr.text, result_message(
            outcome
        )
