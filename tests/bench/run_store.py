"""Writes a project with recorded runs, as the journal writes them, and without contacting hosts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from orchestrator.journal.journal import RunJournal
from orchestrator.model.event import (
    ConnectFinished,
    ConnectStarted,
    HostFinished,
    RunEvent,
    RunFinished,
    RunStarted,
    StepFinished,
    StepOutput,
    StepStarted,
    TaskFinished,
    TaskStarted,
)
from orchestrator.model.step_result import CapturedOutput, HostSummary, Status, StepResult

STEPS = ("fetch the release", "install packages", "write app.conf", "restart")
TASKS = ("deploy:publish", "uname", "db:migrate")
STAGES = ("prod", "staging")
USERS = ("ann", "ben")
NEEDLE = "connection refused by upstream"
"""A text in the output of one host of every hundredth run."""
_WORDS = (
    "reading package lists building dependency tree the following packages will be upgraded "
    "unpacking setting up processing triggers for configuration file written link created release "
    "listening on port worker started pid memory usage cache warmed migrated table index requests"
).split()
_SPACING = 600.0  # seconds between the starts of runs
_FAILING = 25  # every so many runs, a host fails


def write_store(root: Path, runs: int, hosts: int, *, newest: float | None = None) -> None:
    """Write a project with recorded runs of a stage; the last one starts at ``newest``."""
    for stage in STAGES:
        folder = root / "inventories" / stage
        folder.mkdir(parents=True)
        (folder / "hosts.yml").write_text("".join(f"web{n}: {{}}\n" for n in range(hosts)))
    end = time.time() if newest is None else newest
    for number in range(runs):
        write_run(root, number, hosts, end - (runs - 1 - number) * _SPACING)


def write_run(root: Path, number: int, hosts: int, started: float) -> Path:
    """Write the folder of one run and return it."""
    stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(started))
    run = f"{stamp}-{number:04x}"
    about = {
        "argv": ["-s", STAGES[number % 2], "run", TASKS[number % 3]],
        "user": USERS[number % 2],
        "version": "0.1.0",
        "commit": f"{number:040x}",
        "is_dirty": False,
    }
    journal = RunJournal(root, {}, _fail, sys.maxsize, about=about)
    for event in _run_events(run, number, [f"web{n}" for n in range(hosts)], started):
        journal(event)
    journal.close()
    assert journal.folder is not None
    return journal.folder


def _fail(text: str) -> None:
    raise OSError(text)


def _run_events(run: str, number: int, hosts: list[str], started: float) -> Iterator[RunEvent]:
    task, random = TASKS[number % len(TASKS)], Random(number)
    failing = hosts[number % len(hosts)] if number % _FAILING == 0 else ""
    yield RunStarted(started, run, STAGES[number % 2], (task,), tuple(hosts))
    for host in hosts:
        yield ConnectStarted(started, host)
        yield ConnectFinished(started + 0.1, host, 0.1)
    yield TaskStarted(started, None, task, tuple(hosts), len(STEPS), 1, 1)
    for step, name in enumerate(STEPS, 1):
        for host in hosts:
            yield StepStarted(started + step, None, task, step=step, name=name, host=host)
            has_needle = number % 100 == 0 and host == hosts[-1] and step == len(STEPS)
            output = _output(random, run, host, has_needle=has_needle)
            yield StepOutput(
                started + step, None, task, step=step, host=host, stream="stdout", data=output
            )
            is_bad = host == failing and step == len(STEPS)
            status = Status.FAILED if is_bad else (Status.OK, Status.CHANGED)[step % 2]
            result = StepResult(status, int(is_bad), CapturedOutput(output), seconds=0.4)
            yield StepFinished(
                started + step + 0.5, None, task, step=step, name=name, host=host, outcome=result
            )
    rows = []
    for host in hosts:
        status = Status.FAILED if host == failing else Status.CHANGED
        yield HostFinished(started + 5, None, task, host, StepResult(status), last=True)
        rows.append(HostSummary(host, None, status, ok=2, changed=2, roles=("web",), seconds=4.2))
    yield TaskFinished(started + 5, None, task, 5.0)
    yield RunFinished(started + 5, 5.0, 1 if failing else 0, tuple(rows), "")


def _output(random: Random, run: str, host: str, *, has_needle: bool) -> bytes:
    lines = [" ".join(random.choices(_WORDS, k=6)) for _ in range(4)]
    lines.append(f"{host} {run} took {random.randrange(10_000)} ms")
    if has_needle:
        lines.append(f"error: {NEEDLE} 10.0.0.{random.randrange(256)}")
    return "\n".join(lines).encode() + b"\n"
