"""Transfers that take long are shown in bytes, to people only."""

from __future__ import annotations

import io

from orchestrator.executor.transfer_meter import TransferMeter
from orchestrator.model.event import StepStarted, TaskStarted, TransferProgress
from orchestrator.output.console import TextConsole
from orchestrator.output.json_lines import JsonLinesSink
from orchestrator.output.run_progress import RunProgress

NOW = 1000.0


def transferred(done: int, total: int) -> TransferProgress:
    return TransferProgress(
        NOW, None, task="t", step=1, host="a1", done=done, total=total, seconds=4.0
    )


def last_line(*events: TransferProgress) -> str:
    progress = RunProgress()
    progress.count_event(TaskStarted(NOW, None, "t", ("a1",), 1))
    progress.count_event(StepStarted(NOW, None, "t", 1, "upload site", "a1"))
    for event in events:
        progress.count_event(event)
    (work,) = progress.slowest_hosts(1, NOW)
    return work.last_line


def test_the_line_of_a_host_has_the_bytes_and_the_speed() -> None:
    line = last_line(transferred(68_000_000, 200_000_000))
    assert line == "34 %  68.0 MB of 200.0 MB  17.0 MB/s"
    assert last_line(transferred(2000, 0)) == "2.0 kB  500 bytes/s"


def test_the_line_is_that_of_the_step_after_the_transfer() -> None:
    assert last_line(transferred(1, 2), transferred(2, 2)) == "(upload site)"


def test_programs_are_not_told() -> None:
    out = io.StringIO()
    JsonLinesSink(TextConsole(out))(transferred(1, 2))
    assert out.getvalue() == ""


def test_a_transfer_is_reported_from_time_to_time_and_at_its_end() -> None:
    reports: list[tuple[int, int]] = []
    meter = TransferMeter(lambda done, total, _: reports.append((done, total)), interval=0)
    meter.total = 5
    assert list(meter.count_pieces([b"ab", b"cde", b"f"])) == [b"ab", b"cde", b"f"]
    meter.finish()
    assert reports == [(2, 5), (4, 5), (4, 5), (6, 6)]  # it has grown, and is not over before


def test_a_short_transfer_is_not_reported() -> None:
    reports: list[int] = []
    meter = TransferMeter(lambda done, _, __: reports.append(done), interval=1000)
    list(meter.count_pieces([b"ab"]))
    meter.finish()
    assert reports == []
