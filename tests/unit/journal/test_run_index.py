"""The index over recorded runs answers as the run folders do, whatever happened to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.commands.history import search_outputs
from orchestrator.errors import UsageError
from orchestrator.journal import index_database, run_index
from orchestrator.journal.run_dirs import run_parents
from orchestrator.journal.run_index import RunIndex
from orchestrator.journal.run_lock import mark_running
from orchestrator.journal.run_reader import log_lines, recorded_runs
from orchestrator.journal.run_summary import RunSummary, summary_of
from tests.bench.run_store import NEEDLE, write_run, write_store

RUNS, HOSTS, NOW = 5, 3, 1795436531.0
TEXTS = (NEEDLE, "WEB1", "packages", "ok", "q", "nosuchtext", '"', "took 1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_store(tmp_path, RUNS, HOSTS, newest=NOW)
    return tmp_path


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose index is complete."""
    root = tmp_path_factory.mktemp("indexed")
    write_store(root, RUNS, HOSTS, newest=NOW)
    find(root, "x")
    return root


def list_runs(root: Path, warnings: list[str] | None = None) -> list[RunSummary]:
    index = RunIndex(root, {}, warnings.append if warnings is not None else pytest.fail)
    try:
        return list(index.runs())
    finally:
        index.close()


def find(root: Path, text: str, warnings: list[str] | None = None) -> list[tuple[str, ...]]:
    index = RunIndex(root, {}, warnings.append if warnings is not None else pytest.fail)
    try:
        return [(hit.run, hit.host, hit.line) for hit in search_outputs(index, text)]
    finally:
        index.close()


def runs_in_folders(root: Path) -> list[RunSummary]:
    return [summary_of(run) for run in recorded_runs(root, {})]


def lines_in_folders(root: Path, text: str) -> list[tuple[str, ...]]:
    return [
        (run.run, host, line)
        for run in recorded_runs(root, {})
        for host in run.record.hosts
        for _, line in log_lines(run.folder, host)
        if text.casefold() in line.casefold()
    ]


def index_file(root: Path) -> Path:
    return root / ".orch" / "history.db"


def indexed_names(root: Path) -> list[str]:
    with sqlite3.connect(index_file(root)) as database:
        return [name.split("/")[2] for (name,) in database.execute("SELECT folder FROM runs")]


def tables_of_outputs(root: Path) -> list[str]:
    query = "SELECT name FROM sqlite_master WHERE sql LIKE '%USING fts5%'"
    with sqlite3.connect(index_file(root)) as database:
        return [name for (name,) in database.execute(query)]


def newest_folder(root: Path) -> Path:
    return max((root / ".orch" / "runs").iterdir())


@pytest.mark.parametrize("text", TEXTS)
def test_lines_are_found_as_in_the_logs(indexed: Path, text: str) -> None:
    assert find(indexed, text) == lines_in_folders(indexed, text)


def test_runs_are_listed_as_in_the_folders(root: Path) -> None:
    assert list_runs(root) == runs_in_folders(root)
    assert list_runs(root) == runs_in_folders(root)
    assert len(indexed_names(root)) == RUNS


@settings(max_examples=30)
@given(data=st.data())
def test_any_part_of_a_line_is_found(indexed: Path, data: st.DataObject) -> None:
    _, _, line = data.draw(st.sampled_from(lines_in_folders(indexed, "")))
    start = data.draw(st.integers(0, len(line) - 1))
    text = line[start : data.draw(st.integers(start + 1, len(line)))]
    assert find(indexed, text) == lines_in_folders(indexed, text)


@pytest.mark.parametrize(
    "text", ["STRASSE", "ς", "𝔘", "\\x1b", "\ud800", "é", "ﬁ", "e\u0301", "'--"]
)
def test_texts_of_any_script_are_found_in_any_case(root: Path, text: str) -> None:
    log = newest_folder(root) / "web1.log"
    with log.open("ab") as file:
        file.write("Straße Σ 𝔘 \\x1b[0m É fi e\u0301 '-- end".encode())
        file.write(b" \xff\x00 torn \xe2\x82")
    assert find(root, text) == lines_in_folders(root, text)


