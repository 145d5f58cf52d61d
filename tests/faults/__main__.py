"""Many runs with faults: `python -m tests.faults SCENARIO FIRST COUNT`, or one that failed before.

Says what did not hold, with the seed that makes it happen again.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.judge import wrong
from tests.faults.scenario import ALL
from tests.faults.world import world


def main(name: str, first: str, count: str = "1") -> int:
    bad, seen, began = 0, Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, world(Path(folder), ALL[name]) as here:
        for number in range(int(first), int(first) + int(count)):
            ran = here.run(number)
            seen.update(f"{row.status}" for row in ran.rows.values())
            seen.update({"faults": len(ran.happened), "connections": sum(ran.tries.values())})
            if found := wrong(ran):
                bad += 1
                print(f"run {number} of {name}, {ran.seconds:.1f} s:", flush=True)
                print(*(f"    {what}" for what in found), sep="\n", flush=True)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    took = time.monotonic() - began
    print(f"{name}: {count} runs from {first}, {bad} bad, {dict(seen)}, {most} MB, {took:.0f} s")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
