"""Events as the journal keeps them: without what the hosts printed, which is in their logs.

The sink that keeps a run on disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from orchestrator.journal.host_log import HostLogs
from orchestrator.journal.run_dirs import KEEP, make_folder, prune
from orchestrator.journal.run_history import EVENTS, mark_going_on
from orchestrator.model import step_number
from orchestrator.model.event import (
    Event,
    RunFinished,
    RunStarted,
    StepFinished,
    StepOutput,
    StepStarted,
)
from orchestrator.model.step_result import Outcome, Row
from orchestrator.model.text_encoding import dump_json

_KINDS = {kind.__name__: kind for kind in (*get_args(Event), Row)}
_FIELDS = {name: kind.__struct_fields__ for name, kind in _KINDS.items()}
_CALLED = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in _KINDS}


def record(event: Event) -> dict[str, Any]:
    """The event as plain data: ``event`` is its name in snake_case, then its fields.

    Of an outcome: status, exit_status, seconds, reason, ignored, and the bytes printed.
    """
    found: dict[str, Any] = {"event": _CALLED[type(event).__name__]}
    for name in _FIELDS[type(event).__name__]:
        value = getattr(event, name)
        if isinstance(value, Outcome):
            found |= _outcome(value)
        elif not (isinstance(event, RunFinished) and name == "rows"):  # run.json has them
            found |= step_number.fields(value) if name == "step" else {name: value}
    return found


def row(ended: Row) -> dict[str, Any]:
    """Where a host stands at the end, as plain data."""
    found = {name: getattr(ended, name) for name in _FIELDS[Row.__name__]}
    found["status"] = ended.status.value
    return found


def _outcome(outcome: Outcome) -> dict[str, Any]:
    sizes = {
        name: len(stream.head) + len(stream.tail) + stream.dropped
        for name, stream in (("stdout", outcome.stdout), ("stderr", outcome.stderr))
    }
    return {
        "status": outcome.status.value,
        "exit_status": outcome.exit_status,
        "seconds": round(outcome.seconds, 4),
        "reason": outcome.reason,
        "ignored": outcome.ignored,
        "bytes": sizes,
    }


_E = TypeVar("_E", bound=Event)


class Journal:
    """A sink that writes the run's folder (see the package) from RunStarted on.

    ``folder`` is that folder, or None before the run and where nothing can be written.
    Nothing here stops a run: the first OSError is told to ``warn`` (called at most once, from
    within a call to the sink), and what can be written after it is.

    ``run.json`` holds run, stage, tasks, hosts, check, started (seconds since the epoch), and
    from RunFinished on also seconds, exit_code and rows; it is replaced as a whole.
    When a call returns, the event is written: whoever kills this process does not take it along.
    """

    def __init__(
        self,
        root: Path,
        environ: Mapping[str, str],
        warn: Callable[[str], None],
        keep: int = KEEP,
    ) -> None:
        self._root, self._environ, self._warn, self._keep = root, environ, warn, keep
        self.folder: Path | None = None
        self._logs: HostLogs | None = None
        self._events, self._torn = -1, False
        self._about: dict[str, Any] = {}
        self._warned = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._try(self._begin, event)
        if isinstance(event, StepOutput):
            self._try(self._log, event)
            return
        self._try(self._append, event)
        self._try(self._log, event)
        if isinstance(event, RunFinished):
            self._try(self._end, event)

    def close(self) -> None:
        """Write what is left, let go of the files, and remove runs that are too old."""
        try:
            if self._logs is not None:
                self._logs.close()
            if self._events >= 0:
                os.close(self._events)
        except OSError as error:
            self._trouble(error)
        self._logs, self._events = None, -1
        if self.folder is not None:
            prune(self.folder.parent, self._keep)

    def _try(self, keep: Callable[[_E], None], event: _E) -> None:
        """Keep the event in one of the files; where that fails the others can be written."""
        try:
            keep(event)
        except OSError as error:
            self._trouble(error)

    def _append(self, event: Event) -> None:
        """Write the event's line, behind the rest of one that a full disk has cut off."""
        if self._events < 0:
            return
        line = f"{dump_json(record(event))}\n"
        if self._torn:
            line = f"\n{line}"
        self._torn = True
        _write(self._events, line)
        self._torn = False

    def _log(self, event: Event) -> None:
        if self._logs is None:
            return
        match event:
            case StepOutput():
                self._logs.output(event)
            case StepStarted():
                self._logs.started(event)
            case StepFinished():
                self._logs.finished(event)

    def _end(self, event: RunFinished) -> None:
        if self.folder is not None:
            rows = [row(ended) for ended in event.rows]
            end = {"seconds": event.seconds, "exit_code": int(event.exit_code), "rows": rows}
            self._save(self.folder, self._about | end)

    def _begin(self, event: RunStarted) -> None:
        self.folder = folder = make_folder(self._root, event.run, self._environ)
        self._logs = HostLogs(folder)
        self._events = _create(folder / EVENTS)
        mark_going_on(self._events)
        about = record(event)
        del about["event"]
        self._about = about | {"started": about.pop("time")}
        self._save(folder, self._about)

    def _save(self, folder: Path, about: Mapping[str, Any]) -> None:
        new = folder / ".run.json.new"
        new.unlink(missing_ok=True)
        file = _create(new)
        try:
            _write(file, dump_json(about, indent=1) + "\n")
        finally:
            os.close(file)
        new.replace(folder / "run.json")

    def _trouble(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            why = error.strerror or str(error)
            where = f" {error.filename}" if error.filename else ""
            self._warn(f"the run's log is not complete: {why}{where}")


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def _write(file: int, text: str) -> None:
    left = text.encode("ascii")
    while left:
        left = left[os.write(file, left) :]