@pytest.mark.parametrize("text", ["ж", "жж", "жжъ"])
def test_the_last_characters_of_a_log_are_found(root: Path, text: str) -> None:
    with (newest_folder(root) / "web1.log").open("a") as log:
        log.write("the last " + text.upper())
    assert len(find(root, text)) == 1


def test_a_long_log_is_indexed_in_parts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_index, "_PART_BYTES", 50)
    for text in TEXTS:
        assert find(root, text) == lines_in_folders(root, text)


def test_an_index_of_an_older_version_is_written_anew(root: Path) -> None:
    find(root, "x")
    with sqlite3.connect(index_file(root)) as database:
        database.execute("ALTER TABLE runs RENAME COLUMN version TO files")
        database.execute("PRAGMA user_version = 1")
    assert list_runs(root) == runs_in_folders(root)
    assert find(root, "took") == lines_in_folders(root, "took")
    assert len(indexed_names(root)) == RUNS


@pytest.mark.parametrize("runs", [0, 1, 4, 5])
def test_an_index_whose_writer_was_killed_has_what_was_written_before(
    root: Path, runs: int
) -> None:
    code = f"""
import sys
from pathlib import Path
from orchestrator.journal.run_index import RunIndex
index = RunIndex(Path({str(root)!r}), {{}}, print, lambda *numbers: print(*numbers, flush=True))
list(index.runs())
print(0, flush=True)
list(index.runs_with_output("took"))
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().split()[0] for _ in range(runs + 1)][-1] == str(runs)
        process.kill()
    assert len(indexed_names(root)) == RUNS
    assert list_runs(root) == runs_in_folders(root)
    for text in TEXTS:
        assert find(root, text) == lines_in_folders(root, text)


def test_a_run_that_goes_on_is_read_again(root: Path) -> None:
    find(root, "x")
    folder = newest_folder(root)
    with (folder / "events.jsonl").open("a") as events:
        events.write('{"event":"run_resumed"}\n')
    with (folder / "web1.log").open("a") as log:
        log.write("a line of the second part\n")
    record = (folder / "run.json").read_text()
    (folder / "run.json").write_text(record.replace('"exit_code": 0', '"exit_code": 1'))
    assert list_runs(root)[0].state == "failed"
    assert find(root, "of the SECOND part") == [(folder.name, "web1", "a line of the second part")]
    assert find(root, "took") == lines_in_folders(root, "took")
    assert indexed_names(root).count(folder.name) == 1


def test_a_run_in_progress_is_found_but_not_indexed(root: Path) -> None:
    folder = newest_folder(root)
    with (folder / "events.jsonl").open("a") as events:
        mark_running(events.fileno())
        record = (folder / "run.json").read_text().replace('"rows"', '"other"')
        (folder / "run.json").write_text(record)
        assert list_runs(root)[0].state == "running"
        assert find(root, "took") == lines_in_folders(root, "took")
        assert folder.name not in indexed_names(root)
    assert list_runs(root)[0].state == "killed"
    assert folder.name in indexed_names(root)


def test_a_run_that_is_resumed_is_not_indexed_before_its_end(root: Path) -> None:
    list_runs(root)
    with (newest_folder(root) / "events.jsonl").open("a") as events:
        mark_running(events.fileno())
        find(root, "x")
        with (newest_folder(root) / "web2.log").open("a") as log:
            log.write("a line of the second part\n")
        assert len(find(root, "of the second part")) == 1
    assert len(find(root, "of the second part")) == 1


def test_what_is_not_in_the_folders_any_more_leaves_the_index(root: Path) -> None:
    find(root, "x")
    assert len(tables_of_outputs(root)) == 1
    newest = newest_folder(root)
    shutil.rmtree(newest)
    assert list_runs(root) == runs_in_folders(root)
    assert find(root, "took") == lines_in_folders(root, "took")
    assert newest.name not in indexed_names(root)
    shutil.rmtree(root / ".orch" / "runs")
    assert list_runs(root) == []
    assert (indexed_names(root), tables_of_outputs(root)) == ([], [])


def test_outputs_of_runs_that_are_gone_do_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_database, "_RUNS_PER_TABLE", 2)
    (tmp_path / "inventories").mkdir()
    folders: list[Path] = []
    for number in range(9):
        folders.append(write_run(tmp_path, number, 2, NOW + number))
        find(tmp_path, "x")
        if len(folders) > 2:
            shutil.rmtree(folders[-3])
    assert find(tmp_path, "took") == lines_in_folders(tmp_path, "took")
    assert len(tables_of_outputs(tmp_path)) <= 2


def test_the_index_can_be_read_by_its_owner_alone(root: Path) -> None:
    before = os.umask(0)
    try:
        index = RunIndex(root, {}, pytest.fail)
        assert len(list(index.runs_with_output("took"))) == RUNS
        modes = {
            path.name: path.stat().st_mode & 0o777 for path in index_file(root).parent.iterdir()
        }
        index.close()
    finally:
        os.umask(before)
    assert {name for name in modes if name.startswith("history.db")} >= {
        "history.db",
        "history.db-wal",
        "history.db-shm",
    }
    assert all(mode == 0o600 for name, mode in modes.items() if name.startswith("history.db"))
    assert (root / ".orch" / "history.db-seal").stat().st_mode & 0o777 == 0o600
    index_file(root).chmod(0o644)
    list_runs(root)
    assert index_file(root).stat().st_mode & 0o777 == 0o600


def test_no_index_is_created_without_runs(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=["garbage", "folder", "link to a folder", "empty", "newer", "other tables"])
def broken(request: pytest.FixtureRequest, root: Path) -> Path:
    """Return a project with something else in the place of the index."""
    file = index_file(root)
    if request.param == "garbage":
        file.write_bytes(os.urandom(9000))
    elif request.param == "folder":
        file.mkdir()
    elif request.param == "link to a folder":
        file.symlink_to(root)
    elif request.param == "empty":
        file.touch()
    else:
        find(root, "x")
        change = {"newer": "PRAGMA user_version = 99", "other tables": "DROP TABLE runs"}
        with sqlite3.connect(file) as database:
            database.execute(change[request.param])
    return root


def test_with_an_unusable_index_the_answer_is_that_of_the_folders(broken: Path) -> None:
    warnings: list[str] = []
    assert list_runs(broken, warnings) == runs_in_folders(broken)
    assert find(broken, NEEDLE, warnings) == lines_in_folders(broken, NEEDLE)
    if index_file(broken).stat().st_size and len(warnings) == 2:
        assert "`orch history --rebuild`" in warnings[0]


def test_rebuild_replaces_what_is_unusable(broken: Path) -> None:
    index = RunIndex(broken, {}, pytest.fail)
    if index_file(broken).is_dir() and not index_file(broken).is_symlink():
        with pytest.raises(UsageError, match=r"history\.db"):
            index.rebuild()
        return
    assert index.rebuild() == RUNS
    index.close()
    assert find(broken, NEEDLE) == lines_in_folders(broken, NEEDLE)
    assert sorted(indexed_names(broken)) == sorted(run.run for run in runs_in_folders(broken))


@settings(max_examples=8)
@given(data=st.data())
def test_a_damaged_index_is_not_believed(indexed: Path, data: st.DataObject) -> None:
    check_damaged(indexed, data, rebuild=False)


@pytest.mark.long
@settings(max_examples=500)
@given(data=st.data())
def test_an_index_damaged_anywhere_is_not_believed(indexed: Path, data: st.DataObject) -> None:
    check_damaged(indexed, data, rebuild=True)


def check_damaged(root: Path, data: st.DataObject, *, rebuild: bool) -> None:
    """Damage the index somewhere; check the answers, and that `--rebuild` repairs it."""
    file = index_file(root)
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:place]
    else:
        noise = data.draw(st.binary(min_size=1, max_size=600))
        damaged = whole[:place] + noise + whole[place + len(noise) :]
    warnings: list[str] = []
    more = data.draw(st.booleans())
    try:
        file.write_bytes(damaged)
        if more:
            write_run(root, RUNS, HOSTS, NOW + 1)
        for text in (NEEDLE, "ok"):
            assert find(root, text, warnings) == lines_in_folders(root, text)
        assert list_runs(root, warnings) == runs_in_folders(root)
        if rebuild:
            index = RunIndex(root, {}, pytest.fail)
            assert index.rebuild() == RUNS + more
            index.close()
            assert find(root, NEEDLE) == lines_in_folders(root, NEEDLE)
    finally:
        index_database.remove_database(file)
        file.write_bytes(whole)
        if more:
            shutil.rmtree(newest_folder(root))


def test_a_busy_index_is_read_and_brought_up_to_date_later(root: Path) -> None:
    find(root, "x")
    write_run(root, RUNS, HOSTS, NOW + 1)
    with sqlite3.connect(index_file(root), isolation_level=None) as database:
        database.execute("BEGIN IMMEDIATE")
        assert list_runs(root) == runs_in_folders(root)
        assert find(root, "took") == lines_in_folders(root, "took")
        with pytest.raises(UsageError, match="another process uses"):
            RunIndex(root, {}, pytest.fail).rebuild()
    assert len(indexed_names(root)) == RUNS
    assert list_runs(root) == runs_in_folders(root)
    assert len(indexed_names(root)) == RUNS + 1


def test_a_locked_index_is_not_waited_for(root: Path) -> None:
    list_runs(root)
    with sqlite3.connect(index_file(root), isolation_level=None) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        assert list_runs(root) == runs_in_folders(root)


def test_without_full_text_search_the_logs_are_searched(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_database, "_TOKENIZER", "nosuch")
    warnings: list[str] = []
    assert find(root, NEEDLE, warnings) == lines_in_folders(root, NEEDLE)
    assert len(warnings) == 1
    assert "no such tokenizer" in warnings[0]
    assert list_runs(root) == runs_in_folders(root)


def test_a_python_without_sqlite_reads_the_folders(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_database, "sqlite3", None)
    warnings: list[str] = []
    assert list_runs(root, warnings) == runs_in_folders(root)
    assert find(root, NEEDLE, warnings) == lines_in_folders(root, NEEDLE)
    assert "this Python has no sqlite3 module" in warnings[0]


def test_a_full_disk_costs_the_index_not_the_answer(root: Path) -> None:
    """In a process whose files cannot grow, which is an error on write as well."""
    done = run_limited(root, 10_000)
    assert done[:2] == [str(len(lines_in_folders(root, "took"))), str(RUNS)]
    assert len(done) == 3
    assert "WARN" in done[2]


def run_limited(root: Path, most: int) -> Sequence[str]:
    code = f"""
