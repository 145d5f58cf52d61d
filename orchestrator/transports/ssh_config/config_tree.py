"""The parsed files, before any host is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.errors import ConnectError, Diagnostic, SourcePosition
from orchestrator.transports.ssh_config.patterns import PatternList


class SshConfigError(ConnectError):
    """ssh_config cannot be read or applied (phase ssh_config). ``diagnostics`` has each error."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        first, more = diagnostics[0], len(diagnostics) - 1
        at = f"{first.mark}: " if first.mark else ""
        others = f" (and {more} more)" if more else ""
        super().__init__("ssh_config", f"{at}{first.message}{others}", first.hint)
        self.diagnostics = diagnostics


class ConfigLine(Struct, frozen=True):
    """A line that sets something.

    ``field`` is the setting. If orch ignores the line, ``unsupported_reason`` says what that means
    for the user; '' if it does not matter.
    ``is_list``: the value is added to a list; otherwise the first value counts. ``is_user_file``:
    the line is in the user's file or in one that it includes.
    """

    keyword: str
    field: str
    value: object
    position: SourcePosition
    is_user_file: bool
    is_list: bool = False
    unsupported_reason: str = ""
    text: str = ""


class MatchCriterion(Struct, frozen=True):
    """A criterion of a Match line: ``patterns`` for a list of patterns, ``text`` for exec."""

    kind: str
    is_negated: bool
    patterns: PatternList | None
    text: str
    position: SourcePosition


class ConfigBlock(Struct):
    """The lines of a Host or Match block; both are None before the first, which always applies."""

    hosts: PatternList | None = None
    match: tuple[MatchCriterion, ...] | None = None
    items: list[BlockItem] = field(default_factory=list)


class ConfigFile(Struct):
    """The blocks of a file, indexed.

    ``blocks_by_name`` has the indexes of the Host blocks that a literal name selects;
    ``pattern_blocks`` those of the blocks that must be checked for every host. Both ascend.
    """

    blocks: list[ConfigBlock]
    blocks_by_name: Mapping[str, tuple[int, ...]]
    pattern_blocks: tuple[int, ...]


BlockItem: TypeAlias = "ConfigLine | tuple[ConfigFile, ...]"


def index_blocks(blocks: list[ConfigBlock]) -> ConfigFile:
    """Return a file with these blocks, indexed."""
    named: dict[str, list[int]] = {}
    others: list[int] = []
    for index, block in enumerate(blocks):
        if block.hosts is None or block.hosts.wildcard_regex is not None:
            others.append(index)
        else:
            for name in block.hosts.literals:
                named.setdefault(name, []).append(index)
    return ConfigFile(blocks, {name: tuple(at) for name, at in named.items()}, tuple(others))
