"""The project's identity: equal in all of its checkouts, and different from other projects."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from orchestrator.commands.project_identity import normalize_repository, project_identity


def make_checkout(root: Path, origin: str = "", name: str = "origin") -> Path:
    root.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", root], check=True)
    if origin:
        subprocess.run(["git", "-C", root, "remote", "add", name, origin], check=True)
    return root


SAME_PROJECT = [
    "git@git.example.com:us/shop.git",
    "git@git.example.com:/us/shop.git",
    "ssh://git@git.example.com/us/shop",
    "ssh://git@git.example.com:2222/us/shop.git/",
    "https://git.example.com/us/shop.git",
    "https://ci:t0ken@GIT.example.com/us/shop",
    "git+ssh://git.example.com/us/shop.git",
]


def test_addresses_of_one_repository_are_the_same() -> None:
    assert {normalize_repository(address) for address in SAME_PROJECT} == {
        "git.example.com/us/shop"
    }
    others = ["https://git.example.com/us/shop2", "git@other:us/shop.git", "/srv/git/us/shop.git"]
    assert len({normalize_repository(address) for address in (*others, SAME_PROJECT[0])}) == 4


def test_checkouts_of_one_repository_are_one_project_whatever_they_are_called(
    tmp_path: Path,
) -> None:
    found = {
        project_identity(make_checkout(tmp_path / str(n) / f"job {n}", origin))
        for n, origin in enumerate(SAME_PROJECT)
    }
    (one,) = found
    assert re.fullmatch(r"shop-[0-9a-f]{12}", one)
    assert "t0ken" not in one


def test_projects_in_one_repository_are_two(tmp_path: Path) -> None:
    root = make_checkout(tmp_path / "mono", SAME_PROJECT[0])
    for name in ("one", "two"):
        (root / name).mkdir()
    assert (
        len(
            {project_identity(root), project_identity(root / "one"), project_identity(root / "two")}
        )
        == 3
    )


def test_a_worktree_is_the_same_project(tmp_path: Path) -> None:
    root = make_checkout(tmp_path / "shop", SAME_PROJECT[0])
    git = ["git", "-C", root, "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    subprocess.run([*git, "worktree", "add", "-q", tmp_path / "hotfix"], check=True)
    assert project_identity(tmp_path / "hotfix") == project_identity(root)


def test_whose_the_folder_is_does_not_matter(tmp_path: Path) -> None:
    """As in a container of a CI server, where git itself refuses."""
    root = make_checkout(tmp_path / "shop", SAME_PROJECT[0])
    before = project_identity(root)
    for path in (root, root / ".git"):
        os.chown(path, 60001, 60001)
    assert project_identity(root) == before


@pytest.mark.parametrize("remote", ["", "upstream"])
def test_without_an_origin_it_is_the_folders_name(tmp_path: Path, remote: str) -> None:
    root = make_checkout(tmp_path / "my shop", SAME_PROJECT[0] if remote else "", remote)
    assert project_identity(root) == "my_shop"
    (tmp_path / "plain").mkdir()
    assert project_identity(tmp_path / "plain") == "plain"


def test_without_git_it_is_the_folders_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_checkout(tmp_path / "shop", SAME_PROJECT[0])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert project_identity(root) == "shop"
