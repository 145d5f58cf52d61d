"""Descriptions of the keys of YAML files: what a key holds, its default and an example.

The parsers accept the keys of these tables and no others, so that the reference (``orch doc``) and
the JSON schemas (``orch schema``) describe what is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

JsonSchema: TypeAlias = dict[str, Any]
"""A JSON Schema, draft 2020-12. References are to ``#/$defs/NAME``."""

_NAME_LIST: JsonSchema = {
    "oneOf": [{"$ref": "#/$defs/text"}, {"type": "array", "items": {"$ref": "#/$defs/text"}}]
}
_STEPS: JsonSchema = {"type": "array", "items": {"$ref": "#/$defs/step"}, "minItems": 1}
_TEMPLATE: JsonSchema = {"type": ["string", "number", "boolean"]}

VALUE_KINDS: Mapping[str, JsonSchema] = {
    "text": {"type": ["string", "number"]},
    "boolean": {"type": "boolean"},
    "integer": {"type": ["integer", "string"], "pattern": "^-?[0-9]+$"},
    "duration": {
        "type": ["number", "string"],
        "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d)?|.*\{\{.*)$",
    },
    "template": _TEMPLATE,
    "script": {"type": "string"},
    "condition": {
        "oneOf": [_TEMPLATE, {"type": "array", "items": _TEMPLATE, "minItems": 1}],
    },
    "names": _NAME_LIST,
    "file choices": {"oneOf": [{"$ref": "#/$defs/text"}, {"type": "array", "items": _NAME_LIST}]},
    "name lists": {"type": "object", "additionalProperties": _NAME_LIST},
    "names or name lists": {
        "anyOf": [_NAME_LIST, {"type": "object", "additionalProperties": _NAME_LIST}]
    },
    "variables": {"type": ["object", "null"]},
    "environment": {
        "type": ["object", "null", "string"],
        "pattern": r"\{\{",
        "additionalProperties": {"type": ["string", "number", "boolean"]},
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    },
    "defaults": {"$ref": "#/$defs/defaults"},
    "steps": _STEPS,
    "items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1},
    "handlers": {
        "type": ["object", "null"],
        "additionalProperties": {"oneOf": [_STEPS, {"$ref": "#/$defs/handler"}]},
    },
    "nothing": {"type": "null"},
    "params": {
        "type": ["object", "null"],
        "additionalProperties": {"$ref": "#/$defs/param"},
    },
    "any": {},
    "user": {"type": ["string", "boolean"]},
    "loop": {"type": ["array", "object", "string"]},
    "loop_control": {"$ref": "#/$defs/loop_control"},
    "assert": {
        "oneOf": [
            _TEMPLATE,
            {"type": "array", "items": _TEMPLATE, "minItems": 1},
            {"$ref": "#/$defs/assert"},
        ]
    },
    "download": {"$ref": "#/$defs/download"},
    "call": {"$ref": "#/$defs/call"},
    "pause": {"$ref": "#/$defs/pause"},
    "connection": {"$ref": "#/$defs/connection"},
    "batch": {
        "oneOf": [
            {"$ref": "#/$defs/host_count"},
            {"type": "array", "items": {"$ref": "#/$defs/host_count"}, "minItems": 1},
        ]
    },
    "host count": {"$ref": "#/$defs/host_count"},
    "want": {"type": "object", "minProperties": 1},
    "fix": {"type": ["string", "object"], "additionalProperties": {"type": "string"}},
    "payload": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/payload"}]},
    "exposes": {"anyOf": [_NAME_LIST, {"type": "object"}]},
    "requires": {
        "oneOf": [
            {"type": "string"},
            {"type": "array", "items": _NAME_LIST},
        ]
    },
    "param groups": {"type": "array"},
    "connect": {"$ref": "#/$defs/connect"},
    "claims": {"$ref": "#/$defs/claims"},
    "cluster": {"$ref": "#/$defs/cluster"},
    "app hosts": {"type": "object", "additionalProperties": {"$ref": "#/$defs/app_host"}},
    "hosts": {
        "oneOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": ["string", "number"]}},
        ]
    },
}
"""The JSON schema of each kind of value."""


VALUE_KIND_HELP: Mapping[str, str] = {
    "text": "A text; a number is taken as text",
    "boolean": "`true` or `false`",
    "integer": "A whole number",
    "duration": "A number of seconds, or like `250ms`, `10s`, `5m`, `1h`, `2d`",
    "template": "A text in which `{{ }}` is replaced",
    "script": "Shell text in which `{{ }}` is replaced and quoted",
    "condition": "An expression without braces, or a list of them that must all hold",
    "names": "A name, or a list of names",
    "name lists": "A mapping of names to names, or to lists of them",
    "names or name lists": "A name, a list of names, or a mapping of names to such lists",
    "file choices": "A path, or a list of paths; in it, a list of paths stands for the first one "
    "whose file exists",
    "variables": "A mapping of names to values",
    "environment": "A mapping of names to texts; in task files also a template of one",
    "defaults": "A mapping of modules to mappings of params",
    "steps": "A list of steps",
    "items": "A list of items of a playbook",
    "handlers": "A mapping of names to lists of steps, or to mappings of `steps` and `listen`",
    "nothing": "No value",
    "params": "A mapping of names to params",
    "any": "Any value",
    "user": "`true` (root), `false` (the login user), or a name",
    "loop": "A list, a mapping, or an expression",
    "loop_control": "A mapping, see `orch doc loop_control`",
    "assert": "A condition, or a mapping of `that` and `message`",
    "download": "A mapping of `path` and `to`",
    "call": "A mapping of `task`, `one_of` and `args`",
    "connection": "A mapping of `timeout` and `delay`, or nothing",
    "pause": "A mapping of `prompt` or `seconds`",
    "batch": "A number or a percentage of hosts, or a list of them",
    "host count": "A number or a percentage of hosts, like `2` or `25%`",
    "want": "A mapping of states to values",
    "fix": "A script, or a mapping of states to scripts",
    "payload": "A text, or a mapping, see `orch doc payload`",
    "exposes": "A list of params, or a mapping of params to the exposed part",
    "requires": "A list of commands; a list in it names alternatives",
    "param groups": "A list of params, or a list of such lists",
    "connect": "A mapping, see `orch doc connect`",
    "claims": "A mapping, see `orch doc claims`",
    "cluster": "A mapping, see `orch doc cluster`",
    "app hosts": "A mapping of hosts to mappings of `vars`, `environment` and `defaults`",
    "hosts": "A host or a list of hosts, as in `orch doc role`",
}
"""The kinds of values of keys, with their meanings."""

FIRST_VERSION = "0.1"


class FileKey(Struct, frozen=True):
    """A key of a YAML file.

    ``kind`` is one of ``VALUE_KINDS``; ``default`` describes what applies without the key;
    ``example`` is YAML with the key; ``choices`` are the only values; ``since`` is the first
    version of orch that reads the key.
    """

    kind: str
    help: str
    default: str = ""
    example: str = ""
    choices: tuple[str, ...] = ()
    since: str = FIRST_VERSION

    def json_schema(self) -> JsonSchema:
        """Return the schema of the key's value."""
        schema = {"enum": list(self.choices)} if self.choices else dict(VALUE_KINDS[self.kind])
        return {"description": self.help, **schema}


KeyTable: TypeAlias = Mapping[str, FileKey]
"""The keys of one kind of file or mapping."""
