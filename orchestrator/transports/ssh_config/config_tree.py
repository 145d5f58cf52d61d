"""The files as they were read, before any host is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.errors import ConnectError, Mark, Problem
from orchestrator.transports.ssh_config.patterns import Patterns


class ConfigError(ConnectError):
    """ssh_config can't be read, or can't be obeyed: phase ssh_config, a problem each."""

    def __init__(self, *problems: Problem) -> None:
        first, more = problems[0], len(problems) - 1
        at = f"{first.mark}: " if first.mark else ""
        others = f" (and {more} more)" if more else ""
        super().__init__("ssh_config", f"{at}{first.what}{others}", first.hint)
        self.found = problems


class Setting(Struct, frozen=True):
    """One line that sets something. ``field`` names what; where it is '' orch has no use for it,
    and ``why`` says what that means for the user ('' where nothing).
    ``many``: it adds to a list instead of losing to the first. ``user``: from the user's files.
    """

    keyword: str
    field: str
    value: object
    mark: Mark
    user: bool
    many: bool = False
    why: str = ""
    text: str = ""


class Criterion(Struct, frozen=True):
    """One condition of a Match line. ``patterns`` is for those with a list, ``text`` for exec."""

    kind: str
    negated: bool
    patterns: Patterns | None
    text: str
    mark: Mark


class Block(Struct):
    """Lines under one Host or Match line, or before the first (both None: they always count)."""

    hosts: Patterns | None = None
    match: tuple[Criterion, ...] | None = None
    items: list[Item] = field(default_factory=list)


class File(Struct):
    """A file's blocks. ``named`` are the places of Host blocks that some plain name selects,
    ``others`` those of all blocks that have to be looked at for any host. Both ascend.
    """

    blocks: list[Block]
    named: Mapping[str, tuple[int, ...]]
    others: tuple[int, ...]


Item: TypeAlias = "Setting | tuple[File, ...]"


def indexed(blocks: list[Block]) -> File:
    """The file of these blocks."""
    named: dict[str, list[int]] = {}
    others: list[int] = []
    for place, block in enumerate(blocks):
        if block.hosts is None or block.hosts.wild is not None:
            others.append(place)
        else:
            for name in block.hosts.literal:
                named.setdefault(name, []).append(place)
    return File(blocks, {name: tuple(at) for name, at in named.items()}, tuple(others))
