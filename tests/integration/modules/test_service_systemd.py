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
verb= keys= name= user=
fake() { case $user in '') echo /run/fake;; *) mkdir -p /run/fake$user; echo /run/fake$user;; esac; }
real() { SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl.real "$@"; }
all="$*"
while [ $# -gt 0 ]; do
  case $1 in
  -p) keys="$keys $2"; shift;;
  --user) user=/user;;
  -*) ;;
  *) if [ "$verb" ]; then name=$1; else verb=$1; fi;;
  esac
  shift
done
[ -e /run/fake/.denied ] && case $verb in start|enable) echo 'Access denied' >&2; exit 4;; esac
case $verb in
daemon-reload)
  echo reload >>$(fake)/reloads
  for file in $(fake)/*.service; do [ ! -e "$file" ] || echo NeedDaemonReload=no >>"$file"; done
  rm -f $(fake)/unread; exit;;
is-enabled|enable|disable|mask|unmask) real $all;;
cat)
  for dir in /etc/systemd/system /usr/lib/systemd/system; do
    [ ! -e $dir/$name ] || exec cat $dir/$name
  done
  exit 1;;
esac
case $name in *.*) id=$name;; *) id=$name.service;; esac
dirs="/etc/systemd/system /usr/lib/systemd/system"
[ -z "$user" ] || dirs="$HOME/.config/systemd/user /etc/systemd/user /usr/lib/systemd/user"
for dir in $dirs; do
  [ ! -L $dir/$id ] || case $(readlink $dir/$id) in /*) ;; *) id=$(readlink $dir/$id);; esac
done
Id=$id ActiveState=inactive Type=simple RemainAfterExit=no Result=success CanReload=no forgets=
ExecMainExitTimestampMonotonic=0 LoadState=not-found FragmentPath= NeedDaemonReload=no
for dir in $dirs; do
  [ "$FragmentPath" ] || { [ ! -e $dir/$id ] && [ ! -L $dir/$id ]; } || LoadState=loaded FragmentPath=$dir/$id
done
case $(readlink "$FragmentPath") in /dev/null) LoadState=masked;; esac
[ ! -e $(fake)/unread ] || LoadState=not-found
touch $(fake)/$id
. $(fake)/$id
set_() { echo "$1" >>$(fake)/$id; }
case $verb in
show) for key in $keys; do eval "echo $key=\$$key"; done;;
start|restart)
  [ "$LoadState" = loaded ] || { echo "cannot start: $LoadState" >&2; exit 1; }
  echo "$verb" >>$(fake)/$id.did
  case $Type in
  oneshot) [ "$forgets" ] || set_ ExecMainExitTimestampMonotonic=7
    [ $RemainAfterExit = no ] || set_ ActiveState=active;;
  *) set_ ActiveState=active;;
  esac;;
stop) set_ ActiveState=inactive;;
reload) echo reload >>$(fake)/$id.did;;
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
        host, "orch-masked.service is masked: `masked: false`", service_step("masked", enabled=True)
    )
    check_fails(
        host,
        "orch-masked.service is masked: `masked: false`",
        service_step("masked", state="started"),
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


def test_a_service_is_masked_and_unmasked(host: ShellMachine) -> None:
    host.check_then_run(service_step("plain", enabled=True, state="started"), "changed")
    masked = service_step("plain", masked=True, enabled=False, state="stopped")
    outcome = host.check_then_run(masked, "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("masked", "false", "true"),
        ("enabled", "true", "false"),
        ("state", "started", "stopped"),
    ]
    assert (
        run_in_copy(host, "ls /etc/systemd/system/multi-user.target.wants | grep orch || :") == ""
    )
    back = service_step("plain", masked=False, enabled=True, state="started")
    outcome = host.check_then_run(back, "changed")
    assert [c.key for c in outcome.changes] == ["masked", "enabled", "state"]
    run_in_copy(host, "systemctl mask -q --runtime orch-plain.service")
    outcome = host.check_then_run(service_step("plain", masked=False), "changed")
    assert outcome.changes[0].before == "until the next start"
    # what is not installed yet
    host.check_then_run(service_step("none", masked=True), "changed")
    assert run_in_copy(host, "readlink /etc/systemd/system/orch-none.service") == "/dev/null\n"
    run_in_copy(
        host, "cp /usr/lib/systemd/system/orch-plain.service /etc/systemd/system/orch-own.service"
    )
    check_fails(host, "its own file is /etc/systemd/system/", service_step("own", masked=True))
    for wrong in ({"enabled": True}, {"state": "restarted"}):
        check_fails(
            host, "cannot be enabled or started", service_step("plain", masked=True, **wrong)
        )


def test_changed_unit_files_are_read_again(host: ShellMachine) -> None:
    host.check_then_run(service_step("plain", daemon_reload=True), "ok")
    run_in_copy(host, "echo NeedDaemonReload=yes >>/run/fake/orch-plain.service")
    outcome = host.check_then_run(service_step("plain", daemon_reload=True), "changed")
    assert [c.before for c in outcome.changes] == ["changed since they were read"]
    # an old systemd that has looked for the unit before its file was there
    run_in_copy(host, "touch /run/fake/unread")
    check_fails(host, "there is no service", service_step("plain", state="started"))
    new = service_step("plain", daemon_reload=True, state="started")
    assert [c.key for c in host.check_then_run(new, "changed").changes] == ["units", "state"]
    for _ in range(2):
        everything = {"service": {"daemon_reload": True}}
        assert host.run_step(everything, check=True).status == "would_change"
        assert host.run_step(everything).status == "changed"
    assert run_in_copy(host, "cat /run/fake/reloads") == "reload\n" * 4
    check_fails(host, "give a service, or `daemon_reload: true`", {"service": {}})
    check_fails(host, "`name` is missing", {"service": {"daemon_reload": True, "state": "started"}})


def test_a_service_of_the_user(host: ShellMachine) -> None:
    step = service_step("mine", scope="user", state="started", enabled=True)
    check_fails(host, "`loginctl enable-linger root` starts one", step)
    units = f"'{host.home}/.config/systemd/user'"
    run_in_copy(
        host,
        f"mkdir -p /run/user/0/systemd {units}; cp /usr/lib/systemd/system/orch-plain.service {units}/orch-mine.service",
    )
    host.check_then_run(step, "changed")
    assert run_in_copy(host, "cat /run/fake/user/orch-mine.service.did") == "start\n"
    assert run_in_copy(host, f"ls {units}/multi-user.target.wants") == "orch-mine.service\n"
    check_fails(host, "its own file is", service_step("mine", scope="user", masked=True))
    check_fails(host, "there is no service orch-mine", service_step("mine", state="started"))


def test_what_only_systemd_has_needs_it(private: ShellMachine) -> None:
    run_in_copy(private, "rm -rf /run/systemd")
    for params in ({"masked": True}, {"daemon_reload": True}):
        check_fails(private, "no running systemd", service_step("plain", **params))
