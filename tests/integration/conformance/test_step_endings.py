"""How steps end that do not end by themselves, and what the shell's death means."""

from __future__ import annotations

import os
import secrets
import signal
from contextlib import suppress

import pytest

from orchestrator.model.command import StepCommand
from orchestrator.model.condition import ConstantCondition
from orchestrator.remote_shell import CommandResult, EndReason, SessionLostError, ShellSession
from tests.support.session_recording import (
    PipelineThread,
    RecordingListener,
    child_processes,
    process_arguments,
    processes_with,
    run_pipeline,
    wait_until,
)

TREES = (
    "sleep {mark}",
    "sh -c 'sleep {mark} & (sleep {mark}; :) & sleep {mark} | cat; :'",
    'x=$(sleep {mark}; echo); echo "$x"',
    "trap '' TERM; while :; do sleep {mark} || :; done",
)
SLEEPS = 6


def sleep_step(mark: str) -> int:
    return sum(words == b"sleep\0" + mark.encode() + b"\0" for _, words in process_arguments())


@pytest.fixture
def process_tree_step(mark: str) -> str:
    """Return a step that starts processes of all kinds and never ends."""
    return "".join(f"({tree.format(mark=mark)}) & " for tree in TREES) + "wait"


def test_timeout_ends_everything_the_step_started(
    session: ShellSession, process_tree_step: str, mark: str
) -> None:
    recording = run_pipeline(
        session,
        StepCommand(
            1,
            f"echo a; echo b >&2; {process_tree_step}",
            timeout=0.8,
            failed_condition=ConstantCondition(False),
            ignore_failure=True,
        ),
        StepCommand(2, "echo on", timeout=60),
    )
    assert recording.endings[1] == CommandResult(EndReason.TIMED_OUT, failed=True)
    assert (recording.stdout_of(1), recording.stderr_of(1)) == (b"a\n", b"b\n")
    assert recording.stdout_of(2) == b"on\n"
    wait_until(lambda: not processes_with(mark), "their end")
    assert run_pipeline(session, StepCommand(3, "echo further")).stdout_of(3) == b"further\n"


def test_step_has_time_to_clean_up(session: ShellSession, mark: str) -> None:
    clean = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; echo cleaned; exit"
    recording = run_pipeline(
        session, StepCommand(1, f"trap '{clean}' TERM; sleep {mark} & wait", timeout=0.2)
    )
    assert recording.endings[1].end_reason is EndReason.TIMED_OUT
    assert recording.stdout_of(1) == b"cleaned\n"


def test_timed_out_step_ends_the_segment(session: ShellSession, mark: str) -> None:
    recording = run_pipeline(
        session, StepCommand(1, f"sleep {mark}", timeout=0.1), StepCommand(2, "echo no")
    )
    assert list(recording.endings) == [1]


def test_guard_counts_in_the_timeout(session: ShellSession, mark: str) -> None:
    recording = run_pipeline(
        session, StepCommand(1, "echo no", guard=f"sleep {mark}", timeout=0.1, ignore_failure=True)
    )
    assert recording.endings[1].end_reason is EndReason.TIMED_OUT
    wait_until(lambda: not processes_with(mark), "their end")


def test_cancel_ends_everything_the_step_started(
    session: ShellSession, process_tree_step: str, mark: str
) -> None:
    running = PipelineThread(
        session, StepCommand(1, process_tree_step, ignore_failure=True), StepCommand(2, "echo no")
    )
    wait_until(lambda: sleep_step(mark) == SLEEPS, "the step's processes")
    session.cancel()
    recording = running.wait()
    assert recording.endings == {1: CommandResult(EndReason.TERMINATED, failed=True)}
    assert recording.order == [("started", 1), ("ended", 1)]
    wait_until(lambda: not processes_with(mark), "their end")
    assert not session.is_alive


def test_cancel_ends_a_guard(session: ShellSession, mark: str) -> None:
    running = PipelineThread(
        session, StepCommand(1, "echo no", guard=f"sleep {mark}"), StepCommand(2, "echo no")
    )
    wait_until(lambda: processes_with(mark), "the guard")
    session.cancel()
    assert running.wait().endings[1].end_reason is EndReason.TERMINATED
    wait_until(lambda: not processes_with(mark), "their end")


def test_cancel_during_a_timeout_s_grace_lets_nothing_follow(
    session: ShellSession, mark: str
) -> None:
    text = f"trap 'echo term; trap : TERM' TERM; while :; do sleep {mark} || :; done"
    for timeout in (0.2, 1.0, 5.0):
        running = PipelineThread(
            session,
            StepCommand(1, text, timeout=timeout, ignore_failure=True),
            StepCommand(2, "echo no"),
        )
        recording = running.recording
        wait_until(lambda each=recording: each.stdout_of(1) or 1 in each.endings, "the timeout")
        if recording.stdout_of(1):
            break
        running.wait()  # a slow machine: the trap was not set yet
    session.cancel()
    recording = running.wait()
    assert recording.order == [("started", 1), ("ended", 1)]
    assert recording.endings[1].end_reason is EndReason.TERMINATED


