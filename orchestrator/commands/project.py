"""Finds the project, and selects the stage."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import Diagnostic, UsageError
from orchestrator.inventory.hostnames import stage_name_error
from orchestrator.inventory.stages import (
    INVENTORIES,
    StageList,
    find_project_root,
    list_stages,
    read_default_stage,
)
from orchestrator.yamlio.local_files import display_path, is_directory


class StageChoice(Struct, frozen=True):
    """The selected stage; ``is_default`` is True if the command line does not name it."""

    name: str
    is_default: bool = False


def check_working_directory(directory: str | None = None) -> None:
    """Raise UsageError if the working directory has been deleted.

    If ``directory`` is absolute, change to it instead.
    """
    try:
        Path.cwd()
    except OSError:
        if directory and Path(directory).is_dir() and Path(directory).is_absolute():
            os.chdir(directory)
            return
        message = "the working directory does not exist any more"
        hint = "change to a folder that exists, or name the project's with an absolute `-C DIR`"
        raise UsageError(Diagnostic(message, None, hint)) from None


def resolve_project_root(directory: str | None) -> Path:
    """Return the project's root: ``directory``, or the nearest folder upward with ``inventories/``.

    Raises UsageError if there is none.
    """
    check_working_directory(directory)
    if directory is not None:
        root = Path(directory)
        if not is_directory(root / "inventories"):
            message = f"no project in {directory}: there is no folder '{root / 'inventories'}'"
            raise UsageError(
                Diagnostic(
                    message,
                    None,
                    "name the folder that contains `inventories/`; "
                    f"`orch init {shlex.quote(directory)}` creates a project there",
                )
            )
        return root.absolute()
    found = find_project_root(Path.cwd())
    if found is None:
        raise UsageError(
            Diagnostic(
                f"no project here: neither {Path.cwd()} nor a folder above it has `inventories/`",
                None,
                "change to the project, or use `-C DIR`; `orch init DIR` creates a new one",
            )
        )
    return found


def optional_project_root(directory: str | None) -> Path | None:
    """Return the project's root, or None outside a project.

    Raises UsageError if ``directory`` is given and has no project.
    """
    if directory is not None:
        return resolve_project_root(directory)
    check_working_directory()
    return find_project_root(Path.cwd())


_USUAL_NAMES = ("hosts", "inventory")
"""Names of inventories that say less than the name of their folder."""


def inventory_name(inventories: Sequence[str]) -> str:
    """Return the name that stands for the stage of these inventories."""
    names: list[str] = []
    for text in inventories:
        path = Path(text).absolute()
        is_usual = path.stem in _USUAL_NAMES and not path.is_dir()
        name = path.parent.name if is_usual else path.stem
        names.append(name if not stage_name_error(name) and "," not in name else "inventory")
    return "+".join(dict.fromkeys(names))


def standalone_root(inventories: Sequence[str], environ: Mapping[str, str]) -> Path:
    """Return the folder that stands for a project when inventories are used outside of one.

    It is below XDG_STATE_HOME and is created, for its owner alone; runs are recorded there. It is a
    project without stages and tasks. Raises UsageError if it cannot be created.
    """
    check_working_directory()
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if not Path(state).is_absolute():
        state = f"{home}/.local/state" if Path(home).is_absolute() else ""
    if not state:
        message = "there is no folder for the records of the run"
        raise UsageError(Diagnostic(message, None, "set HOME or XDG_STATE_HOME"))
    places = "\n".join(str(Path(text).absolute()) for text in inventories)
    digest = hashlib.sha256(places.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    folder = Path(state) / "orch" / f"{inventory_name(inventories)}-{digest}"
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        (folder / INVENTORIES).mkdir(0o700, exist_ok=True)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        message = f"cannot create {folder}, the folder for the records of the run: {why}"
        raise UsageError(Diagnostic(message, None, "set XDG_STATE_HOME to a folder")) from None
    return folder


def select_stage(
    root: Path, stage_names: Sequence[str], environ: Mapping[str, str], example: str
) -> StageChoice:
    """Return the stage of the command line, else of ORCH_STAGE, else the project's default.

    ``example`` is the rest of a valid command line, shown if no stage is named. Raises UsageError,
    and DefinitionError if ``common/stage.yml`` is invalid.
    """
    stage_list = list_stages(root)
    if len(set(stage_names)) > 1:
        listed = " and ".join(dict.fromkeys(stage_names))
        raise UsageError(
            Diagnostic(f"a run has one stage, but {listed} were given", None, "select one of them")
        )
    if stage_names:
        stage_list.check_stage(stage_names[0])
        return StageChoice(stage_names[0])
    if environ.get("ORCH_STAGE"):
        stage_list.check_stage(environ["ORCH_STAGE"])
        return StageChoice(environ["ORCH_STAGE"])
    default = read_default_stage(root)
    if default is not None:
        name = str(default.data)
        if name not in stage_list.names:
            message = f"the default stage '{name}' does not exist"
            raise UsageError(Diagnostic(message, default.mark, _stages_hint(stage_list)))
        return StageChoice(name, is_default=True)
    raise UsageError(_no_stage_error(root, stage_list, example))


def _no_stage_error(root: Path, stage_list: StageList, example: str) -> Diagnostic:
    if not stage_list.names:
        folder = display_path(root / "inventories")
        refused = "".join(f"; {diagnostic.message}" for _, diagnostic in stage_list.refused)
        return Diagnostic(
            f"no stages: there is no folder in {folder}{refused}",
            None,
            f"create one: orch init -s dev {shlex.quote(display_path(root))}",
        )
    line = f"orch -s {stage_list.names[0]} {example}"
    return Diagnostic(
        f"No stage specified. Please specify one of: {', '.join(stage_list.names)} (e.g. `{line}')"
    )


def _stages_hint(stage_list: StageList) -> str:
    return f"the stages are: {', '.join(stage_list.names) or 'none'}"
