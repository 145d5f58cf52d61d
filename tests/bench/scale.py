"""Measures how orch's cost grows with the hosts, and its memory if all hosts print at once.

    python -m tests.bench.scale                              W1 on 100, 300 and 2,000 hosts
    python -m tests.bench.scale --hosts 100,300 --repeat 3

All hosts run at once (`-f`), on one machine. CPU is the client's, per host and relative to the
first number of hosts; memory (PSS) is measured in a separate run, because that takes time. In the
last run each host prints 10 MB at once, and orch may not grow by more than BOUND.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.competitors import BenchJob, orch
from tests.bench.process_cost import ProcessCost, measure_process, median_of
from tests.bench.sshd_farm import SshdFarm, start_farm

BOUND = 3.0
"""Limit in MiB of the growth of orch's memory for each host that prints while others do."""

_FLOOD = f"yes {'x' * 99} | head -c {{}}"


@dataclass(frozen=True, slots=True)
class ScaleFigures:
    """The costs for one number of hosts; ``watched`` is the run whose memory was measured."""

    hosts: int
    runs: Sequence[ProcessCost]
    watched: ProcessCost

    @property
    def cpu_per_host(self) -> float:
        """Return CPU milliseconds per host."""
        return 1000 * median_of(self.runs, lambda run: run.cpu) / self.hosts

    @property
    def is_complete(self) -> bool:
        return not any(run.status for run in (*self.runs, self.watched))


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", default="100,300,2000")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--flood", type=int, default=100, help="hosts that flood; 0: none")
    options = parser.parse_args(words)
    with (
        tempfile.TemporaryDirectory(prefix="orch-bench-") as folder,
        start_farm(Path(folder) / "farm") as host_farm,
    ):
        print("| W1, hosts | wall s | client CPU ms a host | of the first | PSS MiB |")
        print("|---|---|---|---|---|")
        sizes: list[ScaleFigures] = []
        for hosts in map(int, options.hosts.split(",")):
            sizes.append(measure_scale(host_farm, hosts, options.repeat))
            print(format_row(sizes[-1], sizes[0]), flush=True)
        if options.flood:
            more, status = measure_flood(host_farm, options.flood, 10_000_000)
            print(
                f"\n{options.flood} hosts that print 10 MB: {more:.1f} MiB a host, status {status}"
            )
    return int(not all(size.is_complete for size in sizes))


def measure_scale(host_farm: SshdFarm, hosts: int, repeat: int) -> ScaleFigures:
    """Run W1 on this number of hosts."""
    words, log = orch(BenchJob(host_farm, "W1", hosts, "")), host_farm.folder / "log"
    runs = [measure_process(words, host_farm.environ(), log) for _ in range(repeat)]
    return ScaleFigures(hosts, runs, measure_process(words, host_farm.environ(), log, watch=True))


def format_row(size: ScaleFigures, first: ScaleFigures) -> str:
    """Return a row of the table."""
    wall, note = median_of(size.runs, lambda run: run.wall), "" if size.is_complete else " FAILED"
    growth, pss = size.cpu_per_host / first.cpu_per_host, size.watched.pss
    return (
        f"| {size.hosts}{note} | {wall:.1f} | {size.cpu_per_host:.2f} | {growth:.2f} | {pss:.0f} |"
    )


def measure_flood(host_farm: SshdFarm, hosts: int, size: int) -> tuple[float, int]:
    """Return the growth in MiB per host if all print so many bytes at once, and the exit status."""
    words = orch(BenchJob(host_farm, "W1", hosts, ""))
    words = [*words[: words.index("--")], "--", "sh", "-c"]
    environ = host_farm.environ() | {"TERM": "xterm-256color"}
    quiet, loud = (
        measure_process(
            [*words, text], environ, host_farm.folder / "log", watch=True, terminal=True
        )
        for text in ("sleep 1", f"{_FLOOD.format(size)}; sleep 1")
    )
    return (loud.pss - quiet.pss) / hosts, quiet.status or loud.status


if __name__ == "__main__":
    sys.exit(main())
