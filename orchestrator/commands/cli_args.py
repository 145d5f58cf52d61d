"""Parses the words of the command line into task requests and variables."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    DiagnosticCollector,
    SourcePosition,
    UsageError,
)
from orchestrator.model.marked_value import MarkedKey, MarkedValue, Values, merge_values
from orchestrator.model.text_encoding import decode_bytes
from orchestrator.playbook.model import CommonOptions, TaskRequest
from orchestrator.yamlio.local_files import is_directory
from orchestrator.yamlio.naming_rules import RESERVED_NAMES, variable_name_error
from orchestrator.yamlio.schema import SchemaReader
from orchestrator.yamlio.yaml_loader import load_yaml, parse_yaml

COMMAND_LINE = SourcePosition("<command line>")


def parse_task_requests(words: Sequence[str]) -> tuple[TaskRequest, ...]:
    """Return tasks with their arguments; ``key=value`` belongs to the task before it.

    Raises UsageError if no task precedes an argument, or one is given twice.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            found.append((word, {}))
            continue
        if not found:
            hint = f"write the task first: orch run TASK {word}"
            raise UsageError(Diagnostic(f"'{word}' must follow a task name", None, hint))
        task, args = found[-1]
        if key in args:
            raise UsageError(Diagnostic(f"'{key}' is given twice to task '{task}'"))
        args[key] = text
    if not found:
        raise UsageError(Diagnostic("no task named", None, "see `orch tasks`"))
    return tuple(TaskRequest(task, args) for task, args in found)


def upload_arguments(src: str, dest: str) -> dict[str, str]:
    """Return the arguments of the module ``upload`` that copy ``src`` to ``dest``.

    A folder is copied into ``dest`` under its own name, unless ``src`` ends with a slash or has no
    name of its own (``.``). Raises UsageError if ``dest`` is blank.
    """
    if not dest.strip():
        raise UsageError(Diagnostic("DEST is empty", None, "for the home folder, write ~/"))
    path = os.path.abspath(src)  # noqa: PTH100 - links stay as written
    name = posixpath.basename(src)
    if is_directory(Path(src)) and name not in ("", ".", ".."):
        dest = posixpath.join(dest, name)
    return {"src": path, "path": dest, "keep_modes": "true"}


def parse_extra_variables(items: Sequence[str]) -> Values:
    """Return the variables of ``-e key=value``, ``-e @FILE`` and ``-e '{"key": "value"}'``.

    Later ones override earlier ones. Text of the command line is never a template; a file is read
    like any other YAML file. Raises UsageError or DefinitionError.
    """
    found: dict[str, MarkedValue] = {}
    diagnostics = DiagnosticCollector()
    for item in items:
        if item.startswith("@"):
            path = Path(item[1:])
            fields = SchemaReader(diagnostics).variables(
                load_yaml(path, str(path), secrets=True), str(path)
            )
            values: dict[str, MarkedValue] = {str(key): value for key, value in fields.items()}
        elif item.lstrip().startswith("{"):
            fields = SchemaReader(diagnostics).variables(
                _literal(parse_yaml(item, COMMAND_LINE.path)), "-e"
            )
            values = {str(key): value for key, value in fields.items()}
        else:
            values = dict([_parse_assignment(item)])
        for name, value in values.items():
            found[name] = merge_values(found[name], value) if name in found else value
    if diagnostics.diagnostics:
        raise DefinitionError(*diagnostics.diagnostics)
    return found


def _literal(value: MarkedValue) -> MarkedValue:
    """Return the value with no text in it taken for a template."""
    data = value.data
    if isinstance(data, dict):
        data = {key: _literal(inner) for key, inner in data.items()}
    elif isinstance(data, list):
        data = [_literal(inner) for inner in data]
    return replace(value, data=data, literal=True)


def _parse_assignment(item: str) -> tuple[str, MarkedValue]:
    name, equals, text = item.partition("=")
    if not equals:
        hint = "write -e NAME=VALUE, or -e @FILE"
        raise UsageError(Diagnostic(f"'-e {item}' has no value", None, hint))
    reason, hint = variable_name_error(name)
    if name in RESERVED_NAMES:
        hint = "select a stage with -s STAGE" if name == "stage" else hint
    if reason:
        raise UsageError(Diagnostic(f"'-e {item}' cannot set '{name}': {reason}", None, hint))
    return name, MarkedValue(text, COMMAND_LINE, literal=True)


def parse_common_options(
    *,
    become: str | None = None,
    timeout: str | None = None,
    chdir: str | None = None,
    environment: Sequence[str] = (),
) -> CommonOptions:
    """Return the options that the command line sets for every task; no text is a template.

    ``become`` is the user who runs the steps; ``environment`` are words NAME=VALUE. Raises
    UsageError with every error.
    """
    if not environment and (become, timeout, chdir) == (None, None, None):
        return CommonOptions()
    from orchestrator.playbook.template_compiler import TemplateCompiler  # loads Jinja

    diagnostics = DiagnosticCollector()
    fields: dict[str, MarkedValue] = {}
    for name, text in (("become", become), ("timeout", timeout), ("chdir", chdir)):
        if text is not None:
            fields[name] = MarkedValue(text, SourcePosition(f"--{name}"), literal=True)
    SchemaReader(diagnostics).duration(fields.get("timeout"), "timeout")
    for name, text in (("--become-user", become), ("--chdir", chdir)):
        if text is not None and not text.strip():
            diagnostics.add(f"{name} is empty", SourcePosition(name))
    mark = SourcePosition("--env")
    variables: dict[MarkedKey, MarkedValue] = {}
    for word in environment:
        name, equals, text = word.partition("=")
        if not equals:
            diagnostics.add(f"'{word}' has no value", mark, "write --env NAME=VALUE")
        variables[MarkedKey(name, mark)] = MarkedValue(text, mark, literal=True)
    if variables:
        fields["environment"] = MarkedValue(variables, mark)
    options = TemplateCompiler(diagnostics).common_options(fields)
    if diagnostics.diagnostics:
        raise UsageError(*diagnostics.diagnostics)
    return options


MAX_STDIN_BYTES = 16 << 20
"""Limit of a standard input or script: every host gets a copy, and the plan holds it."""


def read_stdin() -> str:
    """Return the standard input. Raises UsageError if it is a terminal, or cannot be sent."""
    if sys.stdin.isatty():
        hint = "write `< FILE`, or a command and `|` before orch"
        raise UsageError(Diagnostic("--stdin: the standard input is a terminal", None, hint))
    return _text_to_send(sys.stdin.buffer.read(MAX_STDIN_BYTES + 1), "--stdin")


def read_script(path: str) -> str:
    """Return the text of a script. Raises UsageError if it cannot be read or sent."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_STDIN_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(Diagnostic(f"--script: cannot read {path}: {reason}")) from None
    return _text_to_send(data, f"--script: {path}")


def _text_to_send(data: bytes, what: str) -> str:
    """Return the data as text that a shell can hold. Raises UsageError."""
    hint = "for other files use the module `upload`"
    if len(data) > MAX_STDIN_BYTES:
        message = f"{what} has more than {MAX_STDIN_BYTES >> 20} MiB"
        raise UsageError(Diagnostic(message, None, hint))
    if b"\0" in data:
        raise UsageError(Diagnostic(f"{what} has a NUL byte, so it is not text", None, hint))
    return decode_bytes(data)
