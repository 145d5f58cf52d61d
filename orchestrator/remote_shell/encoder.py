"""Encoding of pipelines: commands as one shell command that calls the bootstrap's functions.

    run_pipeline 'CONTROL'

``CONTROL`` sets its arguments to the texts of the commands and says what to do with them. It is
quoted as described in ``quoting.py``, and begins with a letter without meaning: the letter must
not be the name of a command, in case a truncated stream leaves it alone at the beginning of a line.

Conditions become shell tests. A step of an earlier pipeline is known, so its condition becomes
``true`` or ``false``. A step of the same pipeline is evaluated on the host, by variables that the
pipeline sets: ``o_sN`` (exit status), ``o_cN`` (changed), ``o_fN`` (failed), ``o_kN`` (skipped),
``o_wN`` (withheld by check mode). A variable is empty if the state does not apply.

A step normally gets its own process group, so that it can be killed without the background
processes of earlier steps, and its own shell, in which nothing else is defined. Both together take
five times as long as a subshell. A text that leaves no process behind needs no group, and a text
that means the same in every shell needs no shell: it runs in a subshell of the session's shell. If
it is a single command, that process becomes the command's own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache, lru_cache
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
from orchestrator.remote_shell.bootstrap import alarm_seconds
from orchestrator.remote_shell.folder_script import folder_script
from orchestrator.remote_shell.module_protocol import (
    EXIT_CHANGED,
    EXIT_MISUSED,
    EXIT_UNSETTLED,
    EXIT_WOULD_CHANGE,
    module_variables,
    report_marker,
)
from orchestrator.remote_shell.plain_commands import leaves_no_process, single_command
from orchestrator.remote_shell.quoting import escape_printf, printf_word

_MAX_CACHED_TEXTS = 256  # the texts of a task are often the same on all hosts
STATE_VARIABLES = {"changed": "o_c", "failed": "o_f", "skipped": "o_k", "withheld": "o_w"}
_OPERATORS = {"==": "-eq", "!=": "-ne", "<": "-lt", "<=": "-le", ">": "-gt", ">=": "-ge"}


class KnownStepState(Struct, frozen=True):
    """The state of a finished step."""

    exit_status: int | None = None
    changed: bool = False
    failed: bool = False
    skipped: bool = False
    withheld: bool = False


def shell_test(
    condition: Condition, known: Mapping[int, KnownStepState], pipeline_steps: Collection[int]
) -> str:
    """Return a shell command that exits with 0 if and only if the condition holds.

    ``pipeline_steps`` are the preceding steps of the same pipeline; they take precedence over
    ``known``. A step in neither did not run: none of its states holds and it has no exit status.
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
    """Return a number in the range of shells that compares with any exit status as this one."""
    return min(max(status, -1), 256)


_PORTABLE = lazy_regex(r"(?:[A-Za-z0-9_./:=,@%+~ \"'|<;()\[\]{}!*?^#\n-]|&&|>&[0-9]|>)*")
"""Text without jobs, escapes and expansions other than patterns and ~."""

_WORD = lazy_regex(r"[A-Za-z0-9_.:-]+")

_INLINE_FORMS = lazy_regex(r"\bset [-+]e\b|\bcase \$\? in\b|\bexport [A-Za-z_][A-Za-z0-9_]*=")
"""Constructs allowed in addition: those of a generated guard, and exports."""

_SESSION_BUILTINS = frozenset(
    ". bg declare export fg hash jobs kill pkill set source times trap typeset wait".split()
)
"""Commands that report on their shell, or act on its jobs or process group."""


def runs_inline(command: StepCommand) -> bool:
    """Return True if the command's text runs in the session's shell."""
    if command.stdin is not None or not _may_run_inline(command):
        return False
    if command.desired_state is not None:
        return command.spawns_no_daemon
    if not is_portable_shell(command.text):
        return False
    return command.spawns_no_daemon or leaves_no_process(command.text)


def guard_runs_inline(command: StepCommand) -> bool:
    """Return True if the command's guard runs in the session's shell; a guard leaves no process."""
    return _may_run_inline(command) and is_portable_shell(command.guard)


def _may_run_inline(command: StepCommand) -> bool:
    # a timeout kills the process group, which would be the whole session
    return command.shell == "sh" and command.timeout is None and command.folder is None


@lru_cache(_MAX_CACHED_TEXTS)
def is_portable_shell(text: str) -> bool:
    """Return True if the text means the same in every shell.

    The functions that the session's shell defines must not change its meaning either.
    """
    text = _INLINE_FORMS.sub(" ", text)
    if not _PORTABLE.fullmatch(text):
        return False
    # a word may be hidden by quotes inside it
    words = frozenset(_WORD.findall(text) + _WORD.findall(re.sub("['\"]", "", text)))
    return words.isdisjoint(_SESSION_BUILTINS) and words.isdisjoint(_defined_names())


@cache
def _defined_names() -> frozenset[str]:
    bootstrap = Path(__file__).with_name("bootstrap.sh").read_text("utf-8")
    return module_protocol.function_names() | module_protocol.defined_functions(bootstrap)


