"""Projects written into a temporary folder, for the tests of the inventory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError, Diagnostic
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.model.host import Stage

FileTexts = Mapping[str, str]


def write_inventory(root: Path, files: FileTexts) -> Path:
    """Write the files under ``inventories/``; scripts with ``#!`` are executable."""
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


def load_files(root: Path, files: FileTexts, name: str = "dev") -> Stage:
    """Load the stage from these files."""
    return load_stage(write_inventory(root, files), name)


def stage_problems(root: Path, files: FileTexts, name: str = "dev") -> tuple[Diagnostic, ...]:
    """Return the problems of an invalid stage."""
    with pytest.raises(DefinitionError) as caught:
        load_files(root, files, name)
    return caught.value.diagnostics


def only_problem(root: Path, files: FileTexts, name: str = "dev") -> Diagnostic:
    """Return the only problem."""
    (found,) = stage_problems(root, files, name)
    return found


def position_text(found: Diagnostic) -> str:
    """``file:line:column`` of a problem, the file from ``inventories/`` on."""
    return str(found.mark).rpartition("inventories/")[2]
