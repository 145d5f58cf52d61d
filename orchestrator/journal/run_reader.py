"""Finds recorded runs by name, and reads their events again, with the output of steps.

What was recorded is read as far as it is readable: lines that a kill or a full disk has cut, and
fields of other versions of orch, are left out.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct, field

from orchestrator.errors import Diagnostic, UsageError
from orchestrator.journal.host_log import heading_text, log_file_name
from orchestrator.journal.run_dirs import (
    CONSOLE_FOLDER,
    RESULTS_FILE,
    RUNS_FOLDER,
    TEXTS_FILE,
    RunRecord,
    check_readable,
    list_runs,
    run_parents,
)
from orchestrator.journal.run_history import runs_newest_first
from orchestrator.journal.run_lock import EVENTS_FILE, is_running
from orchestrator.model.event import (
    ConnectFinished,
    HostFinished,
    RunEvent,
    RunFinished,
    RunStarted,
    SentStep,
    StepFinished,
    StepsSent,
    StepStarted,
    TaskFinished,
    TaskSkipped,
    TaskStarted,
    Warned,
)
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.step_number import number_from_fields, number_from_label
from orchestrator.model.step_result import (
    CapturedOutput,
    HostSummary,
    StateChange,
    Status,
    StepResult,
)
from orchestrator.model.text_encoding import encode_text

_LAST_NAME = lazy_regex(r"last(?:~([0-9]{1,6}))?")
_MARK = lazy_regex(
    r"\n(?:=== \S+ (?P<heading>.*)|--- (?P<stream>stdout|stderr)"
    r"|--- (?:" + "|".join(status.value for status in Status) + r")\b.*)(?=\n|\Z)"
)
_ESCAPED = lazy_regex(r"^\\(?==== |--- )", re.MULTILINE)
_COUNTED = {
    Status.OK: "ok",
    Status.CHANGED: "changed",
    Status.WOULD_CHANGE: "changed",
    Status.WOULD_RUN: "changed",
    Status.UNKNOWN: "unknown",
    Status.SKIPPED: "skipped",
}
_HostPart: TypeAlias = "tuple[str, str | None]"


class _StoredText(Struct, frozen=True):
    """A line of the file of texts."""

    digest: str
    text: str


class StoredResult(Struct, frozen=True):
    """A line of the file of results; ``step`` is the number as displayed.

    A stream is its head and tail, in base64, and the number of bytes dropped between.
    """

    app: str | None
    number: int
    host: str
    step: str
    stdout: tuple[bytes, bytes, int] = (b"", b"", 0)
    stderr: tuple[bytes, bytes, int] = (b"", b"", 0)
    has_secret: bool = False


ResultKey: TypeAlias = "tuple[str | None, int, str, int]"
"""App, number of the task, host, and number of the step."""


class RecordedRun(Struct, frozen=True):
    """A recorded run: its ID, its folder, and the record in it."""

    run: str
    folder: Path
    record: RunRecord

    @property
    def is_running(self) -> bool:
        """Return True if the run is in progress."""
        return self.record.rows is None and is_running(self.folder / EVENTS_FILE)

    @property
    def state(self) -> str:
        """Return ``ok``, ``failed``, ``running`` or ``killed``."""
        if self.record.rows is None:
            return "running" if self.is_running else "killed"
        return "failed" if self.record.exit_code not in (0, 6) else "ok"  # 6: --exit-code


def recorded_runs(
    root: Path, environ: Mapping[str, str], parent: str = RUNS_FOLDER, prefix: str = ""
) -> Iterator[RecordedRun]:
    """Yield the recorded runs of a project whose IDs begin with ``prefix``, newest first.

    ``parent`` is their folder. Raises DefinitionError if others can write to the records.
    """
    check_readable(root, environ)
    folders = list_runs(run_parents(root, environ, parent))
    for folder, record in runs_newest_first(f for f in folders if f.name.startswith(prefix)):
        yield RecordedRun(folder.name, folder, record)


def find_run(root: Path, environ: Mapping[str, str], name: str) -> RecordedRun:
    """Return the run of this name: ``last``, ``last~1`` (the one before), or the start of an ID.

    A command of a console is found by the start of its ID, if no run is. Raises UsageError if there
    is none, or more than one.
    """
    if last := _LAST_NAME.fullmatch(name):
        back, count = int(last[1] or 0), 0
        for number, run in enumerate(recorded_runs(root, environ)):
            if number == back:
                return run
            count = number + 1
        message = "no run is recorded"
        if count:
            message = f"only {count} run{'s are' if count > 1 else ' is'} recorded"
        raise UsageError(Diagnostic(message, None, _LIST_HINT))
    found: list[RecordedRun] = []
    for parent in (RUNS_FOLDER, CONSOLE_FOLDER):
        if name and not found:
            found = list(recorded_runs(root, environ, parent, name))
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(Diagnostic(f"no recorded run is named '{name}'", None, _LIST_HINT))
    names = ", ".join(run.run for run in found[:4]) + (", …" if len(found) > 4 else "")
    raise UsageError(Diagnostic(f"'{name}' is the start of {len(found)} runs", None, names))


def find_earlier_run(root: Path, environ: Mapping[str, str], run: RecordedRun) -> RecordedRun:
    """Return the last run before this one with the same tasks and apps on the same stage.

    Raises UsageError if there is none.
    """

    def what(record: RunRecord) -> tuple[object, ...]:
        return record.stage, record.tasks, tuple(record.apps), record.check

    runs = iter(recorded_runs(root, environ))
    for each in runs:
        if each.run == run.run:
            break
    for each in runs:
        if what(each.record) == what(run.record):
            return each
    message = f"no run before {run.run} ran the same tasks on the same stage"
    raise UsageError(Diagnostic(message, None, "name two runs; `orch history` lists them"))


_LIST_HINT = "`orch history` lists the runs"


def read_events(
    run: RecordedRun, *, outputs: bool = True, max_bytes: int | None = None
) -> Iterator[RunEvent]:
    """Yield the events of a run, with the output of steps if ``outputs``.

    An output of more than ``max_bytes`` loses its middle.
    The last one is RunFinished; for a run that is not finished it is made of the events before it.
    """
    tally = _Tally(run.record)
    texts: dict[str, str] | None = None
    logs: dict[str, _HostLog] = {}
    for line in _event_lines(run.folder):
        try:
            event = _decode_event(msgspec.json.decode(line))
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
            continue
        if event is None or isinstance(event, RunFinished):
            continue
        if isinstance(event, StepsSent):
            texts = _read_texts(run.folder) if texts is None else texts
            event = _with_texts(event, texts)
        if isinstance(event, StepFinished) and outputs:
            if event.host not in logs:
                path = run.folder / f"{log_file_name(event.host)}.log"
                logs[event.host] = _HostLog.read(path, max_bytes)
            event = logs[event.host].add_output(event)
        tally.count(event)
        yield event
    rows = _recorded_rows(run.folder)
    record = run.record
    seconds = record.seconds if rows is not None else tally.last_time - record.started
    last_time = tally.last_time if record.resumed else record.started + max(seconds, 0.0)
    rows = tally.rows(is_running=run.is_running) if rows is None else rows
    yield RunFinished(last_time, max(seconds, 0.0), record.exit_code or 0, rows, str(run.folder))


def _read_texts(folder: Path) -> dict[str, str]:
    """Return the texts of the steps that were sent, by their digests."""
    found: dict[str, str] = {}
    for line in _lines(folder / TEXTS_FILE):
        with suppress(msgspec.MsgspecError):
            each = msgspec.json.decode(line, type=_StoredText)
            found[each.digest] = each.text
    return found


def _with_texts(event: StepsSent, texts: Mapping[str, str]) -> StepsSent:
    steps = (
        msgspec.structs.replace(step, text=texts.get(step.content, "")) for step in event.steps
    )
    return msgspec.structs.replace(event, steps=tuple(steps))


def read_results(folder: Path) -> dict[ResultKey, StoredResult]:
    """Return the outputs that later steps of the run can use, by app, task, host and step."""
    found: dict[ResultKey, StoredResult] = {}
    for line in _lines(folder / RESULTS_FILE):
        with suppress(msgspec.MsgspecError, ValueError):
            each = msgspec.json.decode(line, type=StoredResult)
            found[each.app, each.number, each.host, number_from_label(each.step)] = each
    return found


def _event_lines(folder: Path) -> Iterator[bytes]:
    return _lines(folder / EVENTS_FILE)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError:
        return


def _recorded_rows(folder: Path) -> tuple[HostSummary, ...] | None:
    try:
        data = msgspec.json.decode((folder / "run.json").read_bytes())
        return msgspec.convert(data.get("rows"), tuple[HostSummary, ...] | None)
    except (OSError, AttributeError, msgspec.MsgspecError):
        return None


def _decode_event(data: dict[str, Any]) -> RunEvent | None:
    """Return the event of a line, or None for one that is not needed.

    Raises ValueError, KeyError or TypeError for what is not an event.
    """
    shared = ("time", "app", "task", "host", "name", "number")
    names = {name: data[name] for name in shared if name in data}
    match data["event"]:
        case "run_started":
            return _convert(data, RunStarted)
        case "connect_finished":
            return _convert(data, ConnectFinished)
        case "task_started":
            return _convert(data, TaskStarted)
        case "task_finished":
            return _convert(data, TaskFinished)
        case "warned":
            return _convert(data, Warned)
        case "step_started":
            pid = data.get("shell_pid", 0)
            return StepStarted(**names, step=number_from_fields(data), shell_pid=pid)
        case "step_finished":
            return StepFinished(
                **names,
                step=number_from_fields(data),
                outcome=_result(data),
                loop=msgspec.convert(data.get("loop", 0), int),
                register=data.get("register", ""),
                has_secret=bool(data.get("has_secret")),
                has_values=bool(data.get("has_values")),
            )
        case "steps_sent":
            session = {name: data[name] for name in ("target", "user", "session")}
            pid = data.get("shell_pid", 0)
            return StepsSent(**names, **session, steps=_sent_steps(data), shell_pid=pid)
        case "task_skipped":
            return _convert(data, TaskSkipped)
        case "host_finished":
            return HostFinished(**names, outcome=_result(data), last=bool(data.get("last")))
        case "run_finished":
            return RunFinished(data["time"], data.get("seconds", 0.0), 0, ())
    return None


_E: TypeAlias = "RunStarted | ConnectFinished | TaskStarted | TaskFinished | TaskSkipped | Warned"


def _convert(data: dict[str, Any], kind: type[_E]) -> _E:
    return msgspec.convert(data, kind)


def _sent_steps(data: dict[str, Any]) -> tuple[SentStep, ...]:
    """Return the steps that were sent, with their digests as ``content``."""
    readonly = set(data.get("readonly", ()))
    return tuple(
        SentStep(number_from_label(label), "", digest, n in readonly)
        for n, (label, digest) in enumerate(data["steps"])
    )


def _result(data: dict[str, Any]) -> StepResult:
    return StepResult(
        Status(data["status"]),
        data.get("exit_status"),
        seconds=data.get("seconds", 0.0),
        reason=data.get("reason", ""),
        ignored=bool(data.get("ignored")),
        changes=msgspec.convert(data.get("changes", ()), tuple[StateChange, ...]),
        diff=data.get("diff", ""),
        attempts=data.get("attempts", 1),
        position=data.get("position", ""),
        rescued=bool(data.get("rescued")),
    )


def log_lines(folder: Path, host: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a host's output in a run, each after the heading of its step."""
    for heading, _, text in _read_log(folder / f"{log_file_name(host)}.log"):
        for line in text.removesuffix("\n").split("\n") if text is not None else ():
            yield heading, line


