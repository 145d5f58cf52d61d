"""Measure what the live view costs: orch on a terminal beside orch off one.

    python -m tests.bench.display                       W1 on 500 hosts, W2 on 100
    python -m tests.bench.display W1 --hosts 300 --repeat 3

On a terminal it draws the view and folds equal output; off one it writes a line per event. The
client's CPU seconds are told, of whole processes, as the median of runs that take turns. The view
is drawn so many times a second: the slower the machine, the greater its part.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.cost import Cost, cost, middle
from tests.bench.farm import Farm, farm
from tests.bench.peers import Job, orch

HOSTS = {"W1": 500, "W2": 100}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", metavar="W1|W2", default=list(HOSTS))
    parser.add_argument("--hosts", type=int, help="in place of each one's own number")
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args(words)
    failed = False
    with (
        tempfile.TemporaryDirectory(prefix="orch-bench-") as folder,
        farm(Path(folder) / "farm") as there,
    ):
        print("| workload | hosts | off a terminal, CPU s | on one | more |")
        print("|---|---|---|---|---|")
        for workload in given.what:
            hosts = given.hosts or HOSTS[workload]
            found = measured(there, workload, hosts, given.repeat)
            failed |= any(run.status for runs in found.values() for run in runs)
            print(row(workload, hosts, found), flush=True)
    return int(failed)


def measured(there: Farm, workload: str, hosts: int, repeat: int) -> Mapping[bool, Sequence[Cost]]:
    """The runs off a terminal and on one, in turns."""
    found: dict[bool, list[Cost]] = {False: [], True: []}
    environ = there.environ() | {"TERM": "xterm-256color"}
    for turn in range(repeat):
        for terminal, runs in found.items():
            job = Job(there, workload, hosts, f"{turn}{int(terminal)}")
            log = there.folder / f"log{int(terminal)}"
            runs.append(cost(orch(job), environ, log, terminal=terminal))
    return found


def row(workload: str, hosts: int, found: Mapping[bool, Sequence[Cost]]) -> str:
    """A row of the table."""
    off, on = (middle(found[terminal], lambda run: run.cpu) for terminal in (False, True))
    return f"| {workload} | {hosts} | {off:.2f} | {on:.2f} | {100 * (on / off - 1):+.1f} % |"


if __name__ == "__main__":
    sys.exit(main())
