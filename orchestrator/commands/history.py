"""Selects recorded runs, and what of them is shown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import Diagnostic, UsageError, suggest_nearest
from orchestrator.journal.run_dirs import RUNS_FOLDER
from orchestrator.journal.run_reader import RecordedRun, log_lines, read_events
from orchestrator.journal.run_summary import RunSummary
from orchestrator.model.event import RunEvent, RunFinished
from orchestrator.model.step_result import Status

if TYPE_CHECKING:
    from orchestrator.journal.run_index import RunIndex  # loads SQLite, which `show` does not need

STATES = ("ok", "failed", "running", "killed")
"""The states of recorded runs."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class RunFilter(Struct, frozen=True):
    """Which runs to select; an empty field selects all.

    ``since`` is the earliest start, in seconds since the epoch; ``state`` is one of STATES.
    """

    stage: str = ""
    host: str = ""
    task: str = ""
    app: str = ""
    user: str = ""
    state: str = ""
    since: float = 0.0

    def selects(self, run: RunSummary) -> bool:
        """Return True if the run is selected."""
        return (
            self.stage in ("", run.stage)
            and (not self.host or self.host in run.hosts)
            and (not self.task or self.task in run.tasks)
            and (not self.app or self.app in run.apps)
            and self.user in ("", run.user)
            and run.started >= self.since
            and self.state in ("", run.state)
        )


def selected_runs(
    index: RunIndex, run_filter: RunFilter, limit: int, parent: str = RUNS_FOLDER
) -> Iterator[RunSummary]:
    """Yield at most ``limit`` runs in this folder of the state folder, newest first."""
    for run in index.runs(parent):
        if limit <= 0 or run.started < run_filter.since:
            return
        if run_filter.selects(run):
            limit -= 1
            yield run


def parse_age(text: str) -> float:
    """Return the seconds of an age like ``90s``, ``12h``, ``7d`` or ``2w``. Raises UsageError."""
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if not found:
        diagnostic = Diagnostic(f"invalid age '{text}'", None, "write a number and a unit, like 7d")
        raise UsageError(diagnostic)
    return float(int(found[1]) * _UNITS[found[2]])


def result_text(run: RunSummary) -> str:
    """Return the counts of the hosts' statuses, like ``18 changed, 2 failed``; best first."""
    if run.seconds is None:
        return run.state
    counts = Counter(run.statuses)
    shown = (f"{counts[s]} {s.replace('_', ' ')}" for s in reversed(Status) if counts[s.value])
    return ", ".join(shown) or "no hosts"


def run_json(run: RunSummary) -> dict[str, Any]:
    """Return the run as plain data."""
    return {
        "run": run.run,
        "stage": run.stage,
        "tasks": list(run.tasks),
        "apps": list(run.apps),
        "hosts": list(run.hosts),
        "check": run.check,
        "started": run.started,
        "seconds": None if run.seconds is None else round(run.seconds, 4),
        "state": run.state,
        "exit_code": run.exit_code,
        "statuses": dict(run.statuses),
        "user": run.user,
        "argv": list(run.argv),
        "version": run.version,
        "commit": run.commit,
        "is_dirty": run.is_dirty,
        "folder": run.folder,
    }


class RunSelection(Struct, frozen=True):
    """Which part of a run to show: one host, one task, the hosts that failed."""

    host: str = ""
    task: str = ""
    failed: bool = False


def selected_events(run: RecordedRun, selection: RunSelection) -> Iterator[RunEvent]:
    """Yield the events of the selected part of the run. Raises UsageError if it has none of it."""
    record = run.record
    if selection.host and selection.host not in record.hosts:
        hint = suggest_nearest(selection.host, record.hosts) or "; ".join(record.hosts[:5])
        message = f"host '{selection.host}' took no part in run {run.run}"
        raise UsageError(Diagnostic(message, None, hint))
    events = list(read_events(run))
    tasks = sorted({task for event in events if (task := getattr(event, "task", ""))})
    if selection.task and selection.task not in tasks:
        hint = suggest_nearest(selection.task, tasks) or "; ".join(tasks[:5])
        message = f"task '{selection.task}' did not run in {run.run}"
        raise UsageError(Diagnostic(message, None, hint))
    last = events[-1]
    rows = last.rows if isinstance(last, RunFinished) else ()
    failed = {row.host for row in rows if row.status.is_failure}
    for event in events:
        host = getattr(event, "host", "")
        if host and selection.host not in ("", host):
            continue
        if host and selection.failed and host not in failed:
            continue
        if selection.task not in ("", getattr(event, "task", selection.task)):
            continue
        if isinstance(event, RunFinished):
            rows = tuple(
                row
                for row in event.rows
                if selection.host in ("", row.host)
                and (not selection.failed or row.status.is_failure)
            )
            yield replace(event, rows=rows)
        else:
            yield event


class SearchHit(Struct, frozen=True):
    """A line of output that was found. ``step`` is the heading of its step in the log."""

    run: str
    host: str
    step: str
    line: str


def search_outputs(
    index: RunIndex, text: str, *, host: str = "", since: float = 0.0
) -> Iterator[SearchHit]:
    """Yield the lines with this text (in any case) in the logs of runs since then, newest first.

    Commands of consoles are searched, too.
    """
    wanted = text.casefold()
    for run, hosts in index.runs_with_output(text):
        if run.started < since:
            return
        for name in hosts:
            if host not in ("", name):
                continue
            for step, line in log_lines(Path(run.folder), name):
                if wanted in line.casefold():
                    yield SearchHit(run.run, name, step, line)
