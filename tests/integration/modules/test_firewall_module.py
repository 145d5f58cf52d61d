"""``firewall``: the real ufw and nftables, on the network of a private copy; of firewalld only its client, made up."""

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
    "limit SSH": {"service": "SSH", "action": "limit"},
}


def test_rules_of_ufw_come_and_go(host: ShellMachine) -> None:
    steps = [firewall_step(**params) for params in RULES.values()]
    assert set(host.run_steps(steps, check=True).statuses) == {"would_change"}
    done = host.run_steps(steps)
    assert set(done.statuses) == {"changed"}, list(map(result_message, done.outcomes))
    assert sorted(added(host)) == sorted(RULES)
    assert set(host.run_steps(steps).statuses) == {"ok"}
    gone = [firewall_step(**params, state="absent") for params in list(RULES.values())[:5]]
    assert set(host.run_steps(gone).statuses) == {"changed"}
    assert sorted(added(host)) == sorted(list(RULES)[5:])
    host.check_then_run(firewall_step(**RULES["limit SSH"], state="absent"), "changed")
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


NFTABLES = """
rm -f "$(command -v ufw)"
rm -rf /etc/nftables.d
"""
OWN_RULES = """\
flush ruleset
table inet filter {
	chain input {
		type filter hook input priority -5; policy drop;
		iif "lo" accept
		tcp dport 22 accept
	}
}
"""
BY_NFTABLES = {
    "tcp dport 443 accept": {"port": "443/tcp"},
    "meta l4proto { tcp, udp } th dport 53 accept": {"port": 53},
    "udp dport 2379-2381 drop": {"port": "2379-2381/udp", "action": "deny"},
    "tcp dport { 80, 8080 } accept": {"port": "80,8080/tcp"},
    "ip saddr 10.0.0.0/8 accept": {"source": "10.1.2.3/8"},
    "ip6 saddr fd00::/8 tcp dport 22 reject with icmpv6 port-unreachable": {
        "source": "FD00::/8",
        "port": "22/tcp",
        "action": "reject",
    },
    'iifname "eth0" tcp dport 80 accept': {"interface": "eth0", "port": "80/tcp"},
}
FILE = "/etc/nftables.d/orch_inet_filter_input.nft"


@pytest.fixture
def nftables(private: ShellMachine) -> ShellMachine:
    run_in_copy(private, NFTABLES)
    return private


def live_rules(machine: ShellMachine, chain: str = "inet filter orch_input") -> list[str]:
    """Return the rules of a chain, as nftables prints them, without those that orch adds."""
    lines = run_in_copy(machine, f"nft list chain {chain}").splitlines()
    return [line.strip().partition(' comment "')[0] for line in lines if '"orch: ' in line]


def reload_rules(machine: ShellMachine) -> None:
    """Do what a start does."""
    run_in_copy(machine, "nft flush ruleset; nft -f /etc/nftables.conf")


def test_rules_of_nftables_come_and_go_and_outlive_a_start(nftables: ShellMachine) -> None:
    steps = [firewall_step(**params) for params in BY_NFTABLES.values()]
    assert set(nftables.run_steps(steps, check=True).statuses) == {"would_change"}
    done = nftables.run_steps(steps)
    assert set(done.statuses) == {"changed"}, list(map(result_message, done.outcomes))
    assert live_rules(nftables) == list(BY_NFTABLES)
    reload_rules(nftables)
    assert live_rules(nftables) == list(BY_NFTABLES)
    assert set(nftables.run_steps(steps).statuses) == {"ok"}
    gone = [firewall_step(**params, state="absent") for params in list(BY_NFTABLES.values())[:5]]
    assert set(nftables.run_steps(gone).statuses) == {"changed"}
    assert live_rules(nftables) == list(BY_NFTABLES)[5:]
    reload_rules(nftables)
    assert live_rules(nftables) == list(BY_NFTABLES)[5:]
    assert run_in_copy(nftables, "grep -c include /etc/nftables.conf") == "1\n"
    nftables.check_then_run(firewall_step(**BY_NFTABLES["tcp dport 443 accept"]), "changed")


def test_a_rule_that_is_only_live_or_only_saved_is_completed(nftables: ShellMachine) -> None:
    step = firewall_step(port="443/tcp")
    nftables.check_then_run(step, "changed")
    run_in_copy(nftables, "nft flush chain inet filter input")
    outcome = nftables.check_then_run(step, "changed")
    assert outcome_changes(outcome) == {"rule": ("only after the next start", "present")}
    run_in_copy(nftables, f"sed -i /443/d {FILE}")
    outcome = nftables.check_then_run(step, "changed")
    assert outcome_changes(outcome) == {"rule": ("only until the next start", "present")}
    run_in_copy(nftables, "sed -i /include/d /etc/nftables.conf")
    nftables.check_then_run(step, "changed")
    reload_rules(nftables)
    nftables.check_then_run(step, "ok")


HERE, THERE = "10.9.0.1", "10.9.0.2"


