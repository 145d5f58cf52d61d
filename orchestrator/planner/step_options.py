"""The options beside a step, rendered and in their types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from orchestrator.errors import DefinitionError, Diagnostic, DiagnosticCollector, SourcePosition
from orchestrator.model.marked_value import HomePath, MarkedValue
from orchestrator.model.text_encoding import encode_text, repr_text
from orchestrator.planner.task_expander import ScopedTemplate
from orchestrator.templating import Scope
from orchestrator.yamlio.schema import SchemaReader

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate


def render_option(
    template: ValueTemplate | None, scope: Scope, name: str, *, path: bool = False
) -> str | None:
    """The option's text, or None where it is left out. Raises DefinitionError."""
    if template is None:
        return None
    value = template.render(scope)
    to_text = to_path if path else to_plain_text
    return to_text(value, name, template.mark)


def working_directory(scoped_template: ScopedTemplate | None) -> str | None:
    """The folder to change to."""
    return (
        None
        if scoped_template is None
        else render_option(scoped_template.template, scoped_template.task_scope, "chdir", path=True)
    )


def timeout_seconds(scoped_template: ScopedTemplate | None) -> float | None:
    """A timeout in seconds. Raises DefinitionError where it is no duration, or nothing."""
    if scoped_template is None:
        return None
    diagnostics = DiagnosticCollector()
    value = scoped_template.template.render(scoped_template.task_scope)
    if value is None:
        return None
    data = value if isinstance(value, (str, int, float)) else None
    seconds = SchemaReader(diagnostics).duration(
        MarkedValue(data, scoped_template.template.mark), "timeout"
    )
    if seconds == 0:
        diagnostics.add(
            "timeout must be more than nothing",
            scoped_template.template.mark,
            "leave it out for none",
        )
    diagnostics.raise_any()
    return seconds


def environment_variables(
    outer: Mapping[str, ScopedTemplate], inner: Iterable[tuple[str, ScopedTemplate]]
) -> dict[str, str]:
    """The environment, inner over outer; a null leaves a variable out."""
    found: dict[str, str] = {}
    for name, scoped_template in (dict(outer) | dict(inner)).items():
        value = scoped_template.template.render(scoped_template.task_scope)
        if value is not None:
            found[name] = to_plain_text(
                value, f"environment variable '{name}'", scoped_template.template.mark
            )
    return found


def to_plain_text(value: object, label: str, mark: SourcePosition) -> str:
    """Text out of text, a number or a boolean. Raises DefinitionError for anything else."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise DefinitionError(Diagnostic(f"{label} must be text, found {repr_text(value)}", mark))
    text = str(value)
    if "\0" in text:
        raise DefinitionError(
            Diagnostic(f"{label} holds a NUL, which no command can be given", mark)
        )
    to_bytes(text, label, mark)
    return text


def to_bytes(text: str, label: str, mark: SourcePosition) -> bytes:
    """Return the bytes of a text. Raises DefinitionError where it has a character that has none."""
    try:
        return encode_text(text)
    except ValueError as error:
        raise DefinitionError(Diagnostic(f"{label} cannot be sent: {error}", mark)) from None


def to_path(value: object, label: str, mark: SourcePosition) -> str:
    """A path. Raises DefinitionError where it is none."""
    text = to_plain_text(value, label, mark)
    if not text.strip():
        raise DefinitionError(Diagnostic(f"{label} is blank", mark, "give it a path"))
    return mark_home_path(text)


def mark_home_path(text: str) -> str:
    """The path, marked as one in the home folder where it begins with ``~/``."""
    return HomePath(text) if text == "~" or text.startswith("~/") else text
