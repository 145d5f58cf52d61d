import json
import shutil
import subprocess
import sys
from pathlib import Path

from orchestrator.journal.places import last_failed
from orchestrator.journal.run import Journal
from orchestrator.model.event import Event
from orchestrator.model.outcome import Status
from tests.journal.made import NOW, RUN, begun, ended, finished, printed, started


def keep(root: Path, *events: Event, keep: int = 50) -> tuple[Path, list[str]]:
    warnings: list[str] = []
    journal = Journal(root, {}, warnings.append, keep)
    for event in events:
        journal(event)
    journal.close()
    assert journal.folder
    return journal.folder, warnings


def test_a_run_leaves_its_record_its_events_and_the_hosts_logs(tmp_path: Path) -> None:
    folder, warnings = keep(
        tmp_path, started(), begun("a"), printed("a", b"Linux\n"), ended("a"), finished(a=Status.OK)
    )
    assert sorted(path.name for path in folder.iterdir()) == ["a.log", "events.jsonl", "run.json"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    assert b"Linux\n" in (folder / "a.log").read_bytes()
    assert warnings == []


def test_the_record_says_what_ran_and_how_each_host_ended(tmp_path: Path) -> None:
    folder, _ = keep(tmp_path, started(), finished(a=Status.FAILED, b=Status.OK))
    found = json.loads((folder / "run.json").read_text())
    assert found["run"] == RUN
    assert (found["stage"], found["tasks"], found["check"]) == ("dev", ["uname"], False)
    assert (found["started"], found["seconds"], found["exit_code"]) == (NOW, 2.0, 1)
    assert [(row["host"], row["status"], row["reason"]) for row in found["rows"]] == [
        ("a", "failed", "why"),
        ("b", "ok", "why"),
    ]
    assert last_failed(tmp_path, {}) == ["a"]


def test_a_run_that_broke_off_is_on_record_but_not_as_finished(tmp_path: Path) -> None:
    keep(tmp_path, started("20260101000000-aaaa"), finished(a=Status.FAILED))
    folder, _ = keep(tmp_path, started(), begun("a"))
    assert "rows" not in json.loads((folder / "run.json").read_text())
    assert last_failed(tmp_path, {}) == ["a"]


def test_events_are_one_object_a_line_without_what_the_hosts_printed(tmp_path: Path) -> None:
    folder, _ = keep(
        tmp_path,
        started(),
        begun("a"),
        printed("a", b"x" * 9),
        ended("a", Status.FAILED, reason="a\u2028b"),
        finished(a=Status.OK),
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


def test_events_reach_the_disk_while_the_run_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {}, print)
    journal(started())
    assert journal.folder
    assert "run_started" in (journal.folder / "events.jsonl").read_text()
    late = begun("a")
    journal(type(late)(NOW + 5, late.app, late.task, late.step, late.name, late.host))
    assert "step_started" in (journal.folder / "events.jsonl").read_text()
    journal.close()


def test_only_the_last_runs_are_kept(tmp_path: Path) -> None:
    for day in range(1, 6):
        folder, _ = keep(tmp_path, started(f"2020010{day}000000-aaaa"), finished(), keep=2)
    left = sorted(path.name for path in folder.parent.iterdir())
    assert left == ["20200104000000-aaaa", "20200105000000-aaaa"]


def test_where_nothing_can_be_written_the_run_goes_on_with_one_warning(tmp_path: Path) -> None:
    (tmp_path / ".orch").write_text("in the way")
    warnings: list[str] = []
    journal = Journal(tmp_path, {}, warnings.append)
    for event in (started(), begun("a"), printed("a", b"x"), ended("a"), finished(a=Status.OK)):
        journal(event)
    journal.close()
    assert journal.folder is None
    assert len(warnings) == 1
    assert "the run's log is not complete" in warnings[0]


def test_a_full_disk_is_told_once_and_stops_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: both are an OSError on write."""
    code = f"""if 1:
        import resource, signal, sys
        from pathlib import Path
        from orchestrator.journal.run import Journal
        from orchestrator.model.outcome import Status
        from tests.journal.made import begun, ended, finished, printed, started
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        journal = Journal(Path({str(tmp_path)!r}), {{}}, lambda text: print("WARN", text))
        journal(started())
        for i in range(300):
            journal(begun("a", i))
            journal(printed("a", b"x" * 1000, step=i))
            journal(ended("a", step=i))
        journal(printed("b", b"still kept"))
        journal(finished(a=Status.FAILED))
        journal.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("WARN") == 1
    assert "File too large" in done.stdout
    folder = tmp_path / ".orch" / "runs" / RUN
    assert b"still kept" in (folder / "b.log").read_bytes()
    assert last_failed(tmp_path, {}) == ["a"]


def test_a_folder_that_vanishes_during_the_run_is_told_once(tmp_path: Path) -> None:
    warnings: list[str] = []
    journal = Journal(tmp_path, {}, warnings.append)
    journal(started())
    assert journal.folder
    shutil.rmtree(journal.folder)
    journal(printed("a", b"x"))
    journal(finished(a=Status.OK))
    journal.close()
    assert len(warnings) == 1
