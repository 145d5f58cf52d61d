"""Files of variables of all hosts: ``vars/`` of a stage and of common."""

from __future__ import annotations

from pathlib import Path

from orchestrator.inventory.precedence import VariableMerger
from orchestrator.model.host import Stage
from tests.unit.inventory.inventory_project import load_files, only_problem, position_text


def values(stage: Stage, host: str = "web1") -> dict[str, object]:
    merged = VariableMerger().values_of(stage.hosts[host])
    return {str(name): value.to_plain() for name, value in merged.items()}


def test_files_in_vars_are_weaker_than_stage_yml_and_common_is_weaker_than_the_stage(
    tmp_path: Path,
) -> None:
    stage = load_files(
        tmp_path,
        {
            "common/vars/a.yml": "a: file\nb: file\nc: file\nd: {x: 1, y: 1}\n",
            "common/vars/more.yml": "e: more\n",
            "common/stage.yml": "vars: {b: common, c: common, d: {y: 2}}\n",
            "dev/vars/own.yml": "c: own\nf: own\n",
            "dev/stage.yml": "vars: {f: stage}\n",
            "dev/hosts.yml": "web1:\n",
        },
    )
    assert values(stage) == {
        **{"a": "file", "b": "common", "c": "own", "d": {"x": 1, "y": 2}},
        **{"e": "more", "f": "stage"},
    }


def test_a_name_in_two_files_is_an_error_that_names_both(tmp_path: Path) -> None:
    files = {
        "common/vars/a.yml": "x: 1\n",
        "common/vars/b.yml": "y: 1\nx: 2\n",
        "dev/hosts.yml": "web1:\n",
    }
    found = only_problem(tmp_path, files)
    assert found.message == "'x' is set in two files of vars/"
    assert position_text(found) == "common/vars/b.yml:2:1"
    assert "vars/a.yml:1:1" in found.hint


def test_what_cannot_be_a_variable_is_told_at_its_line(tmp_path: Path) -> None:
    files = {"common/vars/a.yml": "ok: 1\nhost: 1\n", "dev/hosts.yml": "web1:\n"}
    found = only_problem(tmp_path, files)
    assert "'host' in vars/a.yml cannot name a variable" in found.message
    assert position_text(found) == "common/vars/a.yml:2:1"


def test_a_stage_in_ansibles_format_keeps_its_own_folder_of_that_name(tmp_path: Path) -> None:
    stage = load_files(
        tmp_path,
        {
            "common/vars/a.yml": "a: common\n",
            "dev/hosts.ini": "web1\n",
            "dev/vars/x.yml": "- not read\n",
        },
    )
    assert values(stage)["a"] == "common"
