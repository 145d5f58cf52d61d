"""YAML values with their positions: plain data that remembers its file and line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import SourcePosition
from orchestrator.model.secret import Secret

ValueData: TypeAlias = (
    "str | int | float | bool | dict[MarkedKey, MarkedValue] | list[MarkedValue] | Secret | None"
)


class MarkedKey(str):
    """A mapping's key with its position; compares and hashes like its text."""

    __slots__ = ("mark",)
    mark: SourcePosition

    def __new__(cls, text: str, mark: SourcePosition) -> MarkedKey:
        """Create a key with a position."""
        self = super().__new__(cls, text)
        self.mark = mark
        return self

    def __getnewargs__(self) -> tuple[str, SourcePosition]:  # type: ignore[override]
        """Return the arguments with which pickle recreates the key."""
        return str(self), self.mark


class NamedObject(Struct, frozen=True):
    """An object of the template scope that is rendered as its name or ID by ``str()``."""


class HomePath(str):
    """A path that starts with ``~``, the home folder of the login (or become) user on the host.

    Only the host can resolve it, so shell templates leave the expansion to the host's shell.
    """

    __slots__ = ()


class CommandText(str):
    """The text of a command in which every value is quoted, or which its user wrote completely.

    Only such a text may be run. String methods return an ordinary ``str``.
    """

    __slots__ = ()


class MarkedValue(Struct, frozen=True):
    """One value as written. ``overridden`` is the value that it overrode, and so on.

    ``literal`` values are never rendered as templates (text from the command line or a host).
    ``masked`` is the name under which the value is hidden, for what was decrypted; otherwise ''.
    """

    data: ValueData
    mark: SourcePosition
    overridden: MarkedValue | None = None
    literal: bool = False
    masked: str = ""

    def to_plain(self) -> Any:
        """Return the data without positions; a secret becomes a text that describes its source."""
        if isinstance(self.data, dict):
            return {str(k): v.to_plain() for k, v in self.data.items()}
        if isinstance(self.data, list):
            return [v.to_plain() for v in self.data]
        return str(self.data) if isinstance(self.data, Secret) else self.data

    def to_display(self) -> Any:
        """Return the data as ``to_plain`` does, and a name in place of each masked value."""
        if isinstance(self.data, dict):
            return {str(k): v.to_display() for k, v in self.data.items()}
        if isinstance(self.data, list):
            return [v.to_display() for v in self.data]
        if self.masked and self.data is not None and not isinstance(self.data, bool):
            return f"‹{self.masked}›"
        return self.to_plain()


Values: TypeAlias = Mapping[str, MarkedValue]


def replace_value(lower: MarkedValue, higher: MarkedValue) -> MarkedValue:
    """Return ``higher``, which remembers that it overrode ``lower``."""
    return replace(higher, overridden=lower)


def merge_values(lower: MarkedValue, higher: MarkedValue) -> MarkedValue:
    """Merge ``higher`` over ``lower``: mappings key by key, other values are replaced."""
    if not (isinstance(lower.data, dict) and isinstance(higher.data, dict)):
        return replace_value(lower, higher)
    merged = dict(lower.data)
    for key, value in higher.data.items():
        # removed first, so that the key of ``higher`` with its mark is kept
        below = merged.pop(key, None)
        merged[key] = merge_values(below, value) if below is not None else value
    return replace(higher, data=merged, overridden=lower)
