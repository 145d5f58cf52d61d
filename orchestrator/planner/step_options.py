"""Renders and converts the options of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from orchestrator.errors import DefinitionError, Diagnostic, DiagnosticCollector, SourcePosition
from orchestrator.model.marked_value import HomePath, MarkedValue
from orchestrator.model.text_encoding import encode_text, repr_text
from orchestrator.planner.task_expander import ScopedTemplate
from orchestrator.templating import Scope
from orchestrator.yamlio.naming_rules import ENVIRONMENT_NAME
from orchestrator.yamlio.schema import SchemaReader

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate


def render_option(
    template: ValueTemplate | None, scope: Scope, name: str, *, path: bool = False
) -> str | None:
    """Return the option's text, or None if it is omitted. Raises DefinitionError."""
    if template is None:
        return None
    value = template.render(scope)
    to_text = to_path if path else to_plain_text
    return to_text(value, name, template.mark)


def working_directory(scoped_template: ScopedTemplate | None) -> str | None:
    """Return the folder to change to, or None."""
    return (
        None
        if scoped_template is None
        else render_option(scoped_template.template, scoped_template.task_scope, "chdir", path=True)
    )


def timeout_seconds(scoped_template: ScopedTemplate | None) -> float | None:
    """Return a timeout in seconds, or None if there is none.

    Raises DefinitionError if it is not a duration, or zero.
    """
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
            "timeout must be greater than zero",
            scoped_template.template.mark,
            "omit it for no timeout",
        )
    diagnostics.raise_any()
    return seconds


def environment_variables(
    outer: Mapping[str, ScopedTemplate], inner: Iterable[tuple[str, ScopedTemplate]]
) -> dict[str, str]:
    """Return the environment; inner variables override outer ones, and null removes a variable."""
    found: dict[str, str | None] = {}
    for name, scoped_template in (*outer.items(), *inner):
        value = scoped_template.template.render(scoped_template.task_scope)
        mark = scoped_template.template.mark
        for key, each in ({name: value} if name else _environment_mapping(value, mark)).items():
            label = f"environment variable '{key}'"
            found[key] = None if each is None else to_plain_text(each, label, mark)
    return {name: text for name, text in found.items() if text is not None}


def _environment_mapping(value: object, mark: SourcePosition) -> Mapping[str, object]:
    """Return the variables of `environment: "{{ x }}"`. Raises DefinitionError."""
    if not isinstance(value, Mapping):
        message = f"environment must be a mapping, found {repr_text(value)}"
        raise DefinitionError(Diagnostic(message, mark))
    for name in value:
        if not isinstance(name, str) or not ENVIRONMENT_NAME.fullmatch(name):
            message = f"{repr_text(name)} cannot name an environment variable"
            raise DefinitionError(Diagnostic(message, mark))
    return value


def to_plain_text(value: object, label: str, mark: SourcePosition) -> str:
    """Return text, a number or a boolean as text. Raises DefinitionError for other types."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise DefinitionError(Diagnostic(f"{label} must be text, found {repr_text(value)}", mark))
    text = str(value)
    if "\0" in text:
        raise DefinitionError(
            Diagnostic(
                f"{label} contains a NUL character, which cannot be passed to a command", mark
            )
        )
    to_bytes(text, label, mark)
    return text


def to_bytes(text: str, label: str, mark: SourcePosition) -> bytes:
    """Return the bytes of a text. Raises DefinitionError if it cannot be encoded."""
    try:
        return encode_text(text)
    except ValueError as error:
        raise DefinitionError(Diagnostic(f"{label} cannot be sent: {error}", mark)) from None


def to_path(value: object, label: str, mark: SourcePosition) -> str:
    """Return the value as a path. Raises DefinitionError if it is not text, or blank."""
    text = to_plain_text(value, label, mark)
    if not text.strip():
        raise DefinitionError(Diagnostic(f"{label} is blank", mark, "give it a path"))
    return mark_home_path(text)


def mark_home_path(text: str) -> str:
    """Return the path, marked as a home path if it starts with ``~/``."""
    return HomePath(text) if text == "~" or text.startswith("~/") else text
