from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import DiagnosticCollector
from orchestrator.yamlio.local_files import display_path, list_directory, natural_sort_key


def test_a_folder_lists_its_yaml_in_natural_order_without_what_is_ignored(tmp_path: Path) -> None:
    for name in ("web10.yml", "web2.yaml", "Web1.yml", ".x.yml", "a.yml~", "n.txt", "README.md"):
        (tmp_path / name).write_text("")
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    problems = DiagnosticCollector()
    found = list_directory(tmp_path, "f", problems)
    assert list(found.files.items()) == [
        ("Web1", "Web1.yml"),
        ("web2", "web2.yaml"),
        ("web10", "web10.yml"),
    ]
    assert found.folders == ("sub",)
    assert found.others == ("n.txt",)
    assert not problems.diagnostics


def test_two_suffixes_for_one_name_are_an_error(tmp_path: Path) -> None:
    for name in ("a.yml", "a.yaml"):
        (tmp_path / name).write_text("")
    problems = DiagnosticCollector()
    list_directory(tmp_path, "f", problems)
    (problem,) = problems.diagnostics
    assert "'a.yaml' and 'a.yml'" in problem.message


def test_a_missing_folder_is_a_problem(tmp_path: Path) -> None:
    problems = DiagnosticCollector()
    assert list_directory(tmp_path / "none", "none", problems).files == {}
    assert problems.diagnostics


def test_natural_order_counts_numbers() -> None:
    names = ["w10", "w9", "W1", "w01", "a", "10", "9"]
    assert sorted(names, key=natural_sort_key) == ["9", "10", "a", "W1", "w01", "w9", "w10"]


def test_paths_are_shown_as_one_would_type_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert display_path(tmp_path / "a" / "b") == "a/b"
    assert display_path(tmp_path.parent / "x") == "../x"
    assert display_path(Path("/nowhere/at/all")) == "/nowhere/at/all"
