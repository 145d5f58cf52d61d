"""Measures commands over kept connections, in turn with the same commands that connect.

    python -m tests.bench.connection_keeping                  W1 on 10 and 300 hosts, W2 on 50
    python -m tests.bench.connection_keeping W1:100 --peers --repeat 3

The CPU of the broker is counted with that of the command: until the shells for the next command are
ready again. ssh is the system's, one process per host, over the sockets of a ControlMaster. With
``--peers`` clush and Ansible, which use such sockets, and pyinfra, which keeps nothing, take turns
with it; those that are not installed are left out (see ``competitors.py``).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.transports.broker.broker_client import end_broker, query_status
from tests.bench.competitors import BenchJob, job_command, orch, ssh
from tests.bench.process_cost import measure_process, median_of
from tests.bench.sshd_farm import SshdFarm, start_farm

DEFAULT = ("W1:10", "W1:300", "W2:50")
PERSIST = "3600"
_KEEPS = {"ssh": ", kept", "clush": ", kept", "ansible": ", kept", "pyinfra": ""}
_SETTLING = 60.0  # seconds for the shells to be prepared


@dataclass(frozen=True, slots=True)
class KeptFigures:
    """Seconds of one command: wall time, and CPU of the command and of the broker."""

    wall: float
    command: float
    broker: float
    is_complete: bool


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD:HOSTS", default=DEFAULT)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args(words)
    is_sound = True
    with (
        tempfile.TemporaryDirectory(prefix="orch-bench-") as folder,
        start_farm(Path(folder) / "farm") as farm,
    ):
        for name in options.workloads:
            workload, _, count = name.partition(":")
            others = ("ssh", "clush", "ansible", "pyinfra") if options.peers else ("ssh",)
            found = measure_kept(farm, workload, int(count), options.repeat, others)
            for line in format_table(name, int(count), found):
                print(line, flush=True)
            is_sound &= all(run.is_complete for runs in found.values() for run in runs)
    return int(not is_sound)


def measure_kept(
    farm: SshdFarm, workload: str, hosts: int, repeat: int, others: Sequence[str] = ("ssh",)
) -> dict[str, list[KeptFigures]]:
    """Return the figures of commands that connect, that find connections, and of other tools."""
    with tempfile.TemporaryDirectory(prefix="orch-run-") as runtime:
        environ = {**farm.environ(), "XDG_RUNTIME_DIR": runtime}
        kept = {**environ, "ORCH_PERSIST": PERSIST}
        found: dict[str, list[KeptFigures]] = {"orch": [], "orch, kept": []}
        # beforehand, because the measured commands' children are adopted and waited for
        up = [*orch(BenchJob(farm, "W1", hosts, ""))[:-5], "warm", "up"]
        subprocess.run(up, env=kept, check=True, capture_output=True)
        masters = _with_control_master(ssh(BenchJob(farm, workload, hosts, "m")), farm)
        subprocess.run(masters, env=environ, check=True, stdout=subprocess.DEVNULL)
        _wait_for_shells(farm, kept, hosts)
        try:
            for number in range(repeat + 1):  # the first one only connects
                job = BenchJob(farm, workload, hosts, f"r{number}")
                found["orch"].append(_measure(farm, orch(job), environ))
                job = BenchJob(farm, workload, hosts, f"k{number}")
                found["orch, kept"].append(_measure(farm, orch(job), kept, hosts))
                for other in others:
                    job = BenchJob(farm, workload, hosts, f"{other}{number}")
                    if words := _with_control_master(job_command(other, job), farm):
                        runs = found.setdefault(f"{other}{_KEEPS[other]}", [])
                        runs.append(_measure(farm, words, environ))
        finally:
            end_broker(farm.project, kept)
            _end_control_masters(farm)
    return {name: runs[1:] for name, runs in found.items()}


def format_table(name: str, hosts: int, found: Mapping[str, Sequence[KeptFigures]]) -> list[str]:
    """Return the rows of a table with the medians."""
    first = median_of(found["orch"], lambda run: run.wall)
    rows = [
        f"## {name}",
        "",
        "| | seconds | of orch's | CPU s | broker's | CPU ms a host |",
        "|---|---|---|---|---|---|",
    ]
    for tool, runs in found.items():
        wall = median_of(runs, lambda run: run.wall)
        own, broker = (
            median_of(runs, lambda run: run.command),
            median_of(runs, lambda run: run.broker),
        )
        note = "" if all(run.is_complete for run in runs) else " FAILED"
        rows.append(
            f"| {tool}{note} | {wall:.2f} | {wall / first:.2f} | {own:.2f} | {broker:.2f} "
            f"| {(own + broker) / hosts * 1000:.2f} |"
        )
    return [*rows, ""]


def _measure(
    farm: SshdFarm, words: Sequence[str], environ: Mapping[str, str], kept: int = 0
) -> KeptFigures:
    before = _broker_seconds(farm, environ) if kept else 0.0
    cost = measure_process(words, environ, farm.folder / "log")
    if kept:
        _wait_for_shells(farm, environ, kept)
    after = _broker_seconds(farm, environ) if kept else 0.0
    return KeptFigures(cost.wall, cost.cpu, after - before, not cost.status)


def _broker_seconds(farm: SshdFarm, environ: Mapping[str, str]) -> float:
    """Return the CPU seconds of the broker so far (proc_pid_stat(5)); 0 if there is none."""
    status = query_status(farm.project, environ)
    if status is None:
        return 0.0
    fields = Path(f"/proc/{status.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wait_for_shells(farm: SshdFarm, environ: Mapping[str, str], hosts: int) -> None:
    """Wait until each host has a prepared shell again."""
    end = time.monotonic() + _SETTLING
    while time.monotonic() < end:
        status = query_status(farm.project, environ)
        if status and sum(min(1, kept.shells) for kept in status.hosts) >= hosts:
            return
        time.sleep(0.05)


def _with_control_master(words: Sequence[str], farm: SshdFarm) -> list[str]:
    """Return a command whose ssh uses the kept connections; tools without ssh are unchanged."""
    if not words:
        return []
    config = farm.folder / "ssh_config_kept"
    options = "    ControlMaster auto\n    ControlPath /tmp/orch-cm-%C\n    ControlPersist 600\n"
    config.write_text(f"{farm.ssh_config.read_text()}{options}")
    plain, kept = f"-F {farm.ssh_config}", f"-F {config}"
    return ["env", f"ANSIBLE_SSH_ARGS={kept}", *(word.replace(plain, kept) for word in words)]


def _end_control_masters(farm: SshdFarm) -> None:
    for path in Path("/tmp").glob("orch-cm-*"):
        words = ["ssh", "-F", str(farm.ssh_config), "-o", f"ControlPath={path}", "-O", "exit", "x"]
        subprocess.run(words, check=False, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
