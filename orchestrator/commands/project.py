"""Finding the project and the stage that is meant."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import Problem, UsageError
from orchestrator.inventory.stages import Stages, default_stage, find_root, stages
from orchestrator.yamlio.local_files import is_folder, show


class Chosen(Struct, frozen=True):
    """The stage that is meant; ``defaulted`` where nobody named it on the command line."""

    name: str
    defaulted: bool = False


def check_working_directory(directory: str | None = None) -> None:
    """Raise UsageError where the folder that orch was called in was deleted. An absolute
    ``directory`` needs none: then orch works in that one.
    """
    try:
        Path.cwd()
    except OSError:
        if directory and Path(directory).is_dir() and Path(directory).is_absolute():
            os.chdir(directory)
            return
        what = "the working directory does not exist any more"
        hint = "change to a folder that exists, or name the project's with an absolute `-C DIR`"
        raise UsageError(Problem(what, None, hint)) from None


def root_of(directory: str | None) -> Path:
    """The project's root: ``directory``, or the nearest folder upward that holds
    ``inventories/``. Raises UsageError where there is none."""
    check_working_directory(directory)
    if directory is not None:
        root = Path(directory)
        if not is_folder(root / "inventories"):
            what = f"no project in {directory}: there is no folder '{root / 'inventories'}'"
            raise UsageError(Problem(what, None, "name the folder that holds `inventories/`"))
        return root.absolute()
    found = find_root(Path.cwd())
    if found is None:
        raise UsageError(
            Problem(
                f"no project here: neither {Path.cwd()} nor a folder above it holds `inventories/`",
                None,
                "go to your project, or name it with `-C DIR`; `orch init DIR` makes a new one",
            )
        )
    return found


def choose(root: Path, named: Sequence[str], environ: Mapping[str, str], example: str) -> Chosen:
    """The stage: named once on the command line, else ORCH_STAGE, else the project's default.

    ``example`` is the rest of a command line that works, shown where no stage is named.
    Raises UsageError, and DefinitionError where ``common/stage.yml`` cannot be read.
    """
    known = stages(root)
    if len(set(named)) > 1:
        listed = " and ".join(dict.fromkeys(named))
        raise UsageError(
            Problem(f"one run has one stage, but {listed} are named", None, "pick one")
        )
    if named:
        known.check(named[0])
        return Chosen(named[0])
    if environ.get("ORCH_STAGE"):
        known.check(environ["ORCH_STAGE"])
        return Chosen(environ["ORCH_STAGE"])
    default = default_stage(root)
    if default is not None:
        name = str(default.data)
        if name not in known.names:
            what = f"the default stage '{name}' does not exist"
            raise UsageError(Problem(what, default.mark, _listed(known)))
        return Chosen(name, defaulted=True)
    raise UsageError(_none_named(root, known, example))


def _none_named(root: Path, known: Stages, example: str) -> Problem:
    if not known.names:
        folder = show(root / "inventories")
        refused = "".join(f"; {problem.what}" for _, problem in known.refused)
        return Problem(
            f"no stages: there is no folder in {folder}{refused}",
            None,
            f"create one: mkdir -p {folder}/dev/hosts && touch {folder}/dev/hosts/HOST.yml",
        )
    line = f"orch -s {known.names[0]} {example}"
    return Problem(
        f"No stage specified. Please specify one of: {', '.join(known.names)} (e.g. `{line}')"
    )


def _listed(known: Stages) -> str:
    return f"the stages are: {', '.join(known.names) or 'none'}"
