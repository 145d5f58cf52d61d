"""Conditions as shell tests.

What earlier segments brought is known on this side and becomes ``true`` or ``false``. A step of
the segment at hand is judged on the host, by variables that the segment itself sets:
``o_sN`` (exit status), ``o_cN`` (changed), ``o_fN`` (failed), ``o_kN`` (skipped), ``o_wN``
(withheld), each empty where it is not so.

Which texts run in the session's own shell.

A step gets a process group, so that it can be ended without what steps before it left running,
and a shell of its own, in which nothing else is defined. Together they take five times as long
as a subshell. What is known to leave nothing behind needs no group; a text that says nothing
which another shell would understand differently needs no shell.

Segments: commands as one shell command that calls the prelude's functions.

    segment 'CONTROL'

``CONTROL`` says what to do with the texts, which it sets its arguments to. It is quoted as
``quoting.py`` says, and begins with a letter that means nothing: alone at the beginning of a
line, what is left of a stream, it must not be a command's name.

Steps that leave nothing behind run in the session's own shell, in a subshell, where they need no
more than that: see ``here.py``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from msgspec import Struct

from orchestrator.model.command import Command
from orchestrator.model.condition import All, Always, Any, Condition, Exit, Is, Not
from orchestrator.model.lazy_regex import regex
from orchestrator.remote_shell import module_protocol
from orchestrator.remote_shell.bootstrap import escaped, seconds, word
from orchestrator.remote_shell.module_protocol import (
    CHANGED,
    MISUSED,
    UNSETTLED,
    WOULD_CHANGE,
    setting,
)

VARIABLES = {"changed": "o_c", "failed": "o_f", "skipped": "o_k", "withheld": "o_w"}
_OPERATORS = {"==": "-eq", "!=": "-ne", "<": "-lt", "<=": "-le", ">": "-gt", ">=": "-ge"}


class Known(Struct, frozen=True):
    """What this side knows of a step that is over."""

    exit_status: int | None = None
    changed: bool = False
    failed: bool = False
    skipped: bool = False
    withheld: bool = False


def shell_test(condition: Condition, known: Mapping[int, Known], here: Collection[int]) -> str:
    """A shell command that exits with 0 exactly where the condition holds.

    ``here`` are the steps of this segment so far, and win over ``known``. A step in neither
    did not run: nothing is so of it, and it has no exit status.
    """
    match condition:
        case Always(value):
            return _constant(value)
        case Is(step, what) if step in here:
            return f'[ "${VARIABLES[what]}{step}" ]'
        case Is(step, what):
            return _constant(_told(known.get(step, Known()), what))
        case Exit(step, op, status) if step in here:
            compare = f'[ "$o_s{step}" {_OPERATORS[op]} {_within(status)} ]'
            absent = _constant(op == "!=")
            return f'{{ if [ "$o_s{step}" ]; then {compare}; else {absent}; fi; }}'
        case Exit(step, op, status):
            return _constant(_compare(known.get(step, Known()).exit_status, op, status))
        case Not(of):
            return f"{{ ! {shell_test(of, known, here)}; }}"
        case All(of):
            return _joined(" && ", of, known, here)
        case Any(of):
            return _joined(" || ", of, known, here)


def _joined(
    by: str, of: tuple[Condition, ...], known: Mapping[int, Known], here: Collection[int]
) -> str:
    tests = [shell_test(each, known, here) for each in of]
    return f"{{ {by.join(tests)}; }}" if tests else _constant(by == " && ")


def _constant(value: bool) -> str:
    return "true" if value else "false"


def _told(known: Known, what: str) -> bool:
    told: bool = getattr(known, what)
    return told


def _compare(found: int | None, op: str, status: int) -> bool:
    if found is None:
        return op == "!="
    return {
        "==": found == status,
        "!=": found != status,
        "<": found < status,
        "<=": found <= status,
        ">": found > status,
        ">=": found >= status,
    }[op]


def _within(status: int) -> int:
    """A number that shells can read and that compares with any exit status as this one does."""
    return min(max(status, -1), 256)


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
    return module_protocol.names() | module_protocol.defined(prelude)


UNKNOWN = "2"
"""What stands in place of a step's failure, 1, where a check does not know what a run would do."""

_SHELL = regex(r"[A-Za-z0-9_./+-]+\Z")


def segment(
    commands: Sequence[Command],
    known: Mapping[int, Known],
    nonce: str = "",
    *,
    equipped: dict[str, str] | None = None,
) -> bytes:
    """The bytes that make a session's shell run these commands, to their end or a failure.

    ``known`` are the steps of this task that are over. ``equipped``: the variables in which the
    session has what modules begin with, by the functions' names; new ones are added. Raises
    ValueError for a NUL in a text, which no shell can hold, for a shell's name that is none, and
    for a number used twice.
    """
    texts: list[bytes] = []
    here: list[int] = []
    kit = {} if equipped is None else equipped
    # first of all, for a step that fails ends the segment
    control = ""
    begins: dict[int, str] = {}
    for command in commands:
        control += _equip(command, texts, kit, begins)
    for command in commands:
        if command.step in here:
            raise ValueError(f"step {command.step} is twice in one segment")
        begin = begins.get(command.step, "")
        control += _clause(command, texts, known=known, here=here, nonce=nonce, begin=begin)
        here.append(command.step)
    return b"segment 'Tset -- " + b" ".join(texts) + escaped(f"\n{control}") + b"'\n"


