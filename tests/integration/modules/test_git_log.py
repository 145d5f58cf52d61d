"""``git_log``: the commits between two, fetched beside everything that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.modules.test_git_module import run_git
from tests.support.machine import ShellMachine, result_message


class MirroredRepo:
    """A repository, and a mirror of it that has not heard of its later commits."""

    def __init__(self, at: Path, *kind: str) -> None:
        self.at, self.mirror = at / "repo", at / "mirror"
        self.at.mkdir()
        run_git(self.at, "init", "-qb", "main", *kind)
        self.first = self.add_commit("first")
        run_git(at, "clone", "-q", "--mirror", str(self.at), str(self.mirror))
        self.second = self.add_commit("second")
        self.third = self.add_commit("third; $(touch x) `id` \x1b[31m")

    def add_commit(self, text: str) -> str:
        run_git(self.at, "commit", "-q", "--allow-empty", "-m", text)
        return run_git(self.at, "rev-parse", "HEAD")

    def run_git_log(self, machine: ShellMachine, **more: Any) -> str:
        params = {"repo": str(self.at), "version": "main", "since": self.first, **more}
        outcome = machine.run_step({"git_log": params})
        assert outcome.status == "ok", result_message(outcome)
        return outcome.stdout.text


@pytest.fixture
def repo(tmp_path: Path) -> MirroredRepo:
    return MirroredRepo(tmp_path)


def commit_subjects(text: str) -> list[str]:
    return [line.strip().partition(" ")[2] for line in text.splitlines() if line[:2] == "  "]


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_commits_that_the_mirror_lacks_are_listed_and_nothing_is_kept(
    machine: ShellMachine, tmp_path: Path, kind: str
) -> None:
    repo = MirroredRepo(tmp_path, f"--object-format={kind}")
    temp = tmp_path / "temp"
    temp.mkdir()
    machine.environment["TMPDIR"] = str(temp)
    refs = run_git(repo.mirror, "for-each-ref")
    objects = sorted(repo.mirror.rglob("*"))
    for mirror in (str(repo.mirror), str(repo.mirror) + "-none"):
        output = repo.run_git_log(machine, mirror=mirror)
        assert output.splitlines()[:2] == [
            f"{repo.first[:12]} → {repo.third[:12]}",
            "2 commits new",
        ]
        assert commit_subjects(output)[1] == "second"
        assert commit_subjects(output)[0].startswith("third; $(touch x) `id` ")
    assert run_git(repo.mirror, "for-each-ref") == refs
    assert sorted(repo.mirror.rglob("*")) == objects
    assert list(temp.iterdir()) == []


def test_what_would_no_longer_be_there_is_listed_as_well(
    machine: ShellMachine, repo: MirroredRepo
) -> None:
    output = repo.run_git_log(machine, version=repo.first, since=repo.third)
    assert output.splitlines()[1] == "2 commits no longer there"
    run_git(repo.at, "checkout", "-qb", "other", repo.first)
    other = repo.add_commit("other")
    output = repo.run_git_log(machine, version="other", since=repo.second[:12])
    assert output.splitlines()[0] == f"{repo.second[:12]} → {other[:12]}"
    assert "1 commit new" in output
    assert "1 commit no longer there" in output
    assert commit_subjects(output) == ["other", "second"]


def test_the_same_commit_has_none_and_of_many_some_are_shown(
    machine: ShellMachine, repo: MirroredRepo
) -> None:
    assert repo.run_git_log(machine, since=repo.third).splitlines() == [
        f"{repo.third[:12]} → {repo.third[:12]}"
    ]
    output = repo.run_git_log(machine, most=1)
    assert output.splitlines()[1] == "2 commits new"
    assert output.splitlines()[-1] == "  …"
    assert len(commit_subjects(output)) == 2


def test_what_is_no_commit_there_is_told(machine: ShellMachine, repo: MirroredRepo) -> None:
    for since in ("c0ffee20250301", "0" * 40, "--all", "main", "HEAD"):
        output = repo.run_git_log(machine, since=since)
        assert (
            output.splitlines()[0]
            == f"{since[:12] if len(since) == 40 else since} → {repo.third[:12]}"
        )
        assert f"has no commit {since}: cannot list the commits since then" in output


def test_a_repository_that_is_away_is_an_error(machine: ShellMachine, repo: MirroredRepo) -> None:
    arguments = {"repo": str(repo.at) + "x", "since": repo.first}
    outcome = machine.check_then_run({"git_log": arguments}, "failed")
    assert "the repository does not exist" in outcome.stderr.text
