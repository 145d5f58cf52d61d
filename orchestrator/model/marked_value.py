"""Values as they were written: plain data that remembers its file and line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from orchestrator.errors import SourcePosition
from orchestrator.model.secret import Secret

ValueData: TypeAlias = (
    "str | int | float | bool | dict[MarkedKey, MarkedValue] | list[MarkedValue] | Secret | None"
)


class MarkedKey(str):
    """A mapping's key that remembers where it stands. Equal to, and hashed as, its text."""

    __slots__ = ("mark",)
    mark: SourcePosition

    def __new__(cls, text: str, mark: SourcePosition) -> MarkedKey:
        self = super().__new__(cls, text)
        self.mark = mark
        return self

    def __getnewargs__(self) -> tuple[str, SourcePosition]:  # type: ignore[override]
        return str(self), self.mark


class NamedObject(Struct, frozen=True):
    """An object that templates see, and that prints as its name or id: ``str()`` is its text."""


class HomePath(str):
    """A path that begins with ``~``, the home of the login (or become) user on the host.

    Only the host knows where that is: shell templates leave the expansion to its shell.
    """

    __slots__ = ()


class CommandText(str):
    """A command's text: every value in it is quoted for its place, or its user wrote all of it.

    Only such a text may be run. Whoever changes it has an ordinary text.
    """

    __slots__ = ()


class MarkedValue(Struct, frozen=True):
    """One value as written. ``overridden`` is the value it overrode, weaker and weaker.

    ``literal`` values are never rendered as templates (text from the command line or a host).
    """

    data: ValueData
    mark: SourcePosition
    overridden: MarkedValue | None = None
    literal: bool = False

    def to_plain(self) -> Any:
        """The data without marks; a secret as words on where it comes from."""
        if isinstance(self.data, dict):
            return {str(k): v.to_plain() for k, v in self.data.items()}
        if isinstance(self.data, list):
            return [v.to_plain() for v in self.data]
        return str(self.data) if isinstance(self.data, Secret) else self.data


Values: TypeAlias = Mapping[str, MarkedValue]


def merge_values(lower: MarkedValue, higher: MarkedValue) -> MarkedValue:
    """``higher`` over ``lower``: mappings merge key by key, anything else replaces."""
    if not (isinstance(lower.data, dict) and isinstance(higher.data, dict)):
        return MarkedValue(higher.data, higher.mark, lower, higher.literal)
    merged = dict(lower.data)
    for key, value in higher.data.items():
        below = merged.pop(key, None)  # the key's mark is the stronger one's
        merged[key] = merge_values(below, value) if below is not None else value
    return MarkedValue(merged, higher.mark, lower, higher.literal)
