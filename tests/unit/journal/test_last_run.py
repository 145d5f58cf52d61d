"""Which hosts did not complete in the last run, whatever became of orch in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.journal.journal import RunJournal
from orchestrator.journal.run_dirs import run_parents
from orchestrator.journal.run_history import expected_seconds, last_run
from orchestrator.model.event import RunEvent, RunStarted
from orchestrator.model.step_result import Status
from tests.support.journal_events import (
    NOW,
    run_finished,
    run_started,
    step_finished,
    step_started,
    task_finished,
)

FIRST, SECOND, THIRD = (f"2026010{day}000000-aaaa" for day in (1, 2, 3))


def write_run(root: Path, *events: RunEvent) -> Path:
    """Create the folder of a run with these events, finished or killed."""
    journal = RunJournal(root, {}, print)
    for event in events:
        journal(event)
    journal.close()
    assert journal.folder
    return journal.folder


def failed_hosts(root: Path, stage: str | None = None) -> tuple[str, ...] | None:
    last = last_run(root, {}, stage)
    return last.failed if last else None


def test_without_a_run_nothing_is_known(tmp_path: Path) -> None:
    assert last_run(tmp_path, {}) is None


@pytest.mark.parametrize("status", Status)
def test_every_state_that_is_no_completion_counts(tmp_path: Path, status: Status) -> None:
    write_run(tmp_path, run_started(), run_finished(a=status, b=Status.OK))
    complete = ("changed", "ok", "skipped", "would_change", "would_run", "unknown")
    assert failed_hosts(tmp_path) == (() if status.value in complete else ("a",))


def test_the_newest_run_counts_also_where_all_completed_in_it(tmp_path: Path) -> None:
    write_run(tmp_path, run_started(FIRST), run_finished(a=Status.FAILED))
    assert failed_hosts(tmp_path) == ("a",)
    write_run(tmp_path, run_started(SECOND), run_finished(a=Status.OK))
    last = last_run(tmp_path, {})
    assert last is not None
    assert (last.run, last.failed) == (SECOND, ())


def test_of_two_runs_in_one_second_the_later_counts(tmp_path: Path) -> None:
    write_run(tmp_path, run_started(FIRST[:-4] + "ffff", time=NOW), run_finished(a=Status.FAILED))
    write_run(
        tmp_path, run_started(FIRST[:-4] + "0000", time=NOW + 0.5), run_finished(b=Status.FAILED)
    )
    assert failed_hosts(tmp_path) == ("b",)


def test_of_a_killed_run_those_failed_that_did_not_end_their_last_task(tmp_path: Path) -> None:
    hosts = tuple("abcdefg")
    write_run(
        tmp_path,
        run_started(hosts=hosts),
        step_started("a"),
        step_finished("a"),
        task_finished("a"),
        step_started("b"),  # in the middle of a step
        task_finished("c", last=False),  # at a barrier
        task_finished("d", Status.LOST),
        task_finished("e", Status.FAILED),
        task_finished("f", Status.CHANGED),
        step_started("f", name="undo"),  # done, and on the way back
    )
    assert failed_hosts(tmp_path) == ("b", "c", "d", "e", "f", "g")


def test_a_run_that_was_killed_before_any_host_began_is_the_last_one(tmp_path: Path) -> None:
    write_run(tmp_path, run_started(FIRST), run_finished(a=Status.OK, b=Status.OK))
    write_run(tmp_path, run_started(SECOND))
    assert failed_hosts(tmp_path) == ("a", "b")


def test_a_run_whose_end_was_told_and_not_recorded_has_no_failed_host(tmp_path: Path) -> None:
    write_run(tmp_path, run_started(), task_finished("a"), task_finished("b", Status.SKIPPED))
    assert failed_hosts(tmp_path) == ()


def test_a_host_has_to_complete_for_each_of_its_apps(tmp_path: Path) -> None:
    apps = {"blog": ("a", "b", "c"), "shop": ("b", "c")}
    write_run(
        tmp_path,
        run_started(hosts=("a", "b", "c"), apps=apps),
        task_finished("a", app="blog"),
        task_finished("b", app="blog"),
        task_finished("c", app="shop"),
        task_finished("c", app="blog"),
    )
    assert failed_hosts(tmp_path) == ("b",)


def test_a_host_that_failed_for_two_apps_is_named_once(tmp_path: Path) -> None:
    write_run(tmp_path, run_started(apps={"blog": ("a",), "shop": ("a",)}))
    assert failed_hosts(tmp_path) == ("a",)


@pytest.mark.parametrize("torn", [1, 20, 60])
def test_a_torn_last_line_takes_nothing_else_along(tmp_path: Path, torn: int) -> None:
    folder = write_run(tmp_path, run_started(), task_finished("a"), task_finished("b"))
    events = folder / "events.jsonl"
    events.write_bytes(events.read_bytes()[:-torn])
    assert failed_hosts(tmp_path) == (("b",) if torn > 1 else ())


@pytest.mark.parametrize("line", [b"", b"\0" * 50, b"[]", b"3", b'{"event": 3}', b"\xff{", b"{"])
def test_lines_that_are_no_events_are_passed_over(tmp_path: Path, line: bytes) -> None:
    folder = write_run(tmp_path, run_started(), task_finished("a"))
    events = folder / "events.jsonl"
    first, second = events.read_bytes().splitlines()
    events.write_bytes(b"\n".join([first, line, second, line]))
    assert failed_hosts(tmp_path) == ("b",)


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '{"hosts": 3}', '{"rows": [3]}'])
def test_a_record_that_is_missing_or_broken_is_made_up_for_by_the_events(
    tmp_path: Path, text: str | None
) -> None:
    write_run(tmp_path, run_started(FIRST), run_finished(a=Status.FAILED))
    folder = write_run(tmp_path, run_started(SECOND), task_finished("a"))
    (folder / "run.json").unlink()
    if text is not None:
        (folder / "run.json").write_text(text)
    assert failed_hosts(tmp_path, "dev") == ("b",)


def test_a_folder_of_which_nothing_can_be_read_is_passed_over(tmp_path: Path) -> None:
    write_run(tmp_path, run_started(FIRST), run_finished(a=Status.FAILED))
    (run_parents(tmp_path, {})[0] / SECOND).mkdir()
    folder = write_run(tmp_path, run_started(THIRD))
    (folder / "run.json").unlink()
    (folder / "events.jsonl").write_bytes(b"{")
    assert failed_hosts(tmp_path) == ("a",)


def test_a_run_that_is_still_going_on_does_not_count(tmp_path: Path) -> None:
    write_run(tmp_path, run_started(FIRST), run_finished(a=Status.FAILED))
    journal = RunJournal(tmp_path, {}, print)
    journal(run_started(SECOND))
    assert failed_hosts(tmp_path) == ("a",)
    journal.close()
    assert failed_hosts(tmp_path) == ("a", "b")


@pytest.mark.parametrize("task", ["lock status", "lock release"])
def test_a_look_at_the_locks_is_no_run_of_tasks(tmp_path: Path, task: str) -> None:
    write_run(tmp_path, run_started(FIRST, apps={"blog": ("a",)}), step_started("a", app="blog"))
    write_run(tmp_path, run_started(SECOND, tasks=(task,)), run_finished(a=Status.OK))
    assert failed_hosts(tmp_path) == ("a",)


def test_runs_of_another_stage_are_not_meant(tmp_path: Path) -> None:
    write_run(tmp_path, run_started(FIRST, "dev"), run_finished(a=Status.FAILED))
    write_run(tmp_path, run_started(SECOND, "prod"))
    assert failed_hosts(tmp_path, "dev") == ("a",)
    assert failed_hosts(tmp_path, "prod") == ("a", "b")
    assert failed_hosts(tmp_path, "staging") is None


def test_runs_in_the_users_state_count_too(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    write_run(tmp_path, run_started(FIRST), run_finished(a=Status.FAILED))
    elsewhere = write_run(tmp_path, run_started(SECOND), run_finished(b=Status.FAILED))
    other = run_parents(tmp_path, environ)[1]
    other.mkdir(parents=True)
    elsewhere.rename(other / SECOND)
    last = last_run(tmp_path, environ)
    assert last is not None
    assert last.failed == ("b",)


def test_a_run_that_a_step_of_another_started_is_a_part_of_that_one(tmp_path: Path) -> None:
    write_run(tmp_path, run_started(FIRST), run_finished(a=Status.FAILED))
    write_run(
        tmp_path, run_started(SECOND, within=(FIRST,), time=NOW + 1), run_finished(b=Status.FAILED)
    )
    assert failed_hosts(tmp_path) == ("a",)
    write_run(tmp_path, run_started(THIRD, within=(FIRST, SECOND), time=NOW + 1.5), run_finished())
    assert failed_hosts(tmp_path) == ("a",)


def test_so_it_is_where_the_other_was_killed(tmp_path: Path) -> None:
    write_run(tmp_path, run_started(FIRST), task_finished("a"))
    write_run(
        tmp_path, run_started(SECOND, within=(FIRST,), time=NOW + 60), run_finished(a=Status.FAILED)
    )
    assert failed_hosts(tmp_path) == ("b",)


@pytest.mark.parametrize("outer", [FIRST, "20200101000000-gone"])
def test_what_another_left_behind_may_start_runs_of_its_own(tmp_path: Path, outer: str) -> None:
    write_run(tmp_path, run_started(FIRST), run_finished(a=Status.FAILED))
    write_run(
        tmp_path, run_started(SECOND, within=(outer,), time=NOW + 3), run_finished(b=Status.FAILED)
    )
    assert failed_hosts(tmp_path) == ("b",)


def began(*tasks: str, check: bool = False) -> RunStarted:
    return RunStarted(NOW, THIRD, "dev", tasks, ("a", "b"), check)


def test_a_run_takes_as_long_as_the_same_ones_did(tmp_path: Path) -> None:
    for number, seconds in enumerate((90.0, 10.0, 14.0, 12.0, 11.0, 13.0)):
        run = replace(began("deploy"), run=f"2026010100000{number}-aaaa")
        write_run(tmp_path, run, replace(run_finished(a=Status.OK), seconds=seconds))
    assert expected_seconds(tmp_path, {}, began("deploy")) == 12.0


def test_how_long_a_run_takes_is_known_only_from_good_runs_of_the_same(tmp_path: Path) -> None:
    for run, end in (
        (began("other"), run_finished(a=Status.OK)),
        (began("deploy", check=True), run_finished(a=Status.OK)),
        (replace(began("deploy"), hosts=("a",)), run_finished(a=Status.OK)),
        (replace(began("deploy"), stage="prod"), run_finished(a=Status.OK)),
        (replace(began("deploy"), apps={"blog": ("a", "b")}), run_finished(a=Status.OK)),
        (began("deploy"), run_finished(a=Status.FAILED)),
    ):
        write_run(tmp_path, run, end)
        assert expected_seconds(tmp_path, {}, began("deploy")) is None
        shutil.rmtree(tmp_path / ".orch")
