from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.inventory.precedence import connection_origins
from orchestrator.model.host import ConnectionOptions
from tests.unit.inventory.inventory_project import load_files, only_problem, position_text

ALL = """
user: deploy
port: 2222
identity: [~/.ssh/id, keys/dev, /abs/key]
identities_only: true
jump: bastion1
transport: openssh
known_hosts: keys/known_hosts
host_keys: accept-new
timeout: 250ms
retries: 0
keepalive: 1m
forward_agent: true
shell: /bin/dash
become_method: doas
ssh_config: ssh/config
"""


def test_every_connect_setting_reaches_the_host_with_its_type(tmp_path: Path) -> None:
    body = "connect:\n" + "".join(f"  {row}\n" for row in ALL.strip().splitlines())
    got = load_files(tmp_path, {"dev/hosts/a.yml": body}).hosts["a"].connect
    assert got == ConnectionOptions(
        address="a",
        port=2222,
        user="deploy",
        identity=("~/.ssh/id", f"{tmp_path}/keys/dev", "/abs/key"),
        identities_only=True,
        jump="bastion1",
        transport="openssh",
        known_hosts=(f"{tmp_path}/keys/known_hosts",),
        host_keys="accept-new",
        timeout=0.25,
        retries=0,
        keepalive=60.0,
        forward_agent=True,
        shell="/bin/dash",
        become_method="doas",
        ssh_config=f"{tmp_path}/ssh/config",
        set_fields=frozenset(row.partition(":")[0] for row in ALL.strip().splitlines()),
    )


def test_a_setting_that_says_the_default_is_told_from_one_that_says_nothing(tmp_path: Path) -> None:
    got = load_files(tmp_path, {"dev/hosts/a.yml": "connect: {jump: none}"}).hosts["a"].connect
    assert got.jump is None
    assert got.is_set("jump")
    assert not ConnectionOptions("a").is_set("jump")
    assert ConnectionOptions("a", timeout=3.0).is_set("timeout")


def test_what_is_not_said_is_left_to_ssh(tmp_path: Path) -> None:
    got = load_files(tmp_path, {"dev/hosts/a.yml": ""}).hosts["a"].connect
    assert got == ConnectionOptions("a")


@pytest.mark.parametrize(
    "setting",
    [
        "port: 0",
        "port: 65536",
        "port: ssh",
        "user: '-x'",
        "user: a b",
        "transport: telnet",
        "host_keys: yes",
        "timeout: 0",
        "timeout: soon",
        "retries: -1",
        "forward_agent: yes",
        "shell: bash -l",
        "shell: -c",
        "become_method: runas",
        "jump: 'a b'",
        "jump: 'w[1:2]'",
        "identity: {a: 1}",
        "identity: ''",
        "user:",
    ],
)
def test_a_wrong_setting_is_an_error_at_its_value(tmp_path: Path, setting: str) -> None:
    found = only_problem(tmp_path, {"dev/stage.yml": f"connect:\n  {setting}\n"})
    assert position_text(found).startswith("dev/stage.yml:2:")


def test_an_unknown_setting_names_the_nearest(tmp_path: Path) -> None:
    found = only_problem(tmp_path, {"dev/hosts/a.yml": "connect: {identiy: x}"})
    assert found.hint == "did you mean 'identity'?"


def test_the_host_is_stronger_than_its_role_than_the_stage_than_common(tmp_path: Path) -> None:
    files = {
        "common/stage.yml": "connect: {user: u1, port: 1, timeout: 1, retries: 1, keepalive: 1}",
        "dev/stage.yml": "connect: {user: u2, port: 2, timeout: 2, retries: 2}",
        "common/roles/web.yml": "connect: {user: u3, port: 3, timeout: 3}",
        "dev/roles/web.yml": "hosts: [a, 'v@b:9']\nconnect: {user: u4, port: 4}",
        "common/hosts/a.yml": "connect: {user: u5}",
        "dev/hosts/a.yml": "connect: {user: u6}",
    }
    got = load_files(tmp_path, files)
    a, b = got.hosts["a"].connect, got.hosts["b"].connect
    assert (a.user, a.port, a.timeout, a.retries, a.keepalive) == ("u6", 4, 3.0, 2, 1.0)
    assert (b.user, b.port) == ("v", 9)


def test_each_setting_remembers_who_set_it_and_what_it_overrode(tmp_path: Path) -> None:
    files = {
        "dev/stage.yml": "connect: {user: u1}",
        "dev/roles/web.yml": "hosts: [a]\nconnect: {user: u2}",
        "dev/hosts/a.yml": "address: 10.0.0.1\nconnect: {user: u3}",
    }
    found = connection_origins(load_files(tmp_path, files).hosts["a"])
    values, user = [], found["user"]
    while user is not None:
        values.append((user.data, Path(user.mark.path).name))
        user = user.overridden  # type: ignore[assignment]
    assert values == [("u3", "a.yml"), ("u2", "web.yml"), ("u1", "stage.yml")]
    assert found["address"].mark.line == 1
    assert "port" not in found


def test_a_jump_host_is_no_hop_to_itself(tmp_path: Path) -> None:
    files = {"dev/stage.yml": "connect: {jump: 'adm@b1,b2'}", "dev/roles/all_.yml": "[B1, b2, w1]"}
    hosts = load_files(tmp_path, files).hosts
    assert [hosts[n].connect.jump for n in ("B1", "b2", "w1")] == [None, "adm@b1", "adm@b1,b2"]


def test_jump_none_goes_straight_there(tmp_path: Path) -> None:
    files = {"dev/stage.yml": "connect: {jump: b1}", "dev/hosts/a.yml": "connect: {jump: none}"}
    assert load_files(tmp_path, files).hosts["a"].connect.jump is None


def test_hosts_that_jump_through_each_other_are_an_error(tmp_path: Path) -> None:
    files = {"dev/hosts/a.yml": "connect: {jump: b}", "dev/hosts/b.yml": "connect: {jump: u@A:22}"}
    found = only_problem(tmp_path, files)
    assert "form a loop" in found.message
    assert ("a > b > a" in found.message) or ("b > a > b" in found.message)


def test_protected_and_desc_of_a_stage(tmp_path: Path) -> None:
    files = {
        "common/stage.yml": "desc: Shared\nprotected: true",
        "dev/stage.yml": "desc: Dev\nprotected: false",
        "prod/roles.yml": "web: [a]",
    }
    assert (load_files(tmp_path, files).protected, load_files(tmp_path, files).desc) == (
        False,
        "Dev",
    )
    prod = load_files(tmp_path, files, "prod")
    assert (prod.protected, prod.desc) == (True, "")


@pytest.mark.parametrize(
    "text",
    [
        "protectd: true",
        "protected: yes",
        "vars: [a]",
        "- a",
        "hosts: [a]",
    ],
)
def test_a_wrong_stage_file_is_an_error(tmp_path: Path, text: str) -> None:
    assert position_text(only_problem(tmp_path, {"dev/stage.yml": text})).startswith(
        "dev/stage.yml:1:"
    )
