"""Measures orch in comparison with other tools on this machine, and its parts separately.

    python -m tests.bench                     a table for docs/how-it-works.md
    python -m tests.bench W1 --hosts 10,100   one workload
    python -m tests.bench small               start-up, inventory, planning, the inner loops

The figures are medians of ``--repeat`` runs in which all tools take turns, so that other load on
the machine affects all of them. CPU is that of the client: processes that a tool leaves in the
background are not counted, to its advantage. All hosts share one machine and its sshd, which take
most of the time. W3 uses 5 hosts, over a link with a round trip of 100 ms. The other tools are
listed in competitors.py.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.competitors import COMPETITORS, BenchJob, job_command
from tests.bench.inner_loops import measure_loops
from tests.bench.process_startup import measure_startup
from tests.bench.sshd_farm import SshdFarm, start_farm

WORKLOADS = ("W1", "W2", "W3", "W4")
ONE_WAY = 0.05  # one-way delay of W3's link in seconds


@dataclass(frozen=True, slots=True)
class RunFigures:
    """Wall time and client CPU in seconds; ``is_complete``: the run did all of its work."""

    wall: float
    cpu: float
    is_complete: bool


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="*", metavar="W1|W2|W3|W4|small", default=["small", *WORKLOADS]
    )
    parser.add_argument("--hosts", default="10,100")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peers", default=",".join(COMPETITORS))
    options = parser.parse_args(words)
    unsound = False
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as folder:
        if "small" in options.what:
            for line in (
                *measure_startup(Path(folder) / "small", options.repeat),
                "",
                *measure_loops(options.repeat),
            ):
                print(line, flush=True)
        names = [name for name in COMPETITORS if name in options.peers.split(",")]
        for workload in (w for w in WORKLOADS if w in options.what):
            late = workload == "W3"
            with start_farm(Path(folder) / workload, delay=ONE_WAY if late else 0) as host_farm:
                for hosts in [5] if late else map(int, options.hosts.split(",")):
                    found = measure_tools(host_farm, workload, hosts, names, options.repeat)
                    unsound |= any(not run.is_complete for runs in found.values() for run in runs)
                    for line in format_table(workload, hosts, found):
                        print(line, flush=True)
    return int(unsound)


def measure_tools(
    host_farm: SshdFarm, workload: str, hosts: int, names: list[str], repeat: int
) -> dict[str, list[RunFigures]]:
    """Run all tools in turns."""
    found: dict[str, list[RunFigures]] = {}
    for turn in range(repeat):
        for number, name in enumerate(names):
            job = BenchJob(host_farm, workload, hosts, f"{turn}{number}")
            words = job_command(name, job)
            if not words:
                continue
            if workload == "W4":
                run_once(words, job)
            found.setdefault(name, []).append(run_once(words, job))
    return found


def run_once(words: list[str], job: BenchJob) -> RunFigures:
    """Run one job and return its figures."""
    log = job.farm.folder / "log"
    with log.open("wb") as out:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=job.farm.environ(),
            cwd=Path(__file__).parents[2],
            check=False,
        )
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sound = done.returncode == 0 and _is_deployed(job)
    if not sound:
        sys.stderr.write(f"{words[0]} failed ({done.returncode}):\n{log.read_text()[-2000:]}\n")
    return RunFigures(wall, cpu, sound)


def _is_deployed(job: BenchJob) -> bool:
    if not job.is_deploy:
        return True
    homes = [job.farm.deploy_folders / host for host in job.farm.host_addresses(job.hosts)]
    live = (home / "current" for home in homes)
    return all(
        os.path.lexists(path)
        and path.readlink() == path.parent / "releases" / job.release
        and (path / "app.conf").stat().st_size > 8000
        for path in live
    )


def format_table(workload: str, hosts: int, found: dict[str, list[RunFigures]]) -> Iterator[str]:
    """Return a table; ratios are relative to orch: 2.0 takes twice as long."""
    yield f"\n| {workload}, {hosts} hosts | wall s | of orch | client CPU s | of orch |"
    yield "|---|---|---|---|---|"
    ours = found.get("orch") or next(iter(found.values()))
    wall, cpu = _median(ours, "wall"), _median(ours, "cpu")
    for name, runs in sorted(found.items(), key=lambda item: _median(item[1], "wall")):
        mine, burnt = _median(runs, "wall"), _median(runs, "cpu")
        note = "" if all(run.is_complete for run in runs) else " FAILED"
        yield f"| {name}{note} | {mine:.2f} | {mine / wall:.2f} | {burnt:.2f} | {burnt / cpu:.2f} |"


def _median(runs: list[RunFigures], name: str) -> float:
    return statistics.median(float(getattr(run, name)) for run in runs)


if __name__ == "__main__":
    sys.exit(main())
