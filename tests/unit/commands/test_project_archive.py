"""A project as an archive has the same digest where it is unpacked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.commands.project_archive import pack_project, project_digest, unpack_project


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    files = {
        "tasks/one.yml": "steps: []\n",
        "files/odd name\n'x'": "text\n",
        "tasks/.hidden.yml": "steps: []\n",
        ".git/config": "secret\n",
        ".orch/runs/x": "log\n",
        "tasks/filters/__pycache__/f.pyc": "code\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "tasks/run.sh").write_text("#!/bin/sh\n")
    (root / "tasks/run.sh").chmod(0o755)
    (root / "link").symlink_to("tasks")
    (root / "dangling").symlink_to("nowhere")
    return root


def test_what_is_unpacked_has_the_same_digest(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cache" / "copy"
    unpack_project(pack_project(root), copy)
    assert project_digest(copy) == project_digest(root)
    assert (copy / "files/odd name\n'x'").read_text() == "text\n"
    assert os.access(copy / "tasks/run.sh", os.X_OK)
    assert sorted(path.name for path in copy.iterdir()) == ["dangling", "files", "link", "tasks"]
    assert not (copy / "tasks/filters").exists()


def test_the_digest_is_that_of_names_modes_and_contents(root: Path) -> None:
    before = project_digest(root)
    (root / ".git/config").write_text("other\n")
    assert project_digest(root) == before
    (root / "tasks/run.sh").chmod(0o644)
    assert project_digest(root) != before
    (root / "tasks/run.sh").chmod(0o755)
    assert project_digest(root) == before
    (root / "tasks/one.yml").write_text("steps: [] \n")
    assert project_digest(root) != before


def test_of_two_that_unpack_at_once_both_have_the_folder(root: Path, tmp_path: Path) -> None:
    data, folder = pack_project(root), tmp_path / "cache" / "copy"
    unpack_project(data, folder)
    unpack_project(data, folder)
    assert list(folder.parent.iterdir()) == [folder]
