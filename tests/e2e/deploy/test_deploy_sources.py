"""The sources of a deploy: exactly the given commit, and an archive that exists."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.projects import OrchProject, OrchResult
from tests.support.deploy_app import live_releases as lives
from tests.support.deploy_app import make_small_app
from tests.support.deploy_projects import GIT, host_home
from tests.support.deploy_projects import run_deploy as deploy_to


def run_git(folder: Path, *words: str) -> str:
    done = subprocess.run([*GIT, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def deploy_to_host(project: OrchProject, *words: str) -> OrchResult:
    """Deploy to one of the hosts."""
    return deploy_to(project, "-l", "web1", *words)


def app_folder(project: OrchProject) -> Path:
    """Return the app's folder on a host."""
    return host_home(project, "web1") / "blog"


def live_release(project: OrchProject) -> str:
    """Return the live release."""
    return lives(project, hosts=["web1"])["web1"]


def live_revision(project: OrchProject) -> str:
    """Return the commit of the live release."""
    lines = (app_folder(project) / "current/.orch-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)["revision"]


def error_messages(done: OrchResult) -> str:
    return "".join(e["stderr"] for e in done.events if e["event"] == "step_finished")


def test_the_commit_of_the_branch_goes_out_whatever_else_is_called_alike(
    project: OrchProject,
) -> None:
    make_small_app(project, {"blog": "repository"}, version="main")
    source = project.root / "app"
    expected = run_git(source, "rev-parse", "main")
    other = run_git(source, "commit-tree", "-m", "Another", "HEAD^{tree}")
    for ref in ("heads/zoe/main", "tags/rel/main", "merge-requests/3/main", "remotes/origin/HEAD"):
        run_git(source, "update-ref", f"refs/{ref}", other)
    assert deploy_to_host(project).code == 0
    assert live_revision(project) == expected
    assert deploy_to_host(project, "version=zoe/main").code == 0
    assert live_revision(project) == other
    run_git(source, "update-ref", "refs/tags/main", other)
    done = deploy_to_host(project)
    assert done.code == 0
    assert live_revision(project) == expected
    assert "main is both a branch and a tag" in error_messages(done)


def test_a_short_commit_id_is_refused_before_anything_is_made(project: OrchProject) -> None:
    make_small_app(project, {"blog": "repository"})
    short = run_git(project.root / "app", "rev-parse", "--short", "main")
    done = deploy_to_host(project, f"version={short}")
    assert done.code == 1
    assert f"for a commit, give its full ID: git rev-parse {short}" in error_messages(done)
    assert not live_release(project)
    assert not (app_folder(project) / "releases").exists()


def add_submodule(project: OrchProject) -> None:
    """Add a submodule to the app's repository."""
    part = project.root.parent / "part"
    part.mkdir()
    (part / "x").write_text("1\n")
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "One")):
        run_git(part, *words)
    allow = ("-c", "protocol.file.allow=always")
    run_git(project.root / "app", *allow, "submodule", "--quiet", "add", str(part), "lib/part")
    run_git(project.root / "app", "commit", "-q", "-m", "A submodule")
    (host_home(project, "web1") / ".gitconfig").write_text('[protocol "file"]\nallow = always\n')


def test_a_repository_with_submodules_goes_out_whole_or_not_at_all(project: OrchProject) -> None:
    make_small_app(project, {"blog": "repository"})
    assert deploy_to_host(project).code == 0
    before = live_release(project)
    add_submodule(project)
    check = deploy_to_host(project, "--check")
    assert check.code == 1
    assert "has submodules at" in error_messages(check)
    done = deploy_to_host(project)
    assert done.code == 1
    assert "has submodules at" in error_messages(done)
    assert "`submodules: true` clones them" in error_messages(done)
    assert live_release(project) == before
    assert deploy_to_host(project, "submodules=true").code == 0
    assert (app_folder(project) / "current/lib/part/x").read_text() == "1\n"
    assert deploy_to_host(project, "submodules=false").code == 0
    assert not list((app_folder(project) / "current/lib/part").iterdir())


@pytest.mark.long
def test_a_folder_with_an_empty_submodule_does_not_go_out(project: OrchProject) -> None:
    make_small_app(project, {"blog": "folder"})
    add_submodule(project)
    part = project.root / "app/lib/part"
    assert deploy_to_host(project).code == 0
    before = live_release(project)
    for path in (*part.glob(".git"), part / "x"):
        path.unlink()
    done = deploy_to_host(project)
    assert done.code == 1
    assert "the folder of the submodule lib/part is empty" in error_messages(done)
    assert live_release(project) == before
    assert deploy_to_host(project, "submodules=false").code == 0


def test_an_archive_that_the_build_does_not_make_stops_it_before_any_host(
    project: OrchProject,
) -> None:
    make_small_app(project, {"blog": "archive"}, build_local="true")
    done = deploy_to_host(project)
    assert done.code == 1
    assert "build_local made no blog.tar.gz" in error_messages(done)
    assert not (app_folder(project) / "releases").exists()


def test_a_health_command_that_fails_is_named_with_its_line(project: OrchProject) -> None:
    make_small_app(project, health_command="exit 3")
    done = deploy_to_host(project)
    assert done.code == 1
    assert "the command at inventories/dev/apps/blog.yml:1:" in str(
        done.host_rows["web1"]["reason"]
    )


def test_a_rollback_before_the_first_deploy_says_so(project: OrchProject) -> None:
    make_small_app(project)
    words = ("-s", "dev", "run", "deploy:rollback", "--app", "blog", "-l", "web1", "--json")
    done = project.orch(*words)
    assert done.code == 1
    assert "no release is live here" in error_messages(done)
