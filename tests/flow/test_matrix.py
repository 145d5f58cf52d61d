"""One host of three breaks, at every step and handler of three tasks, in every way there is.

What each host then did, how it stands and what is left to run is worked out in `expected`, from
what DESIGN 3.3, 4.3 and 4.5 say, and compared with the hosts' own logs and the rows.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.projects import Project
from tests.sshd import PATIENCE, Sshd, children, until

HOSTS, VICTIM = ("a1", "a2", "a3"), "a2"
TASKS, STEPS, HANDLER = (1, 2, 3), (1, 2), 3
AT_ONCE = 3
OUTLASTS = 120  # seconds: longer than any run, but not for ever where nothing ends it


class Kind(StrEnum):
    FAILURE = "failure"
    UNDONE_BY_NOTHING = "failure in tasks without rollback"
    IGNORED = "ignored failure"
    RESCUED = "rescued failure"
    TOLERATED = "failure within max_failures"
    INTERRUPTED = "interrupt"
    CUT = "cut link"


MADE_UP_FOR = (Kind.IGNORED, Kind.RESCUED)


@dataclass(frozen=True, slots=True)
class Cell:
    """The victim breaks like this at this step (3: the handler) of this task."""

    kind: Kind
    task: int
    step: int

    def __str__(self) -> str:
        return f"{self.kind}-t{self.task}.{'h' if self.step == HANDLER else self.step}"


CELLS = [
    *(Cell(*cell) for cell in product(Kind, TASKS, STEPS)),
    *(Cell(kind, task, HANDLER) for kind, task in product(Kind, TASKS) if kind not in MADE_UP_FOR),
]


@dataclass(frozen=True, slots=True)
class Ended:
    """What a run came to: by host its status, its log, the tasks that its row says are rolled
    back and those that are not, in order, and the handlers that are left to run."""

    code: int
    statuses: Mapping[str, str]
    logs: Mapping[str, list[str]]
    undone: Mapping[str, list[str]]
    not_undone: Mapping[str, list[str]]
    pending: Mapping[str, list[str]]


def expected(cell: Cell) -> Ended:
    """The model: what must have happened on each host."""
    hosts = {host: expected_on(host, cell) for host in HOSTS}
    code = {Kind.IGNORED: 0, Kind.RESCUED: 0, Kind.INTERRUPTED: 130}.get(cell.kind, 1)
    return Ended(code, *({h: hosts[h][n] for h in HOSTS} for n in range(5)))  # type: ignore[arg-type]


def expected_on(host: str, cell: Cell) -> tuple[str, list[str], list[str], list[str], list[str]]:
    """One host's status, log, tasks rolled back, tasks not rolled back, handlers pending."""
    breaks = host == VICTIM
    stops_lane = cell.kind not in (*MADE_UP_FOR, Kind.TOLERATED)
    stops_host = stops_lane or (breaks and cell.kind is Kind.TOLERATED)
    log = []
    for task in TASKS if not stops_host else range(1, cell.task + 1):
        here = breaks and task == cell.task
        last = cell.step if here and stops_host else HANDLER  # the broken step did begin
        for step in range(1, last + 1):
            log.append(f"t{task}.{step}")
            if here and step == cell.step and cell.kind is Kind.RESCUED:
                log.append(f"t{task}.saved")

    began = [f"t{task}" for task in range(cell.task, 0, -1)]  # the last first
    undone = began if stops_host and cell.kind is not Kind.UNDONE_BY_NOTHING else []
    for task_name in undone:
        log.append(f"{task_name}.undo:{seen_by_rollback(task_name, log)}")

    # the first step that changed something called for the handler; what is rolled back is
    # as it was before
    called = breaks and stops_host and cell.step > 1
    pending = [f"h{cell.task}"] if called and not undone else []
    return status(cell, breaks=breaks, undone=bool(undone)), log, undone, [], pending


def status(cell: Cell, *, breaks: bool, undone: bool) -> str:
    if cell.kind in MADE_UP_FOR:
        return "changed"
    if breaks:
        return {Kind.INTERRUPTED: "cancelled", Kind.CUT: "lost"}.get(cell.kind, "failed")
    if undone:
        return "cancelled"
    stopped_before_a_task = cell.kind is Kind.UNDONE_BY_NOTHING and cell.task < TASKS[-1]
    return "stopped" if stopped_before_a_task else "changed"


def seen_by_rollback(task: str, log: list[str]) -> str:
    """What the steps that ran had registered; nothing for those that did not."""
    said = (f"{task}.{step}" for step in STEPS)
    return ",".join(word if word in log else "none" for word in said)


