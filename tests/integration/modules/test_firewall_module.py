"""``firewall``: the real ufw, on the network of a private copy; of firewalld only its client, made up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import outcome_changes
from tests.support.private_copy import run_in_copy

UFW = r"""
exec >&2
update-alternatives --set iptables /usr/sbin/iptables-legacy
update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy
ufw show added
"""
FIREWALLD = r"""
rm -f "$(command -v ufw)"
mkdir -p /run/firewall
cat >/usr/bin/firewall-cmd <<'END'
#!/bin/sh
at=/run/firewall/now zone=public
for word; do
  case $word in
  -q|--state) ;;
  --permanent) at=/run/firewall/boot;;
  --zone=*) zone=${word#--zone=};;
  *) verb=${word#--}; what=${verb#*-}; verb=${verb%%-*};;
  esac
done
touch $at
case $verb in
query) grep -Fqx -e "$zone $what" $at;;
add) echo "$zone $what" >>$at;;
remove) grep -Fvx -e "$zone $what" $at >$at.new; cat $at.new >$at;;
esac
END
chmod 755 /usr/bin/firewall-cmd
"""


@pytest.fixture
def host(private: ShellMachine) -> ShellMachine:
    run_in_copy(private, UFW)
    return private


def firewall_step(**params: Any) -> dict[str, Any]:
    return {"firewall": params}


def added(machine: ShellMachine) -> list[str]:
    """Return the rules of ufw."""
    lines = run_in_copy(machine, "ufw show added").splitlines()
    return [line.removeprefix("ufw ") for line in lines[1:] if line != "(None)"]


RULES = {
    "allow 6443/tcp": {"port": "6443/tcp"},
    "allow 53": {"port": 53},
    "deny 2379:2381/udp": {"port": "2379-2381/udp", "action": "deny"},
    "allow from 10.0.0.0/8": {"source": "10.0.0.0/8"},
    "reject from fd00::/8 to any port 22 proto tcp": {
        "source": "fd00::/8",
        "port": "22/tcp",
        "action": "reject",
    },
    "allow in on eth0 to any port 80 proto tcp": {"interface": "eth0", "port": "80/tcp"},
    "allow in on eth0 from 10.1.1.1": {"interface": "eth0", "source": "10.1.1.1"},
    "limit OpenSSH": {"service": "OpenSSH", "action": "limit"},
}


def test_rules_of_ufw_come_and_go(host: ShellMachine) -> None:
    steps = [firewall_step(**params) for params in RULES.values()]
    assert set(host.run_steps(steps, check=True).statuses) == {"would_change"}
    assert set(host.run_steps(steps).statuses) == {"changed"}
    assert sorted(added(host)) == sorted(RULES)
    assert set(host.run_steps(steps).statuses) == {"ok"}
    gone = [firewall_step(**params, state="absent") for params in list(RULES.values())[:5]]
    assert set(host.run_steps(gone).statuses) == {"changed"}
    assert sorted(added(host)) == sorted(list(RULES)[5:])
    host.check_then_run(firewall_step(**RULES["limit OpenSSH"], state="absent"), "changed")
    run_in_copy(host, "ufw allow 7/tcp comment 'it is one' >&2")
    host.check_then_run(firewall_step(port="7/tcp"), "ok")


def test_ufw_is_switched_on_and_off(host: ShellMachine) -> None:
    outcome = host.check_then_run(firewall_step(incoming="reject", enabled=True), "changed")
    assert outcome_changes(outcome) == {
        "incoming": ("deny", "reject"),
        "enabled": ("false", "true"),
    }
    host.check_then_run(firewall_step(port="22/tcp", enabled=True), "changed")
    assert "22/tcp" in run_in_copy(host, "ufw status")
    host.check_then_run(firewall_step(enabled=False), "changed")


def test_rules_of_firewalld_come_and_go(private: ShellMachine) -> None:
    run_in_copy(private, FIREWALLD)
    private.check_then_run(firewall_step(port="443/tcp"), "changed")
    private.check_then_run(firewall_step(port="6000:6010/udp", zone="internal"), "changed")
    private.check_then_run(firewall_step(source="10.0.0.0/8", zone="trusted"), "changed")
    private.check_then_run(firewall_step(service="https"), "changed")
    private.check_then_run(
        firewall_step(port="22/tcp", source="10.0.0.1", action="reject"), "changed"
    )
    rules = [
        "public port=443/tcp",
        "internal port=6000-6010/udp",
        "trusted source=10.0.0.0/8",
        "public service=https",
        'public rich-rule=rule family="ipv4" source address="10.0.0.1" port port="22" '
        'protocol="tcp" reject',
    ]
    for which in ("now", "boot"):
        assert run_in_copy(private, f"cat /run/firewall/{which}").splitlines() == rules
    run_in_copy(private, ": >/run/firewall/now")
    outcome = private.check_then_run(firewall_step(port="443/tcp"), "changed")
    assert outcome_changes(outcome) == {"rule": ("only after the next start", "present")}
    private.check_then_run(firewall_step(port="443/tcp", state="absent"), "changed")
    assert "443/tcp" not in run_in_copy(private, "cat /run/firewall/*")
    for params, message in (
        ({"port": "53"}, "firewalld needs the protocol: 53/tcp"),
        ({"enabled": True}, "are for ufw, and this host has firewalld"),
    ):
        outcome = private.check_then_run(firewall_step(**params), "failed")
        assert message in outcome.stderr.text, result_message(outcome)


def test_what_is_no_rule_is_refused(host: ShellMachine) -> None:
    for params, message in (
        ({}, "give `port`, `service`, `source`"),
        ({"port": "1/tcp", "service": "x"}, "exclude each other"),
        ({"port": "http"}, "`port` must be like 443/tcp"),
        ({"port": "-n"}, "`port` must be like 443/tcp"),
        ({"port": "1/icmp"}, "`port` must be like 443/tcp"),
        ({"source": "$(id)"}, "`source` must be an address"),
        ({"service": "-x"}, "not a valid name"),
        ({"interface": "a;b"}, "not a valid name"),
        ({"port": "1/tcp", "zone": "x"}, "`zone` is for firewalld"),
    ):
        outcome = host.check_then_run(firewall_step(**params), "failed")
        assert message in outcome.stderr.text, result_message(outcome)
    assert added(host) == []
