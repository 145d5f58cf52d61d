"""Measure how one large file gets to many hosts at once: orch's two transports beside scp.

    python -m tests.bench.artifact                          200 MiB to 20 hosts
    python -m tests.bench.artifact --mib 50 --hosts 5 --repeat 3

All use the same cipher. orch's `copy` sends the file to a private place, has it replace what was
there in one step, and compares it to the last byte; scp writes to the place itself and is done.
So there is also scp with the same care: to another place, copied to its own, compared, renamed.
All hosts are this machine, so that what they do takes its time from everybody; the server's CPU
is told apart. The hosts' files are in TMPDIR: let that be in memory. The file that is sent is on
a disk, and no longer in memory when a run begins.
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

from tests.bench.cost import Cost, cost, middle, spent
from tests.bench.farm import Farm, farm

_DISK = "/var/tmp"
CIPHER = "aes128-gcm@openssh.com"
_TASK = """
params: {{release: {{type: str, required: true}}}}
steps:
  - copy: {{src: {}, path: "{{{{ root }}}}/{{{{ host.name }}}}/{{{{ release }}}}"}}
"""
_CARE = "cp {0}.new {0}.tmp && cmp {0}.new {0}.tmp && mv {0}.tmp {0} && rm {0}.new"


@dataclass(frozen=True, slots=True)
class Sent:
    """One run: what the client took, and the CPU seconds that the server did."""

    client: Cost
    server: float
    sound: bool


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as folder:
        found = measured(Path(folder), given.mib << 20, given.hosts, given.repeat)
    for line in table(given.mib, given.hosts, found):
        print(line, flush=True)
    return int(not all(run.sound for runs in found.values() for run in runs))


def measured(folder: Path, size: int, hosts: int, repeat: int) -> Mapping[str, Sequence[Sent]]:
    """Everybody's runs, in turns."""
    found: dict[str, list[Sent]] = {}
    staging = folder / "staging"
    staging.mkdir()
    with (
        farm(folder / "farm", {"TMPDIR": str(staging)}) as there,
        tempfile.NamedTemporaryFile(dir=_DISK) as file,
    ):
        artifact = Path(file.name)
        for _ in range(0, size, 1 << 20):
            file.write(os.urandom(1 << 20))
        file.flush()
        (there.project / "tasks" / "bring.yml").write_text(_TASK.format(artifact))
        for _ in range(repeat):
            for name, words in _ways(there, artifact, hosts).items():
                found.setdefault(name, []).append(_once(there, words, artifact, hosts))
    return found


def _ways(there: Farm, artifact: Path, hosts: int) -> Mapping[str, list[str]]:
    """By name, the words of a command."""
    scp = f"scp -q -F {there.ssh_config} -c {CIPHER} {artifact} {{}}:"
    path = f"{there.fleet}/{{}}/release"
    ssh = f"ssh -F {there.ssh_config} {{}}"
    return {
        "orch": _orch(there, hosts, "ssh"),
        "orch, transport openssh": _orch(there, hosts, "openssh"),
        "scp": _each(there, hosts, f"{scp}{path}"),
        "scp, with care": _each(there, hosts, f"{scp}{path}.new && {ssh} '{_CARE.format(path)}'"),
    }


def _orch(there: Farm, hosts: int, transport: str) -> list[str]:
    start = [sys.executable, "-m", "orchestrator", "-C", str(there.project), "-F", "none"]
    stage = there.stage(hosts, transport)
    return [*start, "-s", stage, "-f", str(hosts), "run", "bring", "release=release"]


def _each(there: Farm, hosts: int, line: str) -> list[str]:
    names = there.folder / "names"
    names.write_text("".join(f"{host}\n" for host in there.hosts(hosts)))
    return ["xargs", "-a", str(names), "-P", str(hosts), "-I{}", "sh", "-c", line]


def _once(there: Farm, words: list[str], artifact: Path, hosts: int) -> Sent:
    homes = [there.fleet / host for host in there.hosts(hosts)]
    for home in homes:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
    log = there.folder / "log"
    with artifact.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = spent(there.sshd.pid)
    took = cost(words, there.environ(), log)
    server = spent(there.sshd.pid) - before - took.cpu
    files = [home / "release" for home in homes]
    placed = all(f.exists() and filecmp.cmp(artifact, f, shallow=False) for f in files)
    if took.status or not placed:
        sys.stderr.write(f"{words[0]} failed ({took.status}):\n{log.read_text()[-2000:]}\n")
    return Sent(took, server, not took.status and placed)


def table(mib: int, hosts: int, found: Mapping[str, Sequence[Sent]]) -> Iterator[str]:
    """A row each, with the wall as a multiple of scp's."""
    yield f"| {mib} MiB to {hosts} hosts | wall s | of scp | client CPU s | its server's | read from disk MiB |"
    yield "|---|---|---|---|---|---|"
    scp = middle(found["scp"], lambda run: run.client.wall)
    for name, runs in found.items():
        wall = middle(runs, lambda run: run.client.wall)
        cpu, server = middle(runs, lambda run: run.client.cpu), middle(runs, lambda run: run.server)
        disk = middle(runs, lambda run: run.client.disk) / (1 << 20)
        note = "" if all(run.sound for run in runs) else " FAILED"
        yield f"| {name}{note} | {wall:.1f} | {wall / scp:.2f} | {cpu:.1f} | {server:.1f} | {disk:.0f} |"


if __name__ == "__main__":
    sys.exit(main())
