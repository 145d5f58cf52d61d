"""The database of the index over recorded runs: its tables, and how they are read and written.

    runs        a row for each run: its folder, the version of its files, and its summary as JSON
    outputs_N   the trigrams of each host's output, of the runs with the IDs 64 N to 64 N + 63
    sums        the checksum of each ``outputs_N``

Each ``outputs_N`` is a contentless FTS5 table, with lower-case text. Its rows cannot be deleted
(before SQLite 3.43), so a table is dropped once none of its runs is left.

There are checksums because SQLite does not notice a byte that has changed in a value. Those of
``outputs_N`` are compared only if the file is not as orch left it: ``history.db-seal`` has its size
and time.
"""

from __future__ import annotations

import os
import stat
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestrator.journal.run_summary import RunSummary

try:
    import sqlite3
except ImportError:  # a Python that was built without it
    sqlite3 = None  # type: ignore[assignment]

SCHEMA_VERSION = 2
_BUSY_SECONDS = 0.2
_POLL_SECONDS = 0.01
_RUNS_PER_TABLE = 64
_HOST_BITS, _PART_BITS = 24, 16  # of the row ID of an output, after those of the run's ID
_MAX_TERMS = 200  # trigrams that begin with a text of one or two characters
_MAX_TRIGRAMS = 24  # of a longer text, that are looked up
_TOKENIZER = "trigram case_sensitive 1"
_RUNS_TABLE = """
CREATE TABLE runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  folder TEXT NOT NULL UNIQUE,
  version TEXT NOT NULL,
  started REAL NOT NULL,
  has_outputs INTEGER NOT NULL,
  summary BLOB NOT NULL,
  summary_sum INTEGER NOT NULL,
  row_sum INTEGER NOT NULL
)"""
_DECODER = msgspec.json.Decoder(RunSummary)
_SUMS_TABLE = "CREATE TABLE sums (name TEXT PRIMARY KEY, sum INTEGER NOT NULL)"


class IndexUnusableError(Exception):
    """The index cannot be used; the message says why. ``is_busy``: another process writes to it."""

    def __init__(self, why: str, *, is_busy: bool = False) -> None:
        super().__init__(why)
        self.is_busy = is_busy


class IndexRow(Struct, frozen=True):
    """A row of the index: a run in this version of its files, and whether its outputs are in it."""

    id: int
    folder: str
    version: str
    started: float
    has_outputs: bool


