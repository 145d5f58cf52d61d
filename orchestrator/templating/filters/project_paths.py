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
    return str(_resolved(context, value))


def expanduser(value: Any) -> str:
    """Return the path with a leading ``~`` or ``~user`` as a home folder of this machine."""
    return os.path.expanduser(text_of(value))  # noqa: PTH111 - Path.expanduser raises RuntimeError


@pass_context
def is_file(context: Any, value: Any) -> bool:
    """Return True if the project has a file at this path."""
    return _resolved(context, value).is_file()


@pass_context
def is_directory(context: Any, value: Any) -> bool:
    """Return True if the project has a folder at this path."""
    return _resolved(context, value).is_dir()


@pass_context
def exists(context: Any, value: Any) -> bool:
    """Return True if the project has anything at this path."""
    return _resolved(context, value).exists()


def _resolved(context: Any, value: Any) -> Path:
    """Return the path with links resolved. Raises UnusableValueError outside the project."""
    text = text_of(value)
    folder = getattr(context.scope, "project_folder", "")
    if not folder:
        raise UnusableValueError(f"'{text}' is below no project here", _IN_A_STEP)
    try:
        root = Path(folder).resolve()
        found = Path(root, text).resolve()
    except (OSError, ValueError, RuntimeError):
        raise UnusableValueError(f"'{text}' is not a path") from None
    if not found.is_relative_to(root):
        raise UnusableValueError(f"'{text}' is outside of the project", _IN_A_STEP)
    return found
