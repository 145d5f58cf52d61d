from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.inventory.precedence import VariableMerger, environment_of, host_variables
from orchestrator.model.host import Stage
from tests.unit.inventory.inventory_project import (
    load_files,
    only_problem,
    position_text,
    stage_problems,
)


def host_variable(got: Stage, host: str, name: str) -> object:
    return host_variables(got.hosts[host])[name].to_plain()


def sibling_layers(one: str, other: str, host: str = "") -> dict[str, str]:
    return {
        "dev/roles/a.yml": f"hosts: [h]\n{one}\n",
        "dev/roles/b.yml": f"hosts: [h]\n{other}\n",
        "dev/hosts/h.yml": host,
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("vars: {x: 1}", "vars: {x: 2}"),
        ("vars: {x: 1}", "vars: {x: '1'}"),
        ("vars: {x: 1}", "vars: {x: true}"),
        ("vars: {x: [1]}", "vars: {x: [2]}"),
        ("vars: {x: {k: 1}}", "vars: {x: {k: 2}}"),
        ("vars: {x: {k: {l: 1}}}", "vars: {x: {k: 5}}"),
        ("vars: {x: {}}", "vars: {x: 1}"),
        ("vars: {x: }", "vars: {x: 1}"),
        ("environment: {PATH: a}", "environment: {PATH: b}"),
        ("defaults: {file: {mode: '0644'}}", "defaults: {file: {mode: '0600'}}"),
        ("connect: {user: a}", "connect: {user: b}"),
        ("connect: {identity: [a]}", "connect: {identity: [b]}"),
    ],
)
def test_two_roles_that_differ_are_an_error_naming_both_lines(
    tmp_path: Path, one: str, other: str
) -> None:
    found = only_problem(tmp_path, sibling_layers(one, other))
    assert position_text(found).startswith("dev/roles/b.yml:2:")
    assert "a.yml:2:" in found.message
    assert "host 'h'" in found.message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("vars: {x: 1}", "vars: {x: 1}"),
        ("vars: {x: [1, {a: b}]}", "vars: {x: [1, {a: b}]}"),
        ("vars: {x: {k: 1, j: 1}}", "vars: {x: {l: 2, j: 1}}"),
        ("vars: {x: 1}", "vars: {y: 2}"),
        ("environment: {A: a}", "environment: {B: b}"),
        ("defaults: {file: {mode: a}}", "defaults: {file: {owner: b}}"),
        ("connect: {user: a}", "connect: {port: 1}"),
    ],
)
def test_two_roles_that_agree_or_add_up_are_fine(tmp_path: Path, one: str, other: str) -> None:
    assert load_files(tmp_path, sibling_layers(one, other)).hosts


def test_the_host_settles_what_its_roles_disagree_on(tmp_path: Path) -> None:
    got = load_files(tmp_path, sibling_layers("vars: {x: 1}", "vars: {x: 2}", "vars: {x: 3}"))
    assert host_variable(got, "h", "x") == 3
    got = load_files(
        tmp_path, sibling_layers("vars: {x: {k: 1}}", "vars: {x: {k: 2}}", "vars: {x: {k: 3}}")
    )
    assert host_variable(got, "h", "x") == {"k": 3}


@pytest.mark.parametrize(
    ("one", "other", "own"),
    [("{k: 1}", "{k: 2}", "5"), ("1", "2", "{k: 1}"), ("{k: 1}", "2", "5"), ("[1]", "2", "3")],
)
def test_the_host_settles_by_a_value_of_another_kind(
    tmp_path: Path, one: str, other: str, own: str
) -> None:
    files = sibling_layers(f"vars: {{x: {one}}}", f"vars: {{x: {other}}}", f"vars: {{x: {own}}}")
    assert load_files(tmp_path, files).hosts


def test_a_host_that_sets_something_else_settles_nothing(tmp_path: Path) -> None:
    one, other = "vars: {x: {k: 1}}", "vars: {x: {k: 2}}"
    assert (
        "'x.k'" in only_problem(tmp_path, sibling_layers(one, other, "vars: {x: {j: 3}}")).message
    )
    assert (
        "'x'"
        in only_problem(
            tmp_path, sibling_layers("vars: {x: {k: 1}}", "vars: {x: 2}", "vars: {x: {j: 3}}")
        ).message
    )