def _equip(
    command: Command, texts: list[bytes], kit: dict[str, str], begins: dict[int, str]
) -> str:
    """What puts a module's functions where they are for the rest of the session; ``begins`` is
    told how its step's text does."""
    if command.wanted is None:
        return ""
    control, begin = "", ""
    for name, source in module_protocol.parts(command.text):
        if name not in kit:
            kit[name] = f"o_m{len(kit)}"
            texts.append(_source(source))
            control += f'{kit[name]}="${{{len(texts)}}}";equip "${kit[name]}";'
        begin += f"${kit[name]}"
    begins[command.step] = begin
    return control


def _clause(
    command: Command,
    texts: list[bytes],
    known: Mapping[int, Known],
    here: Sequence[int],
    nonce: str,
    begin: str,
) -> str:
    """What runs one command, and sets its variables, which may be left from before."""
    n = command.step
    anew = f"o_s{n}= o_c{n}= o_f{n}={f' o_w{n}=' if command.effects else ''} o_k{n}="
    run = f"{anew};"
    run += f"begin {n}{'' if command.timeout is None else ' ' + seconds(command.timeout)};"
    run += (
        _launches(command, texts, nonce, begin) + _judgement(command, known, [*here, n]) + "finish;"
    )
    if not command.ignore:
        run += "[ $o_failed != 1 ] || return 0;"
    if command.when == Always(True):
        return run
    skipped = f"{anew}1;skip {n};"
    return f"if {shell_test(command.when, known, here)};then {run}else {skipped}fi;"


def _launches(command: Command, texts: list[bytes], nonce: str, begin: str) -> str:
    if not _SHELL.match(command.shell):
        raise ValueError(f"{command.shell!r} is no shell's name")
    call = f'{command.shell} "{_options(command.shell)}"'
    run = "" if command.shell == "sh" else f"need {command.shell};"
    if command.guard:
        guard = _place(texts, f"exec >/dev/null 2>&1;{command.guard}")
        how = 'here ""' if guard_stays(command) else call
        run += f"guard {how} {guard};"
    if command.check and command.wanted is None:
        return run + "[ $o_how != done ] || o_status=0;"
    if command.wanted is None:
        text, functions = _place(texts, command.text), ""
    else:
        text = _place(texts, f"{setting(command, nonce)}\n{command.text}")
        functions = begin
    if body_stays(command):
        return run + f'body here "{functions}" {text};'
    run += f'body {call} "{functions}"{text}'
    if command.stdin is not None:
        # the here-document that carries it there adds a newline of its own
        run += f" {_place(texts, command.stdin.removesuffix(chr(10)))}"
    return run + ";"


def _options(shell: str) -> str:
    return "-eo pipefail" if PurePosixPath(shell).name == "bash" else "-e"


def _judgement(command: Command, known: Mapping[int, Known], here: Sequence[int]) -> str:
    n = command.step
    fails, changes, report = "[ $o_status != 0 ]", '[ "$o_moved" ]', ""
    if command.fails is not None:
        fails = shell_test(command.fails, known, here)
    if command.changes is not None:
        changes = shell_test(command.changes, known, here)
    if command.wanted is not None:
        report = (
            f"o_moved= o_open=;case $o_how$o_status in done{CHANGED}|done{WOULD_CHANGE}) "
            f"o_status=0 o_moved=1;;done{UNSETTLED}) o_status=1 o_open=1;;esac;o_c{n}=$o_moved;"
        )
    left = _left_open(command, known, here) if command.effects else ""
    return report + (
        f"case $o_how in done) o_s{n}=$o_status;"
        f"if {fails};then o_failed=1 o_f{n}=1 o_c{n}=;"
        f"elif {changes};then o_changed=1 o_c{n}=1;else o_c{n}=;fi;;"
        f"guard) o_k{n}=1;;"
        f"*) o_s{n}=$o_status o_failed=1 o_f{n}=1;;esac;"
        f"{left}"
    )


def _left_open(command: Command, known: Mapping[int, Known], here: Sequence[int]) -> str:
    """What a check makes of a failure that a step before it may be the reason of, and what it
    notes for the steps behind."""
    n = command.step
    why = shell_test(command.unknown_if, known, here)
    withheld = "[ $o_how = done ]" if command.wanted is None else '[ "$o_moved" ]'
    if command.wanted is not None:
        why = f'[ "$o_status" != {MISUSED} ] && {{ [ "$o_open" ] || {why}; }}'
    elif not command.check:
        withheld = "false"
    return (
        f"case $o_failed$o_how in 1gone) ;;"
        f"1*) if {why};then o_failed={UNKNOWN} o_f{n}= o_c{n}= o_w{n}=1;fi;;"
        f"0*) if {withheld};then o_w{n}=1;fi;;esac;"
    )


def _place(texts: list[bytes], text: str) -> str:
    """Add a text and return how the control part refers to it."""
    texts.append(escaped(word(text)))
    return f'"${{{len(texts)}}}"'


@cache
def _source(text: str) -> bytes:
    """Return a function's text, which is sent to every host, as a word of the segment."""
    return escaped(word(text))
