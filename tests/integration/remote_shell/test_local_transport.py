"""The local transport leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from orchestrator.errors import ConnectError
from orchestrator.model.command import StepCommand
from orchestrator.remote_shell import SessionLostError, ShellSession
from orchestrator.transports.local import LocalConnection
from tests.support.session_recording import PipelineThread, processes_with, run_pipeline, wait_until


def _open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir() if path.exists()}


def _child_processes() -> list[str]:
    """Return this process's children, including zombies."""
    command = ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    return [row for row in listed.stdout.splitlines() if " ps -o" not in row]


def test_nothing_is_left_after_close(mark: str) -> None:
    before = _open_descriptors(), threading.active_count(), _child_processes()
    connection = LocalConnection()
    sessions = [ShellSession(connection.open(), ready_timeout=30) for _ in range(5)]
    for session in sessions:
        run_pipeline(session, StepCommand(1, "echo a"))
    running = PipelineThread(sessions[0], StepCommand(2, f"sleep {mark}"))
    began = running.recording.began
    wait_until(lambda: processes_with(mark) and began.is_set(), "the step")
    connection.close()
    with pytest.raises(SessionLostError) as lost:
        running.wait()
    assert lost.value.step == 2
    for session in sessions:
        session.close()
    connection.close()
    wait_until(lambda: not processes_with(mark), "its end")
    assert (_open_descriptors(), threading.active_count(), _child_processes()) == before


def test_shell_that_is_not_there_is_an_error_of_the_host() -> None:
    connection = LocalConnection("/nonexistent/sh -x")
    with pytest.raises(ConnectError, match="nonexistent") as error:
        connection.open()
    assert error.value.phase == "shell"
    connection.close()


def test_shell_begins_in_the_home_folder_with_the_given_environment(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "x": "y"}
    connection = LocalConnection("sh -u", environment)
    session = ShellSession(connection.open(), ready_timeout=30)
    recording = run_pipeline(session, StepCommand(1, 'pwd; echo "$x"'))
    assert recording.stdout_of(1) == f"{tmp_path}\ny\n".encode()
    session.close()
    connection.close()
