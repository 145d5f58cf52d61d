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

    run_pipeline 'CONTROL'

``CONTROL`` says what to do with the texts, which it sets its arguments to. It is quoted as
``bootstrap.py`` says, and begins with a letter that means nothing: alone at the beginning of a
line, what is left of a stream, it must not be a command's name.

Steps that leave nothing behind run in the session's own shell, in a subshell, where they need no
more than that: see ``pipeline_steps.py``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from msgspec import Struct

from orchestrator.model.command import StepCommand
from orchestrator.model.condition import (
    AllOf,
    AnyOf,
    Condition,
    ConstantCondition,
    ExitStatusCondition,
    NotCondition,
    StepStateCondition,
)
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.remote_shell import module_protocol
from orchestrator.remote_shell.bootstrap import alarm_seconds, escape_printf, printf_word
from orchestrator.remote_shell.module_protocol import (
    EXIT_CHANGED,
    EXIT_MISUSED,
    EXIT_UNSETTLED,
    EXIT_WOULD_CHANGE,
    module_variables,
)

STATE_VARIABLES = {"changed": "o_c", "failed": "o_f", "skipped": "o_k", "withheld": "o_w"}
_OPERATORS = {"==": "-eq", "!=": "-ne", "<": "-lt", "<=": "-le", ">": "-gt", ">=": "-ge"}


class KnownStepState(Struct, frozen=True):
    """What this side knows of a step that is over."""

    exit_status: int | None = None
    changed: bool = False
    failed: bool = False
    skipped: bool = False
    withheld: bool = False


def shell_test(
    condition: Condition, known: Mapping[int, KnownStepState], pipeline_steps: Collection[int]
) -> str:
    """A shell command that exits with 0 exactly where the condition holds.

    ``pipeline_steps`` are the steps of this segment so far, and win over ``known``. A step in neither
    did not run: nothing is so of it, and it has no exit status.
    """
    match condition:
        case ConstantCondition(value):
            return _constant_test(value)
        case StepStateCondition(step, what) if step in pipeline_steps:
            return f'[ "${STATE_VARIABLES[what]}{step}" ]'
        case StepStateCondition(step, what):
            return _constant_test(_state_flag(known.get(step, KnownStepState()), what))
        case ExitStatusCondition(step, op, status) if step in pipeline_steps:
            compare = f'[ "$o_s{step}" {_OPERATORS[op]} {_clamp_status(status)} ]'
            absent = _constant_test(op == "!=")
            return f'{{ if [ "$o_s{step}" ]; then {compare}; else {absent}; fi; }}'
        case ExitStatusCondition(step, op, status):
            return _constant_test(
                _compare_status(known.get(step, KnownStepState()).exit_status, op, status)
            )
        case NotCondition(of):
            return f"{{ ! {shell_test(of, known, pipeline_steps)}; }}"
        case AllOf(of):
            return _join_tests(" && ", of, known, pipeline_steps)
        case AnyOf(of):
            return _join_tests(" || ", of, known, pipeline_steps)


def _join_tests(
    by: str,
    of: tuple[Condition, ...],
    known: Mapping[int, KnownStepState],
    pipeline_steps: Collection[int],
) -> str:
    tests = [shell_test(each, known, pipeline_steps) for each in of]
    return f"{{ {by.join(tests)}; }}" if tests else _constant_test(by == " && ")


def _constant_test(value: bool) -> str:
    return "true" if value else "false"


def _state_flag(known: KnownStepState, what: str) -> bool:
    flag: bool = getattr(known, what)
    return flag


def _compare_status(found: int | None, op: str, status: int) -> bool:
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


def _clamp_status(status: int) -> int:
    """A number that shells can read and that compares with any exit status as this one does."""
    return min(max(status, -1), 256)


_PORTABLE = lazy_regex(r"(?:[A-Za-z0-9_./:=,@%+~ \"'|<;()\[\]{}!*?^#\n-]|&&|>&[0-9]|>)*")
"""Nothing that is expanded but patterns and ~, no jobs, no escapes."""

_WORD = lazy_regex(r"[A-Za-z0-9_.:-]+")

_INLINE_FORMS = lazy_regex(r"\bset [-+]e\b|\bcase \$\? in\b|\bexport [A-Za-z_][A-Za-z0-9_]*=")
"""What a text may say all the same: that of a guard, and the setting of variables."""

