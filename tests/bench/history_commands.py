"""Measures the commands that read recorded runs, on a store of many runs.

    python -m tests.bench.history_commands                    1,000 runs of 100 hosts
    python -m tests.bench.history_commands --runs 50 --hosts 300

Figures are medians of whole processes, in milliseconds: wall time, and CPU time, on which other
load of the machine has less effect. `--version` is the share of the start-up. The store is written
into a temporary folder (600 KB for each run of 100 hosts), or once into ``--folder``.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.run_store import NEEDLE, TASKS, USERS, write_run, write_store

COMMANDS = (
    ("--version",),
    ("history",),
    ("history", "-s", "prod"),
    ("history", "--host", "web1"),
    ("history", "--task", TASKS[0]),
    ("history", "--app", "nosuch"),
    ("history", "--status", "failed"),
    ("history", "--user", USERS[0]),
    ("history", "--since", "7d"),
    ("history", "-n", "200"),
    ("history", "--json"),
    ("search", "packages"),
    ("search", NEEDLE),
    ("search", "no such text anywhere"),
    ("search", "zq"),
    ("show", "last"),
)
_NEW_RUNS = (1, 20)


@dataclass(frozen=True, slots=True)
class CommandTime:
    """Wall time and CPU time of a process, in seconds."""

    wall: float
    cpu: float


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="orch-store-") as temporary:
        root = options.folder or Path(temporary) / "project"
        if not root.exists():
            write_store(root, options.runs, options.hosts)
        for line in measure_commands(root, options.hosts, options.repeat):
            print(line, flush=True)
    return 0


def measure_commands(root: Path, hosts: int, repeat: int) -> Iterator[str]:
    """Return a table: the index being written, the commands, and the first ones after new runs."""
    yield "| command | wall ms | CPU ms |"
    yield "|---|---|---|"
    middle = len(list((root / ".orch" / "runs").iterdir())) // 2
    for words in (("history", "--rebuild"), *COMMANDS, ("show", f"last~{middle}", "web1")):
        count = 1 if "--rebuild" in words else repeat
        yield _table_row(" ".join(words), [_run(root, *words) for _ in range(count)])
    for number in _NEW_RUNS:
        folders = [write_run(root, n, hosts, time.time() + n) for n in range(number)]
        for words in (("history",), ("search", NEEDLE)):
            yield _table_row(f"{' '.join(words)}, after {number} more runs", [_run(root, *words)])
        for folder in folders:
            shutil.rmtree(folder)


def _table_row(name: str, found: list[CommandTime]) -> str:
    wall = statistics.median(each.wall for each in found)
    cpu = statistics.median(each.cpu for each in found)
    return f"| {name} | {1000 * wall:.0f} | {1000 * cpu:.0f} |"


def _run(root: Path, *words: str) -> CommandTime:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        cwd=root,
        env={"HOME": str(root), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        capture_output=True,
        check=False,
    )
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode in (0, 1), done.stderr  # 1: nothing was found
    return CommandTime(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


if __name__ == "__main__":
    sys.exit(main())
