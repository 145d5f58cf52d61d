from __future__ import annotations

import itertools
from pathlib import Path
from textwrap import dedent

import pytest

from tests.unit.inventory.inventory_project import load_files, only_problem, position_text


def test_a_role_of_roles_has_all_their_hosts_once(tmp_path: Path) -> None:
    got = load_files(
        tmp_path,
        {
            "dev/roles.yml": dedent("""\
            site: {hosts: [x], roles: [web, api]}
            web: [w1, w2]
            api: [w2, a1]
            """)
        },
    )
    assert got.roles["site"].hosts == ("x", "w1", "w2", "a1")
    assert got.hosts["w2"].roles == ("site", "web", "api")


def test_a_host_may_claim_roles_and_makes_them_by_that(tmp_path: Path) -> None:
    got = load_files(
        tmp_path,
        {
            "dev/hosts/h1.yml": "roles: [web, new]",
            "dev/hosts/h2.yml": "",
            "dev/roles/web.yml": "[h2]",
        },
    )
    assert got.roles["web"].hosts == ("h2", "h1")
    assert got.roles["new"].hosts == ("h1",)
    assert ["'new'" in text for text, _ in got.notes] == [True]


def test_an_unknown_role_in_a_role_names_the_nearest(tmp_path: Path) -> None:
    found = only_problem(
        tmp_path,
        {
            "dev/roles.yml": dedent("""\
        site:
          roles: [wep]
        web: [a]
        """)
        },
    )
    assert found.hint == "did you mean 'web'?"
    assert position_text(found) == "dev/roles.yml:2:11"


def test_roles_in_a_circle_are_told_as_a_circle(tmp_path: Path) -> None:
    found = only_problem(
        tmp_path,
        {
            "dev/roles.yml": dedent("""\
            a: {roles: [b]}
            b: {roles: [c]}
            c: {roles: [a]}""")
        },
    )
    assert "contains itself" in found.message
    steps = found.message.partition(": ")[2].split(" > ")
    assert steps[0] == steps[-1]
    assert {*itertools.pairwise(steps)} == {("a", "b"), ("b", "c"), ("c", "a")}
    assert (
        "contains itself"
        in only_problem(tmp_path / "2", {"dev/roles.yml": "a: {roles: [a]}"}).message
    )


def test_the_primary_is_the_first_unless_it_is_named(tmp_path: Path) -> None:
    text = dedent("""\
        web: {hosts: [a, b]}
        db: {hosts: [a, b], primary: B}
        none: []
        empty:
        """)
    got = load_files(tmp_path, {"dev/roles.yml": text})
    assert got.roles["web"].primary == "a"
    assert got.roles["db"].primary == "b"
    assert got.roles["none"].primary is None
    assert got.roles["empty"].hosts == ()


def test_a_primary_outside_its_role_is_an_error(tmp_path: Path) -> None:
    found = only_problem(
        tmp_path,
        {
            "dev/roles.yml": dedent("""\
            db:
              hosts: [db1, db2]
              primary: db3
            x: [db3]
            """)
        },
    )
    assert "db3" in found.message
    assert position_text(found) == "dev/roles.yml:3:12"


@pytest.mark.parametrize(
    "name", ["all", "-x", "a:b", "a b", "'a,b'", "'!a'", "'&a'", "'*'", "'a[1]'", "''"]
)
def test_what_cannot_name_a_role_is_refused(tmp_path: Path, name: str) -> None:
    assert "cannot name a role" in only_problem(tmp_path, {"dev/roles.yml": f"{name}: [x]"}).message


@pytest.mark.parametrize(
    "body", ["text", "42", "true", "{host: [a]}", "{hosts: }", "{hosts: {a: 1}}"]
)
def test_a_role_of_another_shape_is_refused(tmp_path: Path, body: str) -> None:
    assert position_text(only_problem(tmp_path, {"dev/roles.yml": f"web: {body}"})).startswith(
        "dev/roles.yml:1:"
    )


def test_a_host_and_a_role_of_one_name_are_noted(tmp_path: Path) -> None:
    got = load_files(tmp_path, {"dev/roles.yml": "db: [db]"})
    assert "means both" in got.notes[0][0]
