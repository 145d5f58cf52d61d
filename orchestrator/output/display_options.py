"""What a run shows, as chosen on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct


class OutputMode(StrEnum):
    """How the output of the hosts is shown."""

    LIVE = "live"
    LINES = "lines"
    FOLDED = "folded"
    QUIET = "quiet"


OUTPUT_MODE_HELP: Mapping[OutputMode, str] = {
    OutputMode.LIVE: "as it comes where few hosts print, else folded at the end, above a live view",
    OutputMode.LINES: "as it comes, each line after the name of its host, without a live view",
    OutputMode.FOLDED: "at the end, equal output of several hosts once",
    OutputMode.QUIET: "not at all, but for the last lines of what failed",
}
"""The modes, with their meanings."""


class DisplayOptions(Struct, frozen=True):
    """What a run shows.

    ``verbose``: 0 is the default, 1 adds steps, 2 everything, -1 only errors and warnings.
    ``mode``: None is `live` on a terminal, and `lines` elsewhere. ``diff``: show what was changed,
    not only what would be changed. ``diff_hosts``: show how the outputs of hosts differ from the
    most common one. ``groups``: in the log of a CI server, show the tasks as groups of lines, and
    annotate what failed, unless ``mode`` is set. ``rerun`` is the command that runs the same again
    on the hosts that failed, ``resume`` the one that resumes the run.
    """

    json: bool = False
    verbose: int = 0
    mode: OutputMode | None = None
    diff: bool = False
    diff_hosts: bool = False
    groups: bool = False
    rerun: str = ""
    resume: str = ""
