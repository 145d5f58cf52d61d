"""Sessions over the local transport, with each shell and with hosts of many kinds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from orchestrator.remote_shell import ShellSession
from orchestrator.transports.local import LocalConnection
from tests.support.session_recording import (
    SHELLS,
    WAIT_TIMEOUT,
    RecordingChannel,
    make_shell_folder,
    make_tool_folder,
    processes_with,
    wait_until,
)

SessionOpener = Callable[..., tuple[ShellSession, RecordingChannel]]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def open_session(shell: str, tmp_path: Path, home: Path) -> Iterator[SessionOpener]:
    """Return a function that opens a session and its channel.

    ``tools`` are the commands in PATH besides `sh`. ``command`` runs instead of `sh`.
    ``cut``: after how many bytes the stream to the shell is cut.
    """
    with ExitStack() as closing:

        def opened(
            *,
            tools: Sequence[str] | None = None,
            command: str = "sh",
            cut: int | None = None,
            ready_timeout: float = WAIT_TIMEOUT,
            lease: float = 60,
            renew: float = 20,
            session_id: str = "",
            **environment: str,
        ) -> tuple[ShellSession, RecordingChannel]:
            folder = tmp_path / f"bin-{uuid4()}"
            if tools is None:
                path = f"{make_shell_folder(folder, shell)}:{os.environ['PATH']}"
            else:
                path = str(make_tool_folder(folder, shell, tools))
            connection = LocalConnection(command, {"PATH": path, "HOME": str(home)} | environment)
            closing.callback(connection.close)
            channel = RecordingChannel(connection.open(), cut)
            session = ShellSession(
                channel,
                ready_timeout=ready_timeout,
                lease=lease,
                renew=renew,
                session_id=session_id,
            )
            closing.callback(session.close)
            return session, channel

        yield opened


@pytest.fixture
def mark() -> Iterator[str]:
    """Seconds to `sleep` that no other process sleeps; nobody may still do when the test ends."""
    mark = f"98765.{uuid4().int}"
    yield mark
    wait_until(lambda: not processes_with(mark), "the end of all that the test started")
