"""The runtime of module scripts: shell functions, exit statuses and reports.

A script is sent only the functions that it uses. Its exit status is one of the constants below, or
that of a failure. It reports by markers:

    have KEY=VALUE    a state that differs from the desired one; without ``=VALUE`` it is missing
    after KEY=VALUE   a state that still differs at the end
    old LINE          a line of the content to be replaced; ``old# WHY`` ends it: long, binary,
                      cut (the last line has no newline)
    new LINE          a line of the new content, if only the host knows it; it ends as `old`
                      does, with ``new# WHY``
    need NUMBERS      of a tree, only these lines of the manifest are needed, like 3-5,9
    basis LINES=PATH  of a tree, the host has older files at these lines of the manifest, like
                      3,9, and an rsync; PATH is that of the tree's folder, or of its only file
    probe STATUS      the probe failed
    fix STATUS        the fix failed

In values a newline is ``%0A`` and ``%`` is ``%25``.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from orchestrator.model.command import StepCommand
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.shell_quoting import shell_quote

_COMMENT = lazy_regex(r"^[ \t]*#.*\n", re.M)
_FUNCTION = lazy_regex(r"^([a-z_][a-z0-9_]*)\(\) (?:\{.*\}|\{\n(?s:.*?)^\})\n", re.M)
_DEFINED = lazy_regex(r"^\s*([a-z_][a-z0-9_]*)\(\)", re.M)
_WORD = lazy_regex(r"[a-z_][a-z0-9_]*")


def needed_functions(text: str) -> frozenset[str]:
    """Return the functions that the text names, with their dependencies."""
    return _with_dependencies(frozenset(_WORD.findall(text)).intersection(_function_texts()))


def script_parts(text: str) -> Iterator[tuple[str, str]]:
    """Yield the named parts that a module's script begins with.

    The first part has the name '' and is the runtime common to all modules; each other part is a
    function that this text needs.
    """
    yield "", _runtime_text()
    names = needed_functions(text)
    yield from _function_sources(names)


def with_functions(text: str) -> str:
    """Return a script of its own: the functions that the text needs, and the text."""
    functions = "".join(source for _, source in _function_sources(needed_functions(text)))
    return f"o_nl='\n'\n{functions}{text}"


@cache
def _function_sources(names: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return the functions with their texts, in the order of the file."""
    return tuple((name, source) for name, source in _function_texts().items() if name in names)


@cache
def function_names() -> frozenset[str]:
    """Return the names of all functions that a module's script may begin with."""
    return defined_functions(_runtime_text()) | _function_texts().keys()


def defined_functions(text: str) -> frozenset[str]:
    """Return the names of the functions that a script defines at the beginning of a line."""
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
    """Return each function's text by name, in the order of the file."""
    text = _read_script("modules", "functions.sh")
    found = {match[1]: match[0] for match in _FUNCTION.finditer(text)}
    if "".join(found.values()) != text.strip("\n") + "\n":
        raise ValueError("modules/functions.sh may only contain functions that start in column 1")
    return found


def _read_script(*path: str) -> str:
    text = Path(__file__).parents[1].joinpath(*path).read_text("utf-8")
    lines = _COMMENT.sub("", text).split("\n")
    return "".join(f"{line.lstrip()}\n" for line in lines if line.strip())


EXIT_CHANGED = 79
EXIT_WOULD_CHANGE = 78
EXIT_UNSETTLED = 76
EXIT_MISUSED = 64
"""Exit statuses of a module's script.

It changed something; it would change something; the state differs and a run would wait for it; it
was called with invalid arguments (EX_USAGE of sysexits.h)."""


def report_marker(step: int, nonce: str) -> str:
    """Return the beginning of the markers by which a step reports."""
    return f"{nonce} T {step} "


def module_variables(command: StepCommand, nonce: str) -> str:
    """Return the assignments of variables that precede a module's own text."""
    payload = command.desired_state.payload if command.desired_state else None
    variables = {
        "o_to": report_marker(command.step, nonce),
        "o_check": "1" if command.check_mode else "",
        "o_show": "1" if command.show_diff else "",
        "o_staged": command.payload_path,
        "o_digest": payload.digest if payload else "",
        "o_size": str(payload.size) if payload else "",
        "ORCH_TEMP": f"orch-{secrets.token_hex(6)}",
    }
    return ";".join(f"{name}={shell_quote(value)}" for name, value in variables.items())


def parse_state(text: str) -> tuple[str, str | None]:
    """Return the key of a reported state, and its value or None."""
    key, equals, value = text.partition("=")
    return key, value.replace("%0A", "\n").replace("%25", "%") if equals else None
