"""Renders a module for one host: its desired state and its shell script."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    DiagnosticCollector,
    OrchError,
    SourcePosition,
)
from orchestrator.model.command import UNKNOWN_STATE, DesiredState, UploadPayload
from orchestrator.model.marked_value import HomePath, MarkedValue
from orchestrator.model.shell_quoting import shell_quote
from orchestrator.model.text_encoding import decode_bytes, repr_text
from orchestrator.planner.file_tree import FileTree
from orchestrator.planner.payload_options import (
    check_trusted,
    part_options,
    template_syntax,
    tree_options,
    with_newlines,
)
from orchestrator.planner.project_files import MAX_INLINE_BYTES, to_payload
from orchestrator.planner.step_options import to_bytes, to_plain_text
from orchestrator.planner.task_scope import TaskScope
from orchestrator.planner.trust_checks import (
    refuse_host_text,
    render_trusted,
    secret_params,
    shows_secret,
)
from orchestrator.playbook.model import ModulePayload, ModuleSpec
from orchestrator.templating import ResultPending
from orchestrator.yamlio.local_files import display_path
from orchestrator.yamlio.schema import SchemaReader

if TYPE_CHECKING:
    from orchestrator.templating import TextTemplate

_TEXT_KINDS = ("text", "host")
"""Kinds of payloads whose value does not name a local file."""

_MAX_INLINE_ARCHIVE = 8 * 1024
"""Limit in bytes of archives that are sent inside the script, where a NUL takes five characters."""


def desired_state(module: ModuleSpec, task_scope: TaskScope) -> DesiredState:
    """Return the desired state for this host, with the payload.

    Raises ResultPending and DefinitionError.
    """
    states = {}
    for key, template in module.want.items():
        value = template.render(task_scope)
        if value is not None:
            text = to_plain_text(value, f"'{key}' under `want`", template.mark)
            states[str(key)] = HomePath(text) if isinstance(value, HomePath) else text
    if not module.payloads:
        return DesiredState(states)
    content = _payload_content(module, task_scope)
    if content is None:
        return DesiredState(states)
    if isinstance(content, FileTree):
        return _tree_state(states, content)
    if isinstance(content, UploadPayload):
        validates = module.validates.render(task_scope) if module.validates else None
        unsure = UNKNOWN_STATE in module.probe.source
        return DesiredState(states, None, content, bool(validates), may_need_payload=unsure)
    return DesiredState(states, content)


def _tree_state(states: Mapping[str, str], tree: FileTree) -> DesiredState:
    """Return the desired state of a tree.

    Short data is sent inside the script; a long manifest is uploaded before the archive and again
    in it.
    """
    entries = tree.manifest.count(b"\n")
    if len(tree.manifest) > MAX_INLINE_BYTES:
        return DesiredState(
            states,
            None,
            tree.payload(whole=True),
            probe_payload=tree.manifest_archive,
            manifest_lines=entries,
        )
    payload, manifest = tree.payload(whole=False), tree.manifest
    if payload.size > _MAX_INLINE_ARCHIVE:
        return DesiredState(states, None, payload, manifest=manifest, manifest_lines=entries)
    try:
        content = b"".join(tree.archive(whole=False))
        return DesiredState(states, content, manifest=manifest, manifest_lines=entries)
    except OrchError as error:
        raise DefinitionError(*error.diagnostics) from None


def check_payload_sources(module: ModuleSpec, task_scope: TaskScope) -> None:
    """Raise DefinitionError if text from a host would determine the local file to send."""
    for payload in module.payloads:
        if payload.kind not in _TEXT_KINDS:
            for template in payload.templates:
                check_trusted(template, task_scope, refuse_host_text)


def module_script(module: ModuleSpec, task_scope: TaskScope, desired: DesiredState) -> str:
    """Return the module's part of the script. Raises ResultPending and DefinitionError."""
    parts = [module.functions.render(task_scope)] if module.functions else []
    if module.functions and "$o_secrets" in module.functions.source:
        parts.insert(0, f"o_secrets={shell_quote(' '.join(('', *secret_params(task_scope), '')))}")
    # always called in a subshell, where -e is in effect
    parts.append(f"probe() {{\nset -e\n{module.probe.render(task_scope)}\n\n}}")
    fix_calls = []
    for number, fix in enumerate(module.fixes, 1):
        text = fix.text.render(task_scope)
        if not text.strip():  # with these arguments, the module only reads
            continue
        parts.append(_shell_function(f"fix_{number}", text))
        fix_calls.append(" ".join(("fix", f"fix_{number}", *fix.keys)))
    if desired.new_content is not None:
        parts.append(_payload_function(desired.new_content))
    elif desired.payload is not None:
        parts.append('o_literal=1;payload() { cat -- "$o_staged"; }')
    if desired.manifest is not None:
        text = shell_quote(desired.manifest.decode("utf-8", "surrogateescape"))
        parts.append(f"manifest() {{ printf %s {text}; }}")
    elif desired.probe_payload is not None:
        parts.append('manifest() { [ -z "$o_staged" ] || tar -xOf "$o_staged" m; }')
    if desired.manifest_lines:
        parts.append(f"o_entries={desired.manifest_lines}")
    if desired.payload is not None and desired.payload.large_lines:
        parts.append(f"o_large='{' '.join(map(str, desired.payload.large_lines))}'")
    parts.append("apply_fixes() {\n" + "\n".join(fix_calls or [":"]) + "\n}")
    parts.append(f"o_want={_states_assignment(desired.states)}")
    tenths = round(10 * converge_timeout(module, task_scope))
    returns = "1" if module.returns else ""
    fixes = "1" if fix_calls else ""
    parts.append(f"o_within={tenths} o_fixes={fixes} o_returns={returns}\no_module")
    if _contains_secret("\n".join(parts), task_scope, desired):
        parts.insert(0, "o_private=1")
    return "\n".join(parts)


