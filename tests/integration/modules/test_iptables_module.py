"""``iptables``: rules of the real iptables, both kinds of it, on the network of a private copy."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import outcome_changes
from tests.support.private_copy import run_in_copy

CHOOSE = """
exec >&2
update-alternatives --set iptables /usr/sbin/iptables-{kind}
update-alternatives --set ip6tables /usr/sbin/ip6tables-{kind}
"""
PERSISTENT = """
mkdir -p /etc/iptables
cat >/usr/sbin/netfilter-persistent <<'END'
#!/bin/sh
[ "$1" = save ] || exit 1
iptables-save >/etc/iptables/rules.v4
ip6tables-save >/etc/iptables/rules.v6
END
chmod 755 /usr/sbin/netfilter-persistent
"""
"""What the package of that name does."""


@pytest.fixture(params=["nft", "legacy"])
def host(private: ShellMachine, request: pytest.FixtureRequest) -> ShellMachine:
    run_in_copy(private, CHOOSE.format(kind=request.param))
    return private


def iptables_step(**params: Any) -> dict[str, Any]:
    return {"iptables": {"chain": "INPUT", **params}}


def live_rules(machine: ShellMachine, words: str = "INPUT", program: str = "iptables") -> list[str]:
    lines = run_in_copy(machine, f"{program} -S {words}").splitlines()
    return [line.split(" ", 2)[2] for line in lines if line.startswith("-A")]


RULES: dict[str, dict[str, Any]] = {
    "-p tcp -m tcp --dport 443 -j ACCEPT": {
        "protocol": "tcp",
        "destination_port": 443,
        "jump": "ACCEPT",
    },
    "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT": {
        "ctstate": ["ESTABLISHED", "RELATED"],
        "jump": "ACCEPT",
    },
    "! -s 10.0.0.0/8 -i eth0 -p tcp -m multiport --dports 80,8000:8010 -m comment "
    '--comment "a \\"b\\" $c" -j REJECT --reject-with tcp-reset': {
        "source": "!10.0.0.0/8",
        "in_interface": "eth0",
        "protocol": "tcp",
        "destination_ports": ["80", "8000:8010"],
        "comment": 'a "b" $c',
        "jump": "REJECT",
        "reject_with": "tcp-reset",
    },
    "-p icmp -m icmp --icmp-type 8 -m limit --limit 3/min --limit-burst 7 -j ACCEPT": {
        "protocol": "icmp",
        "icmp_type": "echo-request",
        "limit": "3/minute",
        "limit_burst": "7",
        "jump": "ACCEPT",
    },
    "-p tcp -m tcp --tcp-flags SYN,ACK SYN -j DROP": {
        "protocol": "tcp",
        "match": ["tcp"],
        "options": ["--tcp-flags", "SYN,ACK", "SYN"],
        "jump": "DROP",
    },
}


def test_rules_come_and_go(host: ShellMachine) -> None:
    steps = [iptables_step(**params) for params in RULES.values()]
    asked = host.run_steps(steps, check=True)
    assert set(asked.statuses) == {"would_change"}, list(map(result_message, asked.outcomes))
    assert live_rules(host) == []
    assert set(host.run_steps(steps).statuses) == {"changed"}
    assert sorted(map(sorted_words, live_rules(host))) == sorted(map(sorted_words, RULES))
    assert set(host.run_steps(steps).statuses) == {"ok"}
    run_in_copy(host, "iptables -A INPUT -p tcp --dport 443 -j ACCEPT")
    gone = [iptables_step(**params, state="absent") for params in RULES.values()]
    assert set(host.run_steps(gone).statuses) == {"changed"}
    assert live_rules(host) == []
    assert set(host.run_steps(gone).statuses) == {"ok"}


def sorted_words(rule: str) -> list[str]:
    """Return the words of a rule: the two kinds of iptables print matches in different orders."""
    return sorted(rule.split())


def test_a_rule_is_inserted_where_it_should_be(host: ShellMachine) -> None:
    for jump, params in (
        ("ACCEPT", {}),
        ("DROP", {"action": "insert"}),
        ("RETURN", {"action": "insert", "rule_num": 2}),
    ):
        host.check_then_run(iptables_step(source="10.0.0.1", jump=jump, **params), "changed")
    assert [rule.split()[-1] for rule in live_rules(host)] == ["DROP", "RETURN", "ACCEPT"]


def test_tables_versions_policies_chains_and_flushes(host: ShellMachine) -> None:
    nat = {"table": "nat", "chain": "PREROUTING", "protocol": "tcp", "destination_port": "80"}
    host.check_then_run(
        iptables_step(**nat, jump="DNAT", to_destination="10.0.0.1:8080"), "changed"
    )
    assert "--to-destination 10.0.0.1:8080" in live_rules(host, "PREROUTING -t nat")[0]
    host.check_then_run(
        iptables_step(ip_version="ipv6", source="fd00::/8", jump="ACCEPT"), "changed"
    )
    assert live_rules(host, program="ip6tables") == ["-s fd00::/8 -j ACCEPT"]
    outcome = host.check_then_run(iptables_step(chain="FORWARD", policy="DROP"), "changed")
    assert outcome_changes(outcome) == {"policy": ("ACCEPT", "DROP")}
    assert "-P FORWARD DROP" in run_in_copy(host, "iptables -S FORWARD")
    own = {"chain": "OWN", "jump": "ACCEPT", "chain_management": True}
    host.check_then_run(iptables_step(**own), "changed")
    assert live_rules(host, "OWN") == ["-j ACCEPT"]
    host.check_then_run(iptables_step(chain="OWN", flush=True), "changed")
    host.check_then_run(iptables_step(**own), "changed")
    host.check_then_run(
        iptables_step(chain="OWN", chain_management=True, state="absent"), "changed"
    )
    assert "OWN" not in run_in_copy(host, "iptables -S")
    host.check_then_run(iptables_step(chain=None, table="nat", flush=True), "changed")
    assert live_rules(host, "PREROUTING -t nat") == []


def test_rules_are_saved_for_the_next_boot(host: ShellMachine) -> None:
    run_in_copy(host, PERSISTENT)
    host.check_then_run(iptables_step(source="10.0.0.1", jump="ACCEPT", save=False), "changed")
    assert run_in_copy(host, "ls /etc/iptables") == ""
    host.check_then_run(iptables_step(source="10.0.0.2", jump="ACCEPT"), "changed")
    run_in_copy(host, "iptables -F INPUT; iptables-restore </etc/iptables/rules.v4")
    assert live_rules(host) == ["-s 10.0.0.1/32 -j ACCEPT", "-s 10.0.0.2/32 -j ACCEPT"]


def test_what_is_no_rule_is_refused(host: ShellMachine) -> None:
    for params, message in (
        ({"chain": None, "jump": "ACCEPT"}, "`chain` is missing"),
        ({}, "give a rule, `policy`, `flush` or `chain_management`"),
        ({"policy": "DROP", "jump": "ACCEPT"}, "are instead of a rule"),
        ({"jump": "ACCEPT", "rule_num": 1}, "`rule_num` requires"),
        ({"chain": "a b", "jump": "ACCEPT"}, "`chain` is not valid"),
        ({"chain": "NONE", "jump": "ACCEPT"}, "there is no chain NONE"),
        ({"protocol": "tcp", "destination_port": "no such", "jump": "ACCEPT"}, "invalid port"),
        ({"options": ["--nonsense"], "jump": "ACCEPT"}, "unknown option"),
        ({"chain": "OWN", "chain_management": True, "policy": "DROP"}, "only chains"),
    ):
        outcome = host.check_then_run(iptables_step(**params), "failed")
        assert message in outcome.stderr.text, (params, result_message(outcome))
    assert "-A" not in run_in_copy(host, "iptables -S") and "OWN" not in run_in_copy(
        host, "iptables -S"
    )
