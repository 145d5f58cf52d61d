"""The measurements of size and number measure what they say, at sizes that take no time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import artifact, display, scale
from tests.bench.farm import Farm, farm


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("bench") / "farm") as made:
        yield made


def test_a_file_gets_to_all_hosts_by_every_way(tmp_path: Path) -> None:
    found = artifact.measured(tmp_path, 1 << 20, 2, 1)
    assert all(run.sound for runs in found.values() for run in runs)
    rows = list(artifact.table(1, 2, found))
    assert len(rows) == 6
    assert "FAILED" not in "".join(rows)


def test_orch_runs_on_a_terminal_and_off_one(there: Farm) -> None:
    found = display.measured(there, "W1", 2, 1)
    assert [run.status for runs in found.values() for run in runs] == [0, 0]
    assert display.row("W1", 2, found).startswith("| W1 | 2 | ")
    assert "\x1b[" in (there.folder / "log1").read_text()
    assert "\x1b[" not in (there.folder / "log0").read_text()


def test_cost_is_told_for_each_number_of_hosts(there: Farm) -> None:
    size = scale.measured(there, 2, 1)
    assert size.sound
    assert size.watched.pss > 1
    assert scale.row(size, size).startswith("| 2 | ")


@pytest.mark.long
def test_hosts_that_all_flood_at_once_take_no_more_memory_than_is_said(there: Farm) -> None:
    more, status = scale.flood(there, 20, 10_000_000)
    assert status == 0
    assert more < scale.BOUND
