"""Segments: commands as one shell command that calls the prelude's functions.

    segment WORDS 'CONTROL' 'TEXT' 'TEXT' …

``WORDS`` is how many words follow the name, so that one cut behind a text is known as such.
``CONTROL`` says what to do with the texts, which are its ``$2`` and following. They are quoted
as ``quoting.py`` says, and begin with a letter that means nothing: alone at the beginning of a
line, what is left of a stream, a text must not be a command's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from orchestrator.model.command import Command
from orchestrator.model.condition import Always
from orchestrator.session.conditions import Known, shell_test
from orchestrator.session.prelude import seconds
from orchestrator.session.quoting import escaped

_SHELL = re.compile(r"[A-Za-z0-9_./+-]+\Z")


def segment(commands: Sequence[Command], known: Mapping[int, Known]) -> bytes:
    """The bytes that make a session's shell run these commands, to their end or a failure.

    ``known`` are the steps of this task that are over. Raises ValueError for a NUL in a text,
    which no shell can hold, for a shell's name that is none, and for a number used twice.
    """
    texts: list[bytes] = []
    here: list[int] = []
    control = ""
    for command in commands:
        if command.step in here:
            raise ValueError(f"step {command.step} is twice in one segment")
        control += _clause(command, texts, known, here)
        here.append(command.step)
    quoted = b" ".join(b"'" + text + b"'" for text in (control.encode(), *texts))
    return b"segment %d " % (2 + len(texts)) + quoted + b"\n"


def _clause(
    command: Command, texts: list[bytes], known: Mapping[int, Known], here: Sequence[int]
) -> str:
    """What runs one command, and sets its four variables, which may be left from before."""
    n = command.step
    run = f"o_s{n}= o_c{n}= o_f{n}= o_k{n}=;"
    run += f"begin {n}{'' if command.timeout is None else ' ' + seconds(command.timeout)};"
    run += _launches(command, texts) + _judgement(command, known, [*here, n]) + "finish;"
    if not command.ignore:
        run += "[ $o_failed = 0 ] || return 0;"
    if command.when == Always(True):
        return run
    skipped = f"o_s{n}= o_c{n}= o_f{n}= o_k{n}=1;skip {n};"
    return f"if {shell_test(command.when, known, here)};then {run}else {skipped}fi;"


def _launches(command: Command, texts: list[bytes]) -> str:
    if not _SHELL.match(command.shell):
        raise ValueError(f"{command.shell!r} is no shell's name")
    options = "-eo pipefail" if PurePosixPath(command.shell).name == "bash" else "-e"
    call = f'{command.shell} "{options}"'
    run = "" if command.shell == "sh" else f"need {command.shell};"
    if command.guard:
        guard = _place(texts, "exec >/dev/null 2>&1;" + command.guard)
        run += f"guard {call} {guard};"
    run += f"body {call} {_place(texts, command.text)}"
    if command.stdin is not None:
        # the here-document that carries it there adds a newline of its own
        run += f" {_place(texts, command.stdin.removesuffix(chr(10)))}"
    return run + ";"


def _judgement(command: Command, known: Mapping[int, Known], here: Sequence[int]) -> str:
    n = command.step
    fails = "[ $o_status != 0 ]"
    if command.fails is not None:
        fails = shell_test(command.fails, known, here)
    return (
        f"case $o_how in done) o_s{n}=$o_status;"
        f"if {fails};then o_failed=1 o_f{n}=1;"
        f"elif {shell_test(command.changes, known, here)};then o_changed=1 o_c{n}=1;fi;;"
        f"guard) o_k{n}=1;;"
        f"*) o_s{n}=$o_status o_failed=1 o_f{n}=1;;esac;"
    )


def _place(texts: list[bytes], text: str) -> str:
    """Add a text and return how the control part refers to it; ``$1`` is the control itself."""
    texts.append(b"T" + escaped(text))
    return f'"${{{len(texts) + 1}}}"'
