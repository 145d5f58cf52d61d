"""Measures whole processes that contact no host, and the inner loops."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_TASK = """
params: {release: {type: str, default: r1}}
steps:
""" + "".join(
    f"  - run: echo {{{{ host.name }}}} {{{{ release }}}} {n} {{{{ '%03d' % index }}}}\n"
    for n in range(12)
)
_CALLS = {
    "orch --version": ["--version"],
    "orch tasks": ["tasks"],
    "completion of a task": [],
    "10,000 hosts: load and select": ["-s", "big", "hosts", "-l", "web:!h1"],
    "12 steps x 1,000 hosts: plan": ["-s", "thousand", "plan", "t"],
}


def measure_startup(folder: Path, repeat: int) -> Iterator[str]:
    """Return a table of CPU seconds, user and system, of whole processes: medians."""
    _write_project(folder)
    yield "| process | CPU ms |"
    yield "|---|---|"
    for name, words in _CALLS.items():
        environ = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        if not words:
            environ |= {
                "_ORCH_COMPLETE": "bash_complete",
                "COMP_WORDS": "orch run ",
                "COMP_CWORD": "2",
            }
        seconds = [_cpu_seconds(folder, words, environ) for _ in range(repeat)]
        yield f"| {name} | {1000 * statistics.median(seconds):.0f} |"


def _write_project(folder: Path) -> None:
    for stage, count in (("big", 10_000), ("thousand", 1000)):
        location = folder / "inventories" / stage
        location.mkdir(parents=True)
        hosts = "".join(f"h{n}: {{roles: [web], vars: {{index: {n}}}}}\n" for n in range(count))
        (location / "hosts.yml").write_text(hosts)
    (folder / "tasks").mkdir()
    (folder / "tasks" / "t.yml").write_text(_TASK)


def _cpu_seconds(folder: Path, words: list[str], environ: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        cwd=folder,
        env=environ,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
