"""What was done, kept: a folder per run, written as things happen.

    .orch/.gitignore                 `*`
    .orch/runs/RUN/run.json          the run: stage, tasks, and once it is over its rows
    .orch/runs/RUN/events.jsonl      every event but output, one JSON object a line
    .orch/runs/RUN/HOST.log          all that a host printed, controls as \\xNN, under headings

Where the project cannot be written, ``runs`` stands in ``$XDG_STATE_HOME/orch/PROJECT``.
Folders are 0700 and files 0600 whatever the umask is: output may hold what is nobody else's
business. A ``.orch`` that belongs to another user, or that others may write to, is refused.
The newest 50 runs are kept. Each event is on its way to the disk (write(2); no fsync) before
anything is done about it: what ends orch, SIGKILL included, loses nothing that it had received.
See ``run.Journal`` and ``last.last_run``.
"""

from orchestrator.journal.journal import RunJournal
from orchestrator.journal.run_dirs import STATE_FOLDER, check_private
from orchestrator.journal.run_history import LastRun, last_run

__all__ = ["STATE_FOLDER", "LastRun", "RunJournal", "check_private", "last_run"]
