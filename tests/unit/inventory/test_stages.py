from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError, UsageError
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.inventory.stages import find_project_root, list_stages, read_default_stage
from tests.unit.inventory.inventory_project import load_files, write_inventory


def test_stages_are_the_folders_in_order_without_common_and_what_is_ignored(tmp_path: Path) -> None:
    write_inventory(
        tmp_path, dict.fromkeys(["prod/", "dev/", "stage2/", "stage10/", "common/"], "")
    )
    write_inventory(
        tmp_path, dict.fromkeys([".git/", "dev~", "README.md", "dev.bak/", "notes.txt"], "")
    )
    found = list_stages(tmp_path)
    assert found.names == ("dev", "prod", "stage2", "stage10")
    assert found.refused == ()


@pytest.mark.parametrize("name", ["stage", "host", "all", "roles", "x", "1", "dev.eu", "a_b"])
def test_any_safe_name_is_a_stage(tmp_path: Path, name: str) -> None:
    assert load_files(tmp_path, {f"{name}/roles.yml": "web: [a]"}, name).name == name


@pytest.mark.parametrize("name", ["-x", "a b", " ", "a\tb", "a\x1bb", "a..b", "Common", "a\nb"])
def test_a_folder_that_cannot_be_a_stage_is_refused_with_its_path_and_the_others_work(
    tmp_path: Path, name: str
) -> None:
    write_inventory(tmp_path, {"dev/roles.yml": "web: [a]", f"{name}/": ""})
    found = list_stages(tmp_path)
    assert found.names == ("dev",)
    ((refused, problem),) = found.refused
    assert refused == name
    assert problem.mark is not None
    assert problem.mark.path.isprintable()
    assert "inventories/" in problem.mark.path
    assert list(load_stage(tmp_path, "dev").hosts) == ["a"]
    with pytest.raises(UsageError, match="cannot be a stage"):
        load_stage(tmp_path, name)


def test_a_file_in_place_of_a_folder_is_told_where_to_go(tmp_path: Path) -> None:
    write_inventory(tmp_path, {"dev.yml": ""})
    ((name, problem),) = list_stages(tmp_path).refused
    assert name == "dev"
    assert problem.hint.endswith("inventories/dev/stage.yml")


def test_a_folder_with_bytes_that_are_no_utf8_can_be_shown(tmp_path: Path) -> None:
    write_inventory(tmp_path, {"dev/": ""})
    (tmp_path / "inventories").joinpath(b"caf\xe9".decode("utf-8", "surrogateescape")).mkdir()
    ((_, problem),) = list_stages(tmp_path).refused
    str(problem.mark).encode()
    problem.message.encode()


@pytest.mark.parametrize("name", ["", "..", "../dev", "/etc", "common", "."])
def test_a_path_or_nothing_is_no_stage(tmp_path: Path, name: str) -> None:
    write_inventory(tmp_path, {"dev/": "", "common/": ""})
    with pytest.raises(UsageError, match="cannot be a stage"):
        load_stage(tmp_path, name)


def test_an_unknown_stage_is_named_with_the_list_and_the_nearest(tmp_path: Path) -> None:
    write_inventory(tmp_path, {"dev/": "", "prod/": ""})
    with pytest.raises(UsageError) as caught:
        load_stage(tmp_path, "Dev")
    (problem,) = caught.value.diagnostics
    assert problem.message == "no stage 'Dev'; the stages are: dev, prod"
    assert problem.hint == "did you mean 'dev'?"
    assert caught.value.exit_code == 2


def test_only_the_chosen_stage_and_common_are_read(tmp_path: Path) -> None:
    files = {"dev/roles.yml": "web: [a]", "prod/stage.yml": "a: 1\na: 2\n\tx", "qa/hosts.yml": "[["}
    assert list(load_files(tmp_path, files).hosts) == ["a"]
    assert list_stages(tmp_path).names == ("dev", "prod", "qa")
    with pytest.raises(DefinitionError) as caught:
        load_stage(tmp_path, "prod")
    (problem,) = caught.value.diagnostics
    assert str(problem.mark).endswith("prod/stage.yml:3:1")


def test_the_root_is_the_nearest_folder_upward_that_holds_inventories(tmp_path: Path) -> None:
    outer = write_inventory(tmp_path, {"dev/": ""})
    inner = write_inventory(tmp_path / "sub" / "project", {"dev/": ""})
    deep = inner / "a" / "b"
    deep.mkdir(parents=True)
    assert find_project_root(deep) == inner
    assert find_project_root(tmp_path / "sub") == outer
    assert find_project_root(Path("/proc")) is None


def test_no_inventories_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="cannot read"):
        list_stages(tmp_path)


def test_the_default_stage_stands_in_common_and_need_not_exist_until_used(tmp_path: Path) -> None:
    write_inventory(tmp_path, {"dev/": ""})
    assert read_default_stage(tmp_path) is None
    write_inventory(tmp_path, {"common/stage.yml": "desc: x\ndefault_stage: nowhere\n"})
    value = read_default_stage(tmp_path)
    assert value is not None
    assert (value.data, value.mark.line) == ("nowhere", 2)
    assert load_stage(tmp_path, "dev").name == "dev"


def test_the_number_of_kept_runs_stands_in_common(tmp_path: Path) -> None:
    write_inventory(tmp_path, {"dev/": ""})
    assert load_stage(tmp_path, "dev").keep_runs == 50
    write_inventory(tmp_path, {"common/stage.yml": "keep_runs: 500\n"})
    assert load_stage(tmp_path, "dev").keep_runs == 500


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "true"])
def test_a_number_of_kept_runs_below_one_is_an_error(tmp_path: Path, value: str) -> None:
    write_inventory(tmp_path, {"dev/": "", "common/stage.yml": f"keep_runs: {value}\n"})
    with pytest.raises(DefinitionError, match="keep_runs must be"):
        load_stage(tmp_path, "dev")


@pytest.mark.parametrize("line", ["default_stage: dev", "keep_runs: 9"])
def test_a_setting_of_all_stages_in_one_stage_is_told_to_move(tmp_path: Path, line: str) -> None:
    write_inventory(tmp_path, {"dev/stage.yml": line})
    with pytest.raises(DefinitionError) as caught:
        load_stage(tmp_path, "dev")
    assert caught.value.diagnostics[0].hint == "move it to inventories/common/stage.yml"
