"""The measurements of size and number measure what they say, at sizes that take no time."""

from __future__ import annotations

from pathlib import Path

from tests.bench import artifact


def test_a_file_gets_to_all_hosts_by_every_way(tmp_path: Path) -> None:
    found = artifact.measured(tmp_path, 1 << 20, 2, 1)
    assert all(run.sound for runs in found.values() for run in runs)
    rows = list(artifact.table(1, 2, found))
    assert len(rows) == 6
    assert "FAILED" not in "".join(rows)
