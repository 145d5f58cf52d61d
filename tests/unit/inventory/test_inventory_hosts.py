from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tests.unit.inventory.inventory_project import (
    load_files,
    only_problem,
    position_text,
    stage_problems,
)


def test_hosts_come_from_files_and_from_roles(tmp_path: Path) -> None:
    got = load_files(
        tmp_path,
        {
            "dev/hosts/web2.yml": "",
            "dev/hosts/web10.yml": "address: 10.0.0.5\nvars: {rack: a1}\n",
            "dev/roles/app.yml": dedent("""\
                - web10
                - db[1:2].example.net
                - deploy@10.0.0.7:2222
                - '[::1]:22'
                """),
        },
    )
    assert list(got.hosts) == [
        "web2",
        "web10",
        "db1.example.net",
        "db2.example.net",
        "10.0.0.7",
        "::1",
    ]
    assert got.hosts["web10"].connect.address == "10.0.0.5"
    assert got.hosts["web2"].connect.address == "web2"
    seven = got.hosts["10.0.0.7"].connect
    assert (seven.address, seven.user, seven.port) == ("10.0.0.7", "deploy", 2222)
    assert got.hosts["::1"].connect.port == 22
    assert got.roles["app"].hosts[0] == "web10"
    assert got.roles["app"].primary == "web10"
    assert got.hosts["web2"].roles == ()
    assert got.hosts["web10"].roles == ("app",)


def test_small_stages_use_one_file_each(tmp_path: Path) -> None:
    got = load_files(
        tmp_path,
        {
            "dev/hosts.yml": dedent("""\
                web1: {roles: [app]}
                u@db[1:2]:23:
                  vars: {x: 1}
                """),
            "dev/roles.yml": "app:\nall_db: {hosts: ['db[1:2]'], desc: Data}\n",
        },
    )
    assert list(got.hosts) == ["web1", "db1", "db2"]
    assert got.roles["app"].hosts == ("web1",)
    assert (got.hosts["db2"].connect.user, got.hosts["db2"].connect.port) == ("u", 23)
    assert got.roles["all_db"].desc == "Data"


def test_a_host_named_twice_is_one_host_and_a_note(tmp_path: Path) -> None:
    got = load_files(
        tmp_path,
        {"dev/roles/web.yml": "[devserver1, devserver1]", "dev/roles/db.yml": "[devserver1]"},
    )
    assert got.roles["web"].hosts == ("devserver1",)
    assert got.hosts["devserver1"].roles == ("db", "web")
    ((text, mark),) = got.notes
    assert "twice" in text
    assert mark.line == 1


@pytest.mark.parametrize("other", ["a1:22", "u@a1", "A1", "U@A1:22"])
def test_one_host_under_several_spellings_is_one(tmp_path: Path, other: str) -> None:
    got = load_files(
        tmp_path, {"dev/hosts/a1.yml": "", "dev/roles/web.yml": f"- a1\n- '{other}'\n"}
    )
    assert list(got.hosts) == ["a1"]
    assert got.roles["web"].hosts == ("a1",)
    assert got.notes


def test_a_name_that_is_the_address_of_a_described_host_is_that_host(tmp_path: Path) -> None:
    got = load_files(
        tmp_path,
        {"dev/hosts/web1.yml": "address: 10.0.0.5", "dev/roles/web.yml": "- 10.0.0.5:22\n- web1"},
    )
    assert list(got.hosts) == ["web1"]
    assert got.roles["web"].hosts == ("web1",)
    other_port = load_files(tmp_path, {"dev/roles/web.yml": "- 10.0.0.5:2222\n- web1"})
    assert list(other_port.hosts) == ["web1", "10.0.0.5"]


@pytest.mark.parametrize(("one", "two"), [("a1:22", "a1:2222"), ("u@a1", "v@a1"), ("A1:1", "a1:2")])
def test_one_host_with_two_users_or_ports_is_an_error_at_both_lines(
    tmp_path: Path, one: str, two: str
) -> None:
    found = only_problem(tmp_path, {"dev/roles/web.yml": f"- {one}\n- {two}\n"})
    assert "two values" in found.message
    assert "web.yml:1:3" in found.message
    assert position_text(found) == "dev/roles/web.yml:2:3"


def test_a_reference_that_contradicts_the_hosts_file_is_an_error(tmp_path: Path) -> None:
    files = {"dev/hosts/a1.yml": "connect: {port: 22}", "dev/roles/web.yml": "- a1:2222\n"}
    assert "'connect.port'" in only_problem(tmp_path, files).message
    files["dev/roles/web.yml"] = "- a1:22\n"
    assert load_files(tmp_path, files).hosts["a1"].connect.port == 22


