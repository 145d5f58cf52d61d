"""Measure orch beside others on this machine, and its parts by themselves.

    python -m tests.bench                     a table for the README
    python -m tests.bench W1 --hosts 10,100   one workload
    python -m tests.bench small               start-up, inventory, planning, the inner loops

Medians of ``--repeat`` runs in which all take turns, so that a busy machine is busy for all. CPU
is that of the client: what a tool leaves in the background does not count, to its advantage.
All hosts share one machine and its sshd, which take most of the time. W3 is on 5 hosts, over a
link with a round trip of 100 ms. Which others there are: see peers.py.
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

from tests.bench.farm import Farm, farm
from tests.bench.loops import loops
from tests.bench.peers import PEERS, Job, command
from tests.bench.small import small

WORKLOADS = ("W1", "W2", "W3", "W4")
ONE_WAY = 0.05  # seconds that W3's link takes


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds by the clock, and of the client's CPU; ``sound``: it did all that it was to do."""

    wall: float
    cpu: float
    sound: bool


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="*", metavar="W1|W2|W3|W4|small", default=["small", *WORKLOADS]
    )
    parser.add_argument("--hosts", default="10,100")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peers", default=",".join(PEERS))
    given = parser.parse_args(words)
    unsound = False
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as folder:
        if "small" in given.what:
            for line in (*small(Path(folder) / "small", given.repeat), "", *loops(given.repeat)):
                print(line, flush=True)
        names = [name for name in PEERS if name in given.peers.split(",")]
        for workload in (w for w in WORKLOADS if w in given.what):
            late = workload == "W3"
            with farm(Path(folder) / workload, delay=ONE_WAY if late else 0) as there:
                for hosts in [5] if late else map(int, given.hosts.split(",")):
                    found = measured(there, workload, hosts, names, given.repeat)
                    unsound |= any(not run.sound for runs in found.values() for run in runs)
                    for line in table(workload, hosts, found):
                        print(line, flush=True)
    return int(unsound)


def measured(
    there: Farm, workload: str, hosts: int, names: list[str], repeat: int
) -> dict[str, list[Figures]]:
    """Everybody's runs, in turns."""
    found: dict[str, list[Figures]] = {}
    for turn in range(repeat):
        for number, name in enumerate(names):
            job = Job(there, workload, hosts, f"{turn}{number}")
            words = command(name, job)
            if not words:
                continue
            if workload == "W4":
                once(words, job)
            found.setdefault(name, []).append(once(words, job))
    return found


def once(words: list[str], job: Job) -> Figures:
    """One run."""
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
    sound = done.returncode == 0 and _deployed(job)
    if not sound:
        sys.stderr.write(f"{words[0]} failed ({done.returncode}):\n{log.read_text()[-2000:]}\n")
    return Figures(wall, cpu, sound)


def _deployed(job: Job) -> bool:
    if not job.deploys:
        return True
    homes = [job.farm.fleet / host for host in job.farm.hosts(job.hosts)]
    live = (home / "current" for home in homes)
    return all(
        os.path.lexists(path)
        and path.readlink() == path.parent / "releases" / job.release
        and (path / "app.conf").stat().st_size > 8000
        for path in live
    )


def table(workload: str, hosts: int, found: dict[str, list[Figures]]) -> Iterator[str]:
    """A row each; ratios are against orch: 2.0 takes twice as long."""
    yield f"\n| {workload}, {hosts} hosts | wall s | of orch | client CPU s | of orch |"
    yield "|---|---|---|---|---|"
    ours = found.get("orch") or next(iter(found.values()))
    wall, cpu = _median(ours, "wall"), _median(ours, "cpu")
    for name, runs in sorted(found.items(), key=lambda item: _median(item[1], "wall")):
        mine, burnt = _median(runs, "wall"), _median(runs, "cpu")
        note = "" if all(run.sound for run in runs) else " FAILED"
        yield f"| {name}{note} | {mine:.2f} | {mine / wall:.2f} | {burnt:.2f} | {burnt / cpu:.2f} |"


def _median(runs: list[Figures], name: str) -> float:
    return statistics.median(float(getattr(run, name)) for run in runs)


if __name__ == "__main__":
    sys.exit(main())
