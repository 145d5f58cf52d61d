"""The shell functions that a module's script runs on: as many of them as it names.

What a module's script runs on, and what it says of itself.

Its exit status is one of the below, or that of a failure. On the way it reports, by markers:

    have KEY=VALUE    a state that is not as wanted, or no ``=VALUE`` where there is none
    after KEY=VALUE   one that is not as wanted at the end
    old LINE          a line of what it is about to replace; ``old# WHY`` ends it: long, binary,
                      cut (the last line has no newline)
    new LINE          a line of what it would put there, where only the host knows that; ends as
                      `old` does, with ``new# WHY``
    probe STATUS      the probe failed
    fix STATUS        the fix failed

In values a newline is ``%0A`` and ``%`` is ``%25``.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

from orchestrator.model.command import Command
from orchestrator.model.lazy_regex import regex
from orchestrator.model.shell_quoting import shell_quote

_COMMENT = regex(r"^[ \t]*#.*\n", re.M)
_FUNCTION = regex(r"^([a-z_][a-z0-9_]*)\(\) (?:\{.*\}|\{\n(?s:.*?)^\})\n", re.M)
_DEFINED = regex(r"^\s*([a-z_][a-z0-9_]*)\(\)", re.M)
_WORD = regex(r"[a-z_][a-z0-9_]*")


def needed(text: str) -> frozenset[str]:
    """The functions that the text names, and those that these do."""
    return _closed(frozenset(_WORD.findall(text)).intersection(_functions()))


def parts(text: str) -> Iterator[tuple[str, str]]:
    """What the script of a module with this text begins with, piece by piece, each with its
    name: what all of them need, named '', and each function."""
    yield "", _core()
    names = needed(text)
    yield from _sources(names)


@cache
def _sources(names: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Functions with their texts, in the file's order."""
    return tuple((name, source) for name, source in _functions().items() if name in names)


@cache
def names() -> frozenset[str]:
    """The functions that a module's script may begin with."""
    return defined(_core()) | _functions().keys()


def defined(text: str) -> frozenset[str]:
    """The names of the functions that a script defines at its lines' beginnings."""
    return frozenset(_DEFINED.findall(text))


@cache
def _closed(names: frozenset[str]) -> frozenset[str]:
    found = set(names)
    left = list(names)
    while left:
        inner = set(_WORD.findall(_functions()[left.pop()])) & _functions().keys()
        left += inner - found
        found |= inner
    return frozenset(found)


@cache
def _core() -> str:
    return _read("remote_shell", "module_runtime.sh")


@cache
def _functions() -> Mapping[str, str]:
    """Each function's text by its name, in the file's order."""
    text = _read("modules", "functions.sh")
    found = {match[1]: match[0] for match in _FUNCTION.finditer(text)}
    if "".join(found.values()) != text.strip("\n") + "\n":
        raise ValueError("library/functions.sh holds more than functions, each from column 1")
    return found


def _read(*path: str) -> str:
    text = files("orchestrator").joinpath(*path).read_text("utf-8")
    lines = _COMMENT.sub("", text).split("\n")
    return "".join(f"{line.lstrip()}\n" for line in lines if line.strip())


CHANGED = 79
WOULD_CHANGE = 78
UNSETTLED = 76
MISUSED = 64
"""Exit statuses of a module's script: it changed something; it would; it is not as wanted, and a
run would wait for that; it was called wrongly, whatever the host is like (sysexits.h)."""


def setting(command: Command, nonce: str) -> str:
    """The variables that go before a module's own text."""
    sends = command.wanted.sends if command.wanted else None
    given = {
        "o_to": f"{nonce} T {command.step} ",
        "o_check": "1" if command.check else "",
        "o_show": "1" if command.show else "",
        "o_staged": command.staged,
        "o_digest": sends.digest if sends else "",
        "o_size": str(sends.size) if sends else "",
        "ORCH_TEMP": f"orch-{secrets.token_hex(6)}",
    }
    return ";".join(f"{name}={shell_quote(value)}" for name, value in given.items())


def value_of(text: str) -> tuple[str, str | None]:
    """A state reported: its key, and its value if it has one."""
    key, equals, value = text.partition("=")
    return key, value.replace("%0A", "\n").replace("%25", "%") if equals else None
