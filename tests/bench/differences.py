"""Measures `orch upload` of a large file of which the host has another version.

    python -m tests.bench.differences                      100 MB, 5 times
    python -m tests.bench.differences --mb 1000 --repeat 3

The host is this machine. Beside orch, rsync alone (`-c`, over ssh), and orch with `--whole-file`.
All take turns. The bytes are those of the connection, counted by a proxy in runs of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.sshd import SshdServer, serve_sshd
from tests.support.fault_proxy import FaultProxy
from tests.support.link_faults import LinkDirection

_HOST = "127.0.0.1"
_NEW_BYTES = 1_000_000
TOOLS = ("orch", "orch --whole-file", "rsync")


@dataclass(frozen=True, slots=True)
class DifferenceBed:
    """A server, reached directly and through a proxy; the folder has all files."""

    folder: Path
    server: SshdServer
    proxy: FaultProxy

    def command(self, tool: str, port: int) -> list[str]:
        """Return a command that brings the file `source/file` to `target/file` on the host."""
        known = self.folder / str(port)
        known.write_text(f"[*]:{port} {self.server.host_key}\n")
        source, target = self.folder / "source" / "file", self.folder / "target" / "file"
        key, user = str(self.server.key), self.server.user
        if tool == "rsync":
            ssh = f"ssh -F none -p {port} -i {key} -o UserKnownHostsFile={known}"
            return ["rsync", "-c", "-e", ssh, str(source), f"{user}@{_HOST}:{target}"]
        connect = {"user": user, "port": port, "identity": key, "known_hosts": str(known)}
        stage = self.folder / "inventories" / f"stage{port}"
        stage.mkdir(parents=True, exist_ok=True)
        (stage / "stage.yml").write_text(json.dumps({"connect": connect}))
        (stage / "hosts.yml").write_text(json.dumps({"host": {"address": _HOST}}))
        start = [sys.executable, "-m", "orchestrator", "-C", str(self.folder), "-F", "none"]
        flags = tool.split()[1:]
        return [*start, "-s", stage.name, "upload", *flags, str(source), str(target)]

    def run(self, tool: str, port: int, old: bytes) -> float:
        """Run the tool and return its seconds. Raises RuntimeError if the file is not the new one."""
        source, target = self.folder / "source" / "file", self.folder / "target" / "file"
        target.write_bytes(old)
        words = self.command(tool, port)
        began = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode or target.read_bytes() != source.read_bytes():
            raise RuntimeError(f"{shlex.join(words)}: {done.stdout}{done.stderr}")
        return seconds


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args(words)
    measure_differences(options.mb, options.repeat)
    return 0


def measure_differences(mb: int, repeat: int, tools: Sequence[str] = TOOLS) -> dict[str, float]:
    """Print a table; return by edit the MB that the first tool has sent."""
    print("| | tool | median s | min s | MB sent |\n|---|---|---|---|---|", flush=True)
    sent: dict[str, float] = {}
    with _test_bed() as bed:
        old = os.urandom(mb * 1_000_000)
        for edit, new in _edited(old).items():
            (bed.folder / "source" / "file").write_bytes(new)
            seconds: dict[str, list[float]] = {tool: [] for tool in tools}
            for _ in range(repeat):
                for tool in tools:
                    seconds[tool].append(bed.run(tool, bed.server.port, old))
            for tool in tools:
                bed.proxy.set_faults({})
                bed.run(tool, bed.proxy.port, old)
                count = bed.proxy.passed[_HOST, LinkDirection.TO_SERVER] / 1e6
                sent.setdefault(edit, count)
                middle, least = statistics.median(seconds[tool]), min(seconds[tool])
                print(f"| {edit} | {tool} | {middle:.2f} | {least:.2f} | {count:.2f} |", flush=True)
    return sent


def _edited(old: bytes) -> Mapping[str, bytes]:
    half, new = len(old) // 2, os.urandom(_NEW_BYTES)
    return {
        "equal": old,
        "1 MB changed": old[:half] + new + old[half + len(new) :],
        "1 MB appended": old + new,
        "1 byte inserted at the start": b"x" + old,
        "all changed": os.urandom(len(old)),
    }


@contextmanager
def _test_bed() -> Iterator[DifferenceBed]:
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as name:
        folder = Path(name)
        for each in ("source", "target", "tasks", "inventories"):
            (folder / each).mkdir()
        with serve_sshd(folder / "sshd") as server:
            proxy = FaultProxy(server.port)
            try:
                yield DifferenceBed(folder, server, proxy)
            finally:
                proxy.close()


if __name__ == "__main__":
    sys.exit(main())
