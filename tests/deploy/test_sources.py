"""What an app is deployed from: just the commit that is meant, and an archive that is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.deploy.site import GIT, home
from tests.deploy.site import deploy as deploy_to
from tests.deploy.small import live as lives
from tests.deploy.small import small
from tests.projects import Done, Project


def git(folder: Path, *words: str) -> str:
    done = subprocess.run([*GIT, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def deploy(project: Project, *words: str) -> Done:
    """A deploy to one of the hosts."""
    return deploy_to(project, "-l", "web1", *words)


def app(project: Project) -> Path:
    """The app's folder there."""
    return home(project, "web1") / "blog"


def live(project: Project) -> str:
    """The release that it has live."""
    return lives(project, hosts=["web1"])["web1"]


def revision(project: Project) -> str:
    """The commit that it has live."""
    lines = (app(project) / "current/.orch-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)["revision"]


def errors(done: Done) -> str:
    return "".join(e["stderr"] for e in done.events if e["event"] == "step_finished")


def test_the_commit_of_the_branch_goes_out_whatever_else_is_called_alike(project: Project) -> None:
    small(project, {"blog": "repository"}, version="main")
    source = project.root / "app"
    wanted = git(source, "rev-parse", "main")
    other = git(source, "commit-tree", "-m", "Another", "HEAD^{tree}")
    for ref in ("heads/zoe/main", "tags/rel/main", "merge-requests/3/main", "remotes/origin/HEAD"):
        git(source, "update-ref", f"refs/{ref}", other)
    assert deploy(project).code == 0
    assert revision(project) == wanted
    assert deploy(project, "version=zoe/main").code == 0
    assert revision(project) == other
    git(source, "update-ref", "refs/tags/main", other)
    done = deploy(project)
    assert done.code == 0
    assert revision(project) == wanted
    assert "main is both a branch and a tag" in errors(done)


def test_a_short_commit_id_is_refused_before_anything_is_made(project: Project) -> None:
    small(project, {"blog": "repository"})
    short = git(project.root / "app", "rev-parse", "--short", "main")
    done = deploy(project, f"version={short}")
    assert done.code == 1
    assert f"if it is a commit, give its whole id: git rev-parse {short}" in errors(done)
    assert not live(project)
    assert not (app(project) / "releases").exists()


def with_submodule(project: Project) -> None:
    """Give the app's repository a submodule."""
    part = project.root.parent / "part"
    part.mkdir()
    (part / "x").write_text("1\n")
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "One")):
        git(part, *words)
    allow = ("-c", "protocol.file.allow=always")
    git(project.root / "app", *allow, "submodule", "--quiet", "add", str(part), "lib/part")
    git(project.root / "app", "commit", "-q", "-m", "A submodule")
    (home(project, "web1") / ".gitconfig").write_text('[protocol "file"]\nallow = always\n')


def test_a_repository_with_submodules_goes_out_whole_or_not_at_all(project: Project) -> None:
    small(project, {"blog": "repository"})
    assert deploy(project).code == 0
    before = live(project)
    with_submodule(project)
    check = deploy(project, "--check")
    assert check.code == 1
    assert "has submodules at" in errors(check)
    done = deploy(project)
    assert done.code == 1
    assert "has submodules at" in errors(done)
    assert "`submodules: true` brings them along" in errors(done)
    assert live(project) == before
    assert deploy(project, "submodules=true").code == 0
    assert (app(project) / "current/lib/part/x").read_text() == "1\n"
    assert deploy(project, "submodules=false").code == 0
    assert not list((app(project) / "current/lib/part").iterdir())


def test_a_folder_with_an_empty_submodule_does_not_go_out(project: Project) -> None:
    small(project, {"blog": "folder"})
    with_submodule(project)
    part = project.root / "app/lib/part"
    assert deploy(project).code == 0
    before = live(project)
    for path in (*part.glob(".git"), part / "x"):
        path.unlink()
    done = deploy(project)
    assert done.code == 1
    assert "the folder of the submodule lib/part is empty" in errors(done)
    assert live(project) == before
    assert deploy(project, "submodules=false").code == 0


def test_an_archive_that_the_build_does_not_make_stops_it_before_any_host(
    project: Project,
) -> None:
    small(project, {"blog": "archive"}, build_local="true")
    done = deploy(project)
    assert done.code == 1
    assert "build_local made no blog.tar.gz" in errors(done)
    assert not (app(project) / "releases").exists()


def test_a_health_command_that_fails_is_named_with_its_line(project: Project) -> None:
    small(project, health_command="exit 3")
    done = deploy(project)
    assert done.code == 1
    assert "the command at inventories/dev/apps/blog.yml:1:" in str(done.rows["web1"]["reason"])


def test_a_rollback_before_the_first_deploy_says_so(project: Project) -> None:
    small(project)
    words = ("-s", "dev", "run", "deploy:rollback", "--app", "blog", "-l", "web1", "--json")
    done = project.orch(*words)
    assert done.code == 1
    assert "nothing is live here" in errors(done)