class IndexDatabase:
    """An open database. Every method raises IndexUnusableError."""

    def __init__(self, path: Path) -> None:
        """Open the database; create it, readable for its owner alone, if it is missing."""
        if sqlite3 is None:
            raise IndexUnusableError("this Python has no sqlite3 module")
        self._path = path
        with _translated_errors():
            is_new = _make_private(path)
            self._is_trusted = is_new or _read_seal(path) == _seal_of(path)
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            self._prepare_when_idle()
        except IndexUnusableError:
            self._connection.close()
            raise

    def _prepare_when_idle(self) -> None:
        """Prepare the database; SQLite does not wait for another process that creates it."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                with _translated_errors():
                    return self._prepare()
            except IndexUnusableError as error:
                if not error.is_busy or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)

    def _prepare(self) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "cell_size_check = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        if self._schema_version() < SCHEMA_VERSION:
            with self._transaction():
                if self._schema_version() < SCHEMA_VERSION:  # no other process was faster
                    for table in (*self._outputs_tables(), "runs", "sums"):
                        self._connection.execute(f"DROP TABLE IF EXISTS {table}")
                    self._connection.execute(_RUNS_TABLE)
                    self._connection.execute(_SUMS_TABLE)
                    self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if self._schema_version() != SCHEMA_VERSION:
            raise IndexUnusableError("a newer version of orch has written it")

    def _schema_version(self) -> int:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        return int(version)

    def close(self) -> None:
        """Close the database; errors do not matter any more."""
        with suppress(sqlite3.Error, OSError):
            self._connection.close()
            if self._is_trusted and _read_seal(self._path) != _seal_of(self._path):
                _write_seal(self._path)

    def rows(self) -> dict[str, IndexRow]:
        """Return the rows of all runs by their folders."""
        with _translated_errors():
            return {row.folder: row for row in self._rows("")}

    def _rows(self, condition: str, *values: object) -> Iterator[IndexRow]:
        columns = "id, folder, version, started, has_outputs, summary_sum, row_sum"
        query = f"SELECT {columns} FROM runs {condition}"
        for *head, summary_sum, row_sum in self._connection.execute(query, values):
            number, folder, version, started, has_outputs = head
            row = IndexRow(number, folder, version, started, has_outputs=bool(has_outputs))
            _check_sum(row_sum, _row_sum(row, summary_sum))
            yield row

    def summaries(self, run_ids: Iterable[int]) -> dict[int, RunSummary]:
        """Return the summaries of runs by ID, except those that were removed meanwhile."""
        numbers = ", ".join(map(str, run_ids))
        query = f"SELECT id, summary, summary_sum FROM runs WHERE id IN ({numbers})"
        found: dict[int, RunSummary] = {}
        with _translated_errors():
            for number, summary, summary_sum in self._connection.execute(query):
                _check_sum(summary_sum, zlib.crc32(summary))
                found[number] = _DECODER.decode(summary)
        return found

    def save(
        self, summaries: Iterable[tuple[str, str, RunSummary]], gone: Sequence[str]
    ) -> dict[str, IndexRow]:
        """Write the summaries of runs, after their folder and version; remove those in ``gone``.

        Return their rows by folder. A row that another process has written meanwhile is kept.
        """
        with _translated_errors(), self._transaction():
            query = "SELECT seq FROM sqlite_sequence WHERE name = 'runs'"
            (last,) = self._connection.execute(query).fetchone() or (0,)
            rows: dict[str, IndexRow] = {}
            for number, (folder, version, summary) in enumerate(summaries, last + 1):
                found = next(self._rows("WHERE folder = ?", folder), None)
                if found is None or found.version != version:
                    self._delete(folder)
                    found = IndexRow(number, folder, version, summary.started, has_outputs=False)
                    self._insert(found, msgspec.json.encode(summary))
                rows[folder] = found
            for folder in gone:
                self._delete(folder)
            self._drop_unused_outputs()
            return rows

    def _delete(self, folder: str) -> None:
        self._connection.execute("DELETE FROM runs WHERE folder = ?", (folder,))

    def _insert(self, row: IndexRow, summary: bytes) -> None:
        summary_sum = zlib.crc32(summary)
        head = (row.id, row.folder, row.version, row.started, row.has_outputs)
        values = (*head, summary, summary_sum, _row_sum(row, summary_sum))
        self._connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def _drop_unused_outputs(self) -> None:
        ids = self._connection.execute("SELECT id FROM runs")
        used = {_outputs_table(number) for (number,) in ids}
        for table in self._outputs_tables():
            if table not in used:
                self._connection.execute(f"DROP TABLE {table}")
                self._connection.execute("DELETE FROM sums WHERE name = ?", (table,))

    def _outputs_tables(self) -> list[str]:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%USING fts5%'"
        return [name for (name,) in self._connection.execute(query)]

    def clear(self) -> None:
        """Remove everything, after checking the structure of the database."""
        with _translated_errors():
            (result,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if result != "ok":
                raise IndexUnusableError(result)
            with self._transaction():
                self._connection.execute("DELETE FROM runs")
                self._drop_unused_outputs()

    def add_outputs(
        self, row: IndexRow, outputs: Iterable[tuple[int, int, str]]
    ) -> IndexRow | None:
        """Add the outputs of a run's hosts, in parts of whole lines.

        Before each part are the host's number in the run's summary and the part's number. Return
        the new row, or None if another process has removed it meanwhile.
        """
        table = _outputs_table(row.id)
        with _translated_errors(), self._transaction():
            found = next(self._rows("WHERE id = ?", row.id), None)
            if found is None or found.has_outputs:
                return found
            self._connection.execute(
                f"CREATE VIRTUAL TABLE IF NOT EXISTS {table}"
                " USING fts5(output, content='', detail=none, columnsize=0,"
                f" tokenize='{_TOKENIZER}')"
            )
            self._connection.execute("DELETE FROM sums WHERE name = ?", (table,))
            self._connection.executemany(
                f"INSERT INTO {table} (rowid, output) VALUES (?, ?)",
                # every character but the last two begins a trigram
                (
                    ((row.id << _HOST_BITS | host) << _PART_BITS | part, f"{_searchable(text)}\n\n")
                    for host, part, text in outputs
                ),
            )
            query = "SELECT summary_sum FROM runs WHERE id = ?"
            (summary_sum,) = self._connection.execute(query, (row.id,)).fetchone()
            row = msgspec.structs.replace(row, has_outputs=True)
            self._connection.execute(
                "UPDATE runs SET has_outputs = 1, row_sum = ? WHERE id = ?",
                (_row_sum(row, summary_sum), row.id),
            )
        return row

    def check_outputs(self) -> None:
        """Compare the checksums of all outputs, if the file is not as orch left it.

        To be called before outputs are added or looked up.
        """
        if self._is_trusted:
            return
        with _translated_errors(), self._transaction("DEFERRED"):
            for name, found in self._connection.execute("SELECT name, sum FROM sums"):
                _check_sum(found, self._outputs_sum(name))
        self._is_trusted = True

    def sum_outputs(self) -> None:
        """Write the checksums of outputs that were added."""
        with _translated_errors():
            if self._outputs_without_sum():
                with self._transaction():
                    for table in self._outputs_without_sum():
                        values = (table, self._outputs_sum(table))
                        self._connection.execute("INSERT INTO sums VALUES (?, ?)", values)

    def _outputs_without_sum(self) -> list[str]:
        names = {name for (name,) in self._connection.execute("SELECT name FROM sums")}
        return [table for table in self._outputs_tables() if table not in names]

    def _outputs_sum(self, table: str) -> int:
        found = 0
        for row_id, block in self._connection.execute(f"SELECT id, block FROM {table}_data"):
            found = zlib.crc32(block, found ^ row_id & 0xFFFFFFFF)
        for row in self._connection.execute(f"SELECT segid, term, pgno FROM {table}_idx"):
            found = zlib.crc32(repr(row).encode(), found)
        return found

    def find_outputs(self, run_id: int, text: str) -> OutputMatches:
        """Return which outputs may contain the text: in the table of this run, of all its runs."""
        table = _outputs_table(run_id)
        found: dict[int, list[int]] = {}
        with _translated_errors():
            if not self._is_trusted or table not in self._outputs_tables():
                return OutputMatches(None)  # another process uses it, or has removed all runs in it
            terms = self._search_terms(table, _searchable(text))
            if not terms:
                return OutputMatches(None if terms is None else {})
            query = f"SELECT rowid FROM {table} WHERE {table} MATCH ? ORDER BY rowid"
            for (number,) in self._connection.execute(query, (terms,)):
                run_and_host = number >> _PART_BITS
                hosts = found.setdefault(run_and_host >> _HOST_BITS, [])
                host = run_and_host & ((1 << _HOST_BITS) - 1)
                if host not in hosts[-1:]:
                    hosts.append(host)
        return OutputMatches(found)

    def _search_terms(self, table: str, text: str) -> str | None:
        """Return an FTS5 query for outputs with the text; None for all, '' for none of them."""
        if len(text) >= 3:
            trigrams = list(dict.fromkeys(text[n : n + 3] for n in range(len(text) - 2)))
            step = -(-len(trigrams) // _MAX_TRIGRAMS)
            return " AND ".join(map(_quoted, trigrams[::step]))
        vocabulary = f"temp.terms_of_{table}"
        self._connection.execute(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {vocabulary} USING fts5vocab(main, {table}, row)"
        )
        query = f"SELECT term FROM {vocabulary} WHERE term >= ? AND term < ? LIMIT ?"
        bounds = (text, f"{text}\U0010ffff", _MAX_TERMS + 1)
        terms = [term for (term,) in self._connection.execute(query, bounds)]
        return " OR ".join(map(_quoted, terms)) if len(terms) <= _MAX_TERMS else None

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._connection.execute(f"BEGIN {kind}")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # it may have been rolled back already
                self._connection.execute("ROLLBACK")
            raise


class OutputMatches(Struct, frozen=True):
    """The hosts' numbers by run ID; None if any output may match."""

    hosts: Mapping[int, Sequence[int]] | None

    def hosts_of(self, run_id: int) -> Sequence[int] | None:
        """Return the numbers of the hosts of a run whose outputs may match; None: all of them."""
        return None if self.hosts is None else self.hosts.get(run_id, ())


