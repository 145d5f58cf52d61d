"""``git_revision``: the commit that a name means, whatever else ends like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.modules.test_git_module import git_step, run_git
from tests.sshd import free_port
from tests.support.machine import ShellMachine, result_message

DECOYS = (
    "refs/heads/zoe/main",
    "refs/heads/refs/heads/main",
    "refs/heads/-x",
    "refs/heads/deadbeef",
    "refs/heads/both",
    "refs/tags/rel/main",
    "refs/tags/rel/v1",
    "refs/tags/zoe/v1^0",
    "refs/tags/both",
    "refs/merge-requests/3/main",
    "refs/merge-requests/3/head",
    "refs/remotes/origin/HEAD",
    "refs/remotes/origin/main",
    "refs/zz/HEAD",
)
"""Refs beside main and the tag v1, each of a commit of its own."""


@pytest.fixture(scope="module", params=["sha1", "sha256"])
def ids(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the commits of a repository by ref, and its path as ``at``."""
    at = tmp_path_factory.mktemp("decoys")
    run_git(at, "init", "-qb", "main", f"--object-format={request.param}")
    found = {"at": str(at)}
    tree = run_git(at, "write-tree")
    for ref in ("refs/heads/main", "v1", *DECOYS):
        name = ref.removesuffix("^0")
        found[name] = run_git(at, "commit-tree", "-m", name, tree)
        if ref == "v1":
            run_git(at, "tag", "-am", "first", "v1", found[name])
        elif ref != name:
            run_git(at, "tag", "-am", "another", name.removeprefix("refs/tags/"), found[name])
        else:
            run_git(at, "update-ref", name, found[name])
    return found


def ask_revision(repo: Path | str, version: str) -> dict[str, Any]:
    return {"git_revision": {"repo": str(repo), "version": version}}


NAMED = {
    "main": "refs/heads/main",
    "v1": "v1",
    "HEAD": "refs/heads/main",
    "zoe/main": "refs/heads/zoe/main",
    "rel/main": "refs/tags/rel/main",
    "zoe/v1": "refs/tags/zoe/v1",
    "refs/heads/main": "refs/heads/main",
    "refs/tags/v1": "v1",
    "refs/merge-requests/3/main": "refs/merge-requests/3/main",
    "refs/remotes/origin/HEAD": "refs/remotes/origin/HEAD",
    "-x": "refs/heads/-x",
    "deadbeef": "refs/heads/deadbeef",
}


@pytest.mark.parametrize("check", [True, False])
def test_a_name_means_what_is_called_just_so(
    machine: ShellMachine, ids: dict[str, str], check: bool
) -> None:
    done = machine.run_steps([ask_revision(ids["at"], version) for version in NAMED], check=check)
    assert set(done.statuses) == {"ok"}
    found = dict(zip(NAMED, (o.stdout.text.strip() for o in done.outcomes), strict=True))
    assert found == {version: ids[ref] for version, ref in NAMED.items()}
    assert not any(o.stderr.text for o in done.outcomes)


def test_a_branch_goes_before_a_tag_and_that_is_said(
    machine: ShellMachine, ids: dict[str, str]
) -> None:
    outcome = machine.check_then_run(ask_revision(ids["at"], "both"), "ok")
    assert outcome.stdout.text.strip() == ids["refs/heads/both"]
    assert "both is both a branch and a tag in" in outcome.stderr.text
    assert "refs/tags/both is the tag" in outcome.stderr.text
    outcome = machine.run_step(ask_revision(ids["at"], "refs/tags/both"))
    assert outcome.stdout.text.strip() == ids["refs/tags/both"]
    assert not outcome.stderr.text
    outcome = machine.run_step(git_step(ids["at"], machine.root / "to", version="both"))
    assert outcome.status == "changed", result_message(outcome)
    assert outcome.stderr.text.count("both a branch and a tag") == 1
    assert run_git(machine.root / "to", "rev-parse", "HEAD") == ids["refs/heads/both"]


def test_a_whole_id_is_itself(machine: ShellMachine, ids: dict[str, str]) -> None:
    whole = ids["refs/tags/rel/main"]
    for version in (whole, whole.upper()):
        outcome = machine.run_step(ask_revision("/nowhere", version))
        assert outcome.stdout.text.strip() == whole, result_message(outcome)


