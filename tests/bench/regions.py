"""Measures a run on many hosts in several regions, each with a worker behind a slow link.

    python -m tests.bench.regions                     50,000 hosts, 5 regions, 80 ms, 3 steps
    python -m tests.bench.regions --hosts 5000 --delay 0.01 --forks 500

Hosts are canned, as in `worker_processes`, and all workers share this machine: the time by the clock
says how long it has to work, not how long such a run would take. What counts is what goes through
the coordinator and the scheduler: bytes, batches of messages, CPU, memory.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from orchestrator.commands.dask_engine import EngineChoice
from tests.bench.delay import delayed_port
from tests.bench.worker_processes import MODULE, RECORDING, CannedRun
from tests.support.dask_cluster import start_cluster

_REPOSITORY = Path(__file__).parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=50_000)
    parser.add_argument("--regions", type=int, default=5)
    parser.add_argument("--delay", type=float, default=0.04, help="seconds each way")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--forks", type=int, default=500)
    options = parser.parse_args(words)
    regions = [f"r{n}" for n in range(options.regions)]
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        for part in ("project", "cluster"):
            (folder / part).mkdir()
        run = CannedRun(folder / "project", options.hosts, options.steps, options.forks, regions)
        cluster = stack.enter_context(
            start_cluster(
                folder / "cluster",
                options.regions,
                link=lambda port: stack.enter_context(delayed_port(port, options.delay)),
                environ={
                    "PYTHONPATH": str(_REPOSITORY),
                    "DASK_DISTRIBUTED__WORKER__PRELOAD": json.dumps([MODULE]),
                    RECORDING: os.environ[RECORDING],
                },
                regions=regions,
            )
        )
        os.environ.update(cluster.environ)
        figures = run.measure(EngineChoice(address=cluster.address))
        scheduler = _process_figures(cluster.scheduler.pid)
        workers = [_process_figures(worker.pid) for worker in cluster.workers]
    print(
        f"{options.hosts} canned hosts in {options.regions} regions, {options.steps} steps,",
        end=" ",
    )
    print(f"{1000 * options.delay:g} ms each way, {options.forks} at a time\n")
    print("| | CPU s | CPU ms a host | MiB at most |")
    print("|---|---|---|---|")
    parts = [("orch", figures["cpu"], figures["memory"]), ("scheduler", *scheduler)]
    parts += [(f"worker {number}", *each) for number, each in enumerate(workers)]
    for part, cpu, memory in parts:
        print(f"| {part} | {cpu:.1f} | {1000 * cpu / options.hosts:.2f} | {memory:.0f} |")
    print(f"\nplan {figures['plan']:.1f} s, start {figures['start']:.1f} s", end=", ")
    print(f"run {figures['run']:.1f} s; a host: {figures['sent']:.2f} KiB sent", end=", ")
    print(f"{figures['received']:.2f} KiB received; {figures['batches']:.0f} batches")
    return 0


def _process_figures(pid: int) -> tuple[float, float]:
    """Return seconds of CPU and the largest memory in MiB of a process that still runs (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    memory = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / _TICKS, int(memory) / 1024


if __name__ == "__main__":
    sys.exit(main())
