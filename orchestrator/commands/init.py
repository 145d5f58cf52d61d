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
from orchestrator.errors import Mark, Problem, UsageError
from orchestrator.inventory.hostnames import why_no_stage

APPS = ("blog", "shop")
SANDBOX = "dev"


def init(folder: Path, stages: Sequence[str]) -> Iterator[str]:
    """Write the project; what was made. Raises UsageError where there is something already."""
    for stage in stages:
        if why := why_no_stage(stage):
            raise UsageError(Problem(f"no stage can be called '{stage}': {why}"))
    taken = [name for name in ("inventories", "tasks", "apps") if (folder / name).exists()]
    if taken:
        what = f"{folder} has {' and '.join(taken)} already"
        raise UsageError(Problem(what, Mark(str(folder)), "name a new folder: orch init DIR"))
    check_working_directory()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        project = folder.absolute()
        _write(project / ".gitignore", ".orch/\n")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        what = f"cannot make a project in {folder}: {why}"
        hint = "name another folder: orch init DIR"
        raise UsageError(Problem(what, Mark(str(folder)), hint)) from None
    _recipe(project / "tasks")
    yield "tasks/ with the deploy recipe: read tasks/deploy.yml first"
    _write(project / "inventories/common/stage.yml", _text("common/stage.yml", STAGE=stages[0]))
    for app in APPS:
        _repository(project / "apps" / app, app)
        about = {"DESC": f"A small web site, the {app}", "REPOSITORY": str(project / "apps" / app)}
        _write(project / f"inventories/common/apps/{app}.yml", _text("common/app.yml", **about))
    yield f"apps/{{{','.join(APPS)}}}: two small web sites, each a git repository"
    for stage in stages:
        _stage(project / "inventories" / stage, stage)
        what = "sandbox hosts" if stage == SANDBOX else "its servers are yours to name, in roles/"
        yield f"inventories/{stage}/: {what}"


def _stage(folder: Path, stage: str) -> None:
    kind = "dev" if stage == SANDBOX else "other"
    _write(folder / "stage.yml", _text(f"{kind}/stage.yml"))
    _write(folder / "roles/web.yml", _text(f"{kind}/web.yml"))
    for host in ("web1", "web2") if kind == "dev" else ():
        _write(folder / f"hosts/{host}.yml", "")
    for app in APPS:
        ports = _free_ports(2) if kind == "dev" else [8080 + APPS.index(app), 0]
        names = {"NAME": app, "PORT1": str(ports[0]), "PORT2": str(ports[1])}
        _write(folder / f"apps/{app}.yml", _text(f"{kind}/app.yml", **names))


def _recipe(folder: Path) -> None:
    """The recipe's files, from where this program was installed from."""
    beside = Path(orchestrator.__file__).parents[1] / "tasks"
    installed = Path(sysconfig.get_path("data")) / "share" / "orch" / "tasks"
    source = beside if (beside / "deploy.yml").exists() else installed
    shutil.copytree(source / "deploy", folder / "deploy")
    for name in ("deploy.yml", "uname.yml"):
        shutil.copyfile(source / name, folder / name)


def _repository(folder: Path, name: str) -> None:
    for part in ("bin/restart", "public/index.html"):
        _write(folder / part, _text(f"site/{part}", NAME=name))
    (folder / "bin/restart").chmod(0o755)
    who = ("-c", "user.name=orch", "-c", "user.email=orch@localhost")
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "The site")):
        try:
            subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)
        except FileNotFoundError:
            what = "git is not installed, and the example apps are git repositories"
            raise UsageError(Problem(what, None, "install git")) from None
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode("utf-8", "replace").strip()
            raise UsageError(Problem(f"git {words[0]} failed: {said}", Mark(str(folder)))) from None


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _text(name: str, **values: str) -> str:
    text = files("orchestrator").joinpath("starter", *name.split("/")).read_text("utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