UNKNOWN_FLAG = "2"
"""Replaces a step's failure flag 1 if check mode cannot know whether a run would fail."""

_SHELL_NAME = lazy_regex(r"[A-Za-z0-9_./+-]+\Z")


def encode_pipeline(
    commands: Sequence[StepCommand],
    known: Mapping[int, KnownStepState],
    nonce: str = "",
    *,
    installed: dict[str, str] | None = None,
) -> bytes:
    """Return the bytes that make a session's shell run these commands until the end or a failure.

    ``known`` are the finished steps of this task. ``installed`` maps the names of module functions
    to the session's variables that contain them; new ones are added. Raises ValueError for a NUL in
    a text, for an invalid shell name, and for a duplicate step number.
    """
    texts: list[bytes] = []
    pipeline_steps: list[int] = []
    function_variables = {} if installed is None else installed
    # before all steps, because a failed step ends the pipeline
    control = ""
    prefixes: dict[int, str] = {}
    for command in commands:
        control += _install_module_functions(command, texts, function_variables, prefixes)
    for command in commands:
        if command.step in pipeline_steps:
            raise ValueError(f"step {command.step} is twice in one pipeline")
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
    """Return the control text that defines a module's functions for the rest of the session.

    The prefix of the step's own text is stored in ``prefixes``.
    """
    if command.desired_state is None:
        return ""
    control, prefix = "", ""
    for name, source in module_protocol.script_parts(command.text):
        if name not in function_variables:
            function_variables[name] = f"o_m{len(function_variables)}"
            texts.append(_quoted_source(source))
            variable = function_variables[name]
            control += f'{variable}="${{{len(texts)}}}";[ "$o_leader" != $$ ]||eval "${variable}";'
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
    """Return the control text of one command, which also resets the step's variables."""
    n = command.step
    reset = f"o_s{n}= o_c{n}= o_f{n}={f' o_w{n}=' if command.effects else ''} o_k{n}="
    run = f"{reset};"
    run += (
        f"begin_step {n}{'' if command.timeout is None else ' ' + alarm_seconds(command.timeout)};"
    )
    run += (
        _encode_launch(command, texts, nonce, prefix)
        + _encode_conditions(command, known, [*pipeline_steps, n])
        + "end_step;"
    )
    if not command.ignore_failure:
        run += "[ $o_failed != 1 ] || break;"
    if command.when == ConstantCondition(True):
        return run
    skipped = f"{reset}1;skip_step {n};"
    return f"if {shell_test(command.when, known, pipeline_steps)};then {run}else {skipped}fi;"


def _encode_launch(command: StepCommand, texts: list[bytes], nonce: str, prefix: str) -> str:
    if not _SHELL_NAME.match(command.shell):
        raise ValueError(f"{command.shell!r} is not a valid shell name")
    call = f'{command.shell} "{_shell_options(command.shell)}"'
    run = "" if command.shell == "sh" else f"require_command {command.shell};"
    if command.guard:
        guard = _add_text(texts, f"exec >/dev/null 2>&1;{command.guard}")
        if guard_runs_inline(command):
            run += _inline_job(f'eval " "{guard}', f"launch {call} {guard}")
        else:
            run += f"launch {call} {guard};"
        run += "judge_guard;"
    if command.check_mode and command.desired_state is None:
        return run + "[ $o_how != done ] || o_status=0;"
    if command.folder is not None:
        script = folder_script(command.text, command.folder, report_marker(command.step, nonce))
        text, functions = _add_text(texts, script), ""
    elif command.desired_state is None:
        text, functions = _add_text(texts, command.text), ""
    else:
        text = _add_text(texts, f"{module_variables(command, nonce)}\n{command.text}")
        functions = prefix
    if runs_inline(command):
        alone = single_command(command.text) if command.desired_state is None else None
        job = alone or f'eval " "{text}'
        return run + _inline_job(job, f'run_body {call} "{functions}"{text}')
    run += f'run_body {call} "{functions}"{text}'
    if command.stdin is not None:
        # the here-document adds a newline
        run += f" {_add_text(texts, command.stdin.removesuffix(chr(10)))}"
    return run + ";"


def _inline_job(job: str, elsewhere: str) -> str:
    """Return the control text that runs a job here, or elsewhere if the shell leads no group.

    The blank before a text keeps it from being taken for an option of ``eval``. Without ``eval``,
    the shell that is forked for the job may become the command.
    """
    here = f"{{ exec </dev/null 3<&-;set -e;{job}; }}& await"
    return f"if may_start_here;then {here};else {elsewhere};fi;"


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
            f"o_status=0 o_moved=1;;done{EXIT_UNSETTLED}) o_status=1 o_open=1;;esac;"
            f"o_c{n}=$o_moved;"
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
    """Return the control text for check mode: whether a failure counts and what later steps see.

    A failure does not count if a step that check mode withheld may be its cause.
    """
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
    """Add a text and return how the control text refers to it."""
    texts.append(escape_printf(printf_word(text)))
    return f'"${{{len(texts)}}}"'


@cache
def _quoted_source(text: str) -> bytes:
    """Return a function's text as a quoted word; cached because every host receives it."""
    return escape_printf(printf_word(text))
