"""Measures `orch upload` and `orch download` beside parallel scp and rsync.

    python -m tests.bench.transfers                        200 MB, and 1,000 files; 1 and 10 hosts
    python -m tests.bench.transfers --hosts 1 --repeat 3 large

All hosts are this machine, so their work takes time from the clients; every host has a folder of its
own. All tools take turns, and each starts with an empty target. orch compares first, puts each file
in its place when it is complete, and keeps a log of the run; scp writes directly to the target, and
rsync beside it.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.process_cost import measure_process, median_of
from tests.bench.sshd_farm import SshdFarm, start_farm

_SMALL_FILES = 1000
_FOLDERS = 20


@dataclass(frozen=True, slots=True)
class TransferJob:
    """What is measured: files, their direction, and the number of hosts."""

    what: str
    direction: str
    hosts: int


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", metavar="large|small", default=["large", "small"])
    parser.add_argument("--mb", type=int, default=200)
    parser.add_argument("--hosts", default="1,10")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--tools", default="orch,scp,rsync")
    options = parser.parse_args(words)
    jobs = [
        TransferJob(what, direction, hosts)
        for what in options.what
        for direction in ("upload", "download")
        for hosts in map(int, options.hosts.split(","))
    ]
    print("| | tool | wall s | of scp | client CPU s |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as folder:
        is_complete = measure_jobs(Path(folder), jobs, options.mb, options.repeat, options.tools)
    return int(not is_complete)


def measure_jobs(
    folder: Path, jobs: Sequence[TransferJob], mb: int, repeat: int, tools: str
) -> bool:
    """Run all jobs and print a table. Return True if every transfer was complete."""
    make_files(folder / "files", mb)
    is_complete = True
    with start_farm(folder / "farm") as host_farm:
        for job in jobs:
            walls: dict[str, list[float]] = {}
            cpus: dict[str, list[float]] = {}
            for _ in range(repeat):
                for tool in tools.split(","):
                    cost = _run_once(host_farm, folder / "files" / job.what, job, tool)
                    is_complete = is_complete and cost is not None
                    if cost is not None:
                        walls.setdefault(tool, []).append(cost[0])
                        cpus.setdefault(tool, []).append(cost[1])
            for line in _table_lines(job, walls, cpus):
                print(line, flush=True)
    return is_complete


def make_files(folder: Path, mb: int) -> None:
    """Create a folder with one large file, and another with many small ones."""
    (folder / "large").mkdir(parents=True)
    with (folder / "large" / "file").open("wb") as file:
        for _ in range(mb):
            file.write(os.urandom(1_000_000))
    for number in range(_SMALL_FILES):
        inner = folder / "small" / f"folder {number % _FOLDERS}"
        inner.mkdir(parents=True, exist_ok=True)
        (inner / f"file {number}").write_bytes(os.urandom(number * 8))


def _run_once(
    host_farm: SshdFarm, files: Path, job: TransferJob, tool: str
) -> tuple[float, float] | None:
    """Return the wall time and the client's CPU time in seconds, or None if it failed."""
    targets = [host_farm.deploy_folders / host for host in host_farm.host_addresses(job.hosts)]
    for target in targets:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
    log = host_farm.folder / "log"
    cost = measure_process(_command(host_farm, files, job, tool), host_farm.environ(), log)
    if cost.status or not all(is_equal(files, target / files.name) for target in targets):
        sys.stderr.write(f"{tool} failed ({cost.status}):\n{log.read_text()[-2000:]}\n")
        return None
    return cost.wall, cost.cpu


def _command(host_farm: SshdFarm, files: Path, job: TransferJob, tool: str) -> list[str]:
    target = f"{host_farm.deploy_folders}/{{}}/"
    if tool == "orch":
        start = [sys.executable, "-m", "orchestrator", "-C", str(host_farm.project), "-F", "none"]
        stage = _stage_with_homes(host_farm, job.hosts)
        words = (str(files), "~/") if job.direction == "upload" else (str(files), target[:-4])
        return [*start, "-s", stage, job.direction, *words]
    names = host_farm.folder / "names"
    names.write_text("".join(f"{host}\n" for host in host_farm.host_addresses(job.hosts)))
    copy = f"scp -q -r -F {host_farm.ssh_config}"
    if tool == "rsync":
        copy = f"rsync -r -e 'ssh -F {host_farm.ssh_config}'"
    is_upload = job.direction == "upload"
    ends = f"{files} {{}}:{target}" if is_upload else f"{{}}:{files} {target}"
    line = f"{copy} {ends}"
    return ["xargs", "-a", str(names), "-P", str(job.hosts), "-I{}", "sh", "-c", line]


def _stage_with_homes(host_farm: SshdFarm, hosts: int) -> str:
    """Return a stage where `~` is another folder on each host."""
    name = host_farm.stage_name(hosts)
    path = host_farm.project / "inventories" / name / "hosts.yml"
    homes = {
        host: {"environment": {"HOME": str(host_farm.deploy_folders / host)}}
        for host in host_farm.host_addresses(hosts)
    }
    path.write_text(json.dumps(homes))
    return name


def is_equal(one: Path, other: Path) -> bool:
    """Return True if two folders have the same files."""
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    return all(
        (other / path).is_file() and filecmp.cmp(one / path, other / path, shallow=False)
        for path in files
    )


def _table_lines(
    job: TransferJob, walls: Mapping[str, list[float]], cpus: Mapping[str, list[float]]
) -> Iterator[str]:
    shown = f"{job.direction}, {job.what}, {job.hosts} host{'s' if job.hosts > 1 else ''}"
    scp = median_of(walls["scp"], float) if "scp" in walls else 0.0
    for tool, found in walls.items():
        wall = median_of(found, float)
        ratio = f"{wall / scp:.2f}" if scp else ""
        yield f"| {shown} | {tool} | {wall:.2f} | {ratio} | {median_of(cpus[tool], float):.2f} |"


if __name__ == "__main__":
    sys.exit(main())
