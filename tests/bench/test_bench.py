"""The measurements measure what they say: every workload runs to its proven end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.__main__ import WORKLOADS, measured, table
from tests.bench.farm import farm
from tests.bench.small import small

OURS = ["orch", "orch (run only)", "ssh"]


@pytest.mark.parametrize("workload", WORKLOADS)
def test_orch_and_ssh_do_all_of_the_work(tmp_path: Path, workload: str) -> None:
    with farm(tmp_path / "farm") as there:
        found = measured(there, workload, 2, OURS, 1)
    assert list(found) == [name for name in OURS if workload != "W1" or "only" not in name]
    assert all(run.sound for runs in found.values() for run in runs)
    assert "FAILED" not in "".join(table(workload, 2, found))


def test_every_part_gives_a_figure(tmp_path: Path) -> None:
    _, _, *rows = small(tmp_path / "small", 1)
    assert all(float(row.split("|")[2]) > 0 for row in rows)
    assert len(rows) == 5
