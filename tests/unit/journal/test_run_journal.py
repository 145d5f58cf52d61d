import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from orchestrator.journal.journal import RunJournal
from orchestrator.journal.run_history import last_run
from orchestrator.model.event import RunEvent, StepOutput
from orchestrator.model.step_result import Status
from tests.support.journal_events import (
    NOW,
    RUN,
    run_finished,
    run_started,
    step_finished,
    step_printed,
    step_started,
    task_finished,
)


def keep_events(root: Path, *events: RunEvent, keep: int = 50) -> tuple[Path, list[str]]:
    warnings: list[str] = []
    journal = RunJournal(root, {}, warnings.append, keep)
    for event in events:
        journal(event)
    journal.close()
    assert journal.folder
    return journal.folder, warnings


def failed_hosts(root: Path) -> tuple[str, ...]:
    last = last_run(root, {})
    assert last is not None
    return last.failed


def test_a_run_leaves_its_record_its_events_and_the_hosts_logs(tmp_path: Path) -> None:
    folder, warnings = keep_events(
        tmp_path,
        run_started(),
        step_started("a"),
        step_printed("a", b"Linux\n"),
        step_finished("a"),
        run_finished(a=Status.OK),
    )
    assert sorted(path.name for path in folder.iterdir()) == ["a.log", "events.jsonl", "run.json"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    assert b"Linux\n" in (folder / "a.log").read_bytes()
    assert warnings == []


def test_the_record_says_what_ran_and_how_each_host_ended(tmp_path: Path) -> None:
    folder, _ = keep_events(tmp_path, run_started(), run_finished(a=Status.FAILED, b=Status.OK))
    found = json.loads((folder / "run.json").read_text())
    assert found["run"] == RUN
    assert (found["stage"], found["tasks"], found["check"]) == ("dev", ["uname"], False)
    assert (found["started"], found["seconds"], found["exit_code"]) == (NOW, 2.0, 1)
    assert [(row["host"], row["status"], row["reason"]) for row in found["rows"]] == [
        ("a", "failed", "why"),
        ("b", "ok", "why"),
    ]
    assert failed_hosts(tmp_path) == ("a",)


def test_a_run_that_broke_off_is_on_record_but_not_as_finished(tmp_path: Path) -> None:
    keep_events(tmp_path, run_started("20260101000000-aaaa"), run_finished(a=Status.FAILED))
    folder, _ = keep_events(tmp_path, run_started(), step_started("a"))
    assert "rows" not in json.loads((folder / "run.json").read_text())
    assert failed_hosts(tmp_path) == ("a", "b")


def test_events_are_one_object_a_line_without_what_the_hosts_printed(tmp_path: Path) -> None:
    folder, _ = keep_events(
        tmp_path,
        run_started(),
        step_started("a"),
        step_printed("a", b"x" * 9),
        step_finished("a", Status.FAILED, reason="a\u2028b"),
        run_finished(a=Status.OK),
    )
    found = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in found] == [
        "run_started",
        "step_started",
        "step_finished",
        "run_finished",
    ]
    assert found[2]["status"] == "failed"
    assert found[2]["bytes"] == {"stdout": 4, "stderr": 0}
    assert "kept" not in (folder / "events.jsonl").read_text()


def test_each_event_is_written_when_the_call_with_it_returns(tmp_path: Path) -> None:
    journal = RunJournal(tmp_path, {}, print)
    expected = []
    for event in (
        run_started(),
        step_started("a"),
        step_printed("a", b"half a li"),
        step_finished("a"),
        task_finished("a"),
    ):
        journal(event)
        assert journal.folder
        if isinstance(event, StepOutput):
            assert (journal.folder / "a.log").read_bytes().endswith(b"half a li")
            continue
        expected.append(re.sub("(?<=[a-z])(?=[A-Z])", "_", type(event).__name__).lower())
        lines = (journal.folder / "events.jsonl").read_text().splitlines()
        assert [json.loads(line)["event"] for line in lines] == expected
    journal.close()


