"""Run many runs with faults: `python -m tests.integration.faults SCENARIO FIRST COUNT`.

Prints each violation with the seed that reproduces it.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.integration.faults.run_checks import find_violations
from tests.integration.faults.scenarios import ALL
from tests.integration.faults.testbed import start_testbed


def main(name: str, first: str, count: str = "1") -> int:
    bad, statuses, began = 0, Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, start_testbed(Path(folder), ALL[name]) as testbed:
        for number in range(int(first), int(first) + int(count)):
            ran = testbed.run(number)
            statuses.update(f"{row.status}" for row in ran.rows.values())
            statuses.update(
                {
                    "faults": len(ran.struck_hosts),
                    "connections": sum(ran.connection_counts.values()),
                }
            )
            if found := find_violations(ran):
                bad += 1
                print(f"run {number} of {name}, {ran.seconds:.1f} s:", flush=True)
                print(*(f"    {what}" for what in found), sep="\n", flush=True)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    took = time.monotonic() - began
    print(
        f"{name}: {count} runs from {first}, {bad} bad, {dict(statuses)}, {most} MB, {took:.0f} s"
    )
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
