from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.inventory.precedence import Merger, environment_of, variables
from orchestrator.model.host import Stage

from .project import place, problem, refused, stage


def var(got: Stage, host: str, name: str) -> object:
    return variables(got.hosts[host])[name].plain()


def siblings(one: str, other: str, host: str = "") -> dict[str, str]:
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
    found = problem(tmp_path, siblings(one, other))
    assert place(found).startswith("dev/roles/b.yml:2:")
    assert "a.yml:2:" in found.what
    assert "host 'h'" in found.what


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
    assert stage(tmp_path, siblings(one, other)).hosts


def test_the_host_settles_what_its_roles_disagree_on(tmp_path: Path) -> None:
    got = stage(tmp_path, siblings("vars: {x: 1}", "vars: {x: 2}", "vars: {x: 3}"))
    assert var(got, "h", "x") == 3
    got = stage(tmp_path, siblings("vars: {x: {k: 1}}", "vars: {x: {k: 2}}", "vars: {x: {k: 3}}"))
    assert var(got, "h", "x") == {"k": 3}


@pytest.mark.parametrize(
    ("one", "other", "own"),
    [("{k: 1}", "{k: 2}", "5"), ("1", "2", "{k: 1}"), ("{k: 1}", "2", "5"), ("[1]", "2", "3")],
)
def test_the_host_settles_by_a_value_of_another_kind(
    tmp_path: Path, one: str, other: str, own: str
) -> None:
    files = siblings(f"vars: {{x: {one}}}", f"vars: {{x: {other}}}", f"vars: {{x: {own}}}")
    assert stage(tmp_path, files).hosts


def test_a_host_that_sets_something_else_settles_nothing(tmp_path: Path) -> None:
    one, other = "vars: {x: {k: 1}}", "vars: {x: {k: 2}}"
    assert "'x.k'" in problem(tmp_path, siblings(one, other, "vars: {x: {j: 3}}")).what
    assert (
        "'x'"
        in problem(
            tmp_path, siblings("vars: {x: {k: 1}}", "vars: {x: 2}", "vars: {x: {j: 3}}")
        ).what
    )


def test_one_quarrel_is_told_once_for_all_hosts_of_both_roles(tmp_path: Path) -> None:
    files = {
        "dev/roles/a.yml": "hosts: ['h[1:50]']\nvars: {x: 1}\n",
        "dev/roles/b.yml": "hosts: ['h[1:50]']\nvars: {x: 2}\n",
    }
    assert "host 'h1' and 49 more" in problem(tmp_path, files).what
    files["dev/hosts/h1.yml"] = "vars: {x: 0}"
    assert "host 'h2' and 48 more" in problem(tmp_path, files).what


def test_a_role_is_weaker_than_those_that_it_holds(tmp_path: Path) -> None:
    files = {
        "dev/roles/zone.yml": "roles: [site]\nvars: {x: zone, y: zone, z: zone}",
        "dev/roles/site.yml": "roles: [a_web]\nvars: {x: site, y: site}",
        "dev/roles/a_web.yml": "hosts: [h]\nvars: {x: web}",
    }
    got = stage(tmp_path, files)
    assert [var(got, "h", n) for n in "xyz"] == ["web", "site", "zone"]


def test_two_roles_within_one_still_have_to_agree_unless_a_role_in_both_settles_it(
    tmp_path: Path,
) -> None:
    files = {
        "dev/roles/site.yml": "roles: [a, b]\nvars: {x: 0}",
        "dev/roles/a.yml": "roles: [c]\nvars: {x: 1}",
        "dev/roles/b.yml": "roles: [c]\nvars: {x: 2}",
        "dev/roles/c.yml": "[h]",
    }
    assert "role 'b'" in problem(tmp_path, files).what
    files["dev/roles/c.yml"] = "hosts: [h]\nvars: {x: 3}"
    assert var(stage(tmp_path, files), "h", "x") == 3


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
    got = stage(tmp_path, files)
    assert {n: var(got, "h", n) for n in "abcdem"} == {
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
        found = problem(tmp_path / file.replace("/", "_"), {f"dev/{file}": f"vars:\n  {name}: 1\n"})
        assert place(found) == f"dev/{file}:2:3"


@pytest.mark.parametrize("text", ["A-B: x", "A: [x]", "A:", "1A: x", "A: {b: c}"])
def test_an_environment_is_names_and_texts(tmp_path: Path, text: str) -> None:
    assert "environment" in problem(tmp_path, {"dev/stage.yml": f"environment:\n  {text}\n"}).what


def test_environments_merge_like_variables(tmp_path: Path) -> None:
    files = {
        "dev/stage.yml": "environment: {A: 1, B: 1}",
        "dev/hosts/h.yml": "environment: {B: 2}",
    }
    merged = Merger(environment_of).of(stage(tmp_path, files).hosts["h"])
    assert {k: v.plain() for k, v in merged.items()} == {"A": 1, "B": 2}


def test_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    found = refused(
        tmp_path,
        {
            "common/stage.yml": "vras: 1",
            "dev/hosts/a.yml": "x: 1\nx: 2\n",
            "dev/hosts/b.yml": "\tbad",
            "dev/roles/r.yml": "- ''\n",
        },
    )
    assert [place(p).rpartition("/")[2] for p in found] == [
        "stage.yml:1:1",
        "a.yml:2:1",
        "b.yml:1:1",
        "r.yml:1:3",
    ]
