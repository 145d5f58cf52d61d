"""The options of a module's payload: what of a folder is sent, and how a template is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from orchestrator.errors import DefinitionError, Diagnostic
from orchestrator.model.text_encoding import repr_text
from orchestrator.planner.file_parts import PartOptions
from orchestrator.planner.file_tree import TreeOptions
from orchestrator.planner.task_scope import TaskScope
from orchestrator.planner.trust_checks import render_trusted
from orchestrator.playbook.model import ModulePayload
from orchestrator.playbook.param_types import python_regex
from orchestrator.templating.template_syntax import TemplateSyntax

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate

T = TypeVar("T")

_HOST_CHOICE = "could name any file of this machine"
_NAME_FILES_HINT = "name the files in the task, one step for each, and choose by `when`"
_KINDS = ("variable", "block", "comment")
_DELIMITERS_HINT = 'write for example `delimiters: {variable: ["[[", "]]"]}`'
_NEWLINES = {"lf": "\n", "crlf": "\r\n"}


def check_trusted(template: ValueTemplate, task_scope: TaskScope, check: Callable[..., T]) -> T:
    """Return the result of ``check``; its errors point at the argument as written."""
    try:
        return check(template, task_scope, "payload", _HOST_CHOICE, _NAME_FILES_HINT)
    except DefinitionError:
        for name in sorted(template.names):
            if name in task_scope.written_args and isinstance(task_scope.caller, TaskScope):
                check(
                    task_scope.written_args[name],
                    task_scope.caller,
                    name,
                    _HOST_CHOICE,
                    _NAME_FILES_HINT,
                )
        raise


def tree_options(payload: ModulePayload, task_scope: TaskScope) -> TreeOptions:
    """Return the options of a tree. Raises ResultPending and DefinitionError."""
    return TreeOptions(
        exclude=_patterns(payload, "exclude", task_scope),
        include=_patterns(payload, "include", task_scope),
        keep_modes=_option(payload, "keep_modes", task_scope) is True,
        follow=_option(payload, "follow", task_scope) is True,
        times=_option(payload, "times", task_scope) is True,
        whole_files=_option(payload, "whole_file", task_scope) is True,
    )


def part_options(payload: ModulePayload, task_scope: TaskScope) -> PartOptions:
    """Return the options of parts that are joined. Raises ResultPending and DefinitionError."""
    match = _option(payload, "match", task_scope)
    delimiter = _option(payload, "delimiter", task_scope)
    try:
        pattern = None if match is None else re.compile(python_regex(str(match)))
    except re.error as error:
        message = f"{repr_text(match)} is not a regular expression: {error}"
        raise DefinitionError(Diagnostic(message, payload.options["match"].mark)) from None
    return PartOptions(
        pattern,
        hidden=_option(payload, "hidden", task_scope) is not False,
        delimiter=None if delimiter is None else str(delimiter),
    )


def template_syntax(payload: ModulePayload, task_scope: TaskScope) -> TemplateSyntax:
    """Return the syntax of a template. Raises ResultPending and DefinitionError."""
    written = _option(payload, "delimiters", task_scope) or {}
    delimiters = {}
    if not isinstance(written, dict) or not set(written) <= set(_KINDS):
        found = ", ".join(map(str, written)) if isinstance(written, dict) else repr_text(written)
        message = f"delimiters must be a mapping of {', '.join(_KINDS)} to pairs, found {found}"
        raise _delimiters_error(message, payload, task_scope)
    for kind, pair in written.items():
        is_pair = isinstance(pair, (list, tuple)) and len(pair) == 2
        if not is_pair or not all(isinstance(each, str) and each.strip() for each in pair):
            message = f"the delimiters of a {kind} must be two texts, found {repr_text(pair)}"
            raise _delimiters_error(message, payload, task_scope)
        delimiters[kind] = (pair[0], pair[1])
    syntax = TemplateSyntax(
        **delimiters,
        trim_blocks=_option(payload, "trim_blocks", task_scope) is not False,
        lstrip_blocks=_option(payload, "lstrip_blocks", task_scope) is True,
    )
    if len(set(syntax.starts)) < len(_KINDS):
        message = f"variable, block and comment must begin differently: {', '.join(syntax.starts)}"
        raise _delimiters_error(message, payload, task_scope)
    return syntax


def with_newlines(text: str, payload: ModulePayload, task_scope: TaskScope) -> str:
    """Return a rendered template with the line ends that the payload requires, if any.

    Raises ResultPending and DefinitionError.
    """
    newline = _NEWLINES.get(str(_option(payload, "newline", task_scope)))
    if newline is None:
        return text
    return text.replace("\r\n", "\n").replace("\n", newline)


def _option(payload: ModulePayload, name: str, task_scope: TaskScope) -> object:
    template = payload.options.get(name)
    return None if template is None else check_trusted(template, task_scope, render_trusted)


def _patterns(payload: ModulePayload, name: str, task_scope: TaskScope) -> tuple[str, ...]:
    value = _option(payload, name, task_scope)
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    message = f"{name} must be a list of patterns, found {repr_text(value)}"
    raise DefinitionError(Diagnostic(message, payload.options[name].mark))


def _delimiters_error(
    message: str, payload: ModulePayload, task_scope: TaskScope
) -> DefinitionError:
    """Return an error at the argument as written."""
    template = payload.options.get("delimiters", payload.what)
    written = (task_scope.origin(name) for name in sorted(template.names))
    mark = next((value.mark for value in written if value is not None), template.mark)
    return DefinitionError(Diagnostic(message, mark, _DELIMITERS_HINT))
