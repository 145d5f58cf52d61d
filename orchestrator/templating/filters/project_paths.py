"""The filters ``realpath`` and ``expanduser``, and tests of files of the project on this machine.

A relative path is below the project's folder. Text from a host is refused before it gets here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jinja2 import pass_context

from orchestrator.templating.value_text import UnusableValueError, text_of

_IN_A_STEP = "a file of a host is tested in a step: `run: test -e PATH`, or `creates: PATH`"


@pass_context
def realpath(context: Any, value: Any) -> str:
    """Return the absolute path of a file of the project, with symbolic links resolved."""
    return _examine(context, value)[0]


@pass_context
def expanduser(context: Any, value: Any) -> str:
    """Return the path with a leading ``~`` or ``~user`` as a home folder of this machine."""
    text, reader = text_of(value), getattr(context.scope, "project_files", None)
    if reader is not None:
        return str(reader.expand_home(text))
    return os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises RuntimeError


@pass_context
def is_file(context: Any, value: Any) -> bool:
    """Return True if the project has a file at this path."""
    return _examine(context, value)[1] == "file"


@pass_context
def is_directory(context: Any, value: Any) -> bool:
    """Return True if the project has a folder at this path."""
    return _examine(context, value)[1] == "folder"


@pass_context
def exists(context: Any, value: Any) -> bool:
    """Return True if the project has anything at this path."""
    return _examine(context, value)[1] != ""


def _examine(context: Any, value: Any) -> tuple[str, str]:
    """Return what ``examine_path`` returns. Raises UnusableValueError outside the project."""
    text, reader = text_of(value), getattr(context.scope, "project_files", None)
    if reader is not None:
        found: tuple[str, str] = reader.examine(text)
        return found
    return examine_path(getattr(context.scope, "project_folder", ""), text)


def examine_path(folder: str, text: str) -> tuple[str, str]:
    """Return a path below the folder with links resolved, and its kind.

    The kind is file, folder or other; '' if there is nothing. Raises UnusableValueError outside
    the folder.
    """
    if not folder:
        raise UnusableValueError(f"'{text}' is below no project here", _IN_A_STEP)
    try:
        root = Path(folder).resolve()
        found = Path(root, text).resolve()
    except (OSError, ValueError, RuntimeError):
        raise UnusableValueError(f"'{text}' is not a path") from None
    if not found.is_relative_to(root):
        raise UnusableValueError(f"'{text}' is outside of the project", _IN_A_STEP)
    kinds = {"file": found.is_file, "folder": found.is_dir, "other": found.exists}
    return str(found), next((kind for kind, is_kind in kinds.items() if is_kind()), "")