def _contains_secret(text: str, task_scope: TaskScope, desired: DesiredState) -> bool:
    """Return True if the script or its payload contains a secret.

    A file that the module creates is then readable only by its owner by default.
    """
    sent_data = desired.payload.data if isinstance(desired.payload, UploadPayload) else b""
    return shows_secret(text, task_scope) or shows_secret(decode_bytes(sent_data), task_scope)


def call_text(task_scope: TaskScope, *, is_skipped: bool = False) -> str:
    """Return the call with the values of its params, in the syntax of the command line.

    A value that waits for a result is shown as written; so is an invalid one if ``is_skipped``.
    Left out are defaults that are empty, or that only turn something on or off.
    """
    words = [task_scope.task.name]
    for name, param in task_scope.task.params.items():
        written = task_scope.written_args.get(name)
        try:
            value = _param_value(task_scope, name, is_skipped)
        except ResultPending:
            words.append(f"{name}={written.source if written else '…'}")
            continue
        is_switch = param.written_default and isinstance(param.written_default.data, bool)
        if written is None and (is_switch or value in (None, "", [], {}, False)):
            continue
        words.append(shlex.quote(f"{name}={_argument_text(value)}") if param.type != "file" else "")
        if param.type == "file":
            words[-1] = shlex.quote(f"{name}={Path(str(value)).name}")
    return " ".join(words)


def module_step_title(task_scope: TaskScope, *, is_skipped: bool = False) -> str:
    """Return the module's name and its first param value in one line, for a step's name."""
    for param, spec in task_scope.task.params.items():
        try:
            value = _param_value(task_scope, param, is_skipped)
        except ResultPending:
            break
        if value not in (None, ""):
            shown = Path(str(value)).name if spec.type == "file" else _argument_text(value)
            return f"{task_scope.task.name} {shown}".split("\n", 1)[0]
    return task_scope.task.name


def _param_value(task_scope: TaskScope, param: str, is_skipped: bool) -> object:
    """Return a param's value. Raises ResultPending and DefinitionError.

    If the call is skipped, an invalid value raises ResultPending.
    """
    try:
        return task_scope.resolve(param)
    except DefinitionError:
        if not is_skipped:
            raise
        raise ResultPending({param}) from None


def payload_template(module: ModuleSpec, task_scope: TaskScope) -> TextTemplate | None:
    """Return the template file that the module renders, or None if its name is not known yet."""
    payload = next((each for each in module.payloads if each.kind == "template"), None)
    if payload is None:
        return None
    try:
        value, syntax = payload.what.render(task_scope), template_syntax(payload, task_scope)
    except ResultPending:
        return None
    if value is None:
        return None
    mark = _payload_position(payload, task_scope)
    path = Path(to_plain_text(value, "payload", mark))
    return task_scope.host.project_files.template(path, mark, syntax)


