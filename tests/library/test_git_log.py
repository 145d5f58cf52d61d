"""``git_log``: the commits between two, fetched beside everything that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.library.machine import Machine, told
from tests.library.test_git import git


class Repo:
    """A repository, and a mirror of it that has not heard of its later commits."""

    def __init__(self, at: Path, *kind: str) -> None:
        self.at, self.mirror = at / "repo", at / "mirror"
        self.at.mkdir()
        git(self.at, "init", "-qb", "main", *kind)
        self.first = self.commit("first")
        git(at, "clone", "-q", "--mirror", str(self.at), str(self.mirror))
        self.second = self.commit("second")
        self.third = self.commit("third; $(touch x) `id` \x1b[31m")

    def commit(self, text: str) -> str:
        git(self.at, "commit", "-q", "--allow-empty", "-m", text)
        return git(self.at, "rev-parse", "HEAD")

    def ask(self, machine: Machine, **more: Any) -> str:
        given = {"repo": str(self.at), "version": "main", "since": self.first, **more}
        outcome = machine.one({"git_log": given})
        assert outcome.status == "ok", told(outcome)
        return outcome.stdout.text


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


def subjects(text: str) -> list[str]:
    return [line.strip().partition(" ")[2] for line in text.splitlines() if line[:2] == "  "]


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_commits_that_the_mirror_lacks_are_listed_and_nothing_is_kept(
    machine: Machine, tmp_path: Path, kind: str
) -> None:
    repo = Repo(tmp_path, f"--object-format={kind}")
    temp = tmp_path / "temp"
    temp.mkdir()
    machine.environment["TMPDIR"] = str(temp)
    refs = git(repo.mirror, "for-each-ref")
    objects = sorted(repo.mirror.rglob("*"))
    for mirror in (str(repo.mirror), str(repo.mirror) + "-none"):
        said = repo.ask(machine, mirror=mirror)
        assert said.splitlines()[:2] == [f"{repo.first[:12]} → {repo.third[:12]}", "2 commits new"]
        assert subjects(said)[1] == "second"
        assert subjects(said)[0].startswith("third; $(touch x) `id` ")
    assert git(repo.mirror, "for-each-ref") == refs
    assert sorted(repo.mirror.rglob("*")) == objects
    assert list(temp.iterdir()) == []


def test_what_would_no_longer_be_there_is_listed_as_well(machine: Machine, repo: Repo) -> None:
    said = repo.ask(machine, version=repo.first, since=repo.third)
    assert said.splitlines()[1] == "2 commits no longer there"
    git(repo.at, "checkout", "-qb", "other", repo.first)
    other = repo.commit("other")
    said = repo.ask(machine, version="other", since=repo.second[:12])
    assert said.splitlines()[0] == f"{repo.second[:12]} → {other[:12]}"
    assert "1 commit new" in said
    assert "1 commit no longer there" in said
    assert subjects(said) == ["other", "second"]


def test_the_same_commit_has_none_and_of_many_some_are_shown(machine: Machine, repo: Repo) -> None:
    assert repo.ask(machine, since=repo.third).splitlines() == [
        f"{repo.third[:12]} → {repo.third[:12]}"
    ]
    said = repo.ask(machine, most=1)
    assert said.splitlines()[1] == "2 commits new"
    assert said.splitlines()[-1] == "  …"
    assert len(subjects(said)) == 2


def test_what_is_no_commit_there_is_told(machine: Machine, repo: Repo) -> None:
    for since in ("c0ffee20250301", "0" * 40, "--all", "main", "HEAD"):
        said = repo.ask(machine, since=since)
        assert (
            said.splitlines()[0]
            == f"{since[:12] if len(since) == 40 else since} → {repo.third[:12]}"
        )
        assert f"has no commit {since}: what has come since then cannot be told" in said


def test_a_repository_that_is_away_is_an_error(machine: Machine, repo: Repo) -> None:
    given = {"repo": str(repo.at) + "x", "since": repo.first}
    outcome = machine.sees({"git_log": given}, "failed")
    assert "there is no such repository" in outcome.stderr.text
