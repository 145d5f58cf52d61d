"""A record that was cut at any byte, by a kill or a full disk, is read as far as it goes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.commands.history import (
    RunSelection,
    result_text,
    run_json,
    search_outputs,
    selected_events,
)
from orchestrator.commands.resume import RunRecordReader
from orchestrator.errors import UsageError
from orchestrator.journal.index_database import remove_database
from orchestrator.journal.run_index import RunIndex
from orchestrator.journal.run_reader import find_run
from orchestrator.model.event import RunEvent, RunFinished, StepFinished
from tests.projects import OrchProject

FILES = (
    *("events.jsonl", "run.json", "texts.jsonl", "results.jsonl"),
    *("web1.log", "web2.log", ".gitignore"),
)
TASK = """
steps:
- {name: greet, run: 'echo hello {{ host.name }}; echo oops >&2', register: said}
- {name: more, run: 'seq 1 40; echo {{ said.stdout }}'}
- {name: 'no', run: 'test {{ host.name }} = web1'}
- {name: late, run: echo the end}
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with a run that failed on web2."""
    root = tmp_path_factory.mktemp("recorded") / "project"
    project = OrchProject(root)
    project.add_sandbox_stage("web1", "web2").write({"tasks/t.yml": TASK})
    assert project.orch("-s", "dev", "run", "t", "--keep-going").code == 1
    return root


@contextmanager
def cut_file(root: Path, name: str, length: int, *, index: bool) -> Iterator[None]:
    """Cut a file of the run; with ``index``, the run was in the index before."""
    remove_index(root)
    if index:
        read_all(root)
    path = run_folder(root) / name if name != ".gitignore" else root / ".orch" / name
    before = path.stat()
    whole = path.read_bytes()
    try:
        with path.open("r+b") as file:
            file.truncate(min(length, len(whole)))
        yield
    finally:
        path.write_bytes(whole)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        remove_index(root)


def remove_index(root: Path) -> None:
    remove_database(root / ".orch" / "history.db")


def run_folder(root: Path) -> Path:
    (folder,) = (root / ".orch" / "runs").iterdir()
    return folder


def open_index(root: Path) -> RunIndex:
    return RunIndex(root, {}, pytest.fail)


def read_all(root: Path) -> tuple[str, list[RunEvent], list[str]]:
    """Return what `orch history`, `show` and `search` read."""
    index = open_index(root)
    try:
        (run,) = index.runs()
        assert run_json(run)["stage"] == "dev"
        assert run.hosts == ("web1", "web2")
        lines = [hit.line for hit in search_outputs(index, "e")]
    finally:
        index.close()
    events = list(selected_events(find_run(root, {}, "last"), RunSelection()))
    return result_text(run), events, lines


def steps_done(root: Path) -> set[tuple[int, str, int]]:
    """Return the steps that `orch resume` would not do again: task, host, and step."""
    try:
        progress = RunRecordReader(find_run(root, {}, "last")).read()
    except UsageError:  # nothing is left of it
        return set()
    return {
        (number, host, step)
        for (_, number), task in progress.tasks.items()
        for host, own in task.hosts.items()
        for step in own.ended
    }


def outputs(events: list[RunEvent]) -> list[tuple[str, int, bytes, bytes]]:
    return [
        (event.host, event.step, event.outcome.stdout.head, event.outcome.stderr.head)
        for event in events
        if isinstance(event, StepFinished)
    ]


@settings(max_examples=25)
@given(name=st.sampled_from(FILES), length=st.integers(0, 6000), index=st.booleans())
@example(name="events.jsonl", length=0, index=True)
@example(name="events.jsonl", length=0, index=False)
@example(name="run.json", length=0, index=False)
@example(name="web2.log", length=0, index=True)
def test_a_cut_record_is_read_as_far_as_it_goes(
    recorded: Path, name: str, length: int, *, index: bool
) -> None:
    check_cut(recorded, name, length, index=index)


def check_cut(root: Path, name: str, length: int, *, index: bool) -> None:
    """Cut a file, and check that the rest of the run is read as before."""
    text, events, lines = read_all(root)
    assert text == "1 changed, 1 failed"
    done = steps_done(root)
    with cut_file(root, name, length, index=index):
        left_text, left, left_lines = read_all(root)
        left_done = steps_done(root)
    assert left_done <= done
    assert name == "events.jsonl" or left_done == done
    assert isinstance(left[-1], RunFinished)
    if name != "events.jsonl":
        assert [type(event) for event in left] == [type(event) for event in events]
        assert left_text == text, "the events tell the end, too"
    else:
        assert left[:-1] == events[: len(left) - 1]
        assert left[-1] == events[-1]
    assert set(left_lines) <= {*lines, *(line[:n] for line in lines for n in range(len(line)))}
    if not name.endswith(".log"):
        assert left_lines == lines
    for was, now in zip(outputs(events), outputs(left), strict=False):
        assert now[:2] == was[:2]
        assert was[2].startswith(now[2])
        assert was[3].startswith(now[3])


@settings(max_examples=15)
@given(length=st.integers(400, 6000))
def test_a_run_that_was_killed_after_any_byte_is_shown_up_to_there(
    recorded: Path, length: int
) -> None:
    _, events, _ = read_all(recorded)
    record = run_folder(recorded) / "run.json"
    whole = record.read_bytes()
    about = json.loads(whole)
    for name in ("seconds", "exit_code", "rows", "commit", "is_dirty"):
        about.pop(name, None)
    try:
        with cut_file(recorded, "events.jsonl", length, index=False):
            record.write_text(json.dumps(about))
            text, left, _ = read_all(recorded)
    finally:
        record.write_bytes(whole)
        remove_index(recorded)
    assert text == "killed"
    *left, last = left
    assert left == events[: len(left)]
    assert isinstance(last, RunFinished)
    assert [row.host for row in last.rows] == ["web1", "web2"]


@pytest.mark.long
@settings(max_examples=400)
@given(name=st.sampled_from(FILES), length=st.integers(0, 6000), index=st.booleans())
def test_a_record_cut_anywhere_is_read_as_far_as_it_goes(
    recorded: Path, name: str, length: int, *, index: bool
) -> None:
    check_cut(recorded, name, length, index=index)
