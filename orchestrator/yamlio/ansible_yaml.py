"""Loading of YAML as Ansible reads it, into one marked value.

Plain scalars have the types of YAML 1.1 (https://yaml.org/type/), as PyYAML resolves them: ``yes``
is true, ``0644`` is 420 and ``1:30`` is 90. Dates stay text. Of duplicate keys the last counts, and
keys that are not text become the text that JSON has for them. ``!unsafe`` marks a text that is
never rendered.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import yaml
from msgspec.structs import replace

from orchestrator.errors import SourcePosition
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.yamlio.yaml_loader import (
    STANDARD_TAG,
    ScalarValue,
    ValueBuilder,
    build_value,
)

_RESOLVER = yaml.SafeLoader("")
_TEXT_TAGS = frozenset(f"{STANDARD_TAG}{name}" for name in ("str", "timestamp", "value", "merge"))
_FIRST_CHARS = frozenset("-+.0123456789~=<yYnNtTfFoO")
"""The first characters of plain scalars that may be something else than text."""


def parse_ansible_yaml(text: str, shown: str) -> MarkedValue:
    """Return the value of a YAML text of Ansible. Raises ``DefinitionError`` with every error."""
    return build_value(AnsibleValueBuilder(text, shown, secrets=True), text, shown)


@lru_cache(maxsize=4096)
def resolve_yaml_scalar(text: str) -> ScalarValue:
    """Return the value of a plain scalar in YAML 1.1, with dates as text."""
    if text and text[0] not in _FIRST_CHARS:
        return text
    tag: str = _RESOLVER.resolve(  # type: ignore[no-untyped-call]
        yaml.ScalarNode, text, (True, False)
    )
    return text if tag in _TEXT_TAGS else _construct(tag, text)


def _construct(tag: str, text: str) -> ScalarValue:
    """Return the value of a scalar with a standard tag. Raises ValueError if it is invalid."""
    try:
        value = _RESOLVER.construct_object(yaml.ScalarNode(tag, text), deep=True)
    except (yaml.YAMLError, KeyError, IndexError, OverflowError) as error:
        raise ValueError(text) from error
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise ValueError(text)


class AnsibleValueBuilder(ValueBuilder):
    """A builder of values from YAML of Ansible."""

    def read_node(self, event: Any) -> MarkedValue:
        """Return the value of a node; one tagged ``!unsafe`` is never rendered."""
        if type(event) is yaml.AliasEvent or event.tag != "!unsafe":
            return super().read_node(event)
        event.tag = None
        value = super().read_node(event)
        return (
            _as_literal(value)
            if type(event) is not yaml.ScalarEvent
            else replace(value, data=event.value, literal=True)
        )

    def read_scalar(self, event: Any) -> ScalarValue:
        """Return the value of a scalar."""
        text: str = event.value
        tag: str | None = event.tag
        try:
            if tag is None:
                return resolve_yaml_scalar(text) if event.implicit[0] else text
            if tag == "!" or tag in _TEXT_TAGS:
                return text
            if tag.startswith(STANDARD_TAG):
                return _construct(tag, text)
        except ValueError:
            shown = tag.removeprefix(STANDARD_TAG) if tag else "number"
            self.problems.add(f"'{text}' cannot be read as !!{shown}", self.mark(event))
            return None
        self.has_standard_tag(event)
        return None

    def read_key(self, event: Any) -> MarkedKey:
        """Return a mapping's key as text."""
        if event.tag or not event.implicit[0]:
            return super().read_key(event)
        try:
            value = resolve_yaml_scalar(event.value)
        except ValueError:
            value = event.value
        if value is None or isinstance(value, bool):
            value = {None: "null", True: "true", False: "false"}[value]
        return MarkedKey(str(value), self.mark(event))

    def accepts_duplicate(self, _key: MarkedKey, _first: SourcePosition) -> bool:
        """Return True: the last value counts."""
        return True


def _as_literal(value: MarkedValue) -> MarkedValue:
    """Return the value with nothing in it that is rendered."""
    if isinstance(value.data, dict):
        return replace(value, data={k: _as_literal(v) for k, v in value.data.items()}, literal=True)
    if isinstance(value.data, list):
        return replace(value, data=[_as_literal(item) for item in value.data], literal=True)
    return replace(value, literal=True)