def test_what_is_called_so_nowhere_is_refused(machine: ShellMachine, ids: dict[str, str]) -> None:
    versions = ["mai?", "*", "[m]ain", "ma\\in", "v1^{}", "main~0", "head", "3/main", "a\nmain"]
    steps = [{**ask_revision(ids["at"], version), "ignore_errors": True} for version in versions]
    for version, outcome in zip(versions, machine.run_steps(steps).outcomes, strict=True):
        assert outcome.status == "failed", version
        assert f"there is no branch or tag {version} in {ids['at']}" in outcome.stderr.text
        assert not outcome.stdout.text


def test_a_part_of_an_id_is_told_from_a_name(machine: ShellMachine, ids: dict[str, str]) -> None:
    part = ids["refs/heads/main"][:9]
    outcome = machine.check_then_run(ask_revision(ids["at"], part), "failed")
    assert f"for a commit, give its full ID: git rev-parse {part}" in outcome.stderr.text
    outcome = machine.run_step(ask_revision(ids["at"], ""))
    assert "`version` cannot be empty" in outcome.stderr.text


def test_an_empty_repository_has_no_head(machine: ShellMachine, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    run_git(empty, "init", "-q")
    outcome = machine.check_then_run(ask_revision(empty, "HEAD"), "failed")
    assert f"{empty} has no HEAD" in outcome.stderr.text


def test_every_kind_of_id_is_fetched(machine: ShellMachine, ids: dict[str, str]) -> None:
    cases: list[dict[str, Any]] = [
        {"version": version, "archive": archive, **mirror}
        for version in ("main", ids["v1"])
        for archive in (True, False)
        for mirror in ({}, {"mirror": str(machine.root / "m.git")})
    ]
    paths = [machine.root / str(number) for number in range(len(cases))]
    done = machine.run_steps(
        [git_step(ids["at"], to, **case) for to, case in zip(paths, cases, strict=True)]
    )
    assert set(done.statuses) == {"changed"}, [result_message(outcome) for outcome in done.outcomes]
    for path, way in zip(paths, cases, strict=True):
        expected = ids["refs/heads/main" if way["version"] == "main" else "v1"]
        revision = path / "REVISION"
        have = revision.read_text() if way["archive"] else run_git(path, "rev-parse", "HEAD")
        assert have.strip() == expected


SSH = {
    "the git server is down": "ssh: connect to host example.org port 22: Connection refused",
    "denied access": "git@example.org: Permission denied (publickey).",
    "does not know the git server's host key": "Host key verification failed.",
    "repository does not exist": "ERROR: Repository not found.",
}


def test_a_server_that_does_not_answer_is_no_missing_branch(machine: ShellMachine) -> None:
    output = machine.root / "said"
    ssh = machine.root.parent / f"{machine.root.name}-tools" / "ssh"
    ssh.write_text(f"#!/bin/sh\nhead -n 1 {output} >&2\nsed -i 1d {output}\nexit 255\n")
    ssh.chmod(0o755)
    output.write_text("".join(f"{line}\n" for line in SSH.values()))
    ask = {**ask_revision("git@example.org:r.git", "main"), "ignore_errors": True}
    for why, outcome in zip(SSH, machine.run_steps([ask] * len(SSH)).outcomes, strict=True):
        assert outcome.status == "failed"
        assert SSH[why] in outcome.stderr.text
        last = outcome.stderr.text.strip().splitlines()[-1]
        assert last.startswith("git@example.org:r.git: ")
        assert why in last
        assert "no branch" not in outcome.stderr.text


def test_other_ways_to_a_repository_are_told_alike(machine: ShellMachine) -> None:
    port = free_port()
    repos = {
        f"http://127.0.0.1:{port}/r.git": "the git server is down",
        f"git://127.0.0.1:{port}/r.git": "the git server is down",
        "/nowhere/r.git": "the repository does not exist",
    }
    steps = [{**ask_revision(repo, "main"), "ignore_errors": True} for repo in repos]
    for (repo, why), outcome in zip(repos.items(), machine.run_steps(steps).outcomes, strict=True):
        assert outcome.status == "failed"
        assert f"{repo}: {why}" in outcome.stderr.text, result_message(outcome)