def step_file(cell: Cell, task: int, step: int, log: Path) -> dict[str, Any]:
    """One step: it writes to its host's log, and breaks on the victim."""
    here = (cell.task, cell.step) == (task, step)
    text = f"echo t{task}.{step} | tee -a {log}/{{{{ host.name }}}}\n"
    if here and cell.kind in (Kind.INTERRUPTED, Kind.CUT):
        sleep = f"echo $$ > {log}/pid.new; mv {log}/pid.new {log}/pid; exec sleep {OUTLASTS}"
        text += f"if [ {{{{ host.name }}}} = {VICTIM} ]; then {sleep}; fi\n"
    elif here:
        text += f"[ {{{{ host.name }}}} != {VICTIM} ]\n"
    made: dict[str, Any] = {"run": text}
    if step != HANDLER:
        made |= {"register": f"r{task}{step}", "notify": f"h{task}"}
    if here and cell.kind is Kind.IGNORED:
        made["ignore_errors"] = True
    if here and cell.kind is Kind.RESCUED:
        saved = f"echo t{task}.saved >> {log}/{{{{ host.name }}}}"
        return {"block": [made], "rescue": [{"run": saved}]}
    return made


def task_file(cell: Cell, task: int, log: Path) -> str:
    words = ",".join(f"{{{{ r{task}{step}.stdout or 'none' }}}}" for step in STEPS)
    undo = f"echo t{task}.undo:{words} >> {log}/{{{{ host.name }}}}"
    made: dict[str, Any] = {
        "steps": [step_file(cell, task, step, log) for step in STEPS],
        "handlers": {f"h{task}": [step_file(cell, task, HANDLER, log)]},
    }
    if cell.kind is not Kind.UNDONE_BY_NOTHING:
        made["rollback"] = [{"run": undo}]
    return json.dumps(made)


def carried_out(cell: Cell, folder: Path, sshd: Sshd) -> Ended:
    """Run it, and read what the hosts' logs and the run's journal say."""
    root, log = folder / "project", folder / "log"
    root.mkdir(parents=True)
    log.mkdir()
    project = Project(root).over(sshd, {h: f"127.4.0.{n}" for n, h in enumerate(HOSTS, 1)})
    group: dict[str, Any] = {"name": "all", "tasks": [f"t{task}" for task in TASKS]}
    if cell.kind is Kind.TOLERATED:
        group["max_failures"] = 1
    project.write({f"tasks/t{task}.yml": task_file(cell, task, log) for task in TASKS})
    project.write({"tasks/all.yml": json.dumps({"tasks": [group]})})
    with project.started("-s", "real", "run", "all", "--json") as process:
        if cell.kind in (Kind.INTERRUPTED, Kind.CUT):
            until(lambda: others_are_through(cell, log), f"{cell} is where it breaks")
            until(lambda: heard(cell, root), f"{cell} being heard")
            if cell.kind is Kind.CUT:
                os.kill(connection_of(int((log / "pid").read_text()), sshd), signal.SIGKILL)
            else:
                process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=3 * PATIENCE)
    assert "Traceback" not in err, err
    (journal,) = root.glob(".orch/runs/*/run.json")
    rows = {row["host"]: row for row in json.loads(journal.read_text())["rows"]}
    return Ended(
        process.returncode,
        {host: row["status"] for host, row in rows.items()},
        logs={host: (log / host).read_text().split() for host in HOSTS},
        undone={h: re.findall(r"'(t\d)' is rolled back", row["reason"]) for h, row in rows.items()},
        not_undone={
            h: re.findall(r"'(t\d)' is NOT rolled back", row["reason"]) for h, row in rows.items()
        },
        pending={
            h: re.findall(rf"--handler (\S+) -l {h}\b", row["hint"]) for h, row in rows.items()
        },
    )


def others_are_through(cell: Cell, log: Path) -> bool:
    """Whether the victim is in the step and the others ended the task: their lines are all
    there, so that what is expected does not hang on who is faster."""
    others = [log / host for host in HOSTS if host != VICTIM]
    done = f"t{cell.task}.{HANDLER}\n"
    return (log / "pid").exists() and all(o.exists() and done in o.read_text() for o in others)


def heard(cell: Cell, root: Path) -> bool:
    """Whether what the step wrote has come to this side, where its rollback looks for it."""
    said = f"t{cell.task}.{cell.step}"
    logs = root.glob(f".orch/runs/*/{VICTIM}.log")
    return any(said in log.read_text().splitlines() for log in logs)


def connection_of(pid: int, sshd: Sshd) -> int:
    """The server's process for the connection that this process was started over."""
    found = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True)
    rows = (row.split() for row in found.stdout.splitlines())
    parents = {int(child): int(parent) for child, parent in rows}
    while parents[pid] != sshd.pid:
        pid = parents[pid]
    assert pid in children(sshd.pid)
    return pid


@pytest.fixture(scope="module")
def ran(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sshd: Sshd
) -> Iterator[dict[Cell, Future[Ended]]]:
    """The chosen cells, a few of them at a time."""
    base = tmp_path_factory.mktemp("matrix")
    chosen: list[Any] = [
        item.callspec.params["cell"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {c: pool.submit(carried_out, c, base / f"{n}", sshd) for n, c in enumerate(chosen)}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_host_did_and_says_what_it_should(ran: dict[Cell, Future[Ended]], cell: Cell) -> None:
    assert ran[cell].result() == expected(cell)
