"""``orch init``: a new project with the deploy recipe and two apps, or what a project lacks."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path

from orchestrator.commands.file_writer import create_file, find_existing, replace_file
from orchestrator.commands.json_schema import (
    SCHEMA_FOLDER,
    add_schema_comment,
    write_schemas,
)
from orchestrator.commands.project import check_working_directory, resolve_project_root
from orchestrator.commands.shipped_files import shipped_file
from orchestrator.errors import Diagnostic, SourcePosition, UsageError, suggest_nearest
from orchestrator.inventory.hostnames import stage_name_error
from orchestrator.inventory.stages import INVENTORIES, find_project_root, list_stages
from orchestrator.yamlio.local_files import display_path, is_directory, read_file

APPS = ("blog", "shop")
SANDBOX = "dev"
RECIPES = {"deploy": ("deploy.yml", "deploy")}
"""What ``--add`` can bring: the files and folders of ``tasks/`` that belong to each recipe."""

_IGNORED_FOLDER = ".orch/"
_IGNORING_LINES = frozenset((b".orch", b".orch/", b"/.orch", b"/.orch/", b".orch/*", b"/.orch/*"))


def find_target(folder: str | None) -> Path:
    """Return the folder in which to create or complete a project.

    Raises UsageError if ``folder`` is None and the working directory is inside a project but is not
    its root: either could be meant.
    """
    check_working_directory()
    if folder is not None:
        return Path(folder)
    above = find_project_root(Path.cwd())
    if above is None or above == Path.cwd():
        return Path()
    message = f"{Path.cwd()} is inside the project {above}"
    hint = f"name the folder: `orch init {display_path(above)}` adds to that project, and "
    raise UsageError(Diagnostic(message, None, f"{hint}`orch init .` creates a new one here"))


def is_project(folder: Path) -> bool:
    """Return True if the folder has a part of a project, which is then kept."""
    return any(is_directory(folder / name) for name in (INVENTORIES, "tasks", "apps"))


def has_stages(folder: Path) -> bool:
    """Return True if the project in the folder has a stage."""
    return is_directory(folder / INVENTORIES) and bool(list_stages(folder.absolute()).names)


def check_stage_names(stages: Sequence[str]) -> None:
    """Raise UsageError if one of the names cannot be that of a stage."""
    for stage in stages:
        if reason := stage_name_error(stage):
            raise UsageError(Diagnostic(f"invalid stage name '{stage}': {reason}"))


def create_project(folder: Path, stages: Sequence[str]) -> Iterator[str]:
    """Create the project and yield what was created. Raises UsageError."""
    check_stage_names(stages)
    if shutil.which("git") is None:
        reason = "git is not installed, and the example apps are git repositories"
        raise UsageError(Diagnostic(reason, None, "install git"))
    _make_folder(folder)
    project = folder.absolute()
    yield _add_to_gitignore(project / ".gitignore")
    for name in ("uname.yml", "deploy.yml", "deploy"):
        for path, source in _task_files(project, name):
            _create_or_keep(project, path, source.read_text("utf-8"))
    tasks = display_path(project / "tasks")
    yield f"created {tasks}/ with the deploy recipe: read tasks/deploy.yml first"
    common = project / INVENTORIES / "common"
    settings = starter_text("common/stage.yml", STAGE=stages[0])
    _create_or_keep(project, common / "stage.yml", settings)
    for app in APPS:
        _create_repository(project / "apps" / app, app)
        values = {"DESC": f"A small web site, the {app}", "REPOSITORY": str(project / "apps" / app)}
        text = starter_text("common/app.yml", **values)
        _create_or_keep(project, common / f"apps/{app}.yml", text)
    apps = f"{display_path(project / 'apps')}/{{{','.join(APPS)}}}"
    yield f"created {apps}: two small web sites, each a git repository"
    for stage in stages:
        stage_folder = project / INVENTORIES / stage
        for path, text in _stage_files(stage_folder, APPS):
            _create_or_keep(project, path, text)
        message = "sandbox hosts" if stage == SANDBOX else "add its servers in roles/"
        yield f"created {display_path(stage_folder)}/: {message}"
    yield _write_schemas(project)


def complete_project(folder: Path, stages: Sequence[str]) -> Iterator[str]:
    """Add to an existing project what it lacks; yield each file that is created or kept.

    These are an entry in ``.gitignore``, ``inventories/common``, a first task if there is no
    ``tasks/``, and the given stages. Raises UsageError.
    """
    check_stage_names(stages)
    project = folder.absolute()
    is_first_stage = not has_stages(project)
    yield _add_to_gitignore(project / ".gitignore")
    common = project / INVENTORIES / "common"
    # A default stage would change what `orch run` without -s does in a project that has stages.
    settings = (
        starter_text("common/stage.yml", STAGE=stages[0])
        if is_first_stage and stages
        else starter_text("common/empty.yml")
    )
    yield _create_or_keep(project, common / "stage.yml", settings)
    if is_directory(project / "tasks"):
        yield f"kept {display_path(project / 'tasks')}/"
    else:
        for path, source in _task_files(project, "uname.yml"):
            yield _create_or_keep(project, path, source.read_text("utf-8"))
    apps = [app for app in APPS if find_existing(common / f"apps/{app}.yml")]
    for stage in stages:
        stage_folder = project / INVENTORIES / stage
        if stage_folder.exists():
            yield f"kept {display_path(stage_folder)}/"
            continue
        for path, text in _stage_files(stage_folder, apps):
            yield _create_or_keep(project, path, text)
    yield _write_schemas(project)


def check_recipes(names: Sequence[str]) -> None:
    """Raise UsageError for a name that ``--add`` does not have."""
    for name in names:
        if name not in RECIPES:
            nearest = suggest_nearest(name, RECIPES)
            message = f"orch has nothing called '{name}' to add; it can add: {', '.join(RECIPES)}"
            raise UsageError(Diagnostic(message, None, nearest))


def add_recipes(directory: str | None, names: Sequence[str]) -> Iterator[str]:
    """Add recipes to an existing project; yield each file that is created or kept.

    Raises UsageError if there is no project or no recipe of that name.
    """
    check_recipes(names)
    root = resolve_project_root(directory)
    for name in dict.fromkeys(names):
        for part in RECIPES[name]:
            for path, source in _task_files(root, part):
                text = source.read_text("utf-8")
                line = _create_or_keep(root, path, text)
                existing = find_existing(path)
                is_other = existing is None or not _has_text(root, existing, text)
                yield f"{line}, which differs from the recipe's" if is_other else line


def _write_schemas(project: Path) -> str:
    """Write the schemas for editors and return what was done."""
    folder = display_path(project / SCHEMA_FOLDER)
    if any(list(write_schemas(str(project)))):
        return f"created {folder}/: JSON Schemas for editors"
    return f"kept {folder}/"


def _create_or_keep(project: Path, path: Path, text: str) -> str:
    """Create a file unless it exists, and return what was done."""
    existing = find_existing(path)
    data = add_schema_comment(project, path, text).encode()
    if existing is None and create_file(path, data):
        return f"created {display_path(path)}"
    return f"kept {display_path(existing or path)}"


def _has_text(project: Path, path: Path, text: str) -> bool:
    """Return True if the file has this text, with or without the name of its schema."""
    texts = (text, add_schema_comment(project, path, text))
    try:
        return read_file(path) in {each.encode() for each in texts}
    except OSError:
        return False


def _add_to_gitignore(path: Path) -> str:
    """Create the file or append a line to it, unless it has one, and return what was done."""
    entry = _IGNORED_FOLDER.encode()
    if create_file(path, entry + b"\n"):
        return f"created {display_path(path)}"
    try:
        data = read_file(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        message = f"cannot read {display_path(path)}: {reason}"
        raise UsageError(Diagnostic(message, SourcePosition(display_path(path)))) from None
    if any(line.strip() in _IGNORING_LINES for line in data.splitlines()):
        return f"kept {display_path(path)}"
    newline = b"\r\n" if b"\r\n" in data else b"\n"
    separator = newline if data and not data.endswith(b"\n") else b""
    replace_file(path, data + separator + entry + newline)
    return f"added {_IGNORED_FOLDER} to {display_path(path)}"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        message = f"cannot create a project in {folder}: {reason}"
        hint = "choose another folder: orch init DIR"
        raise UsageError(Diagnostic(message, SourcePosition(str(folder)), hint)) from None


def _stage_files(folder: Path, apps: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield the files of a new stage with their texts."""
    kind = "dev" if folder.name == SANDBOX else "other"
    yield folder / "stage.yml", starter_text(f"{kind}/stage.yml")
    yield folder / "roles/web.yml", starter_text(f"{kind}/web.yml")
    for host in ("web1", "web2") if kind == "dev" else ():
        yield folder / f"hosts/{host}.yml", ""
    for app in apps:
        ports = _free_ports(2) if kind == "dev" else [8080 + APPS.index(app), 0]
        names = {"NAME": app, "PORT1": str(ports[0]), "PORT2": str(ports[1])}
        yield folder / f"apps/{app}.yml", starter_text(f"{kind}/app.yml", **names)


def _task_files(root: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """Yield the files of the project to create, each with its source.

    ``name`` is a file or folder of ``tasks/`` in the checkout or the installed package.
    """
    source = shipped_file("tasks/deploy.yml").parent
    top = source / name
    for each in sorted(top.glob("*.yml")) if top.is_dir() else [top]:
        yield root / "tasks" / each.relative_to(source), each


def _create_repository(folder: Path, name: str) -> None:
    for part in ("bin/restart", "public/index.html"):
        _write(folder / part, starter_text(f"site/{part}", NAME=name))
    (folder / "bin/restart").chmod(0o755)
    identity_options = ("-c", "user.name=orch", "-c", "user.email=orch@localhost")
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "The site")):
        try:
            subprocess.run(
                ["git", *identity_options, *words], cwd=folder, check=True, capture_output=True
            )
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


def starter_text(name: str, **values: str) -> str:
    """Return a file of ``starter/`` with ``@KEY@`` replaced by the value of each key."""
    text = files("orchestrator").joinpath("starter", *name.split("/")).read_text("utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _write(path: Path, text: str) -> None:
    """Create a file of a new project; one that exists is kept."""
    create_file(path, text.encode())
