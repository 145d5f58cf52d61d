"""Projects written into a temporary folder, for the tests of the inventory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError, Problem
from orchestrator.inventory.stage_loader import load
from orchestrator.model.host import Stage

Files = Mapping[str, str]


def write(root: Path, files: Files) -> Path:
    """The files under ``inventories/``; one that begins with ``#!`` can be executed."""
    for name, text in files.items():
        path = root / "inventories" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
            continue
        path.write_text(text)
        if text.startswith("#!"):
            path.chmod(0o755)
    (root / "inventories").mkdir(exist_ok=True)
    return root


def stage(root: Path, files: Files, name: str = "dev") -> Stage:
    """The stage that these files make."""
    return load(write(root, files), name)


def refused(root: Path, files: Files, name: str = "dev") -> tuple[Problem, ...]:
    """What is wrong with the stage that these files do not make."""
    with pytest.raises(DefinitionError) as caught:
        stage(root, files, name)
    return caught.value.problems


def problem(root: Path, files: Files, name: str = "dev") -> Problem:
    """The one thing that is wrong."""
    (found,) = refused(root, files, name)
    return found


def place(found: Problem) -> str:
    """``file:line:column`` of a problem, the file from ``inventories/`` on."""
    return str(found.mark).rpartition("inventories/")[2]
