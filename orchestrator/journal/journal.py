"""The sink that records a run on disk, and events as records, without output."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from orchestrator.journal.host_log import HostLogWriter
from orchestrator.journal.run_dirs import (
    RESULTS_FILE,
    RUNS_FOLDER,
    TEXTS_FILE,
    make_run_folder,
    prune_runs,
    read_raw_record,
)
from orchestrator.journal.run_lock import EVENTS_FILE, mark_running
from orchestrator.model import step_number
from orchestrator.model.event import (
    RunEvent,
    RunFinished,
    RunStarted,
    SentStep,
    StepFinished,
    StepOutput,
    StepsSent,
    StepStarted,
    TransferProgress,
)
from orchestrator.model.host import KEPT_RUNS
from orchestrator.model.step_result import HostSummary, StepResult
from orchestrator.model.text_encoding import dump_json, encode_text

MAX_DIFF_CHARS = 100_000
"""The length of a diff that is recorded; the rest of it is left out."""


def event_record(event: RunEvent) -> dict[str, Any]:
    """Return the event as plain data: ``event`` is its name in snake_case, then its fields.

    A result has the fields status, exit_status, seconds, reason, ignored, and the sizes of its
    output in bytes; also changes, diff, attempts, position and rescued, unless they are empty (or
    1). Other steps than the items of a loop have no field ``loop``. Of the steps of StepsSent it
    has the numbers, as displayed, and the digests.
    """
    name, plain, optional, special = _FIELDS_BY_TYPE[type(event)]
    found: dict[str, Any] = {"event": name}
    for field in plain:
        found[field] = getattr(event, field)
    for field in optional:
        if value := getattr(event, field):
            found[field] = value
    for field in special:
        found |= _SPECIAL_FIELDS[field](getattr(event, field))
    return found


def _sent_steps_record(steps: Sequence[SentStep]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "steps": [
            [step_number.number_label(step.step), text_digest(step.content)] for step in steps
        ]
    }
    if read_only := [n for n, step in enumerate(steps) if step.readonly]:
        found["readonly"] = read_only
    return found


def text_digest(text: str) -> str:
    """Return the digest by which the text of a step is found: 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(encode_text(text)).hexdigest()[:16]


def row_record(ended: HostSummary) -> dict[str, Any]:
    """Return a host's summary as plain data."""
    found = {name: getattr(ended, name) for name in _ROW_FIELDS}
    found["status"] = ended.status.value
    return found


def _result_record(outcome: StepResult) -> dict[str, Any]:
    sizes = {
        name: len(stream.head) + len(stream.tail) + stream.dropped
        for name, stream in (("stdout", outcome.stdout), ("stderr", outcome.stderr))
    }
    found: dict[str, Any] = {
        "status": outcome.status.value,
        "exit_status": outcome.exit_status,
        "seconds": round(outcome.seconds, 4),
        "reason": outcome.reason,
        "ignored": outcome.ignored,
        "bytes": sizes,
    }
    if outcome.changes:
        found["changes"] = [
            {"key": change.key, "before": change.before, "after": change.after}
            for change in outcome.changes
        ]
    if outcome.diff:
        found["diff"] = outcome.diff[:MAX_DIFF_CHARS]
    if outcome.attempts > 1:
        found["attempts"] = outcome.attempts
    if outcome.position:
        found["position"] = outcome.position
    if outcome.rescued:
        found["rescued"] = True
    return found


_SPECIAL_FIELDS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "outcome": _result_record,
    "step": step_number.number_fields,
    "steps": _sent_steps_record,
}
_OPTIONAL_FIELDS = frozenset(
    ("register", "has_secret", "rollback", "resumed", "redone_from", "shell_pid", "loop")
)
"""The fields that are left out if they are empty."""


