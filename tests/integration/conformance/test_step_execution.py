"""The environment of a step, and its results."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

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
from orchestrator.remote_shell import CommandResult, EndReason, ShellSession
from tests.support.session_recording import RecordingChannel, run_pipeline

NASTY = "printf '%s' 'it'\\''s \\n \"$x\" `y` %d \\\\ \t é \x01\x7f\r\n' # no newline at the end"


def test_prelude_and_first_segment_cost_one_round_trip(
    session: ShellSession, channel: RecordingChannel
) -> None:
    recording = run_pipeline(session, *(StepCommand(n, f"echo {n}") for n in range(1, 13)))
    assert [recording.stdout_of(n) for n in range(1, 13)] == [b"%d\n" % n for n in range(1, 13)]
    assert recording.order == [(what, n) for n in range(1, 13) for what in ("started", "ended")]
    assert session.round_trips == 1
    run_pipeline(session, StepCommand(13, "true"))
    assert session.round_trips == 2


def test_output_arrives_as_written_on_both_streams(session: ShellSession) -> None:
    text = r"printf 'a\377\000\r\033[1m'; printf 'b\n\nc\200' >&2"
    recording = run_pipeline(session, StepCommand(1, text), StepCommand(2, "printf x"))
    assert (recording.stdout_of(1), recording.stderr_of(1)) == (b"a\xff\0\r\x1b[1m", b"b\n\nc\x80")
    assert (recording.stdout_of(2), recording.stderr_of(2)) == (b"x", b"")


def test_steps_that_leave_nothing_behind_run_as_others_do(session: ShellSession) -> None:
    recording = run_pipeline(
        session,
        StepCommand(1, "pwd"),
        StepCommand(
            2,
            "cd /; umask 0; echo a; echo b >&2; exit 3",
            spawns_no_daemon=True,
            ignore_failure=True,
        ),
        StepCommand(3, "false\necho no", spawns_no_daemon=True, ignore_failure=True),
        StepCommand(
            4, "pwd; cat; ! echo c | grep -q d", spawns_no_daemon=True, guard="cd /; test -d etc"
        ),
    )
    assert (recording.stdout_of(2), recording.stderr_of(2)) == (b"a\n", b"b\n")
    assert recording.stdout_of(4) == recording.stdout_of(1)
    assert [recording.endings[n].exit_status for n in (1, 2, 3, 4)] == [0, 3, 1, 0]


def test_failing_step_ends_the_segment(session: ShellSession) -> None:
    recording = run_pipeline(session, StepCommand(1, "exit 3"), StepCommand(2, "echo no"))
    assert recording.endings == {1: CommandResult(EndReason.DONE, 3, failed=True)}
    assert run_pipeline(session, StepCommand(2, "true")).endings == {
        2: CommandResult(EndReason.DONE, 0, changed=True)
    }


def test_ignored_failure_does_not_end_the_segment(session: ShellSession) -> None:
    recording = run_pipeline(
        session, StepCommand(1, "exit 3", ignore_failure=True), StepCommand(2, "true")
    )
    assert recording.endings[1] == CommandResult(EndReason.DONE, 3, failed=True)
    assert recording.endings[2] == CommandResult(EndReason.DONE, 0, changed=True)


def test_step_stops_at_its_first_failing_line(session: ShellSession) -> None:
    texts = ("false; echo no", "false\necho no", "(exit 1)\necho no\n")
    recording = run_pipeline(
        session, *(StepCommand(n, text, ignore_failure=True) for n, text in enumerate(texts, 1))
    )
    assert [recording.stdout_of(n) for n in (1, 2, 3)] == [b"", b"", b""]
    assert [recording.endings[n].exit_status for n in (1, 2, 3)] == [1, 1, 1]


def test_exit_statuses_are_told_as_they_are(session: ShellSession) -> None:
    statuses = (0, 1, 2, 126, 127, 128, 129, 255)
    recording = run_pipeline(
        session, *(StepCommand(n, f"exit {n}", ignore_failure=True) for n in statuses)
    )
    assert [recording.endings[n].exit_status for n in statuses] == list(statuses)


def test_syntax_error_ends_its_own_step_only(session: ShellSession) -> None:
    texts = ("if", "echo '", ") }", "done; esac", "cat <<E\n$(")
    commands = [StepCommand(n, text, ignore_failure=True) for n, text in enumerate(texts, 1)]
    recording = run_pipeline(session, *commands, StepCommand(9, "echo fine"))
    assert recording.stdout_of(9) == b"fine\n"
    assert all(recording.endings[c.step].failed for c in commands[:4])
    recording = run_pipeline(session, StepCommand(1, "("), StepCommand(2, "echo no"))
    assert list(recording.endings) == [1]
    assert recording.stderr_of(1)


def test_step_that_reads_stdin_cannot_eat_the_session(session: ShellSession) -> None:
    recording = run_pipeline(
        session,
        StepCommand(1, "cat; read x || echo nothing; readlink /proc/$$/fd/0"),
        StepCommand(2, "echo on"),
    )
    assert recording.stdout_of(1) == b"nothing\n/dev/null\n"
    assert recording.stdout_of(2) == b"on\n"


def test_stdin_arrives_with_a_final_newline(session: ShellSession) -> None:
    stdins = ("a\n", "a", "", "\n\n", "it's $x `y` \\ \\n é\n E\nEND\n", NASTY)
    recording = run_pipeline(
        session, *(StepCommand(n, "cat", stdin=stdin) for n, stdin in enumerate(stdins, 1))
    )
    for n, stdin in enumerate(stdins, 1):
        assert recording.stdout_of(n) == (stdin if stdin.endswith("\n") else stdin + "\n").encode()


def test_big_texts_and_stdins_arrive_whole(session: ShellSession) -> None:
    text = "".join(f": it\\'s line {n}\n" for n in range(20_000))
    command = StepCommand(1, text + "wc -c; exit 7", stdin="x" * 300_000)
    recording = run_pipeline(session, command)
    assert (recording.stdout_of(1).strip(), recording.endings[1].exit_status) == (b"300001", 7)


def test_child_shell_receives_the_text_byte_for_byte(session: ShellSession, tmp_path: Path) -> None:
    texts = ("", "\n", "\n\n#", "a\\", "a\n\n\n", "é\n'\"\\\\n\\0101%s", NASTY)
    reader = tmp_path / "reader"
    reader.write_text(f"#!/bin/sh\ncat >{tmp_path}/$$; echo $$\n")
    reader.chmod(0o755)
    commands = [StepCommand(n, text, shell=str(reader)) for n, text in enumerate(texts, 1)]
    recording = run_pipeline(session, *commands)
    for command in commands:
        received = tmp_path / recording.stdout_of(command.step).decode().strip()
        assert received.read_bytes() == b"exec </dev/null;" + command.text.encode()


def test_text_is_the_whole_script(session: ShellSession) -> None:
    recording = run_pipeline(session, StepCommand(1, f'echo "$0" "$#" "$-"; {NASTY}'))
    first, rest = recording.stdout_of(1).split(b"\n", 1)
    assert first.split()[:2] == [b"sh", b"0"]
    assert b"e" in first.split()[2]
    assert rest == 'it\'s \\n "$x" `y` %d \\\\ \t é \x01\x7f\r\n'.encode()


def test_errors_name_the_line_of_the_text(session: ShellSession) -> None:
    recording = run_pipeline(session, StepCommand(1, "true\n\nnosuchcommand"))
    assert b"nosuchcommand" in recording.stderr_of(1)
    assert b"3" in recording.stderr_of(1).split(b"nosuch")[0]


def test_steps_do_not_touch_one_another(session: ShellSession, tmp_path: Path) -> None:
    look = "pwd; umask; trap; echo ${x-none} ${o_nonce-none} ${o_pid-none}; env | grep -c ^o_ || :"
    change = f"cd {tmp_path}; umask 077; trap : TERM; export x=1; set -f; exec 5>&1"
    before = run_pipeline(
        session, StepCommand(1, look), StepCommand(2, change), StepCommand(3, look)
    )
    assert before.endings[3].exit_status == 0
    assert before.stdout_of(1) == before.stdout_of(3)
    assert before.stdout_of(1).endswith(b"none none none\n0\n")


def test_steps_begin_at_home(session: ShellSession) -> None:
    recording = run_pipeline(
        session, StepCommand(1, "pwd"), StepCommand(2, 'cd; pwd; [ "$PWD" = "$(cd ~; pwd)" ]')
    )
    assert recording.stdout_of(1) == recording.stdout_of(2)
    assert recording.endings[2].exit_status == 0


FDS = "ls /proc/self/fd | sort -n | tr '\\n' ' '"


def test_steps_inherit_no_file_descriptors(session: ShellSession) -> None:
    recording = run_pipeline(
        session,
        StepCommand(1, FDS),
        StepCommand(2, FDS, stdin="x"),
        StepCommand(3, FDS, timeout=60, guard=f'[ "$({FDS})" = "0 1 2 3 " ]'),
    )
    assert {recording.stdout_of(n) for n in (1, 2, 3)} == {b"0 1 2 3 "}


def test_bash_steps_inherit_no_file_descriptors(session: ShellSession) -> None:
    assert run_pipeline(session, StepCommand(1, FDS, shell="bash")).stdout_of(1) == b"0 1 2 3 "


def test_signals_have_their_usual_effect_in_steps(session: ShellSession) -> None:
    recording = run_pipeline(
        session,
        StepCommand(
            1,
            "for s in HUP TERM PIPE USR1 USR2 ALRM; do\n"
            'sh -c "kill -$s \\$\\$; echo survived $s" || :\ndone',
        ),
    )
    assert recording.stdout_of(1) == b""


def test_bash_steps_see_failures_left_of_a_pipe(session: ShellSession) -> None:
    text = 'echo "${BASH_VERSION:+bash} $0"; false | true; echo no'
    recording = run_pipeline(session, StepCommand(1, text, shell="bash"))
    assert (recording.stdout_of(1), recording.endings[1].exit_status) == (b"bash bash\n", 1)


def test_missing_shell_is_a_clear_failure(session: ShellSession) -> None:
    command = StepCommand(
        1,
        "echo no",
        shell="nosuchshell",
        guard="false",
        failed_condition=ConstantCondition(False),
        ignore_failure=True,
    )
    recording = run_pipeline(session, command, StepCommand(2, "echo on"))
    ending = recording.endings[1]
    assert (ending.end_reason, ending.exit_status, ending.failed) == (EndReason.DONE, 127, True)
    assert "shell" in ending.reason
    assert b"nosuchshell" in recording.stderr_of(1)
    assert recording.stdout_of(2) == b"on\n"


def test_guard_decides_and_is_not_heard(session: ShellSession) -> None:
    recording = run_pipeline(
        session,
        StepCommand(1, "echo one", guard="echo noise; echo noise >&2; cd /; exit 1"),
        StepCommand(2, "echo two", guard="echo noise; cat; cd /; false || true"),
        StepCommand(3, "echo three", guard="false; true"),
    )
    assert (recording.endings[1].end_reason, recording.endings[1].exit_status) == (
        EndReason.SKIPPED,
        None,
    )
    assert recording.endings[2] == CommandResult(EndReason.DONE, 0, changed=True)
    assert recording.endings[3].end_reason is EndReason.SKIPPED
    assert (recording.stdout_of(1), recording.stdout_of(2), recording.stdout_of(3)) == (
        b"",
        b"two\n",
        b"",
    )
    assert (recording.stderr_of(1), recording.stderr_of(2)) == (b"", b"")


def test_guard_that_gives_no_answer_fails_its_step(session: ShellSession) -> None:
    recording = run_pipeline(
        session,
        StepCommand(1, "echo one", guard="exit 4", ignore_failure=True),
        StepCommand(2, "echo two", guard="if then", ignore_failure=True),
        StepCommand(3, "echo three", guard="exit 2", failed_condition=ConstantCondition(False)),
        StepCommand(4, "echo four"),
    )
    assert all(recording.endings[n].failed and recording.stdout_of(n) == b"" for n in (1, 2, 3))
    assert "exited with 4" in recording.endings[1].reason
    assert 4 not in recording.endings


def test_fails_and_changes_are_judged_on_the_host(session: ShellSession) -> None:
    recording = run_pipeline(
        session,
        StepCommand(
            1,
            "exit 2",
            failed_condition=ExitStatusCondition(1, ">", 2),
            changed_condition=ExitStatusCondition(1, "==", 2),
        ),
        StepCommand(
            2,
            "exit 2",
            failed_condition=ExitStatusCondition(2, ">", 2),
            changed_condition=ExitStatusCondition(2, "!=", 2),
        ),
        StepCommand(3, "true", changed_condition=ConstantCondition(False)),
        StepCommand(4, "kill -9 $$", failed_condition=ConstantCondition(False)),
        StepCommand(
            5,
            "true",
            failed_condition=ConstantCondition(True),
            changed_condition=ConstantCondition(True),
            ignore_failure=True,
        ),
        StepCommand(6, "true", failed_condition=ExitStatusCondition(6, "==", 0)),
        StepCommand(7, "true"),
    )
    assert recording.endings == {
        1: CommandResult(EndReason.DONE, 2, changed=True),
        2: CommandResult(EndReason.DONE, 2),
        3: CommandResult(EndReason.DONE, 0),
        4: CommandResult(EndReason.DONE, 137, changed=True),
        5: CommandResult(EndReason.DONE, 0, failed=True),
        6: CommandResult(EndReason.DONE, 0, failed=True),
    }


FIRST = (
    StepCommand(1, "exit 3", ignore_failure=True),
    StepCommand(2, "true"),
    StepCommand(3, "true", changed_condition=ConstantCondition(False)),
    StepCommand(4, "echo no", when=ConstantCondition(False)),
    StepCommand(5, "echo no", guard="false"),
    StepCommand(6, "sleep 60", timeout=0.05, ignore_failure=True),
)
HOLD: tuple[Condition, ...] = (
    StepStateCondition(1, "failed"),
    ExitStatusCondition(1, "==", 3),
    ExitStatusCondition(1, "<=", 3),
    ExitStatusCondition(1, ">", 2),
    NotCondition(ExitStatusCondition(1, "<", 3)),
    ExitStatusCondition(1, "<", 10**30),
    ExitStatusCondition(1, ">=", -(10**30)),
    StepStateCondition(2, "changed"),
    NotCondition(StepStateCondition(3, "changed")),
    StepStateCondition(4, "skipped"),
    ExitStatusCondition(4, "!=", 0),
    NotCondition(ExitStatusCondition(4, "==", 0)),
    StepStateCondition(5, "skipped"),
    StepStateCondition(6, "failed"),
    NotCondition(ExitStatusCondition(6, "<", 300)),
    NotCondition(StepStateCondition(77, "failed")),
    ExitStatusCondition(77, "!=", 0),
    AllOf(()),
    NotCondition(AnyOf(())),
    NotCondition(
        NotCondition(
            AllOf(
                (
                    StepStateCondition(1, "failed"),
                    NotCondition(
                        AnyOf((StepStateCondition(3, "changed"), StepStateCondition(2, "skipped")))
                    ),
                )
            )
        )
    ),
    AnyOf(
        (
            StepStateCondition(3, "failed"),
            NotCondition(AllOf((StepStateCondition(1, "failed"), StepStateCondition(2, "failed")))),
        )
    ),
)


@pytest.mark.parametrize("apart", [False, True], ids=["one-segment", "two-segments"])
def test_conditions_see_earlier_steps(session: ShellSession, apart: bool) -> None:
    rest: list[StepCommand] = []
    for n, condition in enumerate(HOLD):
        rest.append(StepCommand(100 + n, ":", when=condition))
        rest.append(StepCommand(200 + n, ":", when=NotCondition(condition)))
    if apart:
        run_pipeline(session, *FIRST)
        recording = run_pipeline(session, *rest)
    else:
        recording = run_pipeline(session, *FIRST, *rest)
    wrong = [
        c for n, c in enumerate(HOLD) if recording.endings[100 + n].end_reason is not EndReason.DONE
    ]
    wrong += [
        NotCondition(c)
        for n, c in enumerate(HOLD)
        if recording.endings[200 + n].end_reason is not EndReason.SKIPPED
    ]
    assert not wrong
    assert ("started", 200) not in recording.order


def test_what_this_side_judged_wins_over_what_the_host_saw(session: ShellSession) -> None:
    run_pipeline(session, StepCommand(1, "true"))
    session.override_state(1, changed=False, failed=True)
    recording = run_pipeline(
        session,
        StepCommand(
            2,
            "echo a",
            when=AllOf(
                (
                    StepStateCondition(1, "failed"),
                    NotCondition(StepStateCondition(1, "changed")),
                    ExitStatusCondition(1, "==", 0),
                )
            ),
        ),
    )
    assert recording.stdout_of(2) == b"a\n"
    assert session.round_trips == 2


def test_new_task_knows_nothing_of_the_last_one(session: ShellSession) -> None:
    run_pipeline(
        session,
        StepCommand(1, "exit 3", ignore_failure=True),
        StepCommand(2, ":", when=ConstantCondition(False)),
    )
    session.begin_task()
    recording = run_pipeline(
        session,
        StepCommand(
            3,
            ":",
            when=AnyOf(
                (
                    StepStateCondition(1, "failed"),
                    StepStateCondition(2, "skipped"),
                    ExitStatusCondition(1, "==", 3),
                )
            ),
        ),
        StepCommand(1, ":"),
        StepCommand(4, ":", when=StepStateCondition(1, "failed")),
        StepCommand(
            5, ":", when=AllOf((StepStateCondition(1, "changed"), ExitStatusCondition(1, "==", 0)))
        ),
    )
    hows = [recording.endings[n].end_reason for n in (3, 4, 5)]
    assert hows == [EndReason.SKIPPED, EndReason.SKIPPED, EndReason.DONE]


def test_output_of_many_lines_is_complete(session: ShellSession) -> None:
    text = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    recording = run_pipeline(session, StepCommand(1, text))
    whole = b"".join(b"line %d\n" % n for n in range(20_000))
    assert hashlib.sha1(recording.stdout_of(1)).digest() == hashlib.sha1(whole).digest()
