"""A client to be killed: it runs a step that sleeps, and another, over the local transport."""

from __future__ import annotations

import os
import sys

from orchestrator.model.command import StepCommand
from orchestrator.remote_shell import ShellSession
from orchestrator.transports.local import LocalConnection
from tests.support.session_recording import RecordingListener


def main() -> None:
    """Print the process ID of the session's shell, then run the steps."""
    session = ShellSession(LocalConnection("sh").open(), ready_timeout=30)
    recording = RecordingListener()
    session.run([StepCommand(1, "echo $PPID")], recording)
    print(int(recording.stdout_of(1)), flush=True)
    home = os.environ["HOME"]
    steps = [
        StepCommand(2, f"sleep {sys.argv[1]}", ignore_failure=True),
        StepCommand(3, f"touch {home}/second"),
    ]
    session.run(steps, recording)


main()
