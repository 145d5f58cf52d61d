"""Recorded runs are found by name, and their events are read as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.errors import UsageError
from orchestrator.journal.journal import RunJournal
from orchestrator.journal.run_reader import find_run, read_events, recorded_runs
from orchestrator.model.event import (
    ConnectFinished,
    RunEvent,
    RunFinished,
    StepFinished,
    TaskStarted,
    Warned,
)
from orchestrator.model.step_number import number_fields, number_from_fields
from orchestrator.model.step_result import CapturedOutput, StateChange, Status
from tests.support.journal_events import (
    NOW,
    run_finished,
    run_started,
    step_finished,
    step_printed,
    step_started,
    task_finished,
)

FIRST, SECOND, THIRD = (f"2026010{day}000000-aaaa" for day in (1, 2, 3))


def write_run(root: Path, *events: RunEvent) -> Path:
    journal = RunJournal(root, {}, pytest.fail)
    for event in events:
        journal(event)
    journal.close()
    assert journal.folder
    return journal.folder


def read_again(root: Path) -> list[RunEvent]:
    return list(read_events(find_run(root, {}, "last")))


def output_of(event: RunEvent) -> tuple[str, str]:
    assert isinstance(event, StepFinished)
    return event.outcome.stdout.text, event.outcome.stderr.text


def test_events_are_read_as_they_were(tmp_path: Path) -> None:
    changed = replace(
        step_finished("a", Status.CHANGED).outcome,
        stdout=CapturedOutput(),
        changes=(StateChange("mode", None, "0644"), StateChange("owner", "a", "b")),
        diff="--- before\n+++ after\n",
        attempts=3,
        ignored=True,
        reason="why",
    )
    events: list[RunEvent] = [
        run_started(hosts=("a",)),
        ConnectFinished(NOW, "a", 0.5, "refused", "a hint"),
        TaskStarted(NOW, None, "uname", ("a",), 2, 1, 3),
        step_started("a"),
        replace(step_finished("a"), outcome=changed),
        Warned(NOW, "careful"),
        task_finished("a"),
        run_finished(a=Status.CHANGED),
    ]
    folder = write_run(tmp_path, *events)
    assert read_again(tmp_path) == [
        *events[:-1],
        replace(run_finished(a=Status.CHANGED), log=str(folder)),
    ]


def test_the_output_of_steps_is_that_in_the_log(tmp_path: Path) -> None:
    write_run(
        tmp_path,
        run_started(),
        step_started("a"),
        step_printed("a", b"one\n=== 2026-01-01T00:00:00Z uname, step 1: uname -a\n--- ok\n"),
        step_printed("a", b"oops", "stderr"),
        step_printed("a", b"two"),
        step_finished("a"),
        step_started("a", 2),
        step_finished("a", step=2),
        step_started("b"),
        step_printed("b", b"caf\xe9 \x1b[31m\n"),
        step_finished("b"),
        run_finished(a=Status.OK, b=Status.OK),
    )
    steps = [event for event in read_again(tmp_path) if isinstance(event, StepFinished)]
    assert output_of(steps[0]) == (
        "one\n=== 2026-01-01T00:00:00Z uname, step 1: uname -a\n--- ok\ntwo",
        "oops",
    )
    assert output_of(steps[1]) == ("", "")
    assert output_of(steps[2]) == ("caf\\xe9 \\x1b[31m", "")


def test_an_output_loses_its_middle_if_it_is_longer_than_asked_for(tmp_path: Path) -> None:
    write_run(
        tmp_path,
        run_started(),
        step_started("a"),
        step_printed("a", b"0123456789\n" * 1000),
        step_printed("a", b"short", "stderr"),
        step_finished("a"),
        run_finished(a=Status.OK),
    )
    (step,) = [
        event
        for event in read_events(find_run(tmp_path, {}, "last"), max_bytes=20)
        if isinstance(event, StepFinished)
    ]
    assert step.outcome.stdout == CapturedOutput(b"0123456789", b"123456789\n", 10_980)
    assert step.outcome.stderr.text == "short"


def test_apps_that_alternate_and_steps_of_the_same_name_keep_their_output(tmp_path: Path) -> None:
    write_run(
        tmp_path,
        run_started(apps={"blog": ("a",), "shop": ("a",)}, hosts=("a",)),
        *(step_started("a", app=app) for app in ("blog", "shop")),
        step_printed("a", b"of blog\n", app="blog"),
        step_printed("a", b"of shop\n", app="shop"),
        step_printed("a", b"more of blog\n", app="blog"),
        *(step_finished("a", app=app) for app in ("shop", "blog")),
        step_started("a", app="blog"),
        step_printed("a", b"once more\n", app="blog"),
        step_finished("a", app="blog"),
        run_finished(a=Status.OK),
    )
    steps = [event for event in read_again(tmp_path) if isinstance(event, StepFinished)]
    assert [output_of(step)[0] for step in steps] == [
        "of shop",
        "of blog\nmore of blog",
        "once more",
    ]


def test_a_run_that_was_killed_ends_with_what_is_known(tmp_path: Path) -> None:
    write_run(
        tmp_path,
        run_started(hosts=("a", "b", "c", "d")),
        step_started("a"),
        step_finished("a", Status.CHANGED),
        task_finished("a", Status.CHANGED),
        step_started("b"),
        step_finished("b", Status.FAILED, reason="exit status 1"),
        task_finished("b", Status.FAILED),
        step_started("c"),
        step_finished("c"),
        step_started("c", 2, name="sleep"),
    )
    *_, last = read_again(tmp_path)
    assert isinstance(last, RunFinished)
    assert [(row.host, row.status, row.ok, row.changed) for row in last.rows] == [
        ("a", Status.CHANGED, 0, 1),
        ("b", Status.FAILED, 0, 0),
        ("c", Status.LOST, 1, 0),
        ("d", Status.LOST, 0, 0),
    ]
    assert last.rows[2].reason == "orch ended during step 2 'sleep' of uname"
    assert find_run(tmp_path, {}, "last").state == "killed"


def test_lines_that_were_cut_or_are_unknown_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path, run_started(), step_started("a"), run_finished(a=Status.OK))
    events = folder / "events.jsonl"
    good = events.read_text()
    later = '{"event":"from_later","time":1}\n{"event":"step_finished","time":1}\n[]\n{"event":"st'
    events.write_text(good + later)
    assert [type(event).__name__ for event in read_again(tmp_path)] == [
        "RunStarted",
        "StepStarted",
        "RunFinished",
    ]


def test_runs_are_named_by_the_start_of_their_id_or_counted_from_the_last(tmp_path: Path) -> None:
    for number, run in enumerate((FIRST, SECOND, THIRD)):
        write_run(tmp_path, run_started(run, time=NOW + number), run_finished(a=Status.OK))
    assert [run.run for run in recorded_runs(tmp_path, {})] == [THIRD, SECOND, FIRST]
    assert find_run(tmp_path, {}, "last").run == THIRD
    assert find_run(tmp_path, {}, "last~2").run == FIRST
    assert find_run(tmp_path, {}, "20260102").run == SECOND
    for name, message in (
        ("last~3", "only 3 runs are recorded"),
        ("2027", "no recorded run is named '2027'"),
        ("", "no recorded run is named ''"),
        ("2026", "'2026' is the start of 3 runs"),
    ):
        with pytest.raises(UsageError, match=message):
            find_run(tmp_path, {}, name)


@pytest.mark.parametrize("number", [1, 99_999, 200_000, 200_001, 30_000_100_004])
def test_a_number_is_read_from_its_fields(number: int) -> None:
    assert number_from_fields(number_fields(number)) == number
