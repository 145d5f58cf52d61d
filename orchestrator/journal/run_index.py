"""Lists and searches the recorded runs of a project by means of an index: ``history.db``.

The run folders are the truth. The commands that read runs bring the index up to date with them; a
run does not touch it. If the index cannot be used (full, damaged, of another version of orch), the
folders are read instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import Diagnostic, UsageError
from orchestrator.journal.host_log import log_file_name
from orchestrator.journal.index_database import (
    IndexDatabase,
    IndexRow,
    IndexUnusableError,
    OutputMatches,
    outputs_group,
    remove_database,
)
from orchestrator.journal.run_dirs import (
    CONSOLE_FOLDER,
    RUNS_FOLDER,
    check_readable,
    private_state_file,
    run_names,
    run_parents,
)
from orchestrator.journal.run_history import record_of
from orchestrator.journal.run_lock import EVENTS_FILE, is_running
from orchestrator.journal.run_reader import RecordedRun
from orchestrator.journal.run_summary import RunSummary, summary_of
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.yamlio.local_files import display_path

INDEX_FILE = "history.db"
_RUNS_AT_ONCE = 50  # of which the summaries are read
_PART_BYTES = 1 << 20  # of a log
_ADDED_LINE = lazy_regex(r"^(?:===|---) .*\n?", re.MULTILINE)
_NO_ROWS: Mapping[str, IndexRow] = {}
_T = TypeVar("_T")


class _ListedRun(Struct):
    """A run's folder, and what is known of it.

    ``key`` is the folder in the index, ``version`` the sizes and times of the run's files. ``row``
    is None if the index has no row of this version. ``summary`` is None until it is read.
    """

    run: str
    folder: str
    key: str
    version: str
    row: IndexRow | None = None
    summary: RunSummary | None = None

    def start(self) -> tuple[str, float]:
        """Return the second in the run's name, then the exact time."""
        known = self.summary or self.row
        return self.run[:14], known.started if known else 0.0

    def is_running(self) -> bool:
        """Return True if the run is in progress."""
        return is_running(Path(self.folder, EVENTS_FILE))

    def read(self) -> RunSummary | None:
        """Return the summary as the folder has it; None if nothing of the run is readable."""
        folder = Path(self.folder)
        record = record_of(folder)
        return summary_of(RecordedRun(self.run, folder, record)) if record is not None else None


