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

from orchestrator.model.command import StepCommand
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.shell_quoting import shell_quote

_COMMENT = lazy_regex(r"^[ \t]*#.*\n", re.M)
_FUNCTION = lazy_regex(r"^([a-z_][a-z0-9_]*)\(\) (?:\{.*\}|\{\n(?s:.*?)^\})\n", re.M)
_DEFINED = lazy_regex(r"^\s*([a-z_][a-z0-9_]*)\(\)", re.M)
_WORD = lazy_regex(r"[a-z_][a-z0-9_]*")


def needed_functions(text: str) -> frozenset[str]:
    """The functions that the text names, and those that these do."""
    return _with_dependencies(frozenset(_WORD.findall(text)).intersection(_function_texts()))


def script_parts(text: str) -> Iterator[tuple[str, str]]:
    """What the script of a module with this text begins with, piece by piece, each with its
    name: what all of them need, named '', and each function."""
    yield "", _runtime_text()
    names = needed_functions(text)
    yield from _function_sources(names)


@cache
def _function_sources(names: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Functions with their texts, in the file's order."""
    return tuple((name, source) for name, source in _function_texts().items() if name in names)


@cache
def function_names() -> frozenset[str]:
    """The functions that a module's script may begin with."""
    return defined_functions(_runtime_text()) | _function_texts().keys()


def defined_functions(text: str) -> frozenset[str]:
    """The names of the functions that a script defines at its lines' beginnings."""
    return frozenset(_DEFINED.findall(text))


@cache
def _with_dependencies(names: frozenset[str]) -> frozenset[str]:
    found = set(names)
    left = list(names)
    while left:
        inner = set(_WORD.findall(_function_texts()[left.pop()])) & _function_texts().keys()
        left += inner - found
        found |= inner
    return frozenset(found)


@cache
def _runtime_text() -> str:
    return _read_script("remote_shell", "module_runtime.sh")


@cache
def _function_texts() -> Mapping[str, str]:
    """Each function's text by its name, in the file's order."""
    text = _read_script("modules", "functions.sh")
    found = {match[1]: match[0] for match in _FUNCTION.finditer(text)}
    if "".join(found.values()) != text.strip("\n") + "\n":
        raise ValueError("modules/functions.sh holds more than functions, each from column 1")
    return found


def _read_script(*path: str) -> str:
    text = files("orchestrator").joinpath(*path).read_text("utf-8")
    lines = _COMMENT.sub("", text).split("\n")
    return "".join(f"{line.lstrip()}\n" for line in lines if line.strip())


EXIT_CHANGED = 79
EXIT_WOULD_CHANGE = 78
EXIT_UNSETTLED = 76
EXIT_MISUSED = 64
"""Exit statuses of a module's script: it changed something; it would; it is not as wanted, and a
run would wait for that; it was called wrongly, whatever the host is like (sysexits.h)."""


def module_variables(command: StepCommand, nonce: str) -> str:
    """The variables that go before a module's own text."""
    payload = command.desired_state.payload if command.desired_state else None
    variables = {
        "o_to": f"{nonce} T {command.step} ",
        "o_check": "1" if command.check_mode else "",
        "o_show": "1" if command.show_diff else "",
        "o_staged": command.payload_path,
        "o_digest": payload.digest if payload else "",
        "o_size": str(payload.size) if payload else "",
        "ORCH_TEMP": f"orch-{secrets.token_hex(6)}",
    }
    return ";".join(f"{name}={shell_quote(value)}" for name, value in variables.items())


def parse_state(text: str) -> tuple[str, str | None]:
    """A state reported: its key, and its value if it has one."""
    key, equals, value = text.partition("=")
    return key, value.replace("%0A", "\n").replace("%25", "%") if equals else None
