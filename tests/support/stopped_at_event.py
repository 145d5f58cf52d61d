"""orch to which something happens right after the Nth event is in its record.

The first arguments are what happens, and N; the others are those of orch. `kill` is SIGKILL,
`interrupt` is SIGINT; `pause` writes a line to the standard error, and waits for one on the standard
input. N may be `TaskFinished:TASK:N`: the Nth event of this type and task (or '').
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count

from orchestrator.cli.main import main
from orchestrator.journal.journal import RunJournal
from orchestrator.model.event import RunEvent

PAUSED = "paused at the event\n"


def stop_at(action: str, which: str) -> None:
    """Let this happen after the event with this number."""
    append, numbers = RunJournal._append_event, count(1)
    *wanted, number = which.split(":")

    def append_event(journal: RunJournal, event: RunEvent) -> None:
        append(journal, event)
        if wanted not in ([], [type(event).__name__, getattr(event, "task", "")]):
            return
        if next(numbers) != int(number):
            return
        if action == "pause":
            sys.stderr.write(PAUSED)
            sys.stderr.flush()
            sys.stdin.readline()
        else:
            os.kill(os.getpid(), signal.SIGKILL if action == "kill" else signal.SIGINT)

    RunJournal._append_event = append_event  # type: ignore[method-assign]


if __name__ == "__main__":
    stop_at(sys.argv.pop(1), sys.argv.pop(1))
    main()