def test_cancel_in_the_middle_of_many_steps(session: ShellSession) -> None:
    running = PipelineThread(session, *(StepCommand(n, f"echo {n}") for n in range(1, 3000)))
    wait_until(lambda: len(running.recording.endings) > 20, "some steps")
    session.cancel()
    recording = running.wait()
    done = [n for n, e in recording.endings.items() if e.end_reason is EndReason.DONE]
    assert done == list(range(1, len(done) + 1))
    assert len(done) < 2999
    assert set(recording.endings) - set(done) <= {len(done) + 1}
    assert [n for what, n in recording.order if what == "started"] == list(recording.endings)


def test_cancel_before_a_run_lets_nothing_begin(session: ShellSession) -> None:
    session.cancel()
    assert run_pipeline(session, StepCommand(1, "echo no")).order == []


def test_step_s_own_shell_killed_is_a_failure(session: ShellSession) -> None:
    recording = run_pipeline(
        session,
        StepCommand(1, "kill -9 $$; echo no", ignore_failure=True),
        StepCommand(2, "echo on"),
    )
    assert recording.endings[1] == CommandResult(EndReason.DONE, 137, failed=True)
    assert (recording.stdout_of(1), recording.stderr_of(1), recording.stdout_of(2)) == (
        b"",
        b"",
        b"on\n",
    )


@pytest.mark.parametrize("signal", ["KILL", "TERM", "HUP"])
def test_session_s_own_shell_killed_is_a_loss(
    session: ShellSession, mark: str, signal: str
) -> None:
    recording = RecordingListener()
    text = f"kill -{signal} $PPID; while kill -0 $PPID 2>/dev/null; do sleep .05; done"
    with pytest.raises(SessionLostError) as lost:
        session.run(
            [StepCommand(1, text, ignore_failure=True), StepCommand(2, "echo no")], recording
        )
    assert lost.value.step == 1
    assert recording.order == [("started", 1)]
    with pytest.raises(SessionLostError):
        run_pipeline(session, StepCommand(3, "echo no"))


def test_shell_killed_while_a_cancelled_step_ends_is_a_loss(
    session: ShellSession, mark: str
) -> None:
    text = f"trap 'kill -9 $PPID; exit' TERM; sleep {mark} & wait"
    running = PipelineThread(session, StepCommand(1, text, ignore_failure=True))
    wait_until(lambda: processes_with(mark), "the step")
    session.cancel()
    with pytest.raises(SessionLostError) as lost:
        running.wait()
    assert lost.value.step == 1
    assert not running.recording.endings


def test_idle_shell_killed_is_a_loss(session: ShellSession) -> None:
    pid = int(run_pipeline(session, StepCommand(1, "echo $PPID")).stdout_of(1))
    recording = run_pipeline(
        session, StepCommand(2, f"(sleep .1; kill -9 {pid}) >/dev/null 2>&1 &")
    )
    assert recording.endings[2].end_reason is EndReason.DONE
    wait_until(lambda: not dict(process_arguments()).get(pid), "the shell's end")
    with pytest.raises(SessionLostError) as lost:
        run_pipeline(session, StepCommand(3, "echo no"))
    assert lost.value.step is None


def test_background_child_does_not_hang_the_run(session: ShellSession, mark: str) -> None:
    recording = run_pipeline(
        session, StepCommand(1, f"sleep {mark} & echo $!"), StepCommand(2, "echo on")
    )
    assert recording.stdout_of(2) == b"on\n"
    left = int(recording.stdout_of(1))
    wait_until(
        lambda: processes_with(mark) == [left], "the child"
    )  # what a step leaves is left alone
    recording = run_pipeline(session, StepCommand(3, f"kill {left}"))
    assert recording.endings[3].exit_status == 0
    wait_until(lambda: not processes_with(mark), "the child's end")


def kill_processes_with(mark: str) -> list[int]:
    """Kill the processes with this argument and return their IDs."""
    found = processes_with(mark)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def test_big_text_whose_step_leaves_a_child_does_not_hang(session: ShellSession, mark: str) -> None:
    rest = "".join(f": line {n}\n" for n in range(20_000))
    text = f"(sleep {mark}; :) &\nexit 0\n" + rest
    recording = run_pipeline(session, StepCommand(1, text), StepCommand(2, "echo on"))
    assert recording.stdout_of(2) == b"on\n"
    wait_until(lambda: processes_with(mark), "the child")
    wait_until(lambda: not kill_processes_with(mark), "the child's end")


def test_nothing_of_the_session_stays_behind(session: ShellSession) -> None:
    seconds = 10_000 + secrets.randbelow(10**9)  # that nobody else sleeps
    pid = int(run_pipeline(session, StepCommand(1, "echo $PPID", timeout=seconds)).stdout_of(1))
    wait_until(lambda: not child_processes(pid), "the helpers' end")
    sleep = b"sleep\0%d\0" % seconds
    wait_until(
        lambda: sleep not in dict(process_arguments()).values(), "the end of what they started"
    )
