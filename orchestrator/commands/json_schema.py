"""JSON Schemas of the YAML files of a project (draft 2020-12), for editors and checkers.

They are made from the tables that the parsers read, and from the params of tasks and modules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias, cast

from msgspec import Struct

from orchestrator.commands.project import optional_project_root, resolve_project_root
from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    DiagnosticCollector,
    UsageError,
    suggest_nearest,
)
from orchestrator.inventory import inventory_keys
from orchestrator.inventory.stages import INVENTORIES
from orchestrator.journal import STATE_FOLDER
from orchestrator.playbook import keywords
from orchestrator.playbook.model import ELEMENT_TYPES, FIELD_TYPES, PARAM_TYPES, TaskParam
from orchestrator.playbook.step_parser import FieldMap
from orchestrator.playbook.task_index import (
    FACTS_FOLDER,
    TaskIndex,
    index_tasks,
    shipped_modules,
)
from orchestrator.playbook.task_outline import TaskOutlines
from orchestrator.playbook.task_parser import TaskParser
from orchestrator.yamlio.file_keys import VALUE_KINDS, JsonSchema, KeyTable
from orchestrator.yamlio.local_files import display_path
from orchestrator.yamlio.yaml_loader import load_yaml

SCHEMA_KINDS = ("task", "fact", "stage", "host", "hosts", "role", "roles", "app")
SCHEMA_FOLDER = f"{STATE_FOLDER}/schemas"

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEMPLATE: JsonSchema = {"type": "string", "pattern": r"\{\{|\{%"}
_TEXT: JsonSchema = {"type": ["string", "number"]}
_TYPE_SCHEMAS: Mapping[str, JsonSchema] = {
    "int": {"type": ["integer", "string"], "pattern": r"^\s*[+-]?[0-9]+\s*$"},
    "float": {"type": ["number", "string"], "pattern": r"^\s*[+-]?[0-9.]"},
    "bool": {"enum": [True, False, "true", "false"]},
    "dict": {"type": "object"},
    "mode": {"type": "string", "pattern": "^[0-7]{3,4}$"},
    "file_mode": {"type": "string", "pattern": "^([0-7]{3,4}|[ugoa]*[-+=].*)$"},
    "any": {},
}


def file_schema(kind: str, directory: str | None) -> JsonSchema:
    """Return the schema of a kind of file.

    The schema of task files has the tasks and modules of the project; outside a project, the
    modules that come with orch. Raises UsageError if there is no such kind.
    """
    if kind not in SCHEMA_KINDS:
        hint = suggest_nearest(kind, SCHEMA_KINDS) or f"kinds: {', '.join(SCHEMA_KINDS)}"
        raise UsageError(Diagnostic(f"there is no schema '{kind}'", None, hint))
    root = optional_project_root(directory)
    head = {"$schema": _DIALECT, "title": f"orch: {kind}"}
    if kind == "task":
        tasks = _read_outlines(root)
        return {**head, **_task_file(), "$defs": _task_definitions(tasks, root is not None)}
    if kind == "fact":
        definitions = {"text": VALUE_KINDS["text"], "param": _param_definition(FIELD_TYPES)}
        return {**head, **_object(keywords.FACT, required=("script",)), "$defs": definitions}
    return {**head, **_FILES[kind], "$defs": _inventory_definitions()}


def write_schemas(directory: str | None) -> Iterator[str]:
    """Write the schema of each kind to ``.orch/schemas/`` and yield the files that changed.

    Raises UsageError if there is no project, or a file cannot be written.
    """
    root = resolve_project_root(directory)
    for kind in SCHEMA_KINDS:
        path = root / SCHEMA_FOLDER / f"{kind}.json"
        data = (json.dumps(file_schema(kind, str(root)), indent=2) + "\n").encode()
        try:
            if path.exists() and path.read_bytes() == data:
                continue
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            message = f"cannot write {display_path(path)}: {reason}"
            raise UsageError(Diagnostic(message)) from None
        yield display_path(path)


class _TaskOutline(Struct, frozen=True):
    """What a call of a task may contain; of ``other_params`` only the names are known."""

    desc: str
    params: Mapping[str, TaskParam]
    other_params: tuple[str, ...] = ()


_TaskOutlines: TypeAlias = Mapping[str, _TaskOutline | None]


def add_schema_comment(root: Path, path: Path, text: str) -> str:
    """Return the text of a project's new YAML file with the name of its schema in front, if any.

    The comment is that of the YAML language server (https://github.com/redhat-developer/
    yaml-language-server), which editors use.
    """
    parts = path.relative_to(root).parts
    kind = ""
    if parts[0] == "tasks" and path.suffix == ".yml":
        kind = "fact" if parts[1:-1] == (FACTS_FOLDER,) else "task"
    elif parts[0] == INVENTORIES and len(parts) > 2:
        kind = _SCHEMA_OF_FILE.get("/".join(parts[2:-1]) or path.name, "")
    up = "../" * (len(parts) - 1)
    return (
        f"# yaml-language-server: $schema={up}{SCHEMA_FOLDER}/{kind}.json\n{text}" if kind else text
    )


_SCHEMA_OF_FILE: Mapping[str, str] = {
    "stage.yml": "stage",
    "hosts": "host",
    "hosts.yml": "hosts",
    "roles": "role",
    "roles.yml": "roles",
    "apps": "app",
}


def _read_outlines(root: Path | None) -> _TaskOutlines:
    """Return the tasks and modules by name; None for a task that is not valid YAML.

    Steps and templates are not read: an error in them does not matter here.
    """
    index = TaskIndex({}, (), shipped_modules()) if root is None else index_tasks(root)
    names = index.all_names()
    outlines = TaskOutlines(index)
    return {name: _read_outline(name, index, outlines) for name in names}


def _read_outline(name: str, index: TaskIndex, outlines: TaskOutlines) -> _TaskOutline | None:
    problems = DiagnosticCollector()
    path = index.find_file(name)
    try:
        data = load_yaml(path, display_path(path)).data if path else None
    except DefinitionError:
        return None
    fields = cast(FieldMap, data) if isinstance(data, dict) else {}
    params = TaskParser(problems).parse_params(fields.get("params"), name)
    desc = fields["desc"].to_plain() if "desc" in fields else ""
    inner = outlines.params(name) if "tasks" in fields else ()
    return _TaskOutline(str(desc), params, tuple(each for each in inner if each not in params))


def _task_definitions(tasks: _TaskOutlines, is_complete: bool) -> JsonSchema:
    return {
        "text": VALUE_KINDS["text"],
        "arguments": {"properties": _arguments(tasks)},
        "host_count": {"type": ["integer", "string"], "pattern": "^[0-9]+%?$"},
        "step": _step(tasks, is_complete),
        "item": _item(tasks, is_complete),
        "param": _param_definition(tuple(PARAM_TYPES)),
        "loop_control": _object(keywords.LOOP_CONTROL),
        "handler": _object(keywords.HANDLER, required=("steps",)),
        "assert": _object(keywords.ASSERT, required=("that",)),
        "download": _object(keywords.DOWNLOAD, required=tuple(keywords.DOWNLOAD)),
        "connection": _object(keywords.CONNECTION, nullable=True),
        "pause": {
            **_object(keywords.PAUSE),
            "oneOf": [{"required": [key]} for key in keywords.PAUSE],
        },
        "call": _object(keywords.CALL, required=("task", "one_of")),
        "payload": _object(keywords.PAYLOAD),
    }


def _param_definition(types: tuple[str, ...]) -> JsonSchema:
    """Return the schema of a param that has one of these types."""
    elements = [name for name in ELEMENT_TYPES if name in types]
    return {
        **_object(keywords.PARAM, nullable=True),
        "properties": {
            **_properties(keywords.PARAM),
            "type": {"description": keywords.PARAM["type"].help, "enum": list(types)},
            "elements": {"description": keywords.PARAM["elements"].help, "enum": elements},
        },
    }


def _inventory_definitions() -> JsonSchema:
    return {
        "text": VALUE_KINDS["text"],
        "connect": _object(inventory_keys.CONNECT, nullable=True),
        "claims": _object(inventory_keys.CLAIMS, nullable=True),
        "cluster": _object(inventory_keys.CLUSTER, required=("workers",)),
        "app_host": _object(inventory_keys.APP_HOST, nullable=True),
        "defaults": {
            "type": ["object", "null"],
            "additionalProperties": {"type": ["object", "null"]},
        },
        "host": _object(inventory_keys.HOST, nullable=True),
        "role": {
            "oneOf": [
                {"type": "array", "items": {"type": ["string", "number"]}},
                _object(inventory_keys.ROLE, nullable=True),
            ]
        },
    }


def _properties(keys: KeyTable) -> JsonSchema:
    return {name: key.json_schema() for name, key in keys.items()}


def _object(
    keys: KeyTable, *, nullable: bool = False, required: tuple[str, ...] = ()
) -> JsonSchema:
    """Return the schema of a mapping with these keys and no others."""
    return {
        "type": ["object", "null"] if nullable else "object",
        "properties": _properties(keys),
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
    }


def _task_file() -> JsonSchema:
    return {
        **_object(keywords.TASK),
        "oneOf": [{"required": [kind]} for kind in ("steps", "tasks", "probe")],
        "dependentRequired": {key: ["probe"] for key in keywords.MODULE if key != "probe"},
    }


def _arguments(tasks: _TaskOutlines) -> JsonSchema:
    """Return the schema of the arguments of each task."""
    arguments: JsonSchema = {}
    for name, task in tasks.items():
        arguments[name] = {"type": ["object", "null"]}
        if task is not None:
            arguments[name] |= {
                "description": task.desc,
                "properties": {
                    **{each: _param(param) for each, param in task.params.items()},
                    **{each: {} for each in task.other_params},
                },
                "additionalProperties": False,
            }
    return arguments


def _names(names: list[str], is_complete: bool) -> JsonSchema:
    return {"enum": names} if is_complete and names else {"type": "string"}


def _one_action(keys: KeyTable, tasks: _TaskOutlines, is_complete: bool) -> JsonSchema:
    """Return what allows the keys and one call of a task.

    If the tasks are not all known, any other key is taken for the call of a task.
    """
    references = {name: {"$ref": f"#/$defs/arguments/properties/{name}"} for name in tasks}
    properties = _properties(keys) | references
    if not is_complete:
        return {
            "type": "object",
            "properties": properties,
            "additionalProperties": {"type": ["object", "null"]},
        }
    actions = [name for name in properties if name in tasks or name in keywords.ACTIONS]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"oneOf": [{"required": [name]} for name in actions]} if actions else {}),
    }


def _step(tasks: _TaskOutlines, is_complete: bool) -> JsonSchema:
    keys = {**keywords.STEP, **keywords.RUN, **keywords.ACTIONS}
    action = _one_action(keys, tasks, is_complete)
    action["dependentRequired"] = {key: ["run"] for key in keywords.RUN}
    return {
        "if": {"type": "object", "required": ["block"]},
        "then": _object(keywords.BLOCK_STEP, required=("block",)),
        "else": {
            "if": {"type": "string"},
            "then": _names([*tasks, *keywords.BARE_STEPS], is_complete),
            "else": action,
        },
    }


def _item(tasks: _TaskOutlines, is_complete: bool) -> JsonSchema:
    is_group = {"type": "object", "anyOf": [{"required": ["steps"]}, {"required": ["tasks"]}]}
    return {
        "if": {"type": "string"},
        "then": _names([*tasks, *keywords.BARE_ITEMS], is_complete),
        "else": {
            "if": is_group,
            "then": _object(keywords.INLINE_TASK),
            "else": {
                "if": {"required": ["pause"], "properties": {"pause": {"type": "object"}}},
                "then": _object({"pause": keywords.CONTROL["pause"]}),
                "else": _one_action(keywords.ITEM, tasks, is_complete),
            },
        },
    }


def _param(param: TaskParam) -> JsonSchema:
    """Return the schema of an argument: a value of the param's type, or a template."""
    value: JsonSchema
    if param.choices:
        value = {"enum": list(param.choices)}
    elif param.type == "list":
        items = _TYPE_SCHEMAS.get(param.elements or "any", _TEXT)
        value = {"anyOf": [{"type": "array", "items": _or_template(items)}, _TEXT]}
    else:
        value = _TYPE_SCHEMAS.get(param.type, _TEXT)
    schema = _or_template(value)
    if value and not param.required:
        schema["anyOf"].append({"type": "null"})
    if param.help:
        schema["description"] = param.help
    if param.written_default is not None and not param.secret:
        schema["default"] = param.written_default.to_plain()
    return schema


def _or_template(value: JsonSchema) -> JsonSchema:
    return {"anyOf": [value, _TEMPLATE]} if value else {}


_FILES: Mapping[str, JsonSchema] = {
    "stage": _object(inventory_keys.COMMON_STAGE, nullable=True),
    "host": {"$ref": "#/$defs/host"},
    "hosts": {
        "type": ["object", "null"],
        "additionalProperties": {"$ref": "#/$defs/host"},
    },
    "role": {"$ref": "#/$defs/role"},
    "roles": {
        "type": ["object", "null"],
        "additionalProperties": {"$ref": "#/$defs/role"},
    },
    "app": _object(inventory_keys.APP, nullable=True),
}
