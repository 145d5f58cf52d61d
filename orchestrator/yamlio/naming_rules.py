"""Rules for names: which files are read or ignored, and valid variable names."""

from __future__ import annotations

import re

from orchestrator.model.lazy_regex import lazy_regex

RESERVED_NAMES = frozenset(
    (
        *("host", "stage", "app", "task", "run", "facts", "roles", "hosts", "env", "result"),
        *("item", "vars"),
    )
)
"""The built-in objects of templates."""

YAML_SUFFIXES = (".yml", ".yaml")

_IGNORED_SUFFIXES = (
    *("~", ".swp", ".swo", ".bak", ".orig", ".rej", ".rpmsave", ".rpmnew", ".rpmorig"),
    *(".md", ".retry", ".tmp", ".pyc"),
)
_DPKG_BACKUP = lazy_regex(r"\.dpkg-[a-z]+$")
ENVIRONMENT_NAME = lazy_regex(r"[A-Za-z_][A-Za-z0-9_]*")

_VARIABLE = lazy_regex(r"[A-Za-z_][A-Za-z0-9_]*")
_JINJA_WORDS = frozenset(
    ("and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None")
)


def is_ignored(name: str) -> bool:
    """Return True for names to ignore: dotfiles, and backups of editors and package managers."""
    return (
        name.startswith((".", "#"))
        or name.endswith(_IGNORED_SUFFIXES)
        or name == "__pycache__"
        or bool(_DPKG_BACKUP.search(name))
    )


def yaml_stem(name: str) -> str | None:
    """Return the name without ``.yml`` or ``.yaml``, or None for any other file."""
    for suffix in YAML_SUFFIXES:
        if name.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def variable_name_error(name: str) -> tuple[str, str]:
    """Return why this is not a valid variable name, and a hint, or two empty strings."""
    if name in RESERVED_NAMES:
        return f"'{name}' is a built-in object", f"choose another name, like 'my_{name}'"
    if not _VARIABLE.fullmatch(name):
        fixed = re.sub(r"[^A-Za-z0-9_]", "_", name)
        fixed = f"_{fixed}" if fixed[:1].isdigit() else fixed
        hint = f"write '{fixed}'" if _VARIABLE.fullmatch(fixed) else ""
        return "only letters, digits and _ are allowed, and no digit in front", hint
    if name in _JINJA_WORDS:
        return "it is a keyword of the template language", f"choose another name, like '{name}_'"
    return "", ""
