"""The index of tasks: every ``.yml`` file below ``tasks/``; a folder is a namespace.

The files of ``tasks/facts/`` are facts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from orchestrator.errors import Diagnostic, SourcePosition
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.modules import MODULES_FOLDER
from orchestrator.playbook.keywords import RESERVED_NAMES
from orchestrator.yamlio.local_files import display_path
from orchestrator.yamlio.naming_rules import is_ignored, yaml_stem

FOLDER_VARS = "vars"
"""Name of the file with variables for all task files of its folder, without ``.yml``."""

FACTS_FOLDER = "facts"
"""The folder below ``tasks/`` whose files are facts and not tasks."""

FILTERS_FOLDER = "filters"
"""The folder below ``tasks/`` whose Python files define filters."""

_NAME_PART = lazy_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class TaskIndex(Struct, frozen=True):
    """Task names with their files, sorted by name.

    ``refused`` maps the names of files that cannot be tasks to the reason; ``modules`` are the
    built-in modules. ``folder_vars`` maps folders to their file with variables for all tasks below.
    """

    files: Mapping[str, Path]
    refused: tuple[tuple[str, Diagnostic], ...]
    modules: Mapping[str, Path]
    folder_vars: Mapping[Path, Path] = field(default_factory=dict)

    def find_file(self, name: str) -> Path | None:
        """Return the file of a task or module, or None if there is no such name."""
        return self.files.get(name) or self.modules.get(name)

    def all_names(self) -> list[str]:
        """Return the names of all tasks and modules."""
        return [*self.files, *self.modules]


def index_tasks(root: Path) -> TaskIndex:
    """Return the index of the project at ``root``; no task file is read."""
    top = root / "tasks"
    modules = shipped_modules()
    files: dict[str, Path] = {}
    refused: list[tuple[str, Diagnostic]] = []
    folder_vars: dict[Path, Path] = {}
    for folder, subfolders, names in os.walk(top):
        subfolders[:] = sorted(n for n in subfolders if not is_ignored(n))
        if Path(folder) == top and FACTS_FOLDER in subfolders:
            subfolders.remove(FACTS_FOLDER)
        for filename in sorted(names):
            base = yaml_stem(filename)
            if base is None or is_ignored(filename):
                continue
            path = Path(folder, filename)
            if base == FOLDER_VARS and Path(folder) not in folder_vars:
                folder_vars[Path(folder)] = path
                continue
            parts = (*path.relative_to(top).parts[:-1], base)
            name, mark = ":".join(parts), SourcePosition(display_path(path))
            why = _refusal_reason(name, parts, modules)
            if not why and name in files:
                why = f"'{files[name].name}' beside it defines the same task"
            if why:
                what = f"'{name}' cannot be a task: {why}"
                refused.append((name, Diagnostic(what, mark, "rename it, or remove it")))
            else:
                files[name] = path
    return TaskIndex(dict(sorted(files.items())), tuple(refused), modules, folder_vars)


def shipped_modules() -> dict[str, Path]:
    """Return the files of the built-in modules by name."""
    return {path.stem: path for path in sorted(MODULES_FOLDER.glob("*.yml"))}


def task_name_error(name: str) -> str:
    """Return why no file below ``tasks/`` can define a task of this name, or '' if one can."""
    parts = tuple(name.split(":"))
    if reason := _refusal_reason(name, parts, shipped_modules()):
        return reason
    ignored = [part for part in parts[:-1] if is_ignored(part)]
    return f"folders named like '{ignored[0]}' are ignored" if ignored else ""


def _refusal_reason(name: str, parts: tuple[str, ...], modules: Mapping[str, Path]) -> str:
    if name in RESERVED_NAMES:
        return "it is a keyword of orch"
    if name in modules:
        return "a built-in module has that name"
    if parts[-1] == FOLDER_VARS:
        return f"a file '{FOLDER_VARS}.yml' holds variables for all tasks of its folder"
    if len(parts) > 1 and parts[0] == FACTS_FOLDER:
        return "tasks/facts/ is the folder of facts"
    for part in parts:
        if not _NAME_PART.fullmatch(part):
            return f"'{part}' has characters other than letters, digits, '_', '-' and '.'"
    return ""
