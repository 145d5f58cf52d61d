"""Functions of templates that read files of the project: ``read``, ``lines``, and so on.

A path is relative to the file that names it, else to the project's folder. No path leads out of
the project, neither by ``..`` nor by a link, and no text from a host is one: it is refused before
it gets here. Only the scope knows the project (``ProjectReader``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import pass_context

from orchestrator.templating.limits import check_length
from orchestrator.templating.scope import ProjectReader
from orchestrator.templating.taint import secrets_of
from orchestrator.templating.value_text import UnusableValueError, text_of

_NO_FILE_HINT = "a file of a host is read by a step: `run: cat PATH` with `register:`"
_NOTHING = object()


@pass_context
def read(context: Any, path: Any) -> str:
    """Return the text of a file of the project; that of a vault decrypted, as a secret."""
    return _file_text(context, path)[0]


@pass_context
def lines(context: Any, path: Any) -> list[str]:
    """Return the lines of a file of the project, without the characters that end them."""
    text, is_secret = _file_text(context, path)
    found = text.splitlines()
    context.work.count_step(found)
    output: list[str] = context.propagate_taint((text,) if is_secret else (), found)
    return output


@pass_context
def first_found(context: Any, paths: Any, default: Any = _NOTHING) -> Any:
    """Return the path of the first of these files that the project has, or the default."""
    names = [paths] if isinstance(paths, str) else list(paths)
    for name in names:
        found = _reader(context).find_file(text_of(name), context.mark)
        if found:
            return found
    if default is not _NOTHING:
        return default
    listed = ", ".join(f"'{text_of(name)}'" for name in names) or "an empty list"
    hint = "a second argument is the value if there is none: `first_found([…], none)`"
    raise UnusableValueError(f"`first_found`: the project has none of {listed}", hint)


@pass_context
def fileglob(context: Any, pattern: Any) -> list[str]:
    """Return the paths of the files of the project that match a pattern, in order."""
    found = _reader(context).match_files(text_of(pattern), context.mark)
    context.work.count_step(found)
    return found


@pass_context
def render(context: Any, path: Any) -> str:
    """Return the text of a template file of the project, rendered with the same names."""
    secrets = secrets_of(context.scope)
    template, is_secret = _reader(context).compile_file(text_of(path), context.mark, secrets)
    if template.mark.path in context.rendered_files:
        raise UnusableValueError(f"`render`: {template.mark.path} leads back to itself")
    text: str = template.render(context.scope, context)
    context.propagate_taint((template.source,) if is_secret else (), text)
    return text


def _file_text(context: Any, path: Any) -> tuple[str, bool]:
    """Return the text of a file, and True if it is a secret."""
    reader, secrets = _reader(context), secrets_of(context.scope)
    text, is_secret = reader.read_text(text_of(path), context.mark, secrets)
    check_length(len(text))
    context.work.count_step(text)
    return text, is_secret


def _reader(context: Any) -> ProjectReader:
    """Return what reads the project's files. Raises UnusableValueError without a project."""
    reader: ProjectReader | None = getattr(context.scope, "project_files", None)
    if reader is None or not reader.folder:
        raise UnusableValueError("there is no project here", _NO_FILE_HINT)
    return reader


LOOKUPS: Mapping[str, Callable[..., Any]] = {
    "read": read,
    "lines": lines,
    "first_found": first_found,
    "fileglob": fileglob,
    "render": render,
}
"""The functions by name."""
