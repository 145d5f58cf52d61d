"""What is listed of a recorded run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from orchestrator.journal.run_reader import RecordedRun


class RunSummary(Struct, frozen=True, omit_defaults=True):
    """A recorded run, without its events and outputs.

    ``state`` is ``ok``, ``failed``, ``running`` or ``killed``. ``statuses`` are the numbers of rows
    by their status. ``seconds`` and ``exit_code`` are None for a run that is not finished. The
    other fields are those of the run's record.
    """

    run: str
    folder: str
    state: str
    stage: str = ""
    tasks: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    check: bool = False
    started: float = 0.0
    seconds: float | None = None
    exit_code: int | None = None
    statuses: Mapping[str, int] = {}
    user: str = ""
    argv: tuple[str, ...] = ()
    version: str = ""
    commit: str = ""
    is_dirty: bool | None = None


def summary_of(run: RecordedRun) -> RunSummary:
    """Return the summary of a run."""
    record = run.record
    return RunSummary(
        run.run,
        str(run.folder),
        run.state,
        stage=record.stage,
        tasks=record.tasks,
        apps=tuple(record.apps),
        hosts=record.hosts,
        check=record.check,
        started=record.started,
        seconds=None if record.rows is None else record.seconds,
        exit_code=record.exit_code,
        statuses=Counter(row.status for row in record.rows or ()),
        user=record.user,
        argv=record.argv,
        version=record.version,
        commit=record.commit,
        is_dirty=record.is_dirty,
    )