_SESSION_BUILTINS = frozenset(
    ". bg declare export fg hash jobs kill pkill set source times trap typeset wait".split()
)
"""Commands that tell of their shell, or act on its jobs and its group."""


def runs_inline(command: StepCommand) -> bool:
    """Whether the command's text runs in the session's shell."""
    if not (command.spawns_no_daemon and command.stdin is None and _may_run_inline(command)):
        return False
    return command.desired_state is not None or is_portable_shell(command.text)


def guard_runs_inline(command: StepCommand) -> bool:
    """Whether its guard does: what only asks leaves nothing behind."""
    return _may_run_inline(command) and is_portable_shell(command.guard)


def _may_run_inline(command: StepCommand) -> bool:
    # what its time ends is a group: here, the whole session
    return command.shell == "sh" and command.timeout is None


def is_portable_shell(text: str) -> bool:
    """Whether it means the same to every shell, whatever functions of ours that one has."""
    text = _INLINE_FORMS.sub(" ", text)
    if not _PORTABLE.fullmatch(text):
        return False
    # quotes within a word hide it
    words = frozenset(_WORD.findall(text) + _WORD.findall(re.sub("['\"]", "", text)))
    return words.isdisjoint(_SESSION_BUILTINS) and words.isdisjoint(_defined_names())


@cache
def _defined_names() -> frozenset[str]:
    prelude = Path(__file__).with_name("bootstrap.sh").read_text("utf-8")
    return module_protocol.function_names() | module_protocol.defined_functions(prelude)


UNKNOWN_FLAG = "2"
"""What stands in place of a step's failure, 1, where a check does not know what a run would do."""

_SHELL_NAME = lazy_regex(r"[A-Za-z0-9_./+-]+\Z")


def encode_pipeline(
    commands: Sequence[StepCommand],
    known: Mapping[int, KnownStepState],
    nonce: str = "",
    *,
    installed: dict[str, str] | None = None,
) -> bytes:
    """The bytes that make a session's shell run these commands, to their end or a failure.

    ``known`` are the steps of this task that are over. ``installed``: the variables in which the
    session has what modules begin with, by the functions' names; new ones are added. Raises
    ValueError for a NUL in a text, which no shell can hold, for a shell's name that is none, and
    for a number used twice.
    """
    texts: list[bytes] = []
    pipeline_steps: list[int] = []
    function_variables = {} if installed is None else installed
    # first of all, for a step that fails ends the segment
    control = ""
    prefixes: dict[int, str] = {}
    for command in commands:
        control += _install_module_functions(command, texts, function_variables, prefixes)
    for command in commands:
        if command.step in pipeline_steps:
            raise ValueError(f"step {command.step} is twice in one segment")
        prefix = prefixes.get(command.step, "")
        control += _encode_command(
            command, texts, known=known, pipeline_steps=pipeline_steps, nonce=nonce, prefix=prefix
        )
        pipeline_steps.append(command.step)
    return b"run_pipeline 'Tset -- " + b" ".join(texts) + escape_printf(f"\n{control}") + b"'\n"


def _install_module_functions(
    command: StepCommand,
    texts: list[bytes],
    function_variables: dict[str, str],
    prefixes: dict[int, str],
) -> str:
    """What puts a module's functions where they are for the rest of the session; ``prefixes`` is
    told how its step's text does."""
    if command.desired_state is None:
        return ""
    control, prefix = "", ""
    for name, source in module_protocol.script_parts(command.text):
        if name not in function_variables:
            function_variables[name] = f"o_m{len(function_variables)}"
            texts.append(_quoted_source(source))
            control += f'{function_variables[name]}="${{{len(texts)}}}";load_functions "${function_variables[name]}";'
        prefix += f"${function_variables[name]}"
    prefixes[command.step] = prefix
    return control


def _encode_command(
    command: StepCommand,
    texts: list[bytes],
    known: Mapping[int, KnownStepState],
    pipeline_steps: Sequence[int],
    nonce: str,
    prefix: str,
) -> str:
    """What runs one command, and sets its variables, which may be left from before."""
    n = command.step
    reset = f"o_s{n}= o_c{n}= o_f{n}={f' o_w{n}=' if command.effects else ''} o_k{n}="
    run = f"{reset};"
    run += f"begin_step {n}{'' if command.timeout is None else ' ' + alarm_seconds(command.timeout)};"
    run += (
        _encode_launch(command, texts, nonce, prefix)
        + _encode_conditions(command, known, [*pipeline_steps, n])
        + "end_step;"
    )
    if not command.ignore_failure:
        run += "[ $o_failed != 1 ] || return 0;"
    if command.when == ConstantCondition(True):
        return run
    skipped = f"{reset}1;skip_step {n};"
    return f"if {shell_test(command.when, known, pipeline_steps)};then {run}else {skipped}fi;"


