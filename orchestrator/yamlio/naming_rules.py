"""Names: of files that are read or ignored, and of variables."""

from __future__ import annotations

import re

from orchestrator.model.lazy_regex import regex

RESERVED = frozenset(
    ("host", "stage", "app", "task", "run", "facts", "roles", "hosts", "env", "result", "item")
)
"""The tool's own objects in templates."""

SUFFIXES = (".yml", ".yaml")

_BACKUP = (
    *("~", ".swp", ".swo", ".bak", ".orig", ".rej", ".rpmsave", ".rpmnew", ".rpmorig"),
    *(".md", ".retry", ".tmp", ".pyc"),
)
_DPKG = regex(r"\.dpkg-[a-z]+$")
_VARIABLE = regex(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = frozenset(
    ("and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None")
)


def ignored(name: str) -> bool:
    """Whether a file or folder of this name is none of ours: dotfiles and what editors leave."""
    return (
        name.startswith((".", "#"))
        or name.endswith(_BACKUP)
        or name == "__pycache__"
        or bool(_DPKG.search(name))
    )


def stem(name: str) -> str | None:
    """The name without ``.yml`` or ``.yaml``; None for any other file."""
    for suffix in SUFFIXES:
        if name.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def why_no_variable(name: str) -> tuple[str, str]:
    """Why this cannot name a variable, and what to do; two empty texts where it can."""
    if name in RESERVED:
        return f"'{name}' is the tool's own object", f"choose another name, like 'my_{name}'"
    if not _VARIABLE.fullmatch(name):
        fixed = re.sub(r"[^A-Za-z0-9_]", "_", name)
        fixed = f"_{fixed}" if fixed[:1].isdigit() else fixed
        hint = f"write '{fixed}'" if _VARIABLE.fullmatch(fixed) else ""
        return "only letters, digits and _ are allowed, and no digit in front", hint
    if name in _WORDS:
        return "it is a word of the template language", f"choose another name, like '{name}_'"
    return "", ""