def test_two_names_for_one_login_are_an_error(tmp_path: Path) -> None:
    files = {
        "dev/hosts/a.yml": "address: 10.0.0.5",
        "dev/hosts/b.yml": "address: 10.0.0.5\nconnect: {port: 22}",
    }
    found = only_problem(tmp_path, files)
    assert "'a'" in found.message
    assert "'b'" in found.message
    files["dev/hosts/b.yml"] = "address: 10.0.0.5\nconnect: {user: root}"
    assert len(load_files(tmp_path, files).hosts) == 2
    files["dev/hosts/b.yml"] = "address: 10.0.0.5\nconnect: {jump: bastion}"
    assert len(load_files(tmp_path, files).hosts) == 2


def test_two_files_for_one_host_are_an_error(tmp_path: Path) -> None:
    found = only_problem(tmp_path, {"dev/hosts/a1.yml": "", "dev/hosts/A1.yml": ""})
    assert "described twice" in found.message


@pytest.mark.parametrize(
    "item",
    ["", "''", "'  '", "~", "[a]", "{a: 1}", "true", "a1:", "a b", "a:0", "::1:22:x", "all", "-x"],
)
def test_an_impossible_host_is_an_error_at_its_line_and_never_this_machine(
    tmp_path: Path, item: str
) -> None:
    found = only_problem(tmp_path, {"dev/roles/web.yml": f"- ok\n- {item}\n- ok2\n"})
    assert position_text(found).startswith("dev/roles/web.yml:2:")


def test_every_impossible_host_is_told_at_once(tmp_path: Path) -> None:
    found = stage_problems(
        tmp_path, {"dev/roles/web.yml": "- ''\n- ~\n", "dev/roles/db.yml": "- a:0\n"}
    )
    assert [position_text(p) for p in found] == [
        "dev/roles/db.yml:1:3",
        "dev/roles/web.yml:1:3",
        "dev/roles/web.yml:2:3",
    ]


def test_numbers_are_names_as_written(tmp_path: Path) -> None:
    got = load_files(
        tmp_path,
        {
            "dev/roles/web.yml": dedent("""\
        - 42
        - 0644
        - 1.10
        - 1.5
        """)
        },
    )
    assert list(got.hosts) == ["42", "0644", "1.10", "1.5"]


def test_an_ipv6_address_without_quotes_is_told_to_be_quoted(tmp_path: Path) -> None:
    assert "quotes" in only_problem(tmp_path, {"dev/roles/web.yml": "- [::1]\n"}).hint
    assert list(load_files(tmp_path, {"dev/roles/web.yml": "- ::1\n"}).hosts) == ["::1"]


def test_a_host_with_a_colon_is_told_where_settings_go(tmp_path: Path) -> None:
    assert "hosts/web1.yml" in only_problem(tmp_path, {"dev/roles/web.yml": "- web1:\n"}).hint


def test_unknown_keys_of_a_host_name_the_nearest(tmp_path: Path) -> None:
    found = only_problem(tmp_path, {"dev/hosts/a.yml": "adress: x"})
    assert found.hint == "did you mean 'address'?"
    assert position_text(found) == "dev/hosts/a.yml:1:1"


@pytest.mark.parametrize("address", ["u@h", "h:22", "w[1:2]", "''", "a b", "[a]", "-x"])
def test_an_address_is_one_name_or_ip(tmp_path: Path, address: str) -> None:
    assert "address" in only_problem(tmp_path, {"dev/hosts/a.yml": f"address: {address}"}).message


def test_a_range_of_hosts_in_one_file_shares_what_it_says(tmp_path: Path) -> None:
    got = load_files(tmp_path, {"dev/hosts/web[1:3].yml": "vars: {rack: a}"})
    assert list(got.hosts) == ["web1", "web2", "web3"]
    assert got.hosts["web1"].layers[0] is got.hosts["web3"].layers[0]
    assert (
        "several hosts" in only_problem(tmp_path, {"dev/hosts/web[1:3].yml": "address: x"}).message
    )


def test_hosts_that_are_a_list_a_text_or_a_folder_within_are_errors(tmp_path: Path) -> None:
    assert "mapping" in only_problem(tmp_path / "1", {"dev/hosts.yml": "- a\n"}).message
    assert "mapping" in only_problem(tmp_path / "2", {"dev/hosts/a.yml": "just text"}).message
    assert "are not read" in only_problem(tmp_path / "3", {"dev/hosts/eu/a.yml": ""}).message