def _argument_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    text = str(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _shell_function(name: str, text: str) -> str:
    """Return a shell function that runs the text in a subshell.

    The empty line keeps a backslash at the text's end from joining lines.
    """
    return f"{name}() (\nset -e\n{text}\n\n)"


def _states_assignment(states: Mapping[str, str]) -> str:
    words = []
    for key, value in states.items():
        line = value.replace("%", "%25").replace("\n", "%0A")
        if isinstance(value, HomePath):
            words.append(f'{key}="$HOME"{shell_quote(line[1:])}')
        else:
            words.append(shell_quote(f"{key}={line}"))
    return '"$o_nl"'.join(words) + '"$o_nl"' if words else ""


def _payload_function(data: bytes) -> str:
    if b"\0" not in data:
        text = data.decode("utf-8", "surrogateescape")
        return f"o_literal=1;payload() {{ printf %s {shell_quote(text)}; }}"
    escaped = data.replace(b"\\", b"\\\\").replace(b"\0", b"\\0000")
    text = escaped.decode("utf-8", "surrogateescape")
    return f"o_literal=1;payload() {{ printf %b {shell_quote(text)}; }}"


def _payload_content(
    module: ModuleSpec, task_scope: TaskScope
) -> bytes | UploadPayload | FileTree | None:
    """Return the module's payload; of several, the one that has a value.

    It is None if the host has it.
    """
    payload_values = [(each, _payload_value(each, task_scope)) for each in module.payloads]
    if len(payload_values) > 1:
        names = [", ".join(sorted(each.what.names)) for each, _ in payload_values]
        payload_values = [(each, value) for each, value in payload_values if value is not None]
        if len(payload_values) != 1:
            message = f"task '{task_scope.task.name}' needs one of {listed_names(names)}"
            marks = [value.mark for value in task_scope.written_args.values()]
            found = f", found {len(payload_values)}" if payload_values else ""
            raise DefinitionError(
                Diagnostic(message + found, marks[0] if marks else task_scope.task.mark)
            )
    payload, value = payload_values[0]
    if payload.kind == "host":
        return None
    return _load_payload(payload, value, task_scope)


def listed_names(names: Sequence[str]) -> str:
    """Return at least two names as ``a, b and c``."""
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _payload_value(payload: ModulePayload, task_scope: TaskScope) -> object:
    if payload.kind in _TEXT_KINDS:
        return payload.what.render(task_scope)
    return check_trusted(payload.what, task_scope, render_trusted)


def _payload_position(payload: ModulePayload, task_scope: TaskScope) -> SourcePosition:
    """Return the position where the payload's name is written."""
    written = (task_scope.origin(name) for name in sorted(payload.what.names))
    return next((value.mark for value in written if value is not None), payload.what.mark)


def _load_payload(
    payload: ModulePayload, value: object, task_scope: TaskScope
) -> bytes | UploadPayload | FileTree:
    files, mark = task_scope.host.project_files, _payload_position(payload, task_scope)
    if value is None:
        return b""
    if payload.kind == "text":
        return to_payload(to_bytes(_payload_text(value, payload), "payload", mark))
    path = Path(to_plain_text(value, "payload", mark))
    if payload.kind == "file":
        return files.contents(path, mark)
    if payload.kind == "tree":
        return files.tree(path, tree_options(payload, task_scope), mark)
    if payload.kind == "parts":
        return to_payload(files.joined_parts(path, part_options(payload, task_scope), mark))
    template = files.template(path, mark, template_syntax(payload, task_scope))
    text = with_newlines(template.render(task_scope.caller), payload, task_scope)
    return to_payload(to_bytes(text, display_path(path), mark))


def _payload_text(value: object, payload: ModulePayload) -> str:
    if isinstance(value, (str, int, float, bool)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    message = f"payload must be text, found {repr_text(value)}"
    raise DefinitionError(Diagnostic(message, payload.what.mark, "see `| to_json` and `| join`"))


def converge_timeout(module: ModuleSpec, task_scope: TaskScope) -> float:
    """Return for how many seconds to wait for the desired state.

    Raises ResultPending and DefinitionError.
    """
    within = module.within
    if within is None:
        return 0.0
    value, diagnostics = within.render(task_scope), DiagnosticCollector()
    if value is None:
        return 0.0
    data = value if isinstance(value, (str, int, float)) else None
    seconds = SchemaReader(diagnostics).duration(MarkedValue(data, within.mark), "within")
    diagnostics.raise_any()
    return seconds or 0.0
