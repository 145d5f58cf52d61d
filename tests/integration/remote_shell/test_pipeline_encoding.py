"""Segments and conditions as text."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from orchestrator.remote_shell.bootstrap import alarm_seconds, bootstrap_script
from orchestrator.remote_shell.encoder import KnownStepState, encode_pipeline, shell_test
from orchestrator.remote_shell.quoting import escape_printf
from tests.support.session_recording import SHELLS

SCRIPT = Path(encode_pipeline.__code__.co_filename).with_name("bootstrap.sh")
CONDITION_SHELLS = [[SHELLS["dash"]], [SHELLS["bash"], "--posix"], [SHELLS["busybox"], "sh"]]

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(texts, min_size=1), texts)
def test_segment_is_one_line_and_one_word_without_quotes(scripts: list[str], other: str) -> None:
    commands = [StepCommand(n, text, stdin=other, guard=other) for n, text in enumerate(scripts, 1)]
    data = encode_pipeline(commands, {})
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    before, quoted, behind = data.rstrip(b"\n").split(b"'")
    assert (before, quoted[:1], behind) == (b"run_pipeline ", b"T", b"")


@settings(max_examples=15)
@given(st.lists(texts | st.text("\\'0n1\n\r%c$`"), min_size=40, max_size=40))
def test_printf_turns_escaped_text_back(scripts: list[str]) -> None:
    for shell in CONDITION_SHELLS:
        program = b"".join(
            b"printf %%b '%s'; printf '\\0'\n" % escape_printf(text) for text in scripts
        )
        output = subprocess.run(shell, input=program, capture_output=True, check=True).stdout
        assert output.split(b"\0")[:-1] == [text.encode() for text in scripts]


def test_bytes_that_are_no_utf_8_survive() -> None:
    text = os.fsdecode(b"echo \xff\xfe")
    assert escape_printf(text) == b"echo \xff\xfe"


@pytest.mark.parametrize(
    "command",
    [
        StepCommand(1, "a\0b"),
        StepCommand(1, "a", stdin="\0"),
        StepCommand(1, "a", guard="\0"),
        StepCommand(1, "a", shell=""),
        StepCommand(1, "a", shell="sh -c"),
        StepCommand(1, "a", shell="sh;reboot"),
        StepCommand(1, "a", shell="sh\n"),
    ],
)
def test_what_cannot_be_sent_is_refused(command: StepCommand) -> None:
    with pytest.raises(ValueError, match=r"NUL|shell"):
        encode_pipeline([command], {})


def test_step_s_number_stands_once_in_a_segment() -> None:
    with pytest.raises(ValueError, match="twice"):
        encode_pipeline([StepCommand(1, "a"), StepCommand(1, "b")], {})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (5, "5 5"),
        (0.25, "0.25 1"),
        (60.0, "60 60"),
        (1.5, "1.5 2"),
        (0, "0.001 1"),
        (3600, "3600 3600"),
    ],
)
def test_seconds_are_written_for_every_sleep(value: float, words: str) -> None:
    assert alarm_seconds(value) == words


def test_prelude_is_one_line_without_its_comments_and_the_whole_nonce() -> None:
    data = bootstrap_script("0123456789abcdef", 60)
    assert data.count(b"\n") == 1
    assert b"0123456789abcdef" not in data
    assert b"01234567''89abcdef" in data
    left = data.replace(b"printf %b", b"").replace(b"printf %s", b"").replace(b"${1%.}", b"")
    assert b"%" not in left
    comments = [line.strip() for line in SCRIPT.read_text().splitlines() if "# " in line[:9]]
    assert comments
    assert not [line for line in comments if line.encode() in data]


whats = st.sampled_from(["changed", "failed", "skipped"])
operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
statuses = st.sampled_from([-1, 0, 1, 2, 3, 255, 10**30, -(10**30)])
leaves: st.SearchStrategy[Condition] = st.one_of(
    st.booleans().map(ConstantCondition),
    st.builds(StepStateCondition, st.integers(1, 4), whats),
    st.builds(ExitStatusCondition, st.integers(1, 4), operators, statuses),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(NotCondition),
        st.lists(inner, max_size=3).map(lambda of: AllOf(tuple(of))),
        st.lists(inner, max_size=3).map(lambda of: AnyOf(tuple(of))),
    ),
    max_leaves=8,
)
ran = st.builds(
    KnownStepState,
    st.sampled_from([None, 0, 1, 3, 255]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


def _is_met(condition: Condition, known: dict[int, KnownStepState]) -> bool:
    match condition:
        case ConstantCondition(value):
            return value
        case StepStateCondition(step, what):
            return bool(getattr(known.get(step, KnownStepState()), what))
        case ExitStatusCondition(step, op, status):
            found = known.get(step, KnownStepState()).exit_status
            return op == "!=" if found is None else bool(eval(f"{found} {op} {status}"))
        case NotCondition(of):
            return not _is_met(of, known)
        case AllOf(of):
            return all(_is_met(each, known) for each in of)
        case AnyOf(of):
            return any(_is_met(each, known) for each in of)


@settings(max_examples=20)
@given(
    st.lists(conditions, min_size=20, max_size=20),
    st.dictionaries(st.integers(1, 4), ran),
    st.sets(st.integers(1, 4)),
)
def test_shells_judge_conditions_as_they_are_meant(
    many: list[Condition], known: dict[int, KnownStepState], local: set[int]
) -> None:
    # steps that are here are variables, and this side knows something else of them
    program = ""
    for step in local:
        it = known.get(step, KnownStepState())
        status = "" if it.exit_status is None else it.exit_status
        flags = "".join(
            f"{name}{step}={1 if so else ''};"
            for name, so in (("o_c", it.changed), ("o_f", it.failed), ("o_k", it.skipped))
        )
        program += f"o_s{step}={status};{flags}\n"
    message = {
        step: KnownStepState(77, True, True, True) if step in local else it
        for step, it in known.items()
    }
    for condition in many:
        program += f"if {shell_test(condition, message, local)};then echo yes;else echo no;fi;\n"
    expected = ["yes" if _is_met(condition, known) else "no" for condition in many]
    for shell in CONDITION_SHELLS:
        output = subprocess.run(shell, input=program, capture_output=True, text=True, check=True)
        assert output.stdout.split() == expected
        assert output.stderr == ""
