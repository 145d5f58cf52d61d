"""Measures the cost of the live display: orch on a terminal compared with orch without one.

    python -m tests.bench.display                       W1 on 500 hosts, W2 on 100
    python -m tests.bench.display W1 --hosts 300 --repeat 3

On a terminal, orch draws the display and folds equal output; without one it writes a line per
event. The figures are CPU seconds of whole client processes, as the median of runs that take turns.
The display is drawn at a fixed rate, so its share is larger on a slower machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.competitors import BenchJob, orch
from tests.bench.process_cost import ProcessCost, measure_process, median_of
from tests.bench.sshd_farm import SshdFarm, start_farm

HOSTS = {"W1": 500, "W2": 100}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", metavar="W1|W2", default=list(HOSTS))
    parser.add_argument("--hosts", type=int, help="in place of each one's own number")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args(words)
    failed = False
    with (
        tempfile.TemporaryDirectory(prefix="orch-bench-") as folder,
        start_farm(Path(folder) / "farm") as host_farm,
    ):
        print("| workload | hosts | off a terminal, CPU s | on one | more |")
        print("|---|---|---|---|---|")
        for workload in options.what:
            hosts = options.hosts or HOSTS[workload]
            found = measure_display(host_farm, workload, hosts, options.repeat)
            failed |= any(run.status for runs in found.values() for run in runs)
            print(format_row(workload, hosts, found), flush=True)
    return int(failed)


def measure_display(
    host_farm: SshdFarm, workload: str, hosts: int, repeat: int
) -> Mapping[bool, Sequence[ProcessCost]]:
    """Run without and with a terminal, in turns."""
    found: dict[bool, list[ProcessCost]] = {False: [], True: []}
    environ = host_farm.environ() | {"TERM": "xterm-256color"}
    for turn in range(repeat):
        for terminal, runs in found.items():
            job = BenchJob(host_farm, workload, hosts, f"{turn}{int(terminal)}")
            log = host_farm.folder / f"log{int(terminal)}"
            runs.append(measure_process(orch(job), environ, log, terminal=terminal))
    return found


def format_row(workload: str, hosts: int, found: Mapping[bool, Sequence[ProcessCost]]) -> str:
    """Return a row of the table."""
    off, on = (median_of(found[terminal], lambda run: run.cpu) for terminal in (False, True))
    return f"| {workload} | {hosts} | {off:.2f} | {on:.2f} | {100 * (on / off - 1):+.1f} % |"


if __name__ == "__main__":
    sys.exit(main())