class RunIndex:
    """The recorded runs of a project, newest first, and those with a text in their output.

    ``warn`` is called at most once: if the index cannot be used. ``progress`` is called while
    outputs are added to the index, with the number of runs that are done, and of all of them.
    """

    def __init__(
        self,
        root: Path,
        environ: Mapping[str, str],
        warn: Callable[[str], object],
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self._root, self._environ = root, environ
        self._warn, self._progress = warn, progress
        self._database: IndexDatabase | None = None
        self._is_closed = False

    def close(self) -> None:
        """Close the database; runs are read from their folders from now on."""
        if self._database is not None:
            self._database.close()
        self._database, self._is_closed = None, True

    def runs(self, parent: str = RUNS_FOLDER) -> Iterator[RunSummary]:
        """Yield the recorded runs in this folder of the state folder, newest first.

        Raises DefinitionError if others can write to the records.
        """
        runs = self._known_runs((parent,))
        for first in range(0, len(runs), _RUNS_AT_ONCE):
            some = runs[first : first + _RUNS_AT_ONCE]
            self._read_summaries(some)
            yield from (run.summary for run in some if run.summary is not None)

    def runs_with_output(self, text: str) -> Iterator[tuple[RunSummary, Sequence[str]]]:
        """Yield the runs and console commands with output that may contain the text in any case.

        The second value are the hosts with this output. Raises DefinitionError if others can write
        to the records.
        """
        runs = self._known_runs((RUNS_FOLDER, CONSOLE_FOLDER))
        self._add_outputs(runs)
        matches: dict[int, OutputMatches] = {}
        for run in runs:
            numbers = self._matching_hosts(run, text, matches)
            if numbers == ():
                continue
            self._read_summaries([run])
            if (summary := run.summary) is None:
                continue
            hosts = summary.hosts
            if numbers is not None:
                hosts = tuple(hosts[number] for number in numbers if number < len(hosts))
            yield summary, hosts

    def rebuild(self) -> int:
        """Write the index anew, and return the number of runs in it.

        Raises UsageError if it cannot be written, DefinitionError if others can write to it.
        """
        check_readable(self._root, self._environ)
        path = private_state_file(self._root, self._environ, INDEX_FILE)
        if path is None:
            raise UsageError(Diagnostic("no folder is writable that the index could be in"))
        _clear_database(path)
        runs = self._known_runs((RUNS_FOLDER, CONSOLE_FOLDER))
        self._add_outputs(runs)
        return sum(run.row is not None for run in runs)

    def _known_runs(self, parents: Sequence[str]) -> list[_ListedRun]:
        """Return all runs, newest first, after bringing the index up to date."""
        check_readable(self._root, self._environ)
        runs = [run for parent in parents for run in self._list_runs(parent)]
        self._open(has_runs=bool(runs))
        rows = self._ask(IndexDatabase.rows, _NO_ROWS)
        changed = []
        for run in runs:
            row = rows.get(run.key)
            if row is not None and row.version == run.version:
                run.row = row
                continue
            run.summary = run.read()
            if run.summary is not None and run.summary.state != "running":
                changed.append(run)
        keys = {run.key for run in runs}
        gone = [key for key in rows if key not in keys and key.split("/")[1] in parents]
        if changed or gone:
            self._save(sorted(changed, key=_ListedRun.start), gone)
        return sorted(runs, key=_ListedRun.start, reverse=True)

    def _list_runs(self, parent: str) -> Iterator[_ListedRun]:
        for number, folder in enumerate(run_parents(self._root, self._environ, parent)):
            for run in run_names(folder):
                path = f"{folder}/{run}"
                yield _ListedRun(run, path, f"{number}/{parent}/{run}", _files_version(path))

    def _save(self, runs: Sequence[_ListedRun], gone: Sequence[str]) -> None:
        found = [(run.key, run.version, run.summary) for run in runs if run.summary is not None]
        rows = self._ask(lambda database: database.save(found, gone), _NO_ROWS)
        for run in runs:
            run.row = rows.get(run.key)

    def _read_summaries(self, runs: Sequence[_ListedRun]) -> None:
        """Read the summaries that are not known yet."""
        ids = [run.row.id for run in runs if run.row is not None and run.summary is None]
        no_summaries: dict[int, RunSummary] = {}
        found = self._ask(lambda database: database.summaries(ids), no_summaries) if ids else {}
        for run in runs:
            if run.summary is None and run.row is not None and run.row.id in found:
                summary = found[run.row.id]
                run.summary = replace(summary, folder=run.folder)  # the project may have moved
            run.summary = run.summary or run.read()

    def _add_outputs(self, runs: Sequence[_ListedRun]) -> None:
        """Add the outputs that are not in the index yet, those of the oldest run first."""
        self._ask(IndexDatabase.check_outputs, None)
        missing = [run for run in reversed(runs) if run.row and not run.row.has_outputs]
        for number, run in enumerate(missing, 1):
            if self._database is not None:
                self._add_run_outputs(run)
            if self._progress is not None:
                self._progress(number, len(missing))
        self._ask(IndexDatabase.sum_outputs, None)

    def _add_run_outputs(self, run: _ListedRun) -> None:
        self._read_summaries([run])
        row, summary = run.row, run.summary
        if row is None or summary is None or run.is_running():
            return
        outputs = (
            (number, part, text)
            for number, host in enumerate(summary.hosts)
            for part, text in enumerate(_output_texts(f"{run.folder}/{log_file_name(host)}.log"))
        )

        def add(database: IndexDatabase) -> IndexRow | None:
            return database.add_outputs(row, outputs)

        run.row = self._ask(add, None)

    def _matching_hosts(
        self, run: _ListedRun, text: str, matches: dict[int, OutputMatches]
    ) -> Sequence[int] | None:
        """Return the numbers of the hosts whose output may contain the text; None for all.

        ``matches`` are those that were looked up before.
        """
        row = run.row
        if row is None or not row.has_outputs:
            return None
        group = outputs_group(row.id)
        if group not in matches:
            unknown = OutputMatches(None)
            matches[group] = self._ask(lambda base: base.find_outputs(row.id, text), unknown)
        return matches[group].hosts_of(row.id)

    def _open(self, *, has_runs: bool) -> None:
        """Open the database, unless there is nothing to read from it or write into it."""
        if self._database is not None or self._is_closed:
            return
        state_folders = [runs.parent for runs in run_parents(self._root, self._environ)]
        if not has_runs and not any((folder / INDEX_FILE).is_file() for folder in state_folders):
            return
        path = private_state_file(self._root, self._environ, INDEX_FILE)
        if path is None:
            return
        try:
            self._database = IndexDatabase(path)
        except IndexUnusableError as error:
            self._is_closed = True
            if not error.is_busy:
                self._give_up(error)

    def _ask(self, ask: Callable[[IndexDatabase], _T], default: _T) -> _T:
        """Return the database's answer; the default if it is busy, or unusable from now on."""
        if self._database is None:
            return default
        try:
            return ask(self._database)
        except IndexUnusableError as error:
            if not error.is_busy:
                self._give_up(error)
            return default

    def _give_up(self, error: IndexUnusableError) -> None:
        self.close()
        self._warn(
            f"the index of runs, {INDEX_FILE}, is not used: {error};"
            " `orch history --rebuild` writes it anew"
        )


def _files_version(folder: str) -> str:
    """Return a text that is another one once the run's events or record have changed."""
    parts = []
    for name in (EVENTS_FILE, "run.json"):
        try:
            about = os.stat(f"{folder}/{name}")  # noqa: PTH116 - twice as fast, for many runs
        except OSError:
            parts.append("-")
        else:
            parts.append(f"{about.st_size} {about.st_mtime_ns} {about.st_ino}")
    return ", ".join(parts)


def _output_texts(log: str) -> Iterator[str]:
    """Yield a host's output in its log, without the lines that orch added, in parts."""
    try:
        with open(log, "rb") as file:  # noqa: PTH123 - twice as fast, for many logs
            while lines := file.readlines(_PART_BYTES):
                yield _ADDED_LINE.sub("", b"".join(lines).decode("utf-8", "replace"))
    except OSError:
        return


def _clear_database(path: Path) -> None:
    """Remove everything from the database; one that is damaged is replaced. Raises UsageError."""
    shown = display_path(path)
    try:
        database = IndexDatabase(path)
        try:
            database.clear()
        finally:
            database.close()
    except IndexUnusableError as error:
        if error.is_busy:
            message = f"another process uses {shown}"
            raise UsageError(Diagnostic(message, None, "try again")) from None
        try:
            remove_database(path)
        except OSError as why:
            message = f"cannot replace {shown}: {why.strerror}"
            raise UsageError(Diagnostic(message, None, f"remove {shown}")) from None
