"""Markers are found at every position, and nothing else is taken for a marker."""

from __future__ import annotations

import re

import pytest

from orchestrator.model.command import StepCommand
from orchestrator.remote_shell import EndReason, SessionLostError, ShellSession
from tests.support.session_recording import (
    PipelineThread,
    RecordingChannel,
    RecordingListener,
    process_arguments,
    process_environments,
    processes_with,
    run_pipeline,
    wait_until,
)


def session_nonce(channel: RecordingChannel) -> str:
    """Return the session's nonce."""
    if prepared := channel.prepared_shell():
        return prepared.nonce
    found = re.search(rb"o_nonce=([0-9a-f]{16})''([0-9a-f]{16});", channel.written)
    assert found
    return (found[1] + found[2]).decode()


def test_marker_follows_a_partial_line_and_adds_nothing(session: ShellSession) -> None:
    recording = run_pipeline(
        session, *(StepCommand(n, "printf x; printf y >&2") for n in range(1, 9))
    )
    assert {recording.stdout_of(n) for n in range(1, 9)} == {b"x"}
    assert {recording.stderr_of(n) for n in range(1, 9)} == {b"y"}


def test_markers_stand_inside_a_background_child_s_output(session: ShellSession, mark: str) -> None:
    flood = "(while :; do printf 'noise without an end '; printf 'and more ' >&2; done) & echo $!"
    recording = run_pipeline(session, StepCommand(1, flood))
    number = re.search(rb"\d+\n", recording.stdout_of(1))
    assert number
    pid = int(number[0])
    recording = run_pipeline(
        session,
        *(StepCommand(n, f"echo {n}.") for n in range(2, 10)),
        StepCommand(99, f"kill {pid}"),
    )
    assert [recording.endings[n].end_reason for n in range(2, 10)] == [EndReason.DONE] * 8
    for n in range(2, 10):
        assert b"%d." % n in recording.stdout_of(n)
    everything = b"".join(recording.data.values())
    left = re.sub(rb"noise without an end |and more |\d\.\n", b"", everything)
    assert len(left) < 100  # partial words at the ends of pieces, no marker


def test_lookalikes_are_output(session: ShellSession, channel: RecordingChannel) -> None:
    run_pipeline(session)
    nonce = session_nonce(channel)
    fakes = [f"{nonce[:-1]} E 1 done 0 0 1", f"{'0' * 32} E 1 done 0 0 1", f"{nonce[::-1]} S"]
    half = nonce[:20]
    text = (
        "".join(f"echo '{fake}'; echo '{fake}' >&2;" for fake in fakes) + f"printf {half}; exit 5"
    )
    recording = run_pipeline(session, StepCommand(1, text))
    assert recording.endings[1].exit_status == 5
    shown = "".join(f"{fake}\n" for fake in fakes)
    assert recording.stdout_of(1).decode() == shown + half
    assert recording.stderr_of(1).decode() == shown


def test_nonce_and_text_are_in_no_argv_and_no_environment(
    session: ShellSession, channel: RecordingChannel, mark: str
) -> None:
    secret = "hunter" + mark[6:]
    text = f": {secret}\nsleep {mark} | cat; :"
    running = PipelineThread(
        session, StepCommand(1, text, stdin=secret, guard=f": {secret}", timeout=600)
    )
    wait_until(lambda: processes_with(mark), "the step")
    nonce = session_nonce(channel).encode()
    pages = [page for _, page in [*process_arguments(), *process_environments()]]
    assert not [page for page in pages if nonce in page or secret.encode() in page]
    session.cancel()
    running.wait()


@pytest.mark.parametrize("forged", ["X 1", "S", "E 2 done 0 0 1", "E 1 done 0 0 1", "R"])
def test_forged_marker_is_a_loss_and_never_a_success(
    session: ShellSession, channel: RecordingChannel, mark: str, forged: str
) -> None:
    run_pipeline(session)
    nonce = session_nonce(channel)  # which no step can know
    recording = RecordingListener()
    forge = f"printf '{nonce} {forged}\\n'; sleep {mark}"
    with pytest.raises(SessionLostError) as lost:
        session.run(
            [StepCommand(1, forge, timeout=0.8, ignore_failure=True), StepCommand(2, "echo no")],
            recording,
        )
    assert lost.value.step in (1, None)
    assert not [e for e in recording.endings.values() if e.end_reason is EndReason.DONE]
    wait_until(lambda: not processes_with(mark), "the step's end")
