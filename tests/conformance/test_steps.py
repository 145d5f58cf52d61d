"""What a step finds, and what comes of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orchestrator.model.command import Command
from orchestrator.model.condition import All, Always, Any, Condition, Exit, Is, Not
from orchestrator.remote_shell import Ending, How, Session
from tests.session.heard import Overheard, run

NASTY = "printf '%s' 'it'\\''s \\n \"$x\" `y` %d \\\\ \t é \x01\x7f\r\n' # no newline at the end"


def test_prelude_and_first_segment_cost_one_round_trip(
    session: Session, channel: Overheard
) -> None:
    heard = run(session, *(Command(n, f"echo {n}") for n in range(1, 13)))
    assert [heard.out(n) for n in range(1, 13)] == [b"%d\n" % n for n in range(1, 13)]
    assert heard.order == [(what, n) for n in range(1, 13) for what in ("started", "ended")]
    assert session.round_trips == 1
    run(session, Command(13, "true"))
    assert session.round_trips == 2


def test_output_arrives_as_written_on_both_streams(session: Session) -> None:
    text = r"printf 'a\377\000\r\033[1m'; printf 'b\n\nc\200' >&2"
    heard = run(session, Command(1, text), Command(2, "printf x"))
    assert (heard.out(1), heard.err(1)) == (b"a\xff\0\r\x1b[1m", b"b\n\nc\x80")
    assert (heard.out(2), heard.err(2)) == (b"x", b"")


def test_steps_that_leave_nothing_behind_run_as_others_do(session: Session) -> None:
    heard = run(
        session,
        Command(1, "pwd"),
        Command(2, "cd /; umask 0; echo a; echo b >&2; exit 3", contained=True, ignore=True),
        Command(3, "false\necho no", contained=True, ignore=True),
        Command(4, "pwd; cat; ! echo c | grep -q d", contained=True, guard="cd /; test -d etc"),
    )
    assert (heard.out(2), heard.err(2)) == (b"a\n", b"b\n")
    assert heard.out(4) == heard.out(1)
    assert [heard.endings[n].exit_status for n in (1, 2, 3, 4)] == [0, 3, 1, 0]


def test_failing_step_ends_the_segment(session: Session) -> None:
    heard = run(session, Command(1, "exit 3"), Command(2, "echo no"))
    assert heard.endings == {1: Ending(How.DONE, 3, failed=True)}
    assert run(session, Command(2, "true")).endings == {2: Ending(How.DONE, 0, changed=True)}


def test_ignored_failure_does_not_end_the_segment(session: Session) -> None:
    heard = run(session, Command(1, "exit 3", ignore=True), Command(2, "true"))
    assert heard.endings[1] == Ending(How.DONE, 3, failed=True)
    assert heard.endings[2] == Ending(How.DONE, 0, changed=True)


def test_step_stops_at_its_first_failing_line(session: Session) -> None:
    texts = ("false; echo no", "false\necho no", "(exit 1)\necho no\n")
    heard = run(session, *(Command(n, text, ignore=True) for n, text in enumerate(texts, 1)))
    assert [heard.out(n) for n in (1, 2, 3)] == [b"", b"", b""]
    assert [heard.endings[n].exit_status for n in (1, 2, 3)] == [1, 1, 1]


def test_exit_statuses_are_told_as_they_are(session: Session) -> None:
    statuses = (0, 1, 2, 126, 127, 128, 129, 255)
    heard = run(session, *(Command(n, f"exit {n}", ignore=True) for n in statuses))
    assert [heard.endings[n].exit_status for n in statuses] == list(statuses)


def test_syntax_error_ends_its_own_step_only(session: Session) -> None:
    texts = ("if", "echo '", ") }", "done; esac", "cat <<E\n$(")
    commands = [Command(n, text, ignore=True) for n, text in enumerate(texts, 1)]
    heard = run(session, *commands, Command(9, "echo fine"))
    assert heard.out(9) == b"fine\n"
    assert all(heard.endings[c.step].failed for c in commands[:4])
    heard = run(session, Command(1, "("), Command(2, "echo no"))
    assert list(heard.endings) == [1]
    assert heard.err(1)


def test_step_that_reads_stdin_cannot_eat_the_session(session: Session) -> None:
    heard = run(
        session,
        Command(1, "cat; read x || echo nothing; readlink /proc/$$/fd/0"),
        Command(2, "echo on"),
    )
    assert heard.out(1) == b"nothing\n/dev/null\n"
    assert heard.out(2) == b"on\n"


def test_stdin_arrives_with_a_final_newline(session: Session) -> None:
    stdins = ("a\n", "a", "", "\n\n", "it's $x `y` \\ \\n é\n E\nEND\n", NASTY)
    heard = run(session, *(Command(n, "cat", stdin=stdin) for n, stdin in enumerate(stdins, 1)))
    for n, stdin in enumerate(stdins, 1):
        assert heard.out(n) == (stdin if stdin.endswith("\n") else stdin + "\n").encode()


def test_big_texts_and_stdins_arrive_whole(session: Session) -> None:
    text = "".join(f": it\\'s line {n}\n" for n in range(20_000))
    command = Command(1, text + "wc -c; exit 7", stdin="x" * 300_000)
    heard = run(session, command)
    assert (heard.out(1).strip(), heard.endings[1].exit_status) == (b"300001", 7)


def test_child_shell_receives_the_text_byte_for_byte(session: Session, tmp_path: Path) -> None:
    texts = ("", "\n", "\n\n#", "a\\", "a\n\n\n", "é\n'\"\\\\n\\0101%s", NASTY)
    reader = tmp_path / "reader"
    reader.write_text(f"#!/bin/sh\ncat >{tmp_path}/$$; echo $$\n")
    reader.chmod(0o755)
    commands = [Command(n, text, shell=str(reader)) for n, text in enumerate(texts, 1)]
    heard = run(session, *commands)
    for command in commands:
        received = tmp_path / heard.out(command.step).decode().strip()
        assert received.read_bytes() == b"exec </dev/null;" + command.text.encode()


def test_text_is_the_whole_script(session: Session) -> None:
    heard = run(session, Command(1, f'echo "$0" "$#" "$-"; {NASTY}'))
    first, rest = heard.out(1).split(b"\n", 1)
    assert first.split()[:2] == [b"sh", b"0"]
    assert b"e" in first.split()[2]
    assert rest == 'it\'s \\n "$x" `y` %d \\\\ \t é \x01\x7f\r\n'.encode()


def test_errors_name_the_line_of_the_text(session: Session) -> None:
    heard = run(session, Command(1, "true\n\nnosuchcommand"))
    assert b"nosuchcommand" in heard.err(1)
    assert b"3" in heard.err(1).split(b"nosuch")[0]


def test_steps_do_not_touch_one_another(session: Session, tmp_path: Path) -> None:
    look = "pwd; umask; trap; echo ${x-none} ${o_nonce-none} ${o_pid-none}; env | grep -c ^o_ || :"
    change = f"cd {tmp_path}; umask 077; trap : TERM; export x=1; set -f; exec 5>&1"
    before = run(session, Command(1, look), Command(2, change), Command(3, look))
    assert before.endings[3].exit_status == 0
    assert before.out(1) == before.out(3)
    assert before.out(1).endswith(b"none none none\n0\n")


def test_steps_begin_at_home(session: Session) -> None:
    heard = run(session, Command(1, "pwd"), Command(2, 'cd; pwd; [ "$PWD" = "$(cd ~; pwd)" ]'))
    assert heard.out(1) == heard.out(2)
    assert heard.endings[2].exit_status == 0


FDS = "ls /proc/self/fd | sort -n | tr '\\n' ' '"


def test_steps_inherit_no_file_descriptors(session: Session) -> None:
    heard = run(
        session,
        Command(1, FDS),
        Command(2, FDS, stdin="x"),
        Command(3, FDS, timeout=60, guard=f'[ "$({FDS})" = "0 1 2 3 " ]'),
    )
    assert {heard.out(n) for n in (1, 2, 3)} == {b"0 1 2 3 "}


def test_bash_steps_inherit_no_file_descriptors(session: Session) -> None:
    assert run(session, Command(1, FDS, shell="bash")).out(1) == b"0 1 2 3 "


def test_signals_have_their_usual_effect_in_steps(session: Session) -> None:
    heard = run(
        session,
        Command(
            1,
            "for s in HUP TERM PIPE USR1 USR2 ALRM; do\n"
            'sh -c "kill -$s \\$\\$; echo survived $s" || :\ndone',
        ),
    )
    assert heard.out(1) == b""


def test_bash_steps_see_failures_left_of_a_pipe(session: Session) -> None:
    text = 'echo "${BASH_VERSION:+bash} $0"; false | true; echo no'
    heard = run(session, Command(1, text, shell="bash"))
    assert (heard.out(1), heard.endings[1].exit_status) == (b"bash bash\n", 1)


def test_missing_shell_is_a_clear_failure(session: Session) -> None:
    command = Command(
        1, "echo no", shell="nosuchshell", guard="false", fails=Always(False), ignore=True
    )
    heard = run(session, command, Command(2, "echo on"))
    ending = heard.endings[1]
    assert (ending.how, ending.exit_status, ending.failed) == (How.DONE, 127, True)
    assert "shell" in ending.reason
    assert b"nosuchshell" in heard.err(1)
    assert heard.out(2) == b"on\n"


def test_guard_decides_and_is_not_heard(session: Session) -> None:
    heard = run(
        session,
        Command(1, "echo one", guard="echo noise; echo noise >&2; cd /; exit 1"),
        Command(2, "echo two", guard="echo noise; cat; cd /; false || true"),
        Command(3, "echo three", guard="false; true"),
    )
    assert (heard.endings[1].how, heard.endings[1].exit_status) == (How.SKIPPED, None)
    assert heard.endings[2] == Ending(How.DONE, 0, changed=True)
    assert heard.endings[3].how is How.SKIPPED
    assert (heard.out(1), heard.out(2), heard.out(3)) == (b"", b"two\n", b"")
    assert (heard.err(1), heard.err(2)) == (b"", b"")


def test_guard_that_gives_no_answer_fails_its_step(session: Session) -> None:
    heard = run(
        session,
        Command(1, "echo one", guard="exit 4", ignore=True),
        Command(2, "echo two", guard="if then", ignore=True),
        Command(3, "echo three", guard="exit 2", fails=Always(False)),
        Command(4, "echo four"),
    )
    assert all(heard.endings[n].failed and heard.out(n) == b"" for n in (1, 2, 3))
    assert "exited with 4" in heard.endings[1].reason
    assert 4 not in heard.endings


def test_fails_and_changes_are_judged_on_the_host(session: Session) -> None:
    heard = run(
        session,
        Command(1, "exit 2", fails=Exit(1, ">", 2), changes=Exit(1, "==", 2)),
        Command(2, "exit 2", fails=Exit(2, ">", 2), changes=Exit(2, "!=", 2)),
        Command(3, "true", changes=Always(False)),
        Command(4, "kill -9 $$", fails=Always(False)),
        Command(5, "true", fails=Always(True), changes=Always(True), ignore=True),
        Command(6, "true", fails=Exit(6, "==", 0)),
        Command(7, "true"),
    )
    assert heard.endings == {
        1: Ending(How.DONE, 2, changed=True),
        2: Ending(How.DONE, 2),
        3: Ending(How.DONE, 0),
        4: Ending(How.DONE, 137, changed=True),
        5: Ending(How.DONE, 0, failed=True),
        6: Ending(How.DONE, 0, failed=True),
    }


FIRST = (
    Command(1, "exit 3", ignore=True),
    Command(2, "true"),
    Command(3, "true", changes=Always(False)),
    Command(4, "echo no", when=Always(False)),
    Command(5, "echo no", guard="false"),
    Command(6, "sleep 60", timeout=0.05, ignore=True),
)
HOLD: tuple[Condition, ...] = (
    Is(1, "failed"),
    Exit(1, "==", 3),
    Exit(1, "<=", 3),
    Exit(1, ">", 2),
    Not(Exit(1, "<", 3)),
    Exit(1, "<", 10**30),
    Exit(1, ">=", -(10**30)),
    Is(2, "changed"),
    Not(Is(3, "changed")),
    Is(4, "skipped"),
    Exit(4, "!=", 0),
    Not(Exit(4, "==", 0)),
    Is(5, "skipped"),
    Is(6, "failed"),
    Not(Exit(6, "<", 300)),
    Not(Is(77, "failed")),
    Exit(77, "!=", 0),
    All(()),
    Not(Any(())),
    Not(Not(All((Is(1, "failed"), Not(Any((Is(3, "changed"), Is(2, "skipped")))))))),
    Any((Is(3, "failed"), Not(All((Is(1, "failed"), Is(2, "failed")))))),
)


@pytest.mark.parametrize("apart", [False, True], ids=["one-segment", "two-segments"])
def test_conditions_see_earlier_steps(session: Session, apart: bool) -> None:
    rest: list[Command] = []
    for n, condition in enumerate(HOLD):
        rest.append(Command(100 + n, ":", when=condition))
        rest.append(Command(200 + n, ":", when=Not(condition)))
    if apart:
        run(session, *FIRST)
        heard = run(session, *rest)
    else:
        heard = run(session, *FIRST, *rest)
    wrong = [c for n, c in enumerate(HOLD) if heard.endings[100 + n].how is not How.DONE]
    wrong += [Not(c) for n, c in enumerate(HOLD) if heard.endings[200 + n].how is not How.SKIPPED]
    assert not wrong
    assert ("started", 200) not in heard.order


def test_what_this_side_judged_wins_over_what_the_host_saw(session: Session) -> None:
    run(session, Command(1, "true"))
    session.tell(1, changed=False, failed=True)
    heard = run(
        session,
        Command(2, "echo a", when=All((Is(1, "failed"), Not(Is(1, "changed")), Exit(1, "==", 0)))),
    )
    assert heard.out(2) == b"a\n"
    assert session.round_trips == 2


def test_new_task_knows_nothing_of_the_last_one(session: Session) -> None:
    run(session, Command(1, "exit 3", ignore=True), Command(2, ":", when=Always(False)))
    session.begin_task()
    heard = run(
        session,
        Command(3, ":", when=Any((Is(1, "failed"), Is(2, "skipped"), Exit(1, "==", 3)))),
        Command(1, ":"),
        Command(4, ":", when=Is(1, "failed")),
        Command(5, ":", when=All((Is(1, "changed"), Exit(1, "==", 0)))),
    )
    hows = [heard.endings[n].how for n in (3, 4, 5)]
    assert hows == [How.SKIPPED, How.SKIPPED, How.DONE]


def test_output_of_many_lines_is_complete(session: Session) -> None:
    text = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    heard = run(session, Command(1, text))
    whole = b"".join(b"line %d\n" % n for n in range(20_000))
    assert hashlib.sha1(heard.out(1)).digest() == hashlib.sha1(whole).digest()
