"""Adds an entry to a YAML file and keeps every byte of it: comments, order, line ends.

Each function parses its result, and raises InsertionError unless it is the old value with nothing
but the new entry.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml

from orchestrator.errors import DefinitionError
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.yamlio.yaml_loader import load_nodes, parse_yaml, resolve_scalar

_PLAIN = lazy_regex(r"[A-Za-z0-9_][A-Za-z0-9_./@-]*")
_YAML_11_WORDS = frozenset(("y", "n", "yes", "no", "on", "off"))
_BEFORE_ITEM = lazy_regex(r" *- +")


class InsertionError(ValueError):
    """An entry cannot be added safely; the text is the reason."""


def quote_text(text: str) -> str:
    """Return a YAML scalar with this text: plain if every YAML reader reads it as this text."""
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _YAML_11_WORDS
    if is_plain and isinstance(resolve_scalar(text), str):
        return text
    return json.dumps(text, ensure_ascii=False)


def insert_key(text: str, shown: str, key: str, body: Sequence[str]) -> str:
    """Return the text of a mapping with one more key at its end.

    ``body`` are the lines of the key's value in block style, without indentation; ``shown`` is the
    path in positions. Raises DefinitionError if the text is not valid YAML, and InsertionError.
    """
    old = parse_yaml(text, shown, secrets=True).to_plain()
    if old is not None and not isinstance(old, dict):
        raise InsertionError("it is not a mapping")
    root = _root_node(text)
    if isinstance(root, yaml.MappingNode) and root.flow_style:
        raise InsertionError("it is written in flow style, with braces")
    indent = " " * (root.value[0][0].start_mark.column if old else 0)
    entry = [f"{quote_text(key)}:", *(f"  {line}" if line else "" for line in body)]
    newline = _newline_of(text)
    separator = newline if text and not text.endswith("\n") else ""
    result = text + separator + "".join(f"{indent}{line}".rstrip() + newline for line in entry)
    value = parse_yaml("\n".join(entry), shown, secrets=True).to_plain()
    _check_result(result, shown, {**(old or {}), **value})
    return result


def insert_item(text: str, shown: str, keys: Sequence[str], item: str) -> str:
    """Return the text with one more item at the end of the list that the keys lead to.

    ``shown`` is the path in positions. Raises DefinitionError if the text is not valid YAML, and
    InsertionError.
    """
    expected = parse_yaml(text, shown, secrets=True).to_plain()
    node, items = _root_node(text), expected
    for key in keys:
        if not isinstance(node, yaml.MappingNode) or key not in items:
            raise InsertionError(f"it has no key '{key}'")
        node = next(value for name, value in node.value if name.value == key)
        items = items[key]
    if not isinstance(node, yaml.SequenceNode):
        raise InsertionError("it is not a list")
    result = _with_item(text, node, quote_text(item))
    items.append(item)
    _check_result(result, shown, expected)
    return result


def _root_node(text: str) -> Any:
    """Return the root node of a valid text, or None if it is empty. Raises InsertionError."""
    try:
        return load_nodes(text)
    except yaml.YAMLError:  # the text is valid, but the nodes do not allow this
        raise InsertionError("it defines an anchor twice") from None


def _with_item(text: str, node: Any, item: str) -> str:
    """Return the text with an item after the last one of a list."""
    if not node.value:  # an empty list has to be in flow style
        at = node.start_mark.index + 1
        return f"{text[:at]}{item}{text[at:]}"
    last = node.value[-1]
    at = last.end_mark.index
    if node.flow_style:
        return f"{text[:at]}, {item}{text[at:]}"
    line_start = text.rfind("\n", 0, last.start_mark.index) + 1
    dash = text[line_start : last.start_mark.index]
    if not isinstance(last, yaml.ScalarNode) or not _BEFORE_ITEM.fullmatch(dash):
        raise InsertionError("its last item is not a name alone on its line")
    newline = _newline_of(text)
    line_end = text.find("\n", at) + 1
    if not line_end:
        return f"{text}{newline}{dash}{item}{newline}"
    return f"{text[:line_end]}{dash}{item}{newline}{text[line_end:]}"


def _newline_of(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _check_result(text: str, shown: str, expected: object) -> None:
    """Raise InsertionError unless the text is valid and has this value, in this order."""
    try:
        found = parse_yaml(text, shown, secrets=True).to_plain()
    except DefinitionError as error:
        reason = error.diagnostics[0].message
        raise InsertionError(f"an entry at its end would not be valid: {reason}") from None
    if repr(found) != repr(expected):  # also the order of keys, and 1 is not True
        raise InsertionError("an entry at its end would change what is above it")