def _fields_of(
    kind: type[RunEvent],
) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the name of the event, and its fields: plain ones, optional ones, and special ones."""
    special = _SPECIAL_FIELDS.keys() - (set() if kind is StepsSent else {"steps"})
    left_out = {"rows"} if kind is RunFinished else set[str]()  # run.json has them
    names = [name for name in kind.__struct_fields__ if name not in left_out]
    return (
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower(),
        tuple(name for name in names if name not in special and name not in _OPTIONAL_FIELDS),
        tuple(name for name in names if name in _OPTIONAL_FIELDS),
        tuple(name for name in names if name in special),
    )


_FIELDS_BY_TYPE = {kind: _fields_of(kind) for kind in get_args(RunEvent)}
_ROW_FIELDS = HostSummary.__struct_fields__


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
    ``describe_end`` returns those that are known at the end of the run. ``resumed`` is the folder
    of an earlier part of the run, which goes on in it, and the file descriptor of its events:
    ``resumed`` of ``run.json`` has, for each time, the time, the command line, and the exit code
    before.

    The texts of the steps that were sent are in ``texts.jsonl``, each once, with its digest. The
    outputs that later steps can use are in ``results.jsonl``, in base64, without those that have a
    secret.
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
        resumed: tuple[Path, int] | None = None,
    ) -> None:
        self._invocation, self._describe_end = about or {}, describe_end
        self._parent, self._resumed = parent, resumed
        self._root, self._environ, self._warn, self._keep = root, environ, warn, keep
        self.folder: Path | None = None
        self._logs: HostLogWriter | None = None
        self._events, self._torn = -1, False
        self._texts = self._results = -1
        self._known_texts: set[str] = set()
        self._earlier_seconds = 0.0  # of the run before it was resumed
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
        if isinstance(event, StepsSent):
            self._try_write(self._store_texts, event)
        if isinstance(event, StepFinished) and event.register:
            self._try_write(self._store_result, event)
        self._try_write(self._append_event, event)
        self._try_write(self._log_event, event)
        if isinstance(event, RunFinished):
            self._try_write(self._end_run, event)

    def close(self) -> None:
        """Write the buffered output, close the files, and remove old runs."""
        try:
            if self._logs is not None:
                self._logs.close()
            for file in (self._events, self._texts, self._results):
                if file >= 0:
                    os.close(file)
        except OSError as error:
            self._report_error(error)
        self._logs, self._events, self._texts, self._results = None, -1, -1, -1
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

    def _store_texts(self, event: StepsSent) -> None:
        """Write the text of each step that is not written yet, once for all hosts."""
        for step in event.steps:
            digest = text_digest(step.content)
            if digest in self._known_texts or self.folder is None:
                continue
            if self._texts < 0:
                self._texts = _open_private(self.folder / TEXTS_FILE)
            text = step.text[:MAX_DIFF_CHARS]
            _write_all(self._texts, dump_json({"digest": digest, "text": text}) + "\n")
            self._known_texts.add(digest)

    def _store_result(self, event: StepFinished) -> None:
        """Write the output that later steps of the run may use, unless it has a secret."""
        if self.folder is None:
            return
        if self._results < 0:
            self._results = _open_private(self.folder / RESULTS_FILE)
        found: dict[str, Any] = {
            "app": event.app,
            "number": event.number,
            "host": event.host,
            "step": step_number.number_label(event.step),
        }
        if event.has_secret:
            found["has_secret"] = True
        else:
            for name in ("stdout", "stderr"):
                stream = getattr(event.outcome, name)
                parts = [base64.b64encode(part).decode() for part in (stream.head, stream.tail)]
                found[name] = [*parts, stream.dropped]
        _write_all(self._results, dump_json(found) + "\n")

    def _end_run(self, event: RunFinished) -> None:
        if self.folder is not None:
            rows = [row_record(ended) for ended in event.rows]
            seconds = self._earlier_seconds + event.seconds
            end = {"seconds": seconds, "exit_code": int(event.exit_code), "rows": rows}
            self._save_record(self.folder, {**self._about, **self._describe_end(), **end})

    def _begin_run(self, event: RunStarted) -> None:
        if self._resumed is not None:
            self._begin_again(*self._resumed)
            return
        self.folder = folder = make_run_folder(self._root, event.run, self._environ, self._parent)
        self._logs = HostLogWriter(folder)
        self._events = _create_private(folder / EVENTS_FILE)
        mark_running(self._events)
        about = event_record(event)
        del about["event"]
        started = about.pop("time")
        self._about = {**about, "started": started, **self._invocation}
        self._save_record(folder, self._about)

    def _begin_again(self, folder: Path, events: int) -> None:
        """Go on in the folder of a run that has ended."""
        self.folder = folder
        self._logs = HostLogWriter(folder)
        self._events = events
        self._torn = True  # a kill may have cut the last line
        self._about = read_raw_record(folder)
        ended = {name: self._about.pop(name, None) for name in ("seconds", "exit_code", "rows")}
        self._earlier_seconds = float(ended["seconds"] or self._about.get("earlier_seconds", 0.0))
        self._about["earlier_seconds"] = self._earlier_seconds
        again = {"time": time.time(), **self._invocation}
        again |= {"exit_code_before": ended["exit_code"]}
        self._about["resumed"] = [*self._about.get("resumed", []), again]
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


def _open_private(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


def _write_all(file: int, text: str) -> None:
    left = text.encode("ascii")
    while left:
        left = left[os.write(file, left) :]
