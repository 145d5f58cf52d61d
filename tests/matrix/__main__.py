"""All of tests/conformance on all of the matrix: `python -m tests.matrix [WORKERS [CASE…]]`.

A case is a host and a transport, as in `bash-ssh`, or a host alone. Tells what did not hold.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.matrix.accounts import accounts
from tests.matrix.becoming import becoming
from tests.matrix.ground import Part
from tests.matrix.logins import logins
from tests.matrix.servers import servers
from tests.matrix.ways import ways_in_use
from tests.matrix.whole import whole

PARTS: dict[str, Part] = {
    "accounts": accounts,
    "logins": logins,
    "ways": ways_in_use,
    "servers": servers,
    "becoming": becoming,
}
HOUR = 3600.0  # seconds


def main(workers: str = "8", *wanted: str) -> int:
    bad = 0
    for name, part in PARTS.items():
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, part(Path(folder) / "place") as ground:
            cases = [
                (host, transport)
                for host, transport in ground.works
                if not wanted or host in wanted or f"{host}-{transport}" in wanted
            ]
            if not cases:
                continue
            results = whole(ground, cases, workers=int(workers), timeout=HOUR)
        for result in results:
            if result.said:
                print(f"--- {result.case} {result.test}\n{result.said}\n", flush=True)
        failed = Counter(result.case for result in results if result.said)
        excepted = Counter(result.case for result in results if result.instead)
        bad += sum(failed.values())
        print(
            f"{name}: {len(results)} tests on {len(cases)} cases, {sum(failed.values())} failed "
            f"{dict(failed)}, {sum(excepted.values())} excepted {dict(excepted)}, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
