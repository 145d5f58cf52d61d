"""Which texts run in the session's own shell.

A step gets a process group, so that it can be ended without what steps before it left running,
and a shell of its own, in which nothing else is defined. Together they take five times as long
as a subshell. What is known to leave nothing behind needs no group; a text that says nothing
which another shell would understand differently needs no shell.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from orchestrator.model.command import Command
from orchestrator.model.regex import regex
from orchestrator.session import functions

_PLAIN = regex(r"(?:[A-Za-z0-9_./:=,@%+~ \"'|<;()\[\]{}!*?^#\n-]|&&|>&[0-9]|>)*")
"""Nothing that is expanded but patterns and ~, no jobs, no escapes."""

_WORD = regex(r"[A-Za-z0-9_.:-]+")

_OURS = regex(r"\bset [-+]e\b|\bcase \$\? in\b|\bexport [A-Za-z_][A-Za-z0-9_]*=")
"""What a text may say all the same: that of a guard, and the setting of variables."""

_OUTSIDE = frozenset(
    ". bg declare export fg hash jobs kill pkill set source times trap typeset wait".split()
)
"""Commands that tell of their shell, or act on its jobs and its group."""


def body_stays(command: Command) -> bool:
    """Whether the command's text runs in the session's shell."""
    if not (command.contained and command.stdin is None and _may_stay(command)):
        return False
    return command.wanted is not None or plain(command.text)


def guard_stays(command: Command) -> bool:
    """Whether its guard does: what only asks leaves nothing behind."""
    return _may_stay(command) and plain(command.guard)


def _may_stay(command: Command) -> bool:
    # what its time ends is a group: here, the whole session
    return command.shell == "sh" and command.timeout is None


def plain(text: str) -> bool:
    """Whether it means the same to every shell, whatever functions of ours that one has."""
    text = _OURS.sub(" ", text)
    if not _PLAIN.fullmatch(text):
        return False
    # quotes within a word hide it
    words = frozenset(_WORD.findall(text) + _WORD.findall(re.sub("['\"]", "", text)))
    return words.isdisjoint(_OUTSIDE) and words.isdisjoint(_names())


@cache
def _names() -> frozenset[str]:
    prelude = Path(__file__).with_name("prelude.sh").read_text("utf-8")
    return functions.names() | functions.defined(prelude)
