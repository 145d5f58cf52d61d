"""Measures the copy of one large file to many hosts: orch's two transports and scp.

    python -m tests.bench.artifact                          200 MiB to 20 hosts
    python -m tests.bench.artifact --mib 50 --hosts 5 --repeat 3

All use the same cipher. orch's `copy` uploads to a private file, replaces the target atomically,
and compares every byte; scp writes directly to the target. Therefore scp is also measured with the
same steps: upload to another file, copy, compare, rename. All hosts are this machine, so their work
takes time from the clients; the server's CPU is measured separately. The hosts' files are in
TMPDIR, which should be in memory. The source file is on a disk, and not cached when a run starts.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.process_cost import ProcessCost, measure_process, median_of, server_cpu_seconds
from tests.bench.sshd_farm import SshdFarm, start_farm

_DISK = "/var/tmp"
CIPHER = "aes128-gcm@openssh.com"
_TASK = """
params: {{release: {{type: str, required: true}}}}
steps:
  - copy: {{src: {}, path: "{{{{ root }}}}/{{{{ host.name }}}}/{{{{ release }}}}"}}
"""
_CARE = "cp {0}.new {0}.tmp && cmp {0}.new {0}.tmp && mv {0}.tmp {0} && rm {0}.new"


@dataclass(frozen=True, slots=True)
class TransferFigures:
    """Figures of one run: those of the client, and the CPU seconds of the server."""

    client: ProcessCost
    server: float
    is_complete: bool


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as folder:
        found = measure_transfers(Path(folder), options.mib << 20, options.hosts, options.repeat)
    for line in format_table(options.mib, options.hosts, found):
        print(line, flush=True)
    return int(not all(run.is_complete for runs in found.values() for run in runs))


def measure_transfers(
    folder: Path, size: int, hosts: int, repeat: int
) -> Mapping[str, Sequence[TransferFigures]]:
    """Run all transfers in turns."""
    found: dict[str, list[TransferFigures]] = {}
    staging = folder / "staging"
    staging.mkdir()
    with (
        start_farm(folder / "farm", {"TMPDIR": str(staging)}) as host_farm,
        tempfile.NamedTemporaryFile(dir=_DISK) as file,
    ):
        artifact = Path(file.name)
        for _ in range(0, size, 1 << 20):
            file.write(os.urandom(1 << 20))
        file.flush()
        (host_farm.project / "tasks" / "bring.yml").write_text(_TASK.format(artifact))
        for _ in range(repeat):
            for name, words in _transfer_commands(host_farm, artifact, hosts).items():
                found.setdefault(name, []).append(_run_once(host_farm, words, artifact, hosts))
    return found


def _transfer_commands(host_farm: SshdFarm, artifact: Path, hosts: int) -> Mapping[str, list[str]]:
    """Return the command of each transfer, by name."""
    scp = f"scp -q -F {host_farm.ssh_config} -c {CIPHER} {artifact} {{}}:"
    path = f"{host_farm.deploy_folders}/{{}}/release"
    ssh = f"ssh -F {host_farm.ssh_config} {{}}"
    return {
        "orch": _orch_command(host_farm, hosts, "ssh"),
        "orch, transport openssh": _orch_command(host_farm, hosts, "openssh"),
        "scp": _parallel_command(host_farm, hosts, f"{scp}{path}"),
        "scp, with care": _parallel_command(
            host_farm, hosts, f"{scp}{path}.new && {ssh} '{_CARE.format(path)}'"
        ),
    }


def _orch_command(host_farm: SshdFarm, hosts: int, transport: str) -> list[str]:
    start = [sys.executable, "-m", "orchestrator", "-C", str(host_farm.project), "-F", "none"]
    stage = host_farm.stage_name(hosts, transport)
    return [*start, "-s", stage, "-f", str(hosts), "run", "bring", "release=release"]


def _parallel_command(host_farm: SshdFarm, hosts: int, line: str) -> list[str]:
    names = host_farm.folder / "names"
    names.write_text("".join(f"{host}\n" for host in host_farm.host_addresses(hosts)))
    return ["xargs", "-a", str(names), "-P", str(hosts), "-I{}", "sh", "-c", line]


def _run_once(host_farm: SshdFarm, words: list[str], artifact: Path, hosts: int) -> TransferFigures:
    homes = [host_farm.deploy_folders / host for host in host_farm.host_addresses(hosts)]
    for home in homes:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
    log = host_farm.folder / "log"
    with artifact.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = server_cpu_seconds(host_farm.sshd.pid)
    took = measure_process(words, host_farm.environ(), log)
    server = server_cpu_seconds(host_farm.sshd.pid) - before - took.cpu
    files = [home / "release" for home in homes]
    placed = all(f.exists() and filecmp.cmp(artifact, f, shallow=False) for f in files)
    if took.status or not placed:
        sys.stderr.write(f"{words[0]} failed ({took.status}):\n{log.read_text()[-2000:]}\n")
    return TransferFigures(took, server, not took.status and placed)


def format_table(
    mib: int, hosts: int, found: Mapping[str, Sequence[TransferFigures]]
) -> Iterator[str]:
    """Return a table, with the wall time as a multiple of scp's."""
    yield f"| {mib} MiB to {hosts} hosts | wall s | of scp | client CPU s | its server's | read from disk MiB |"
    yield "|---|---|---|---|---|---|"
    scp = median_of(found["scp"], lambda run: run.client.wall)
    for name, runs in found.items():
        wall = median_of(runs, lambda run: run.client.wall)
        cpu, server = (
            median_of(runs, lambda run: run.client.cpu),
            median_of(runs, lambda run: run.server),
        )
        disk = median_of(runs, lambda run: run.client.disk) / (1 << 20)
        note = "" if all(run.is_complete for run in runs) else " FAILED"
        yield f"| {name}{note} | {wall:.1f} | {wall / scp:.2f} | {cpu:.1f} | {server:.1f} | {disk:.0f} |"


if __name__ == "__main__":
    sys.exit(main())
