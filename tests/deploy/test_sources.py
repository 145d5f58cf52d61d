"""What an app is deployed from: just the commit that is meant, and an archive that is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.deploy.site import GIT, deploy, home
from tests.deploy.small import HOSTS, live, small
from tests.projects import Done, Project


def git(folder: Path, *words: str) -> str:
    done = subprocess.run([*GIT, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def revisions(project: Project) -> set[str]:
    """The commits that the hosts have live."""
    folders = [home(project, host) / "blog/current/.orch-release" for host in HOSTS]
    return {
        line.partition("=")[2]
        for file in folders
        for line in file.read_text().splitlines()
        if line.startswith("revision=")
    }


def errors(done: Done) -> str:
    return "".join(e["stderr"] for e in done.events if e["event"] == "step_finished")


def test_the_commit_of_the_branch_goes_out_whatever_else_is_called_alike(project: Project) -> None:
    small(project, {"blog": "repository"}, version="main")
    app = project.root / "app"
    wanted = git(app, "rev-parse", "main")
    other = git(app, "commit-tree", "-m", "Another", "HEAD^{tree}")
    for ref in ("heads/zoe/main", "tags/rel/main", "merge-requests/3/main", "remotes/origin/HEAD"):
        git(app, "update-ref", f"refs/{ref}", other)
    assert deploy(project).code == 0
    assert revisions(project) == {wanted}
    assert deploy(project, "version=zoe/main").code == 0
    assert revisions(project) == {other}
    git(app, "update-ref", "refs/tags/main", other)
    done = deploy(project)
    assert done.code == 0
    assert revisions(project) == {wanted}
    assert "main is both a branch and a tag" in errors(done)


def test_a_short_commit_id_is_refused_before_anything_is_made(project: Project) -> None:
    small(project, {"blog": "repository"})
    short = git(project.root / "app", "rev-parse", "--short", "main")
    done = deploy(project, f"version={short}")
    assert done.code == 1
    assert f"if it is a commit, give its whole id: git rev-parse {short}" in errors(done)
    assert set(live(project).values()) == {""}
    assert not (home(project, "web1") / "blog/releases").exists()
