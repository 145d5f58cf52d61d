"""The benchmark of worker processes measures what it says."""

from __future__ import annotations

from pathlib import Path

from tests.bench.shards import Bench, Figures


def test_hosts_in_memory_are_served_by_as_many_workers_as_asked_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "b", "twelve", 8)
    assert [len(bench.once(count).workers) for count in (1, 2)] == [0, 2]


def test_no_run_can_be_faster_than_its_busiest_process_nor_than_two_processors() -> None:
    assert Figures(9.0, 1.0, ()).bound(100) == 100
    assert Figures(9.0, 0.5, (0.75, 0.75)).bound(200) == 200
    assert Figures(9.0, 0.0, (0.25, 0.5)).bound(50) == 100