def can_connect(machine: ShellMachine, to: str, port: int) -> bool:
    """Return True if the other end of the network can connect to this address and port."""
    code = f"import socket; socket.create_connection(('{to}', {port}), 0.5)"
    end = "ip netns exec neighbor" if to == HERE else ""
    return run_in_copy(machine, f'{end} python3 -c "{code}" 2>/dev/null && echo yes || :') != ""


def lets_in(machine: ShellMachine, port: int) -> bool:
    return can_connect(machine, HERE, port)


NEIGHBOR = """
ip netns add neighbor
ip link add orch0 type veth peer name orch1 netns neighbor
ip addr add 10.9.0.1/24 dev orch0
ip link set orch0 up
ip link set lo up
ip netns exec neighbor ip addr add 10.9.0.2/24 dev orch1
ip netns exec neighbor ip link set orch1 up
ip netns exec neighbor ip link set lo up
"""
SERVE = """
cat >/run/serve.py <<'END'
import os, socket, sys
servers = [socket.create_server((sys.argv[1], int(port))) for port in sys.argv[2:]]
if os.fork():
    os._exit(0)
os.closerange(0, 3)
while True:
    servers[-1].accept()
END
python3 /run/serve.py 10.9.0.1 80 443
ip netns exec neighbor python3 /run/serve.py 10.9.0.2 7
"""


def test_packets_pass_as_nftables_is_told(nftables: ShellMachine) -> None:
    run_in_copy(nftables, NEIGHBOR + SERVE)
    assert lets_in(nftables, 80) and lets_in(nftables, 443)
    steps = [firewall_step(port="443/tcp"), firewall_step(incoming="deny")]
    nftables.run_steps(steps)
    assert set(nftables.run_steps(steps).statuses) == {"ok"}
    assert lets_in(nftables, 443) and not lets_in(nftables, 80)
    assert can_connect(nftables, THERE, 7)
    reload_rules(nftables)
    assert lets_in(nftables, 443) and not lets_in(nftables, 80)
    nftables.check_then_run(firewall_step(incoming="allow"), "changed")
    assert lets_in(nftables, 80)
    assert "needed" not in run_in_copy(nftables, f"nft list ruleset; cat {FILE}")
    nftables.check_then_run(firewall_step(port="80/tcp", action="deny"), "changed")
    assert lets_in(nftables, 443) and not lets_in(nftables, 80)


@pytest.mark.long
def test_the_hosts_own_chain_stays_and_lets_in_what_orch_allows(nftables: ShellMachine) -> None:
    run_in_copy(nftables, f"{NEIGHBOR}{SERVE}cat >/etc/nftables.conf <<'E'\n{OWN_RULES}E\n")
    reload_rules(nftables)
    before = run_in_copy(nftables, "nft list chain inet filter input")
    assert not lets_in(nftables, 443)
    nftables.check_then_run(firewall_step(port="443/tcp"), "changed")
    assert lets_in(nftables, 443) and not lets_in(nftables, 80)
    after = run_in_copy(nftables, "nft list chain inet filter input")
    assert after.replace("\t\tjump orch_input\n", "") == before
    reload_rules(nftables)
    assert lets_in(nftables, 443) and not lets_in(nftables, 80)
    assert run_in_copy(nftables, "nft list chain inet filter input") == after
    outcome = nftables.check_then_run(firewall_step(incoming="deny"), "changed")
    assert outcome_changes(outcome)["incoming"][0] == "deny, even answers, at boot unmanaged"


def test_a_chain_of_another_name(nftables: ShellMachine) -> None:
    own = OWN_RULES.replace("inet filter", "ip mine").replace("chain input", "chain forward")
    run_in_copy(nftables, f"cat >/etc/nftables.conf <<'E'\n{own}E\n")
    step = firewall_step(port="443/tcp", chain="ip mine forward")
    outcome = nftables.run_step(step)
    assert outcome.status == "failed" and "No such file" in outcome.stderr.text
    reload_rules(nftables)
    nftables.check_then_run(step, "changed")
    assert live_rules(nftables, "ip mine orch_forward") == ["tcp dport 443 accept"]
    reload_rules(nftables)
    nftables.check_then_run(step, "ok")


def test_what_nftables_cannot_do_is_refused(nftables: ShellMachine) -> None:
    for params, message in (
        ({"service": "https"}, "are not for nftables"),
        ({"port": "1/tcp", "action": "limit"}, "are not for nftables"),
        ({"enabled": True}, "`service: {name: nftables, enabled: true}`"),
        ({"incoming": "reject"}, "are not for nftables"),
        ({"port": "1/tcp", "chain": "inet filter"}, "`chain` must be like inet filter input"),
        ({"port": "1/tcp", "chain": "inet a; b"}, "`chain` must be like inet filter input"),
        ({"port": "99999/tcp"}, "out of range"),
        ({"port": "1/tcp", "manager": "ufw"}, "this host has no ufw"),
    ):
        outcome = nftables.check_then_run(firewall_step(**params), "failed")
        assert message in outcome.stderr.text, result_message(outcome)
    assert run_in_copy(nftables, "nft list ruleset; ls /etc/nftables.d 2>/dev/null || :") == ""
