"""The options beside a step, rendered and in their types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from orchestrator.errors import DefinitionError, Mark, Problem, Problems
from orchestrator.model.marked_value import HomePath, Value
from orchestrator.model.text_encoding import encode, quote_text
from orchestrator.planner.task_expander import Seen
from orchestrator.templating import Scope
from orchestrator.yamlio.schema import Reader

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate


def option(
    template: ValueTemplate | None, scope: Scope, what: str, *, path: bool = False
) -> str | None:
    """The option's text, or None where it is left out. Raises DefinitionError."""
    if template is None:
        return None
    value = template.render(scope)
    read = path_text if path else plain_text
    return read(value, what, template.mark)


def folder(seen: Seen | None) -> str | None:
    """The folder to change to."""
    return None if seen is None else option(seen.what, seen.frame, "chdir", path=True)


def number_of_seconds(seen: Seen | None) -> float | None:
    """A timeout in seconds. Raises DefinitionError where it is no duration, or nothing."""
    if seen is None:
        return None
    problems = Problems()
    value = seen.what.render(seen.frame)
    if value is None:
        return None
    data = value if isinstance(value, (str, int, float)) else None
    seconds = Reader(problems).duration(Value(data, seen.what.mark), "timeout")
    if seconds == 0:
        problems.add("timeout must be more than nothing", seen.what.mark, "leave it out for none")
    problems.raise_any()
    return seconds


def variables(outer: Mapping[str, Seen], inner: Iterable[tuple[str, Seen]]) -> dict[str, str]:
    """The environment, inner over outer; a null leaves a variable out."""
    found: dict[str, str] = {}
    for name, seen in (dict(outer) | dict(inner)).items():
        value = seen.what.render(seen.frame)
        if value is not None:
            found[name] = plain_text(value, f"environment variable '{name}'", seen.what.mark)
    return found


def plain_text(value: object, what: str, mark: Mark) -> str:
    """Text out of text, a number or a boolean. Raises DefinitionError for anything else."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise DefinitionError(Problem(f"{what} must be text, found {quote_text(value)}", mark))
    text = str(value)
    if "\0" in text:
        raise DefinitionError(Problem(f"{what} holds a NUL, which no command can be given", mark))
    encoded(text, what, mark)
    return text


def encoded(text: str, what: str, mark: Mark) -> bytes:
    """Return the bytes of a text. Raises DefinitionError where it has a character that has none."""
    try:
        return encode(text)
    except ValueError as error:
        raise DefinitionError(Problem(f"{what} cannot be sent: {error}", mark)) from None


def path_text(value: object, what: str, mark: Mark) -> str:
    """A path. Raises DefinitionError where it is none."""
    text = plain_text(value, what, mark)
    if not text.strip():
        raise DefinitionError(Problem(f"{what} is blank", mark, "give it a path"))
    return home_path(text)


def home_path(text: str) -> str:
    """The path, marked as one in the home folder where it begins with ``~/``."""
    return HomePath(text) if text == "~" or text.startswith("~/") else text
