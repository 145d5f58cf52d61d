"""A client to be killed: runs a step that sleeps, and another, over the local transport."""

from __future__ import annotations

import os
import sys

from orchestrator.model.command import Command
from orchestrator.remote_shell import Session
from orchestrator.transports.local import LocalConnection
from tests.session.heard import Heard


def main() -> None:
    """Print the session's shell's process id, then run."""
    session = Session(LocalConnection("sh").open(), ready_timeout=30)
    heard = Heard()
    session.run([Command(1, "echo $PPID")], heard)
    print(int(heard.out(1)), flush=True)
    home = os.environ["HOME"]
    steps = [Command(2, f"sleep {sys.argv[1]}", ignore=True), Command(3, f"touch {home}/second")]
    session.run(steps, heard)


main()
