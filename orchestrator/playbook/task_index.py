"""Which tasks there are: every ``.yml`` below ``tasks/``, a folder being a namespace."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import Mark, Problem
from orchestrator.model.lazy_regex import regex
from orchestrator.modules import FOLDER
from orchestrator.playbook.keywords import MEANINGS
from orchestrator.yamlio.local_files import show
from orchestrator.yamlio.naming_rules import ignored, stem

KEYWORDS = frozenset(MEANINGS)
_PART = regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Index(Struct, frozen=True):
    """Task names with their files, sorted by name; ``refused`` are files that cannot be tasks,
    by the name that they would have; ``modules`` are those that ship."""

    files: Mapping[str, Path]
    refused: tuple[tuple[str, Problem], ...]
    modules: Mapping[str, Path]

    def find(self, name: str) -> Path | None:
        """The file of a task or module."""
        return self.files.get(name) or self.modules.get(name)

    def names(self) -> list[str]:
        """All that can be called."""
        return [*self.files, *self.modules]


def index(root: Path) -> Index:
    """The tasks of the project at ``root``; nothing is read."""
    top = root / "tasks"
    modules = shipped()
    files: dict[str, Path] = {}
    refused: list[tuple[str, Problem]] = []
    for folder, subfolders, names in os.walk(top):
        subfolders[:] = sorted(n for n in subfolders if not ignored(n))
        for filename in sorted(names):
            base = stem(filename)
            if base is None or ignored(filename):
                continue
            path = Path(folder, filename)
            parts = (*path.relative_to(top).parts[:-1], base)
            name, place = ":".join(parts), Mark(show(path))
            why = _why_not(name, parts, modules)
            if not why and name in files:
                why = f"'{files[name].name}' beside it is the same task"
            if why:
                what = f"'{name}' cannot be a task: {why}"
                refused.append((name, Problem(what, place, "rename it, or remove it")))
            else:
                files[name] = path
    return Index(dict(sorted(files.items())), tuple(refused), modules)


def shipped() -> dict[str, Path]:
    """The modules that come with orch, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yml"))}


def _why_not(name: str, parts: tuple[str, ...], modules: Mapping[str, Path]) -> str:
    if name in KEYWORDS:
        return "it is a word of orch's own"
    if name in modules:
        return "a module that comes with orch has that name"
    for part in parts:
        if not _PART.fullmatch(part):
            return f"'{part}' has more in it than letters, digits, '_', '-' and '.'"
    return ""