def remove_database(path: Path) -> None:
    """Remove the files of a database. Raises OSError."""
    for suffix in ("", "-wal", "-shm", "-seal"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def _seal_of(path: Path) -> str:
    about = path.stat()
    return f"{about.st_size} {about.st_mtime_ns} {about.st_ino}"


def _read_seal(path: Path) -> str:
    try:
        return path.with_name(f"{path.name}-seal").read_text("ascii")
    except (OSError, ValueError):
        return ""


def _write_seal(path: Path) -> None:
    seal = path.with_name(f"{path.name}-seal")
    file = os.open(seal, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, _seal_of(path).encode())
    finally:
        os.close(file)


def outputs_group(run_id: int) -> int:
    """Return the number of the table that has the run's outputs."""
    return run_id // _RUNS_PER_TABLE


def _outputs_table(run_id: int) -> str:
    return f"outputs_{outputs_group(run_id)}"


def _make_private(path: Path) -> bool:
    """Create the file, readable for its owner alone; return False if it exists.

    SQLite gives its other files the same mode.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode):
            raise IndexUnusableError("it is not a file") from None
        if about.st_mode & 0o077:
            path.chmod(0o600)
        return False
    return True


def _searchable(text: str) -> str:
    """Return the text in lower case, without characters that SQLite cannot store."""
    return text.casefold().replace("\0", "?").encode("utf-8", "replace").decode()


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


def _row_sum(row: IndexRow, summary_sum: int) -> int:
    head = f"{row.id} {row.folder} {row.version} {row.started} {row.has_outputs} {summary_sum}"
    return zlib.crc32(head.encode())


def _check_sum(stored: object, computed: int) -> None:
    if stored != computed:
        raise IndexUnusableError("it is damaged")


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        raise IndexUnusableError(str(error), is_busy=code == sqlite3.SQLITE_BUSY) from error
    except OSError as error:
        raise IndexUnusableError(error.strerror or str(error)) from error
    except (msgspec.MsgspecError, TypeError, ValueError) as error:  # a value of another type
        raise IndexUnusableError("it is damaged") from error
