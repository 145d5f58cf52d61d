"""Filters and tests of paths as texts: no file is looked at. Names and meanings are Ansible's.

Source: the documentation of ``ansible.builtin``'s filters and tests.
"""

from __future__ import annotations

import posixpath
from typing import Any

from orchestrator.templating.value_text import UnusableValueError, text_of


def path_join(parts: Any) -> str:
    """Return the path of its parts; an absolute part begins it anew."""
    if isinstance(parts, str):
        return parts
    texts = [text_of(part) for part in parts]
    if not texts:
        raise UnusableValueError("`path_join`: an empty list is not a path")
    return posixpath.join(*texts)


def normpath(path: Any) -> str:
    """Return the path without `.`, `..` and double slashes, as far as the text tells."""
    return posixpath.normpath(text_of(path))


def relpath(path: Any, start: Any) -> str:
    """Return the path relative to the folder ``start``."""
    to, base = text_of(path), text_of(start)
    if not to or not base or posixpath.isabs(to) != posixpath.isabs(base):
        raise UnusableValueError(
            f"`relpath`: '{to}' and '{base}' do not begin at the same place",
            "both are absolute, or both relative",
        )
    return posixpath.relpath(to, base)


def commonpath(paths: Any) -> str:
    """Return the longest path that all of these begin with."""
    texts = [text_of(path) for path in paths]
    try:
        return posixpath.commonpath(texts)
    except ValueError:
        what = "`commonpath` takes paths that are all absolute, or all relative"
        raise UnusableValueError(what) from None


def is_absolute(path: Any) -> bool:
    """Return True if the path begins with a slash."""
    return posixpath.isabs(text_of(path))
