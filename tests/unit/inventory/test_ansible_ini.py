"""Ansible's INI format: the expectations are those of ``ansible-inventory`` (ansible-core 2.19)."""

from __future__ import annotations

import pytest

from orchestrator.errors import DiagnosticCollector, SourcePosition
from orchestrator.inventory.ansible.groups import AnsibleInventory
from orchestrator.inventory.ansible.host_patterns import expand_host_pattern
from orchestrator.inventory.ansible.ini_source import parse_ini_value, read_ini_source
from orchestrator.inventory.hostnames import InvalidHostNameError


def read(text: str) -> tuple[AnsibleInventory, list[str]]:
    """Return the inventory and the problems of an INI text."""
    inventory, problems = AnsibleInventory(), DiagnosticCollector()
    read_ini_source(text, "hosts", inventory, problems)
    inventory.complete()
    return inventory, [f"{each.mark}: {each.message}" for each in problems.diagnostics]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("80", 80),
        ("0644", "0644"),
        ("0x1f", 31),
        ("1e3", 1000.0),
        ("1_000", 1000),
        ("True", True),
        ("true", "true"),
        ("yes", "yes"),
        ("None", None),
        ("'80'", "80"),
        ("'a' # comment", "a"),
        ("a # no comment", "a # no comment"),
        ("[1, 'a', (2,)]", [1, "a", [2]]),
        ("{'a': 1, 2: None}", {"a": 1, "2": None}),
        ("[1,", "[1,"),
        ("10.0.0.1", "10.0.0.1"),
        ("b'x'", "x"),
        ("1j", "1j"),
        ("", ""),
        ("(" * 5000, "(" * 5000),
    ],
)
def test_values_are_python_literals_or_text(text: str, value: object) -> None:
    assert parse_ini_value(text, SourcePosition("hosts")).to_plain() == value


@pytest.mark.parametrize(
    ("pattern", "names", "port"),
    [
        ("web1", ["web1"], None),
        ("web[1:3]", ["web1", "web2", "web3"], None),
        ("web[01:10:4].x", ["web01.x", "web05.x", "web09.x"], None),
        ("web[:2]", ["web0", "web1", "web2"], None),
        ("db-[a:c]", ["db-a", "db-b", "db-c"], None),
        ("[y:B]", ["y", "z", "A", "B"], None),
        ("r[1:2]n[1:2]:22", ["r1n1", "r1n2", "r2n1", "r2n2"], 22),
        ("web1:2222", ["web1"], 2222),
        ("[2001:db8::1]:22", ["2001:db8::1"], 22),
        ("2001:db8::1", ["2001:db8::1"], None),
        ("web[3:1]", [], None),
    ],
)
def test_host_patterns(pattern: str, names: list[str], port: int | None) -> None:
    assert expand_host_pattern(pattern) == (names, port)


@pytest.mark.parametrize(
    "pattern",
    [
        "web[1]",
        "web[1:2:0]",
        "web[01:100]",
        "web[1:]",
        "web[c:a]",
        "web[1:a]",
        "web:",
        "a b",
        "all",
    ],
)
def test_invalid_host_patterns(pattern: str) -> None:
    with pytest.raises(InvalidHostNameError):
        expand_host_pattern(pattern)


def test_sections_hosts_and_variables() -> None:
    inventory, problems = read(
        "alone x='a b' y=\"c#d\" z=1 # comment\n"
        "; comment\n"
        "[web] # comment\n"
        "web[1:2]:2222 port=80\n"
        "web1 port=81\n"
        "[web:vars]\n"
        "key = a = b\n"
        "[prod:children]\n"
        "later-on\n"
        "web\n"
        "[later-on]\n"
        "db1\n"
    )
    assert not problems
    plain = {
        name: {str(key): value.data for key, value in host.vars.items()}
        for name, host in inventory.hosts.items()
    }
    assert plain == {
        "alone": {"x": "a b", "y": "c#d", "z": 1},
        "web1": {"ansible_port": 2222, "port": 81},
        "web2": {"ansible_port": 2222, "port": 80},
        "db1": {},
    }
    assert inventory.groups["web"].vars.keys() == {"key"}
    assert [host.name for host in inventory.groups["prod"].all_hosts()] == ["db1", "web1", "web2"]
    assert [group.name for group in inventory.groups_of(inventory.hosts["web1"])] == ["prod", "web"]
    assert list(inventory.groups["ungrouped"].hosts) == ["alone"]
    mark = inventory.hosts["web1"].vars[next(iter(inventory.hosts["web1"].vars))].mark
    assert mark.line == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[web\nweb1\n", "hosts:1:1: the host cannot be read"),
        ("[a b]\n", "hosts:1:1: '[a b]' is not a section"),
        ("[web:things]\n", "hosts:1:1: the section [web:things] has an unknown type"),
        ("[web:vars]\nx=1\n", "hosts:1:1: variables of the group 'web', which no section declares"),
        ("[a:children]\nb\n", "hosts:2:1: the group 'a' contains 'b', which no section declares"),
        ("[a:children]\nb\n[b:children]\na\n", "hosts:4:1: the group 'b' would contain itself"),
        ("[web:vars]\nx\n[web]\n", "hosts:2:1: 'x' is not a variable of group 'web'"),
        ("web1 port = 80\n", "hosts:1:6: 'port' is not a variable of host 'web1'"),
        ("web1 x='a\n", "hosts:1:1: the line cannot be split into words"),
        ("[a:vars]\nansible_group_priority=x\n[a]\n", "hosts:2:24: ansible_group_priority"),
    ],
)
def test_errors_name_their_line(text: str, problem: str) -> None:
    found = read(text)[1]
    assert any(each.startswith(problem) for each in found), found
