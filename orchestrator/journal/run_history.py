"""The last run of a stage: the hosts that did not complete in it, even if orch was killed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.journal.run_dirs import (
    RunRecord,
    SummaryRow,
    check_readable,
    list_runs,
    read_record,
    run_parents,
)
from orchestrator.journal.run_lock import EVENTS_FILE, is_running
from orchestrator.model.event import RunStarted
from orchestrator.model.step_result import Status

_RUNS_FOR_ESTIMATE = 5
_RUNS_TO_SEARCH = 50
_BAD_STATUSES = frozenset(status.value for status in Status if status.is_failure)
_HostPart: TypeAlias = "tuple[str | None, str]"
"""An app (None in a run without apps) on a host."""


class LastRun(Struct, frozen=True):
    """A run that has finished or was killed.

    ``failed`` are the hosts that did not complete in it for at least one app, without duplicates.
    """

    run: str
    failed: tuple[str, ...]


class _RecordedEvent(Struct, frozen=True):
    """An event, with the fields that are read again."""

    event: str
    time: float = 0.0
    app: str | None = None
    host: str = ""
    status: str = ""
    last: bool = False
    seconds: float = 0.0
    exit_code: int | None = None


class _RunBegan(Struct, frozen=True, tag_field="event", tag="run_started"):
    """The first event of a run."""

    time: float
    stage: str
    tasks: tuple[str, ...]
    hosts: tuple[str, ...]
    apps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    within: tuple[str, ...] = ()


def last_run(root: Path, environ: Mapping[str, str], stage: str | None = None) -> LastRun | None:
    """Return the newest recorded run, or None.

    With ``stage``, only runs of this stage count. Runs that are still in progress do not count, nor
    do runs started by steps of another run, runs of orch's own commands (`orch lock status`), and
    folders that cannot be read. Raises DefinitionError if others can write to the records.
    """
    check_readable(root, environ)
    for folder, record in runs_newest_first(list_runs(run_parents(root, environ))):
        if stage not in (None, record.stage) or not _ran_tasks(record):
            continue
        if any(_began_during(record, read_record(folder.with_name(run))) for run in record.within):
            continue
        if record.rows is not None:
            bad = (row.host for row in record.rows if row.status in _BAD_STATUSES)
            return LastRun(folder.name, _unique_hosts(bad))
        if not is_running(folder / EVENTS_FILE):
            return LastRun(folder.name, _unique_hosts(_incomplete_hosts(folder, record)))
    return None


def expected_seconds(root: Path, environ: Mapping[str, str], began: RunStarted) -> float | None:
    """Return how long the run is expected to take, in seconds, or None.

    This is the median of the last five finished runs of the same tasks and apps on the same hosts
    of the stage.
    """
    durations: list[float] = []
    for folder in islice(list_runs(run_parents(root, environ)), _RUNS_TO_SEARCH):
        record = read_record(folder)
        if (
            record is not None
            and record.rows is not None
            and not any(row.status in _BAD_STATUSES for row in record.rows)
            and (record.stage, record.tasks) == (began.stage, began.tasks)
            and (record.hosts, dict(record.apps)) == (began.hosts, dict(began.apps))
            and record.check == began.check
            and not record.resumed
        ):
            durations.append(record.seconds)
            if len(durations) == _RUNS_FOR_ESTIMATE:
                break
    return sorted(durations)[len(durations) // 2] if durations else None


def runs_newest_first(folders: Iterable[Path]) -> Iterator[tuple[Path, RunRecord]]:
    """Yield the readable runs, newest first.

    The names of folders have a resolution of one second; runs of the same second are ordered by
    their start time.
    """
    same: list[tuple[Path, RunRecord]] = []
    for folder in folders:
        if same and folder.name[:14] != same[0][0].name[:14]:
            yield from same
            same = []
        record = record_of(folder)
        if record is not None:
            same.append((folder, record))
            same.sort(key=lambda found: found[1].started, reverse=True)
    yield from same


def record_of(folder: Path) -> RunRecord | None:
    """Return the record of a run, or None if neither ``run.json`` nor the events have one."""
    return read_record(folder) or _record_from_events(folder)


def _record_from_events(folder: Path) -> RunRecord | None:
    """Return the record of a run from its events, if ``run.json`` is missing or damaged."""
    began: _RunBegan | None = None
    end: _RecordedEvent | None = None
    statuses: dict[_HostPart, Status] = {}
    for line in _event_lines(folder):
        with suppress(msgspec.MsgspecError, ValueError):
            if began is None:
                began = msgspec.json.decode(line, type=_RunBegan)
                continue
            event = msgspec.json.decode(line, type=_RecordedEvent)
            end = event if event.event == "run_finished" else None
            if event.event == "host_finished":
                part, status = (event.app, event.host), Status(event.status)
                worst = statuses.get(part, status)
                statuses[part] = min(worst, status, key=lambda each: each.severity_rank)
    if began is None:
        return None
    record = RunRecord(
        began.stage,
        began.tasks,
        hosts=began.hosts,
        apps=began.apps,
        within=began.within,
        started=began.time,
    )
    if end is None:
        return record
    rows = tuple(SummaryRow(host, status.value) for (_, host), status in statuses.items())
    return replace(record, seconds=end.seconds, exit_code=end.exit_code, rows=rows)


def _ran_tasks(record: RunRecord) -> bool:
    """Return True if the run was of tasks.

    The runs of orch's own commands have a space in their task's name, which a task cannot have.
    """
    return not any(" " in task for task in record.tasks)


def _began_during(inner: RunRecord, outer: RunRecord | None) -> bool:
    """Return True if the inner run started before the outer run was over.

    A process that the outer run left on a machine (a server, for example) may start other runs
    later, in its name.
    """
    if outer is None:
        return False
    return outer.rows is None or inner.started <= outer.started + outer.seconds


def _incomplete_hosts(folder: Path, record: RunRecord) -> Iterator[str]:
    """Yield the hosts that, for at least one app, did not complete their last planned task.

    A host whose last event comes after that task (a rollback) counts as incomplete as well.
    """
    through: set[_HostPart] = set()
    for line in _event_lines(folder):
        try:
            event = msgspec.json.decode(line, type=_RecordedEvent)
        except msgspec.MsgspecError:
            continue  # truncated by the kill or by a full disk
        if event.event not in ("step_started", "host_finished"):
            continue
        if event.last and event.status not in _BAD_STATUSES:
            through.add((event.app, event.host))
        else:
            through.discard((event.app, event.host))
    parts: list[_HostPart] = [(app, host) for app, hosts in record.apps.items() for host in hosts]
    left = {host for _, host in set(parts or [(None, h) for h in record.hosts]) - through}
    return (host for host in record.hosts if host in left)


def _event_lines(folder: Path) -> Iterator[bytes]:
    try:
        with (folder / EVENTS_FILE).open("rb") as file:
            yield from file
    except OSError:
        return


def _unique_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(hosts))