def _read_log(path: Path) -> Iterator[tuple[str, str, str | None]]:
    """Yield heading, stream and text of each part of the output; None ends a step.

    A part is what is between two of the lines that orch has added.
    """
    heading, stream, end = "", "stdout", 0
    try:
        text = "\n" + path.read_text("utf-8", "surrogateescape")
    except OSError:
        return
    for mark in _MARK.finditer(text):
        if mark.start() > end:
            yield heading, stream, _unescape(text[end + 1 : mark.start() + 1])
        if mark["heading"] is not None:
            heading, stream = mark["heading"], "stdout"
        elif mark["stream"]:
            stream = mark["stream"]
        else:
            yield heading, stream, None
        end = mark.end()
    if end + 1 < len(text):
        yield heading, stream, _unescape(text[end + 1 :])


def _unescape(text: str) -> str:
    return _ESCAPED.sub("", text) if "\\=== " in text or "\\--- " in text else text


class _HostLog(Struct):
    """The outputs in a host's log, by the text of their heading, in the order of the log."""

    outputs: dict[str, deque[tuple[CapturedOutput, CapturedOutput]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, max_bytes: int | None) -> _HostLog:
        """Read a log; one that is missing has no outputs. Longer outputs lose their middle."""
        log = cls()
        parts: dict[tuple[str, str], list[str]] = {}
        for heading, stream, text in _read_log(path):
            if text is not None:
                parts.setdefault((heading, stream), []).append(text)
                continue
            stdout, stderr = (
                _captured(encode_text("".join(parts.pop((heading, each), ()))), max_bytes)
                for each in ("stdout", "stderr")
            )
            log.outputs.setdefault(heading, deque()).append((stdout, stderr))
        return log

    def add_output(self, event: StepFinished) -> StepFinished:
        """Return the event with the output of its step."""
        found = self.outputs.get(heading_text(event.task, event.app, event.step, event.name))
        if not found:
            return event
        stdout, stderr = found.popleft()
        outcome = msgspec.structs.replace(event.outcome, stdout=stdout, stderr=stderr)
        return msgspec.structs.replace(event, outcome=outcome)


def _captured(data: bytes, max_bytes: int | None) -> CapturedOutput:
    if max_bytes is None or len(data) <= max_bytes:
        return CapturedOutput(data)
    half = max_bytes // 2
    return CapturedOutput(data[:half], data[-half:], len(data) - 2 * half)


class _Tally:
    """Counts the results of a run that is not finished, for its rows."""

    def __init__(self, record: RunRecord) -> None:
        """Start with the hosts of the record."""
        self.last_time = record.started
        apps: list[tuple[str | None, tuple[str, ...]]] = [*record.apps.items()]
        self._counts: dict[_HostPart, dict[str, int]] = {
            (host, app): {} for app, hosts in apps or [(None, record.hosts)] for host in hosts
        }
        self._status: dict[_HostPart, Status] = {}
        self._running: dict[_HostPart, str] = {}
        self._reasons: dict[_HostPart, str] = {}
        self._complete: set[_HostPart] = set()

    def count(self, event: RunEvent) -> None:
        """Count one event."""
        self.last_time = max(self.last_time, event.time)
        match event:
            case StepStarted(app=app, host=host):
                self._running[host, app] = f"step {event.step} '{event.name}' of {event.task}"
                self._complete.discard((host, app))
            case StepFinished(app=app, host=host, outcome=outcome):
                self._running.pop((host, app), None)
                counts = self._counts.setdefault((host, app), {})
                name = "ok" if outcome.ignored else _COUNTED.get(outcome.status, "failed")
                counts[name] = counts.get(name, 0) + 1
            case HostFinished(app=app, host=host, outcome=outcome):
                part = (host, app)
                worst = self._status.get(part, outcome.status)
                if outcome.status.severity_rank <= worst.severity_rank:
                    self._status[part], self._reasons[part] = outcome.status, outcome.reason
                if event.last:
                    self._complete.add(part)

    def rows(self, *, is_running: bool) -> tuple[HostSummary, ...]:
        """Return the rows; a host that was in the middle of the run is lost, unless it still is."""
        found = []
        for part, counts in self._counts.items():
            host, app = part
            status, reason = self._status.get(part, Status.OK), self._reasons.get(part, "")
            if not status.is_failure and part not in self._complete:
                during = self._running.get(part, "")
                what = "is running" if is_running else "orch ended"
                status = Status.NOT_STARTED if is_running else Status.LOST
                reason = f"{what}{f' during {during}' if during else ''}"
            row = HostSummary(host, app, status, reason)
            found.append(msgspec.structs.replace(row, **counts))
        return tuple(found)
