"""The last run of a stage: which hosts did not complete in it, also where orch was killed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct, field

from orchestrator.journal.run_dirs import (
    RunRecord,
    check_readable,
    list_runs,
    read_record,
    run_parents,
)
from orchestrator.model.step_result import Status

EVENTS_FILE = "events.jsonl"
_BAD_STATUSES = frozenset(status.value for status in Status if status.is_failure)
_HostPart: TypeAlias = "tuple[str | None, str]"
"""An app (None in a run without apps) on a host."""


class LastRun(Struct, frozen=True):
    """A run that is over, or was killed. ``failed``: the hosts that did not complete in it, for
    any of their apps, each once."""

    run: str
    failed: tuple[str, ...]


class _RecordedEvent(Struct, frozen=True):
    """An event, as far as it is read again."""

    event: str
    time: float = 0.0
    app: str | None = None
    host: str = ""
    status: str = ""
    last: bool = False


class _RunBegan(Struct, frozen=True, tag_field="event", tag="run_started"):
    """The event that a run begins with."""

    time: float
    stage: str
    tasks: tuple[str, ...]
    hosts: tuple[str, ...]
    apps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    within: tuple[str, ...] = ()


def last_run(root: Path, environ: Mapping[str, str], stage: str | None = None) -> LastRun | None:
    """Return the newest run that was kept, or None.

    ``stage``: of this stage. Runs that are still going on do not count, nor do those that steps of
    another one started, those of orch's own commands (`orch lock status`), and folders of which
    nothing can be read. Raises DefinitionError where others can write to what was kept.
    """
    check_readable(root, environ)
    for folder, record in _runs_newest_first(list_runs(run_parents(root, environ))):
        if stage not in (None, record.stage) or not _ran_tasks(record):
            continue
        if any(_began_during(record, read_record(folder.with_name(run))) for run in record.within):
            continue
        if record.rows is not None:
            bad = (row.host for row in record.rows if row.status in _BAD_STATUSES)
            return LastRun(folder.name, _unique_hosts(bad))
        if not _is_running(folder / EVENTS_FILE):
            return LastRun(folder.name, _unique_hosts(_incomplete_hosts(folder, record)))
    return None


def mark_running(events: int) -> None:
    """Have the run of this open file be known as going on, until the file is closed, by us or
    because we are killed (flock(2)). A file system without such locks shows it as killed."""
    with suppress(OSError):
        fcntl.flock(events, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_running(events: Path) -> bool:
    try:
        file = os.open(events, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False


def _runs_newest_first(folders: Iterable[Path]) -> Iterator[tuple[Path, RunRecord]]:
    """The runs that can be read. What their folders are called after is a second: those of one
    are told apart by when they began."""
    same: list[tuple[Path, RunRecord]] = []
    for folder in folders:
        if same and folder.name[:14] != same[0][0].name[:14]:
            yield from same
            same = []
        record = read_record(folder) or _record_from_events(folder)
        if record is not None:
            same.append((folder, record))
            same.sort(key=lambda found: found[1].started, reverse=True)
    yield from same


def _record_from_events(folder: Path) -> RunRecord | None:
    """What the event that the run began with says of it, where its record is missing."""
    for line in _event_lines(folder):
        with suppress(msgspec.MsgspecError):
            began = msgspec.json.decode(line, type=_RunBegan)
            return RunRecord(
                began.stage,
                began.tasks,
                hosts=began.hosts,
                apps=began.apps,
                within=began.within,
                started=began.time,
            )
    return None


def _ran_tasks(record: RunRecord) -> bool:
    """Whether tasks were run: none can have a space in its name, but what orch runs for its own
    commands has."""
    return not any(" " in task for task in record.tasks)


def _began_during(inner: RunRecord, outer: RunRecord | None) -> bool:
    """Whether the outer run was not over when the inner one began: what it left behind on a
    machine (a server, say) may start others later, in its name."""
    if outer is None:
        return False
    return outer.rows is None or inner.started <= outer.started + outer.seconds


def _incomplete_hosts(folder: Path, record: RunRecord) -> Iterator[str]:
    """The hosts that, for one of their apps, did not end the last task planned for them, or did
    something after it (a rollback)."""
    through: set[_HostPart] = set()
    for line in _event_lines(folder):
        try:
            event = msgspec.json.decode(line, type=_RecordedEvent)
        except msgspec.MsgspecError:
            continue  # torn: by the kill, or by a full disk
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
