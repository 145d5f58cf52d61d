"""The sink that records a run on disk, and events as records, without output."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from orchestrator.journal.host_log import HostLogWriter
from orchestrator.journal.run_dirs import RUNS_FOLDER, make_run_folder, prune_runs
from orchestrator.journal.run_lock import EVENTS_FILE, mark_running
from orchestrator.model import step_number
from orchestrator.model.event import (
    RunEvent,
    RunFinished,
    RunStarted,
    StepFinished,
    StepOutput,
    StepStarted,
    TransferProgress,
)
from orchestrator.model.host import KEPT_RUNS
from orchestrator.model.step_result import HostSummary, StepResult
from orchestrator.model.text_encoding import dump_json

MAX_DIFF_CHARS = 100_000
"""The length of a diff that is recorded; the rest of it is left out."""
_EVENT_TYPES = {kind.__name__: kind for kind in (*get_args(RunEvent), HostSummary)}
_EVENT_FIELDS = {name: kind.__struct_fields__ for name, kind in _EVENT_TYPES.items()}
_EVENT_NAMES = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in _EVENT_TYPES}


def event_record(event: RunEvent) -> dict[str, Any]:
    """Return the event as plain data: ``event`` is its name in snake_case, then its fields.

    A result has the fields status, exit_status, seconds, reason, ignored, and the sizes of its
    output in bytes; also changes, diff, attempts and position, unless they are empty (or 1). Other
    steps than the items of a loop have no field ``loop``.
    """
    found: dict[str, Any] = {"event": _EVENT_NAMES[type(event).__name__]}
    for name in _EVENT_FIELDS[type(event).__name__]:
        value = getattr(event, name)
        if isinstance(value, StepResult):
            found |= _result_record(value)
        elif name == "loop" and not value:
            continue
        elif not (isinstance(event, RunFinished) and name == "rows"):  # run.json has them
            found |= step_number.number_fields(value) if name == "step" else {name: value}
    return found


def row_record(ended: HostSummary) -> dict[str, Any]:
    """Return a host's summary as plain data."""
    found = {name: getattr(ended, name) for name in _EVENT_FIELDS[HostSummary.__name__]}
    found["status"] = ended.status.value
    return found


def _result_record(outcome: StepResult) -> dict[str, Any]:
    sizes = {
        name: len(stream.head) + len(stream.tail) + stream.dropped
        for name, stream in (("stdout", outcome.stdout), ("stderr", outcome.stderr))
    }
    extra: dict[str, Any] = {
        "changes": [
            {"key": change.key, "before": change.before, "after": change.after}
            for change in outcome.changes
        ],
        "diff": outcome.diff[:MAX_DIFF_CHARS],
        "attempts": outcome.attempts if outcome.attempts > 1 else 0,
        "position": outcome.position,
    }
    return {name: value for name, value in extra.items() if value} | {
        "status": outcome.status.value,
        "exit_status": outcome.exit_status,
        "seconds": round(outcome.seconds, 4),
        "reason": outcome.reason,
        "ignored": outcome.ignored,
        "bytes": sizes,
    }


_E = TypeVar("_E", bound=RunEvent)


class RunJournal:
    """A sink that writes the run's folder (see the package) from RunStarted on.

    ``folder`` is that folder, or None before the run and if nothing can be written. No error stops
    a run: the first OSError is passed to ``warn`` (called at most once, within a call of the sink),
    and later events are still written if possible.

    ``run.json`` has run, stage, tasks, hosts, check, started (seconds since the epoch), and from
    RunFinished on also seconds, exit_code and rows; it is replaced atomically. When a call returns,
    the event is written: killing this process does not lose it. ``keep`` is the number of runs kept
    in the folder ``parent`` of the state folder. ``about`` are further fields of ``run.json``,
    ``describe_end`` returns those that are known at the end of the run.
    """

    def __init__(
        self,
        root: Path,
        environ: Mapping[str, str],
        warn: Callable[[str], None],
        keep: int = KEPT_RUNS,
        parent: str = RUNS_FOLDER,
        about: Mapping[str, Any] | None = None,
        describe_end: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._invocation, self._describe_end = about or {}, describe_end
        self._parent = parent
        self._root, self._environ, self._warn, self._keep = root, environ, warn, keep
        self.folder: Path | None = None
        self._logs: HostLogWriter | None = None
        self._events, self._torn = -1, False
        self._about: dict[str, Any] = {}
        self._warned = False

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            self._try_write(self._begin_run, event)
        if isinstance(event, TransferProgress):
            return
        if isinstance(event, StepOutput):
            self._try_write(self._log_event, event)
            return
        self._try_write(self._append_event, event)
        self._try_write(self._log_event, event)
        if isinstance(event, RunFinished):
            self._try_write(self._end_run, event)

    def close(self) -> None:
        """Write the buffered output, close the files, and remove old runs."""
        try:
            if self._logs is not None:
                self._logs.close()
            if self._events >= 0:
                os.close(self._events)
        except OSError as error:
            self._report_error(error)
        self._logs, self._events = None, -1
        if self.folder is not None:
            prune_runs(self.folder.parent, self._keep, self.folder)

    def _try_write(self, keep: Callable[[_E], None], event: _E) -> None:
        """Write the event to one file; on an error, the other files can still be written."""
        try:
            keep(event)
        except OSError as error:
            self._report_error(error)

    def _append_event(self, event: RunEvent) -> None:
        """Write the event's line, after the rest of a line truncated by a full disk."""
        if self._events < 0:
            return
        line = f"{dump_json(event_record(event))}\n"
        if self._torn:
            line = f"\n{line}"
        self._torn = True
        _write_all(self._events, line)
        self._torn = False

    def _log_event(self, event: RunEvent) -> None:
        if self._logs is None:
            return
        match event:
            case StepOutput():
                self._logs.output(event)
            case StepStarted():
                self._logs.started(event)
            case StepFinished():
                self._logs.finished(event)

    def _end_run(self, event: RunFinished) -> None:
        if self.folder is not None:
            rows = [row_record(ended) for ended in event.rows]
            end = {"seconds": event.seconds, "exit_code": int(event.exit_code), "rows": rows}
            self._save_record(self.folder, {**self._about, **self._describe_end(), **end})

    def _begin_run(self, event: RunStarted) -> None:
        self.folder = folder = make_run_folder(self._root, event.run, self._environ, self._parent)
        self._logs = HostLogWriter(folder)
        self._events = _create_private(folder / EVENTS_FILE)
        mark_running(self._events)
        about = event_record(event)
        del about["event"]
        started = about.pop("time")
        self._about = {**about, "started": started, **self._invocation}
        self._save_record(folder, self._about)

    def _save_record(self, folder: Path, about: Mapping[str, Any]) -> None:
        new = folder / ".run.json.new"
        new.unlink(missing_ok=True)
        file = _create_private(new)
        try:
            _write_all(file, dump_json(about, indent=1) + "\n")
        finally:
            os.close(file)
        new.replace(folder / "run.json")

    def _report_error(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            why = error.strerror or str(error)
            file_suffix = f" {error.filename}" if error.filename else ""
            self._warn(f"the log of the run is incomplete: {why}{file_suffix}")


def _create_private(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def _write_all(file: int, text: str) -> None:
    left = text.encode("ascii")
    while left:
        left = left[os.write(file, left) :]
