"""A small app for many deploys: its page names its release."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.projects import OrchProject
from tests.support.deploy_projects import GIT, host_home

RECIPE = Path(__file__).parents[2] / "tasks"
HOSTS = ("web1", "web2", "web3")

APP = {
    "deploy_to": "~/{{ app.name }}",
    "linked_dirs": ["log"],
    "linked_files": ["config/key"],
    "templates": [{"src": "app/conf.j2", "path": "conf"}],
    "build_local": "tar -czf {{ app.name }}.tar.gz -C app .",
    "build": ["echo {{ run.release }} >public/revision.txt"],
    "migrate_command": "test -f public/revision.txt",
    "restart_command": "cp public/revision.txt {{ deploy_to }}/shared/running",
    "health_command": "cmp public/revision.txt {{ deploy_to }}/shared/running",
    "keep": 3,
}


SOURCES = ("repository", "folder", "archive")


def make_small_app(
    project: OrchProject, apps: Mapping[str, str] | None = None, **more: object
) -> OrchProject:
    """Create the recipe, three sandbox hosts, and these apps on all hosts with their sources."""
    project.add_sandbox_stage(*HOSTS)
    shutil.copytree(RECIPE / "deploy", project.root / "tasks/deploy")
    shutil.copyfile(RECIPE / "deploy.yml", project.root / "tasks/deploy.yml")
    healthy = project.root / "tasks/deploy/healthy.yml"
    healthy.write_text(healthy.read_text().replace("delay: 3", "delay: 0"))
    project.write({"app/public/index.html": "a page\n", "app/log/old": "", "app/bin/run": "true\n"})
    project.write({"app/conf.j2": "{{ host.name }} {{ app.name }}\n"})
    commit_all(project.root / "app")
    source_variables = {"repository": str(project.root / "app"), "folder": "app"}
    for app, source in (apps or {"blog": "folder"}).items():
        origin = {source: source_variables.get(source, "{{ app.name }}.tar.gz")}
        text = json.dumps({"vars": {**APP, **origin, **more}})
        project.write({f"inventories/dev/apps/{app}.yml": text})
        for host in HOSTS:
            key = host_home(project, host) / app / "shared/config/key"
            key.parent.mkdir(parents=True)
            key.write_text("secret\n")
    return project


def live_releases(
    project: OrchProject, app: str = "blog", hosts: Iterable[str] = HOSTS
) -> dict[str, str]:
    """Return the live and complete release of each host, named by its page, or ''."""
    return {host: _live_release(host_home(project, host) / app) for host in hosts}


def _live_release(folder: Path) -> str:
    current = folder / "current"
    if not current.is_symlink():
        assert not current.exists()
        return ""
    release = current.resolve()
    assert (release / ".orch-release").exists(), f"{release} is live and not whole"
    assert (release / "log").resolve() == folder / "shared/log"
    assert (release / "config/key").read_text() == "secret\n"
    assert (release / "public/revision.txt").read_text().strip() == release.name
    return release.name


def host_releases(project: OrchProject, host: str, app: str = "blog") -> dict[str, str]:
    """Return all entries among a host's releases: published, complete or incomplete."""
    found = {}
    for path in sorted((host_home(project, host) / app / "releases").iterdir()):
        marks: Mapping[str, bool] = {
            "published": (path / ".orch-published").exists(),
            "complete": (path / ".orch-release").exists(),
        }
        found[path.name] = next((state for state, exists in marks.items() if exists), "incomplete")
    return found


def held_locks(project: OrchProject) -> list[str]:
    """Return the locks that are held on any sandbox host."""
    folder = project.root / ".orch/sandbox/dev"
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*/.orch-lock*"))


def commit_all(folder: Path) -> None:
    """Create a repository with all files of the folder."""
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "All")):
        subprocess.run([*GIT, *words], cwd=folder, check=True)
