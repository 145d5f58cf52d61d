"""The benchmarks of size and number are correct, with small sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import artifact, display, scale
from tests.bench.sshd_farm import SshdFarm, start_farm


@pytest.fixture(scope="module")
def host_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshdFarm]:
    with start_farm(tmp_path_factory.mktemp("bench") / "farm") as created:
        yield created


def test_a_file_gets_to_all_hosts_by_every_way(tmp_path: Path) -> None:
    found = artifact.measure_transfers(tmp_path, 1 << 20, 2, 1)
    assert all(run.is_complete for runs in found.values() for run in runs)
    rows = list(artifact.format_table(1, 2, found))
    assert len(rows) == 6
    assert "FAILED" not in "".join(rows)


def test_orch_runs_on_a_terminal_and_off_one(host_farm: SshdFarm) -> None:
    found = display.measure_display(host_farm, "W1", 2, 1)
    assert [run.status for runs in found.values() for run in runs] == [0, 0]
    assert display.format_row("W1", 2, found).startswith("| W1 | 2 | ")
    assert "\x1b[" in (host_farm.folder / "log1").read_text()
    assert "\x1b[" not in (host_farm.folder / "log0").read_text()


def test_cost_is_told_for_each_number_of_hosts(host_farm: SshdFarm) -> None:
    size = scale.measure_scale(host_farm, 2, 1)
    assert size.is_complete
    assert size.watched.pss > 1
    assert scale.format_row(size, size).startswith("| 2 | ")


@pytest.mark.long
def test_hosts_that_all_flood_at_once_take_no_more_memory_than_is_said(host_farm: SshdFarm) -> None:
    more, status = scale.measure_flood(host_farm, 20, 10_000_000)
    assert status == 0
    assert more < scale.BOUND
