"""``orch init``: a new project with the deploy recipe and two small apps to try it on."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path

import orchestrator
from orchestrator.commands.project import check_working_directory
from orchestrator.errors import Diagnostic, SourcePosition, UsageError
from orchestrator.inventory.hostnames import stage_name_error

APPS = ("blog", "shop")
SANDBOX = "dev"


def create_project(folder: Path, stages: Sequence[str]) -> Iterator[str]:
    """Create the project and yield what was created.

    Raises UsageError if the folder already has a project.
    """
    for stage in stages:
        if reason := stage_name_error(stage):
            raise UsageError(Diagnostic(f"invalid stage name '{stage}': {reason}"))
    existing = [name for name in ("inventories", "tasks", "apps") if (folder / name).exists()]
    if existing:
        message = f"{folder} already has {' and '.join(existing)}"
        raise UsageError(
            Diagnostic(message, SourcePosition(str(folder)), "choose a new folder: orch init DIR")
        )
    check_working_directory()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        project = folder.absolute()
        _write(project / ".gitignore", ".orch/\n")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        message = f"cannot create a project in {folder}: {reason}"
        hint = "choose another folder: orch init DIR"
        raise UsageError(Diagnostic(message, SourcePosition(str(folder)), hint)) from None
    _copy_recipe(project / "tasks")
    yield "tasks/ with the deploy recipe: read tasks/deploy.yml first"
    _write(
        project / "inventories/common/stage.yml", _starter_text("common/stage.yml", STAGE=stages[0])
    )
    for app in APPS:
        _create_repository(project / "apps" / app, app)
        values = {"DESC": f"A small web site, the {app}", "REPOSITORY": str(project / "apps" / app)}
        _write(
            project / f"inventories/common/apps/{app}.yml",
            _starter_text("common/app.yml", **values),
        )
    yield f"apps/{{{','.join(APPS)}}}: two small web sites, each a git repository"
    for stage in stages:
        _write_stage(project / "inventories" / stage, stage)
        message = "sandbox hosts" if stage == SANDBOX else "add its servers in roles/"
        yield f"inventories/{stage}/: {message}"


def _write_stage(folder: Path, stage: str) -> None:
    kind = "dev" if stage == SANDBOX else "other"
    _write(folder / "stage.yml", _starter_text(f"{kind}/stage.yml"))
    _write(folder / "roles/web.yml", _starter_text(f"{kind}/web.yml"))
    for host in ("web1", "web2") if kind == "dev" else ():
        _write(folder / f"hosts/{host}.yml", "")
    for app in APPS:
        ports = _free_ports(2) if kind == "dev" else [8080 + APPS.index(app), 0]
        names = {"NAME": app, "PORT1": str(ports[0]), "PORT2": str(ports[1])}
        _write(folder / f"apps/{app}.yml", _starter_text(f"{kind}/app.yml", **names))


def _copy_recipe(folder: Path) -> None:
    """Copy the recipe's files from the checkout or the installed package."""
    checkout = Path(orchestrator.__file__).parents[1] / "tasks"
    installed = Path(sysconfig.get_path("data")) / "share" / "orch" / "tasks"
    source = checkout if (checkout / "deploy.yml").exists() else installed
    shutil.copytree(source / "deploy", folder / "deploy")
    for name in ("deploy.yml", "uname.yml"):
        shutil.copyfile(source / name, folder / name)


def _create_repository(folder: Path, name: str) -> None:
    for part in ("bin/restart", "public/index.html"):
        _write(folder / part, _starter_text(f"site/{part}", NAME=name))
    (folder / "bin/restart").chmod(0o755)
    identity_options = ("-c", "user.name=orch", "-c", "user.email=orch@localhost")
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "The site")):
        try:
            subprocess.run(
                ["git", *identity_options, *words], cwd=folder, check=True, capture_output=True
            )
        except FileNotFoundError:
            reason = "git is not installed, and the example apps are git repositories"
            raise UsageError(Diagnostic(reason, None, "install git")) from None
        except subprocess.CalledProcessError as error:
            message = error.stderr.decode("utf-8", "replace").strip()
            raise UsageError(
                Diagnostic(f"git {words[0]} failed: {message}", SourcePosition(str(folder)))
            ) from None


def _free_ports(count: int) -> list[int]:
    """Return ports that are currently free."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _starter_text(name: str, **values: str) -> str:
    text = files("orchestrator").joinpath("starter", *name.split("/")).read_text("utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