def _encode_launch(command: StepCommand, texts: list[bytes], nonce: str, prefix: str) -> str:
    if not _SHELL_NAME.match(command.shell):
        raise ValueError(f"{command.shell!r} is no shell's name")
    call = f'{command.shell} "{_shell_options(command.shell)}"'
    run = "" if command.shell == "sh" else f"require_command {command.shell};"
    if command.guard:
        guard = _add_text(texts, f"exec >/dev/null 2>&1;{command.guard}")
        how = 'here ""' if guard_runs_inline(command) else call
        run += f"run_guard {how} {guard};"
    if command.check_mode and command.desired_state is None:
        return run + "[ $o_how != done ] || o_status=0;"
    if command.desired_state is None:
        text, functions = _add_text(texts, command.text), ""
    else:
        text = _add_text(texts, f"{module_variables(command, nonce)}\n{command.text}")
        functions = prefix
    if runs_inline(command):
        return run + f'run_body here "{functions}" {text};'
    run += f'run_body {call} "{functions}"{text}'
    if command.stdin is not None:
        # the here-document that carries it there adds a newline of its own
        run += f" {_add_text(texts, command.stdin.removesuffix(chr(10)))}"
    return run + ";"


def _shell_options(shell: str) -> str:
    return "-eo pipefail" if PurePosixPath(shell).name == "bash" else "-e"


def _encode_conditions(
    command: StepCommand, known: Mapping[int, KnownStepState], pipeline_steps: Sequence[int]
) -> str:
    n = command.step
    fails, changes, report = "[ $o_status != 0 ]", '[ "$o_moved" ]', ""
    if command.failed_condition is not None:
        fails = shell_test(command.failed_condition, known, pipeline_steps)
    if command.changed_condition is not None:
        changes = shell_test(command.changed_condition, known, pipeline_steps)
    if command.desired_state is not None:
        report = (
            f"o_moved= o_open=;case $o_how$o_status in done{EXIT_CHANGED}|done{EXIT_WOULD_CHANGE}) "
            f"o_status=0 o_moved=1;;done{EXIT_UNSETTLED}) o_status=1 o_open=1;;esac;o_c{n}=$o_moved;"
        )
    left = _encode_unknown(command, known, pipeline_steps) if command.effects else ""
    return report + (
        f"case $o_how in done) o_s{n}=$o_status;"
        f"if {fails};then o_failed=1 o_f{n}=1 o_c{n}=;"
        f"elif {changes};then o_changed=1 o_c{n}=1;else o_c{n}=;fi;;"
        f"guard) o_k{n}=1;;"
        f"*) o_s{n}=$o_status o_failed=1 o_f{n}=1;;esac;"
        f"{left}"
    )


def _encode_unknown(
    command: StepCommand, known: Mapping[int, KnownStepState], pipeline_steps: Sequence[int]
) -> str:
    """What a check makes of a failure that a step before it may be the reason of, and what it
    notes for the steps behind."""
    n = command.step
    why = shell_test(command.unknown_if, known, pipeline_steps)
    withheld = "[ $o_how = done ]" if command.desired_state is None else '[ "$o_moved" ]'
    if command.desired_state is not None:
        why = f'[ "$o_status" != {EXIT_MISUSED} ] && {{ [ "$o_open" ] || {why}; }}'
    elif not command.check_mode:
        withheld = "false"
    return (
        f"case $o_failed$o_how in 1gone) ;;"
        f"1*) if {why};then o_failed={UNKNOWN_FLAG} o_f{n}= o_c{n}= o_w{n}=1;fi;;"
        f"0*) if {withheld};then o_w{n}=1;fi;;esac;"
    )


def _add_text(texts: list[bytes], text: str) -> str:
    """Add a text and return how the control part refers to it."""
    texts.append(escape_printf(printf_word(text)))
    return f'"${{{len(texts)}}}"'


@cache
def _quoted_source(text: str) -> bytes:
    """Return a function's text, which is sent to every host, as a word of the segment."""
    return escape_printf(printf_word(text))
