"""Filters that read, write and query JSON and YAML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from jinja2.runtime import Undefined

from orchestrator.templating import limits
from orchestrator.templating.filters.containers import require_defined
from orchestrator.templating.value_text import UnusableValueError, text_of

_MAX_INDENT = 100
_MAX_DEPTH = 100


def from_json(text: Any) -> Any:
    """Return the value of a text in JSON (RFC 8259). Raises UnusableValueError for other text."""
    try:
        value = json.loads(text_of(text))
    except ValueError as error:
        raise UnusableValueError(f"`from_json`: the text is not JSON: {error}") from None
    limits.check_all(value)
    return value


def to_json(
    value: Any,
    indent: int | None = None,
    sort_keys: bool = False,
    ensure_ascii: bool = False,
) -> str:
    """Return the value as JSON. Letters beyond ASCII are kept unless ``ensure_ascii``."""
    _check_indent(indent)
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, sort_keys=sort_keys, default=_json_value
    )


def _json_value(value: Any) -> Any:
    """Return what stands for a value of another type than those of JSON."""
    return dict(value.items()) if isinstance(value, Mapping) else text_of(value)


def to_nice_json(
    value: Any, indent: int = 4, sort_keys: bool = True, ensure_ascii: bool = False
) -> str:
    """Return the value as JSON over several lines, with sorted keys."""
    return to_json(value, indent, sort_keys, ensure_ascii)


def from_yaml(text: Any) -> Any:
    """Return the value of a text in YAML 1.1; none of none.

    A date stays a text. Raises UnusableValueError for what is not YAML, or too large.
    """
    if text is None:
        return None
    import yaml

    text = text_of(text)
    loader = _yaml_loader()
    try:
        _check_depth(yaml.parse(text, Loader=loader))
        node = yaml.compose(text, Loader=loader)
        _check_node(node, {})
        value = yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise UnusableValueError(f"`from_yaml`: the text is not YAML: {what}") from None
    limits.check_all(value)
    return value


def from_yaml_all(text: Any) -> list[Any]:
    """Return the values of the documents of a text in YAML 1.1; of none, an empty list."""
    if text is None:
        return []
    import yaml

    text = text_of(text)
    loader = _yaml_loader()
    try:
        _check_depth(yaml.parse(text, Loader=loader))
        sizes: dict[int, int] = {}
        for node in yaml.compose_all(text, Loader=loader):
            _check_node(node, sizes)
        found = list(yaml.load_all(text, Loader=loader))
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise UnusableValueError(f"`from_yaml_all`: the text is not YAML: {what}") from None
    limits.check_all(found)
    return found


def to_yaml(
    value: Any,
    indent: int = 2,
    sort_keys: bool = True,
    width: int = 80,
    default_flow_style: bool | None = None,
) -> str:
    """Return the value as YAML; lists and mappings without others in them take one line."""
    import yaml

    _check_indent(indent)
    limits.check_sizes("", (width,))
    limits.check_all(value)
    return str(
        yaml.dump(
            plain_value(value),
            Dumper=_yaml_dumper(),
            allow_unicode=True,
            default_flow_style=default_flow_style,
            indent=indent,
            sort_keys=sort_keys,
            width=width,
        )
    )


def to_nice_yaml(
    value: Any,
    indent: int = 4,
    sort_keys: bool = True,
    width: int = 80,
    default_flow_style: bool | None = False,
) -> str:
    """Return the value as YAML, an item per line."""
    return to_yaml(value, indent, sort_keys, width, default_flow_style)


def plain_value(value: Any) -> Any:
    """Return the value made of plain types only. Raises UnusableValueError if it has no text."""
    if isinstance(value, Undefined):
        require_defined(value)
    if isinstance(value, Mapping):
        return {plain_value(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range | Iterator):
        return [plain_value(item) for item in value]
    if value is None or type(value) in (bool, int, float):
        return value
    return str(text_of(value))


def _check_indent(indent: object) -> None:
    if isinstance(indent, int) and indent > _MAX_INDENT:
        raise UnusableValueError(f"an indent of more than {_MAX_INDENT} blanks")


def _check_depth(events: Iterable[Any]) -> None:
    import yaml

    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise UnusableValueError(f"`from_yaml`: nested more than {_MAX_DEPTH} levels deep")


def _check_node(node: Any, sizes: dict[int, int]) -> int:
    """Return the number of values below a node, each alias counted as what it stands for.

    Raises UnusableValueError if it is too large, or contains itself.
    """
    import yaml

    if not isinstance(node, yaml.CollectionNode):
        return 1
    size = sizes.get(id(node))
    if size is None:
        sizes[id(node)] = limits.MAX_ITEMS + 1  # until it is known: an alias in it is too large
        pairs = node.value
        children = pairs if isinstance(node, yaml.SequenceNode) else [n for p in pairs for n in p]
        size = sizes[id(node)] = 1 + sum(_check_node(child, sizes) for child in children)
    if size > limits.MAX_ITEMS:
        raise UnusableValueError(
            f"`from_yaml`: a value of more than {limits.MAX_ITEMS:,} values, or one inside itself"
        )
    return size


@cache
def _yaml_loader() -> Any:
    """Return PyYAML's safe loader, except that a date stays a text, and that there are no bytes."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    for tag in ("timestamp", "binary"):
        Loader.add_constructor(f"tag:yaml.org,2002:{tag}", Loader.construct_yaml_str)
    return Loader


@cache
def _yaml_dumper() -> Any:
    """Return PyYAML's safe dumper, which writes a repeated value again instead of an alias."""
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
            return True

    return Dumper


def json_query(value: Any, query: Any) -> Any:
    """Return what a query in JMESPath selects. Raises UnusableValueError if it is not valid."""
    import jmespath  # type: ignore[import-untyped]
    from jmespath.exceptions import JMESPathError  # type: ignore[import-untyped]

    require_defined(value, query)
    limits.check_all(value)
    try:
        return jmespath.search(text_of(query), plain_value(value))
    except JMESPathError as error:
        raise UnusableValueError(f"`json_query`: {' '.join(str(error).split())}") from None
