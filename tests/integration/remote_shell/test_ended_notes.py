"""A host whose connection breaks in a pipeline keeps a note of how far it came."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.model.command import StepCommand
from orchestrator.remote_shell import EndReason, SessionLostError, ShellSession
from orchestrator.remote_shell.bootstrap import ended_note_script, remove_note_script
from tests.integration.remote_shell.conftest import SessionOpener
from tests.support.session_recording import RecordingListener, run_pipeline, wait_until

ID = "5e5510"


def note(home: Path) -> Path:
    return home / ".orch/ended" / ID


@pytest.mark.every_shell
def test_a_note_tells_the_step_that_ran(open_session: SessionOpener, home: Path, mark: str) -> None:
    session, channel = open_session(session_id=ID, renew=0.5)
    commands = [
        StepCommand(3, "true"),
        StepCommand(4, f"touch {home}/begun; sleep {mark}"),
        StepCommand(5, f"touch {home}/never"),
    ]
    running = threading.Thread(target=run_until_lost, args=(session, commands))
    running.start()
    wait_until((home / "begun").exists, "step 4")
    channel.close_stdin()  # as if orch had died
    running.join()
    wait_until(note(home).exists, "the note")
    assert note(home).read_text() == "4 3\n"
    assert not (home / "never").exists()
    other, _ = open_session()
    script = ended_note_script(ID, session.shell_pid, 0)
    recording = run_pipeline(other, StepCommand(1, script), StepCommand(2, remove_note_script(ID)))
    assert recording.stdout_of(1) == b"4 3\n"
    assert not (home / ".orch").exists()


def run_until_lost(session: ShellSession, commands: Sequence[StepCommand]) -> None:
    with pytest.raises(SessionLostError):
        session.run(commands, RecordingListener())


def test_the_end_of_a_session_that_does_nothing_leaves_no_note(
    open_session: SessionOpener, home: Path
) -> None:
    session, channel = open_session(session_id=ID)
    run_pipeline(session, StepCommand(1, "true"), StepCommand(2, "exit 3"))
    channel.close()
    other, _ = open_session()
    script = ended_note_script(ID, session.shell_pid, 60)
    recording = run_pipeline(other, StepCommand(1, script))
    assert recording.endings[1].exit_status == 3
    assert not (home / ".orch").exists()


@pytest.mark.every_shell
def test_what_orch_ends_itself_leaves_no_note(
    open_session: SessionOpener, home: Path, mark: str
) -> None:
    session, _ = open_session(session_id=ID)
    commands = [StepCommand(1, f"touch {home}/begun; sleep {mark}")]
    running = threading.Thread(target=session.run, args=(commands, RecordingListener()))
    running.start()
    wait_until((home / "begun").exists, "the step")
    session.cancel()
    running.join()
    assert not (home / ".orch").exists()


def test_what_nobody_hears_of_any_more_leaves_a_note(
    open_session: SessionOpener, home: Path, mark: str
) -> None:
    session, _ = open_session(session_id=ID)
    commands = [StepCommand(7, "true"), StepCommand(8, f"touch {home}/begun; sleep {mark}")]
    running = threading.Thread(target=session.run, args=(commands, RecordingListener()))
    running.start()
    wait_until((home / "begun").exists, "the step")
    session.cancel(keeps_note=True)
    running.join()
    assert note(home).read_text() == "8 7\n"


@pytest.mark.every_shell
def test_a_pipeline_that_has_ended_leaves_a_note_if_it_is_wanted(
    open_session: SessionOpener, home: Path
) -> None:
    session, _ = open_session(session_id=ID)
    run_pipeline(session, StepCommand(4, "true"), StepCommand(6, "exit 3"))
    session.run_unreported(StepCommand(1, "true"), RecordingListener())
    session.leave_note()
    assert note(home).read_text() == "6 6\n"


def test_a_query_after_a_pipeline_is_not_taken_for_it(
    open_session: SessionOpener, home: Path, mark: str
) -> None:
    session, channel = open_session(session_id=ID)
    run_pipeline(session, StepCommand(1, "true"))
    query = StepCommand(1, f"touch {home}/begun; sleep {mark}")
    asking = threading.Thread(target=ask_until_lost, args=(session, query))
    asking.start()
    wait_until((home / "begun").exists, "the query")
    channel.close_stdin()
    asking.join()
    assert not (home / ".orch").exists()


def ask_until_lost(session: ShellSession, query: StepCommand) -> None:
    with pytest.raises(SessionLostError):
        session.run_unreported(query, RecordingListener())


def test_a_session_whose_shell_ignores_interrupts_is_ended(
    open_session: SessionOpener, home: Path, mark: str
) -> None:
    """As in a job that a script starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        session, _ = open_session(session_id=ID)
        commands = [StepCommand(1, f"touch {home}/begun; sleep {mark}"), StepCommand(2, "true")]
        listener = RecordingListener()
        running = threading.Thread(target=session.run, args=(commands, listener))
        running.start()
        wait_until((home / "begun").exists, "the step")
        session.cancel()
        running.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert listener.order == [("started", 1), ("ended", 1)]
    assert listener.endings[1].end_reason is EndReason.TERMINATED