import resource, signal
from pathlib import Path
from orchestrator.journal.run_dirs import run_parents
from orchestrator.journal.run_index import RunIndex
from orchestrator.commands.history import search_outputs
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, resource.RLIM_INFINITY))
warnings = []
index = RunIndex(Path({str(root)!r}), {{}}, warnings.append)
print(len(list(search_outputs(index, "took"))))
print(len(list(index.runs())))
for warning in warnings:
    print("WARN", warning)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_many_readers_at_once_all_have_the_answer(root: Path) -> None:
    expected = (runs_in_folders(root), lines_in_folders(root, "took"))
    found: list[object] = []

    def read() -> None:
        found.append((list_runs(root), find(root, "took")))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8
    assert len(indexed_names(root)) == RUNS


def test_runs_in_the_users_state_folder_have_their_index_in_it(root: Path, tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    elsewhere = run_parents(root, environ)[1].parent
    elsewhere.parent.mkdir(0o700, parents=True)
    (root / ".orch").rename(elsewhere)
    (root / ".orch").write_text("in the way, for root too")
    index = RunIndex(root, environ, pytest.fail)
    assert len(list(index.runs())) == RUNS
    assert index.rebuild() == RUNS
    assert (elsewhere / "history.db").is_file()
    assert len(list(index.runs_with_output("took"))) == RUNS
    index.close()
