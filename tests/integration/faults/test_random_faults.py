"""Connections that are cut, stalled, slow or corrupt at random places: reports must be true.

The places depend on a seed. The tests make a few hundred connections;
`python -m tests.integration.faults` makes as many as requested.
"""

from __future__ import annotations

import resource
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.model.step_result import Status
from tests.integration.faults.run_checks import find_violations
from tests.integration.faults.scenarios import ALL
from tests.integration.faults.testbed import start_testbed

QUICK = {
    "plain": (0, 1, 2, 3, 4, 7, 8, 1169),
    "undo": (0, 1, 2, 4),
    "locks": (0, 5, 12, 14, 28),
    "files": (1, 2, 3, 5, 1121),
    "flood": (1, 2, 3),
    "jump": (1, 2, 7, 1016),
    "kept": (0, 1, 3, 5, 6, 7, 9),
    "kept-jump": (0, 1, 2, 3, 5),
    "openssh": (0, 3, 4),
    "become": (2, 5),
    "become-files": (0,),
    "become-openssh": (5,),
    "delegate": (1, 2, 6, 173),
    "delegate-files": (0, 15),
    "once": (1, 5),
}


MOST = 64 << 20  # bytes that the runs may leave this process larger


@pytest.mark.parametrize("name", list(ALL))
def test_what_is_told_of_a_host_is_what_happened_there(tmp_path: Path, name: str) -> None:
    found: list[str] = []
    statuses: Counter[Status] = Counter()
    before = resident_bytes()
    with start_testbed(tmp_path, ALL[name]) as testbed:
        for number in QUICK[name]:
            ran = testbed.run(number)
            found += [
                f"python -m tests.integration.faults {name} {number}: {what}"
                for what in find_violations(ran)
            ]
            statuses.update(row.status for row in ran.rows.values())
    assert not found, "\n".join(found)
    assert resident_bytes() - before < MOST
    assert statuses[Status.LOST] and statuses[Status.UNREACHABLE] and statuses[Status.CHANGED]


def resident_bytes() -> int:
    """Return the bytes of memory that this process uses (proc(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