def test_hosts_in_two_forms_are_an_error(tmp_path: Path) -> None:
    assert (
        "both" in only_problem(tmp_path / "1", {"dev/hosts.yml": "", "dev/hosts/a.yml": ""}).message
    )
    assert (
        "both" in only_problem(tmp_path / "2", {"dev/roles.yml": "", "dev/roles/a.yml": ""}).message
    )
    assert (
        "both"
        in only_problem(tmp_path / "3", {"dev/hosts.yml": "", "dev/hosts": "#!/bin/sh"}).message
    )
    assert (
        "define the same name"
        in only_problem(tmp_path / "4", {"dev/hosts.yml": "", "dev/hosts.yaml": ""}).message
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("host/a.yml", "hosts"),
        ("role/a.yml", "roles"),
        ("Hosts/a.yml", "hosts"),
        ("hots.yml", "hosts"),
        ("stages.yml", "stage"),
    ],
)
def test_what_is_almost_a_part_of_a_stage_is_an_error(tmp_path: Path, name: str, hint: str) -> None:
    assert hint in only_problem(tmp_path, {f"dev/{name}": ""}).hint


@pytest.mark.parametrize(
    ("name", "hint"), [("group_vars/all.yml", "roles/GROUP.yml"), ("hosts.ini", "hosts")]
)
def test_files_of_ansible_beside_hosts_of_orch_are_an_error(
    tmp_path: Path, name: str, hint: str
) -> None:
    files = {f"dev/{name}": "", "dev/hosts/a.yml": ""}
    assert hint in only_problem(tmp_path, files).hint


def test_strangers_and_leftovers_do_not_hinder(tmp_path: Path) -> None:
    names = ["dev/zz.yml", "dev/keys/x", "dev/hosts/n.txt", "dev/hosts/a.yml~"]
    got = load_files(
        tmp_path, {**dict.fromkeys(names, "[["), "dev/hosts/.a.yml.swp": "", "dev/hosts/a.yml": ""}
    )
    assert list(got.hosts) == ["a"]
    assert sorted(mark.path.rpartition("/")[2] for _, mark in got.notes) == [
        "keys",
        "n.txt",
        "zz.yml",
    ]


def test_crlf_and_bom_are_fine(tmp_path: Path) -> None:
    got = load_files(tmp_path, {"dev/roles/web.yml": "\ufeff- a1\r\n- a2\r\n"})
    assert got.roles["web"].hosts == ("a1", "a2")


def test_common_is_beneath_every_stage(tmp_path: Path) -> None:
    files = {
        "common/hosts/bastion.yml": "address: 10.9.9.9\nconnect: {user: root}",
        "common/roles/web.yml": dedent("""\
            hosts: [shared]
            primary: shared
            vars: {x: 1}
            desc: Web"""),
        "common/roles/db.yml": "[d1]",
        "dev/hosts/bastion.yml": "address: 10.8.8.8",
        "dev/roles/web.yml": "vars: {y: 2}",
        "prod/roles/web.yml": "hosts: [p1, shared]",
    }
    dev = load_files(tmp_path, files)
    assert dev.roles["web"].hosts == ("shared",)
    assert dev.roles["web"].desc == "Web"
    assert list(dev.hosts) == ["bastion", "shared", "d1"]
    assert dev.hosts["bastion"].connect.address == "10.8.8.8"
    assert dev.hosts["bastion"].connect.user == "root"
    prod = load_files(tmp_path, files, "prod")
    assert prod.roles["web"].hosts == ("p1", "shared")
    assert prod.roles["web"].primary == "shared"
    assert prod.roles["db"].hosts == ("d1",)


def test_the_roles_a_host_claims_in_its_stage_replace_those_in_common(tmp_path: Path) -> None:
    files = {"common/hosts/h.yml": "roles: [web]", "dev/hosts/h.yml": "roles: []", "prod/": ""}
    assert load_files(tmp_path, files).hosts["h"].roles == ()
    assert load_files(tmp_path, files, "prod").hosts["h"].roles == ("web",)


def test_an_empty_stage_has_no_hosts_and_no_error(tmp_path: Path) -> None:
    got = load_files(tmp_path, {"dev/": ""})
    assert (got.hosts, got.roles) == ({}, {})
