r"""The journal: one folder per run, written while the run proceeds.

    .orch/.gitignore                 `*`
    .orch/runs/RUN/run.json          the run: stage, tasks and, once finished, its rows
    .orch/runs/RUN/events.jsonl      every event except output, one JSON object per line
    .orch/runs/RUN/HOST.log          a host's output under headings, with controls as \xNN
    .orch/console/RUN/…              the same for each command of `orch console`

If the project is not writable, both are in ``$XDG_STATE_HOME/orch/PROJECT``. Folders have mode
0700 and files 0600 whatever the umask is, because output may be confidential. A ``.orch`` that
belongs to another user, or that others can write to, is refused.

The newest runs are kept (``Stage.keep_runs``), and 200 commands of the console. Each event is
written (write(2), without fsync) before it is handled further, so no kill of orch, SIGKILL
included, loses an event that it had received. See ``journal.RunJournal`` and
``run_history.last_run``.
"""

from orchestrator.journal.journal import RunJournal
from orchestrator.journal.run_dirs import (
    CONSOLE_FOLDER,
    KEPT_COMMANDS,
    STATE_FOLDER,
    check_private,
    private_state_file,
)
from orchestrator.journal.run_history import LastRun, expected_seconds, last_run

__all__ = [
    "CONSOLE_FOLDER",
    "KEPT_COMMANDS",
    "STATE_FOLDER",
    "LastRun",
    "RunJournal",
    "check_private",
    "expected_seconds",
    "last_run",
    "private_state_file",
]
