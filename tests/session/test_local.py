"""The local transport leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from orchestrator.errors import ConnectError
from orchestrator.model.command import Command
from orchestrator.remote_shell import Lost, Session
from orchestrator.transports.local import LocalConnection
from tests.session.heard import Running, processes, run, until


def _descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir() if path.exists()}


def _children() -> list[str]:
    """This process's children, zombies among them."""
    command = ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    return [row for row in listed.stdout.splitlines() if " ps -o" not in row]


def test_nothing_is_left_after_close(mark: str) -> None:
    before = _descriptors(), threading.active_count(), _children()
    connection = LocalConnection()
    sessions = [Session(connection.open(), ready_timeout=30) for _ in range(5)]
    for session in sessions:
        run(session, Command(1, "echo a"))
    running = Running(sessions[0], Command(2, f"sleep {mark}"))
    until(lambda: processes(mark), "the step")
    connection.close()
    with pytest.raises(Lost) as lost:
        running.over()
    assert lost.value.step == 2
    for session in sessions:
        session.close()
    connection.close()
    until(lambda: not processes(mark), "its end")
    assert (_descriptors(), threading.active_count(), _children()) == before


def test_shell_that_is_not_there_is_an_error_of_the_host() -> None:
    connection = LocalConnection("/nonexistent/sh -x")
    with pytest.raises(ConnectError, match="nonexistent") as error:
        connection.open()
    assert error.value.phase == "shell"
    connection.close()


def test_shell_begins_in_the_home_folder_with_the_given_environment(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "x": "y"}
    connection = LocalConnection("sh -u", environment)
    session = Session(connection.open(), ready_timeout=30)
    heard = run(session, Command(1, 'pwd; echo "$x"'))
    assert heard.out(1) == f"{tmp_path}\ny\n".encode()
    session.close()
    connection.close()