def test_one_quarrel_is_told_once_for_all_hosts_of_both_roles(tmp_path: Path) -> None:
    files = {
        "dev/roles/a.yml": "hosts: ['h[1:50]']\nvars: {x: 1}\n",
        "dev/roles/b.yml": "hosts: ['h[1:50]']\nvars: {x: 2}\n",
    }
    assert "host 'h1' and 49 more" in only_problem(tmp_path, files).message
    files["dev/hosts/h1.yml"] = "vars: {x: 0}"
    assert "host 'h2' and 48 more" in only_problem(tmp_path, files).message


def test_a_role_is_weaker_than_those_that_it_holds(tmp_path: Path) -> None:
    files = {
        "dev/roles/zone.yml": "roles: [site]\nvars: {x: zone, y: zone, z: zone}",
        "dev/roles/site.yml": "roles: [a_web]\nvars: {x: site, y: site}",
        "dev/roles/a_web.yml": "hosts: [h]\nvars: {x: web}",
    }
    got = load_files(tmp_path, files)
    assert [host_variable(got, "h", n) for n in "xyz"] == ["web", "site", "zone"]


def test_two_roles_within_one_still_have_to_agree_unless_a_role_in_both_settles_it(
    tmp_path: Path,
) -> None:
    files = {
        "dev/roles/site.yml": "roles: [a, b]\nvars: {x: 0}",
        "dev/roles/a.yml": "roles: [c]\nvars: {x: 1}",
        "dev/roles/b.yml": "roles: [c]\nvars: {x: 2}",
        "dev/roles/c.yml": "[h]",
    }
    assert "role 'b'" in only_problem(tmp_path, files).message
    files["dev/roles/c.yml"] = "hosts: [h]\nvars: {x: 3}"
    assert host_variable(load_files(tmp_path, files), "h", "x") == 3


def test_common_is_weaker_within_each_kind(tmp_path: Path) -> None:
    files = {
        "common/stage.yml": "vars: {a: 1, b: 1, m: {k: 1, l: 1}}",
        "dev/stage.yml": "vars: {a: 2, m: {k: 2}}",
        "common/roles/x.yml": "vars: {b: 3, c: 3, d: 3}",
        "dev/roles/x.yml": "hosts: [h]\nvars: {c: 4, d: 4}",
        "common/hosts/h.yml": "vars: {d: 5, e: 5}",
        "dev/hosts/h.yml": "vars: {e: 6}",
        "dev/roles/y.yml": "hosts: [h]\nvars: {b: 7}",
    }
    got = load_files(tmp_path, files)
    assert {n: host_variable(got, "h", n) for n in "abcdem"} == {
        "a": 2,
        "b": 7,
        "c": 4,
        "d": 5,
        "e": 6,
        "m": {"k": 2, "l": 1},
    }


@pytest.mark.parametrize("name", ["stage", "host", "item", "deploy-to", "1x", "a b", "in"])
def test_reserved_and_impossible_names_of_variables_are_errors(tmp_path: Path, name: str) -> None:
    for file in ("stage.yml", "hosts/h.yml", "roles/r.yml"):
        found = only_problem(
            tmp_path / file.replace("/", "_"), {f"dev/{file}": f"vars:\n  {name}: 1\n"}
        )
        assert position_text(found) == f"dev/{file}:2:3"


@pytest.mark.parametrize("text", ["A-B: x", "A: [x]", "A:", "1A: x", "A: {b: c}"])
def test_an_environment_is_names_and_texts(tmp_path: Path, text: str) -> None:
    assert (
        "environment"
        in only_problem(tmp_path, {"dev/stage.yml": f"environment:\n  {text}\n"}).message
    )


def test_environments_merge_like_variables(tmp_path: Path) -> None:
    files = {
        "dev/stage.yml": "environment: {A: 1, B: 1}",
        "dev/hosts/h.yml": "environment: {B: 2}",
    }
    merged = VariableMerger(environment_of).values_of(load_files(tmp_path, files).hosts["h"])
    assert {k: v.to_plain() for k, v in merged.items()} == {"A": 1, "B": 2}


def test_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    found = stage_problems(
        tmp_path,
        {
            "common/stage.yml": "vras: 1",
            "dev/hosts/a.yml": "x: 1\nx: 2\n",
            "dev/hosts/b.yml": "\tbad",
            "dev/roles/r.yml": "- ''\n",
        },
    )
    assert [position_text(p).rpartition("/")[2] for p in found] == [
        "stage.yml:1:1",
        "a.yml:2:1",
        "b.yml:1:1",
        "r.yml:1:3",
    ]
