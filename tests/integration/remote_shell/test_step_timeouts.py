"""Steps ended at every moment, the wrong ones above all."""

from __future__ import annotations

import time

import pytest

from orchestrator.model.command import StepCommand
from orchestrator.remote_shell import CommandResult, EndReason
from tests.integration.remote_shell.conftest import SessionOpener
from tests.support.session_recording import (
    RecordingListener,
    processes_with,
    run_pipeline,
    wait_until,
)


def test_timeouts_that_nearly_hit_hit_nothing_else(open_session: SessionOpener) -> None:
    session, _ = open_session()
    commands = []
    for n in range(1, 61, 2):
        commands.append(
            StepCommand(n, "exec sleep 0.05", timeout=0.04 + n / 1500, ignore_failure=True)
        )
        commands.append(StepCommand(n + 1, "exec sleep 0.03", timeout=60, ignore_failure=True))
    recording = run_pipeline(session, *commands)
    assert len(recording.endings) == len(commands)
    assert all(recording.endings[n].end_reason is EndReason.DONE for n in range(2, 61, 2))


def test_cancel_at_any_moment_of_a_step_s_beginning_ends_it(
    open_session: SessionOpener, mark: str
) -> None:
    for n in range(25):
        session, _ = open_session()
        run_pipeline(session)

        class CancellingListener(RecordingListener):
            def started(self, step: int) -> None:
                super().started(step)
                time.sleep(n / 8000)  # noqa: B023 - a moment, not a wait
                session.cancel()  # noqa: B023

        recording = CancellingListener()
        session.run(
            [StepCommand(1, f"exec sleep {mark}", ignore_failure=True), StepCommand(2, "echo no")],
            recording,
        )
        assert recording.endings == {1: CommandResult(EndReason.TERMINATED, failed=True)}
        wait_until(lambda: not processes_with(mark), "its end")


def test_timeout_at_any_moment_of_a_step_s_beginning_ends_it(
    open_session: SessionOpener, mark: str
) -> None:
    session, _ = open_session()
    commands = [
        StepCommand(n, f"exec sleep {mark}", guard=":", timeout=n / 5000, ignore_failure=True)
        for n in range(1, 30)
    ]
    recording = run_pipeline(session, *commands, StepCommand(99, "echo on"))
    assert {recording.endings[c.step].end_reason for c in commands} == {EndReason.TIMED_OUT}
    assert recording.stdout_of(99) == b"on\n"
    wait_until(lambda: not processes_with(mark), "their end")


@pytest.mark.parametrize("shell", ["dash", "busybox"])  # bash may wait for ever after it
def test_stray_signal_is_not_taken_for_a_timeout(open_session: SessionOpener) -> None:
    session, _ = open_session()
    text = "kill -USR1 $PPID; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo on"
    recording = run_pipeline(
        session, *(StepCommand(n, f"{text}; exit {n}", ignore_failure=True) for n in (1, 2))
    )
    assert [recording.endings[n] for n in (1, 2)] == [
        CommandResult(EndReason.DONE, n, failed=True) for n in (1, 2)
    ]
    assert [recording.stdout_of(n) for n in (1, 2)] == [b"on\n", b"on\n"]