def test_a_line_that_a_full_disk_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    folder, done = run_limited(
        tmp_path,
        """
        size = lambda: (journal.folder / "events.jsonl").stat().st_size
        journal(run_started())
        full(size() + 40)
        journal(step_started("a"))
        full(1_000_000)
        journal(task_finished("a"))
        """,
    )
    assert done.stdout.count("WARN") == 1
    lines = (folder / "events.jsonl").read_text().splitlines()
    assert len(lines[1]) == 40
    assert [json.loads(line)["event"] for line in (lines[0], lines[-1])] == [
        "run_started",
        "host_finished",
    ]
    assert failed_hosts(tmp_path) == ("b",)


def test_where_an_event_cannot_be_written_the_hosts_log_is(tmp_path: Path) -> None:
    folder, _ = run_limited(
        tmp_path,
        """
        journal(run_started())
        full((journal.folder / "events.jsonl").stat().st_size)
        journal(step_started("a"))
        journal(step_printed("a", b"kept"))
        journal(step_finished("a"))
        """,
    )
    log = (folder / "a.log").read_text()
    assert "kept" in log
    assert "--- ok" in log
    assert len((folder / "events.jsonl").read_text().splitlines()) == 1


def test_only_the_last_runs_are_kept(tmp_path: Path) -> None:
    for day in range(1, 6):
        folder, _ = keep_events(
            tmp_path, run_started(f"2020010{day}000000-aaaa"), run_finished(), keep=2
        )
    left = sorted(path.name for path in folder.parent.iterdir())
    assert left == ["20200104000000-aaaa", "20200105000000-aaaa"]


def test_where_nothing_can_be_written_the_run_goes_on_with_one_warning(tmp_path: Path) -> None:
    (tmp_path / ".orch").write_text("in the way")
    warnings: list[str] = []
    journal = RunJournal(tmp_path, {}, warnings.append)
    for event in (
        run_started(),
        step_started("a"),
        step_printed("a", b"x"),
        step_finished("a"),
        run_finished(a=Status.OK),
    ):
        journal(event)
    journal.close()
    assert journal.folder is None
    assert len(warnings) == 1
    assert "the log of the run is incomplete" in warnings[0]


def test_a_full_disk_is_told_once_and_stops_nothing(tmp_path: Path) -> None:
    folder, done = run_limited(
        tmp_path,
        """
        full(20_000)
        journal(run_started())
        for i in range(300):
            journal(step_started("a", i))
            journal(step_printed("a", b"x" * 1000, step=i))
            journal(step_finished("a", step=i))
        journal(step_printed("b", b"still kept"))
        journal(run_finished(a=Status.FAILED))
        """,
    )
    assert done.stdout.count("WARN") == 1
    assert "File too large" in done.stdout
    assert b"still kept" in (folder / "b.log").read_bytes()
    assert failed_hosts(tmp_path) == ("a",)


def run_limited(tmp_path: Path, text: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Run a journal in a separate process in which ``full(BYTES)`` limits the size of files.

    The limit simulates a full disk: both are an OSError on write.
    """
    code = f"""
import resource, signal
from pathlib import Path
from orchestrator.journal.journal import RunJournal
from orchestrator.model.step_result import Status
from tests.support.journal_events import run_finished, run_started, step_finished, step_printed, step_started, task_finished
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
full = lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
journal = RunJournal(Path({str(tmp_path)!r}), {{}}, lambda text: print("WARN", text))
{textwrap.dedent(text)}
journal.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path / ".orch" / "runs" / RUN, done


def test_a_folder_that_vanishes_during_the_run_is_told_once(tmp_path: Path) -> None:
    warnings: list[str] = []
    journal = RunJournal(tmp_path, {}, warnings.append)
    journal(run_started())
    assert journal.folder
    shutil.rmtree(journal.folder)
    journal(step_printed("a", b"x"))
    journal(run_finished(a=Status.OK))
    journal.close()
    assert len(warnings) == 1
