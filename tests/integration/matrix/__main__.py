"""Run all of tests/integration/conformance on the matrix: `python -m tests.integration.matrix`.

Arguments: [WORKERS [CASE…]]. A case is a host and a transport, as in `bash-ssh`, or a host. Prints
the tests that failed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.integration.matrix.account_cases import make_accounts
from tests.integration.matrix.become_cases import make_become
from tests.integration.matrix.conformance_run import run_conformance
from tests.integration.matrix.login_cases import make_logins
from tests.integration.matrix.matrix_ground import PartFactory
from tests.integration.matrix.route_cases import start_route_helpers
from tests.integration.matrix.server_cases import make_servers

PARTS: dict[str, PartFactory] = {
    "accounts": make_accounts,
    "logins": make_logins,
    "ways": start_route_helpers,
    "servers": make_servers,
    "becoming": make_become,
}
HOUR = 3600.0  # seconds


def main(workers: str = "8", *chosen_cases: str) -> int:
    bad = 0
    for name, part in PARTS.items():
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, part(Path(folder) / "place") as ground:
            cases = [
                (host, transport)
                for host, transport in ground.working_cases
                if not chosen_cases or host in chosen_cases or f"{host}-{transport}" in chosen_cases
            ]
            if not cases:
                continue
            results = run_conformance(ground, cases, workers=int(workers), timeout=HOUR)
        for result in results:
            if result.failure_text:
                print(f"--- {result.case} {result.test}\n{result.failure_text}\n", flush=True)
        failed = Counter(result.case for result in results if result.failure_text)
        excepted = Counter(result.case for result in results if result.replacement)
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
