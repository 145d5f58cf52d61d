"""Steps that run in the session's own shell: nobody can tell, and nothing is left of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.model.command import StepCommand
from orchestrator.remote_shell import EndReason, ShellSession, module_protocol
from orchestrator.remote_shell.encoder import (
    encode_pipeline,
    guard_runs_inline,
    is_portable_shell,
    runs_inline,
)
from tests.integration.remote_shell.conftest import SessionOpener
from tests.support.session_recording import (
    PipelineThread,
    RecordingListener,
    processes_with,
    run_pipeline,
    wait_until,
)

PRELUDE = Path(encode_pipeline.__code__.co_filename).with_name("bootstrap.sh")

PLAIN = [
    "uname -r",
    "cat REVISION 2>/dev/null || echo none",
    "ls -1dt releases/* | tail -n +6",
    "if [ -e /etc/passwd ]; then echo 'it is'; else exit 3; fi",
    "cd /\nexport A='b c'\ntest -d tmp && env | grep -c ^A=",
    "for x in a b; do echo x; done",
    "echo *; echo ~ | tr / -",
    "false; echo no",
    "exit 7",
    "cat; echo read",
    "set -e\n(exit 4)\necho no",
    "umask 027; umask",
    "command -v date; ! true",
    "exec uname -s",
    "echo 'a' \"b\" >&2; nosuchcommand",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_does_here_what_it_does_in_a_shell_of_its_own(
    open_session: SessionOpener, text: str
) -> None:
    assert is_portable_shell(text)
    session, _ = open_session()
    _check_same_result(session, text)


_words = st.sampled_from(
    "echo true false test [ ] -n -z = a b 'c 'd' \"e\" ( ) { } | || && ; ! >/dev/null * ~ / "
    "if then else fi exit 3 cd for x in do done while case esac a) ;;".split(" ")
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.lists(_words, min_size=1, max_size=9).map(" ".join), min_size=8))
def test_no_plain_text_tells_where_it_runs(open_session: SessionOpener, texts: list[str]) -> None:
    session, _ = open_session()
    for text in texts:
        # what loops for ever says nothing here
        if "while" not in text and is_portable_shell(text):
            _check_same_result(session, text)
    session.close()


def _check_same_result(session: ShellSession, text: str) -> None:
    session.begin_task()
    step = StepCommand(1, text, ignore_failure=True, spawns_no_daemon=True)
    assert runs_inline(step)
    inline = run_pipeline(session, step, StepCommand(2, text, ignore_failure=True))
    assert inline.stdout_of(1) == inline.stdout_of(2)
    assert bool(inline.stderr_of(1)) == bool(inline.stderr_of(2))
    first, second = inline.endings[1], inline.endings[2]
    # a text that no shell understands fails in this way or that
    output = inline.stderr_of(2)
    broken = any(word in output for word in (b"yntax", b"unexpected", b"nterminated"))
    assert first.failed == second.failed
    assert broken or first.exit_status == second.exit_status, (text, output, inline.stderr_of(1))


@pytest.mark.parametrize(
    "text",
    [
        "echo $$",
        "echo `id`",
        "echo a\\ b",
        "sleep 60 &",
        "sleep 60 & true",
        "kill 0",
        "k'il'l 0",
        'wa"it"',
        "pkill -g 0 sleep",
        "wait; echo waited",
        "trap",
        "set",
        "set -u",
        "export -p",
        ". ./environment",
        "jobs; times",
        "say hello",
        "watch date",
        "kind get clusters",
        "echo end_step",
        "o_module",
        "echo é",
        "echo \t\r",
    ],
)
def test_text_that_could_tell_gets_a_shell_of_its_own(text: str) -> None:
    assert not is_portable_shell(text)
    assert not runs_inline(StepCommand(1, text, spawns_no_daemon=True))
    assert not guard_runs_inline(StepCommand(1, "true", guard=text))


@pytest.mark.parametrize(
    "command",
    [
        StepCommand(1, "app"),
        StepCommand(1, "ls | app"),
        StepCommand(1, "true", spawns_no_daemon=True, shell="bash"),
        StepCommand(1, "cat", spawns_no_daemon=True, stdin="a"),
        StepCommand(1, "true", spawns_no_daemon=True, timeout=60),
    ],
)
def test_step_that_may_go_on_or_be_timed_out_gets_a_group_of_its_own(command: StepCommand) -> None:
    assert not runs_inline(command)


def test_shell_s_functions_and_modules_have_different_names() -> None:
    assert (
        not module_protocol.defined_functions(PRELUDE.read_text())
        & module_protocol.function_names()
    )


def test_nothing_is_left_in_the_shell(open_session: SessionOpener) -> None:
    session, _ = open_session()
    before = run_pipeline(
        session, StepCommand(1, "pwd; umask; echo \"$A\"; set | grep -c '^A='", ignore_failure=True)
    )
    run_pipeline(
        session,
        StepCommand(2, "cd /; umask 0; export A=1; exec 2>/dev/null", spawns_no_daemon=True),
        StepCommand(3, "exit 0", spawns_no_daemon=True),
    )
    after = run_pipeline(
        session, StepCommand(4, "pwd; umask; echo \"$A\"; set | grep -c '^A='", ignore_failure=True)
    )
    assert after.stdout_of(4) == before.stdout_of(1)


@pytest.mark.every_shell
def test_command_alone_is_a_process_of_the_session_s_shell(
    open_session: SessionOpener, shell: str
) -> None:
    session, _ = open_session()
    commands = [
        StepCommand(1, "cat /proc/self/stat", spawns_no_daemon=True),
        StepCommand(2, "nosuchcommand", spawns_no_daemon=True, ignore_failure=True),
        StepCommand(3, "exit 7", spawns_no_daemon=True, ignore_failure=True),
        StepCommand(4, "cat", spawns_no_daemon=True),
        StepCommand(5, "umask 077", spawns_no_daemon=True),
        StepCommand(6, "umask", spawns_no_daemon=True),
        StepCommand(7, "echo", spawns_no_daemon=True, guard="test -d /nowhere"),
        StepCommand(8, "echo '' 'a'b", spawns_no_daemon=True, guard="test -d /"),
    ]
    recording = run_pipeline(session, *commands)
    parent = int(recording.stdout_of(1).split()[3])
    assert shell == "bash" or parent == session.shell_pid  # bash starts a shell in any case
    statuses = [recording.endings[step].exit_status for step in range(1, 7)]
    assert statuses == [0, 127, 7, 0, 0, 0]
    assert recording.stderr_of(2)
    assert recording.stdout_of(6) != b"0077\n"
    assert recording.endings[7].end_reason is EndReason.SKIPPED
    assert recording.stdout_of(8) == b" ab\n"


def test_guard_runs_here_too(open_session: SessionOpener, home: Path) -> None:
    session, _ = open_session()
    no = StepCommand(1, f"touch {home}/no", guard="set +e\n(set -e\ntest -d /nowhere\n)\nexit 1")
    yes = StepCommand(2, f"touch {home}/yes", guard="cd /; umask 0; test -d tmp")
    assert guard_runs_inline(yes)
    recording = run_pipeline(session, no, yes, StepCommand(3, "pwd"))
    assert recording.endings[1].end_reason is EndReason.SKIPPED
    assert (home / "yes").exists()
    assert not (home / "no").exists()
    assert recording.stdout_of(3) == f"{home}\n".encode()


def test_cancel_ends_it_and_nothing_that_steps_before_it_left(
    open_session: SessionOpener, mark: str
) -> None:
    session, _ = open_session()
    left, inline_mark = f"{mark}1", f"{mark}2"
    run_pipeline(session, StepCommand(1, f"sleep {left} >/dev/null 2>&1 &"))
    step = StepCommand(
        2, f"(sleep {inline_mark}; echo no) | cat", spawns_no_daemon=True, ignore_failure=True
    )
    assert runs_inline(step)
    running = PipelineThread(session, step, StepCommand(3, "echo no"))
    wait_until(lambda: processes_with(inline_mark), "the step")
    session.cancel()
    recording = running.wait()
    assert recording.endings[2].end_reason is EndReason.TERMINATED
    assert 3 not in recording.endings
    wait_until(lambda: not processes_with(inline_mark), "its end")
    assert processes_with(left)
    for pid in processes_with(left):
        os.kill(pid, signal.SIGKILL)


def test_it_has_a_group_of_its_own_where_the_shell_leads_none(
    open_session: SessionOpener, home: Path, mark: str
) -> None:
    session, _ = open_session(command=f"sh -c 'sh; touch {home}/outer'")
    running = PipelineThread(session, StepCommand(1, f"sleep {mark}", spawns_no_daemon=True))
    wait_until(lambda: processes_with(mark), "the step")
    session.cancel()
    assert running.wait().endings[1].end_reason is EndReason.TERMINATED
    wait_until(lambda: not processes_with(mark), "its end")
    wait_until((home / "outer").exists, "the outer shell, which was not to be hit")


@pytest.mark.long
def test_lost_client_s_step_ends(open_session: SessionOpener, mark: str) -> None:
    session, channel = open_session()
    recording = RecordingListener()
    running = PipelineThread(session, StepCommand(1, f"sleep {mark}", spawns_no_daemon=True))
    wait_until(lambda: processes_with(mark), "the step")
    channel.close_stdin()
    with pytest.raises(Exception, match="its session was terminated"):
        running.wait()
    wait_until(lambda: not processes_with(mark), "its end")
    assert not recording.endings
