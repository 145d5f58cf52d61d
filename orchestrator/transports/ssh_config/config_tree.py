"""The files as they were read, before any host is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.errors import ConnectError, Diagnostic, SourcePosition
from orchestrator.transports.ssh_config.patterns import PatternList


class SshConfigError(ConnectError):
    """ssh_config can't be read, or can't be obeyed: phase ssh_config, a problem each."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        first, more = diagnostics[0], len(diagnostics) - 1
        at = f"{first.mark}: " if first.mark else ""
        others = f" (and {more} more)" if more else ""
        super().__init__("ssh_config", f"{at}{first.message}{others}", first.hint)
        self.diagnostics = diagnostics


class ConfigLine(Struct, frozen=True):
    """One line that sets something. ``field`` names what; where it is '' orch has no use for it,
    and ``unsupported_reason`` says what that means for the user ('' where nothing).
    ``is_list``: it adds to a list instead of losing to the first. ``is_user_file``: from the user's files.
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
    """One condition of a Match line. ``patterns`` is for those with a list, ``text`` for exec."""

    kind: str
    is_negated: bool
    patterns: PatternList | None
    text: str
    position: SourcePosition


class ConfigBlock(Struct):
    """Lines under one Host or Match line, or before the first (both None: they always count)."""

    hosts: PatternList | None = None
    match: tuple[MatchCriterion, ...] | None = None
    items: list[BlockItem] = field(default_factory=list)


class ConfigFile(Struct):
    """A file's blocks. ``blocks_by_name`` are the places of Host blocks that some plain name selects,
    ``pattern_blocks`` those of all blocks that have to be looked at for any host. Both ascend.
    """

    blocks: list[ConfigBlock]
    blocks_by_name: Mapping[str, tuple[int, ...]]
    pattern_blocks: tuple[int, ...]


BlockItem: TypeAlias = "ConfigLine | tuple[ConfigFile, ...]"


def index_blocks(blocks: list[ConfigBlock]) -> ConfigFile:
    """The file of these blocks."""
    named: dict[str, list[int]] = {}
    others: list[int] = []
    for index, block in enumerate(blocks):
        if block.hosts is None or block.hosts.wildcard_regex is not None:
            others.append(index)
        else:
            for name in block.hosts.literals:
                named.setdefault(name, []).append(index)
    return ConfigFile(blocks, {name: tuple(at) for name, at in named.items()}, tuple(others))
