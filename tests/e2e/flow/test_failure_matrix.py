"""One of three hosts fails, at every step and handler of three tasks, in every possible way.

`expected_result` computes what each host runs, its status and its pending handlers from DESIGN 3.3,
4.3 and 4.5; the tests compare that with the hosts' logs and the rows.
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

from tests.projects import OrchProject
from tests.sshd import START_TIMEOUT, SshdServer, child_processes, wait_until

HOSTS, VICTIM = ("a1", "a2", "a3"), "a2"
TASKS, STEPS, HANDLER = (1, 2, 3), (1, 2), 3
AT_ONCE = 3
OUTLASTS = 120  # seconds: longer than any run, but finite


class BreakKind(StrEnum):
    FAILURE = "failure"
    UNDONE_BY_NOTHING = "failure in tasks without rollback"
    IGNORED = "ignored failure"
    RESCUED = "rescued failure"
    TOLERATED = "failure within max_failures"
    INTERRUPTED = "interrupt"
    CUT = "cut link"


MADE_UP_FOR = (BreakKind.IGNORED, BreakKind.RESCUED)


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """The victim fails in this way at this step (3: the handler) of this task."""

    kind: BreakKind
    task: int
    step: int

    def __str__(self) -> str:
        return f"{self.kind}-t{self.task}.{'h' if self.step == HANDLER else self.step}"


CELLS = [
    *(MatrixCell(*cell) for cell in product(BreakKind, TASKS, STEPS)),
    *(
        MatrixCell(kind, task, HANDLER)
        for kind, task in product(BreakKind, TASKS)
        if kind not in MADE_UP_FOR
    ),
]


@dataclass(frozen=True, slots=True)
class CellResult:
    """The result of a run by host.

    It has the host's status, its log, the tasks that its row names as rolled back and as not rolled
    back, in order, and the pending handlers.
    """

    code: int
    statuses: Mapping[str, str]
    logs: Mapping[str, list[str]]
    undone: Mapping[str, list[str]]
    not_undone: Mapping[str, list[str]]
    pending: Mapping[str, list[str]]


def expected_results(cell: MatrixCell) -> CellResult:
    """Return the expected result of each host."""
    hosts = {host: expected_result(host, cell) for host in HOSTS}
    code = {BreakKind.IGNORED: 0, BreakKind.RESCUED: 0, BreakKind.INTERRUPTED: 130}.get(
        cell.kind, 1
    )
    return CellResult(code, *({h: hosts[h][n] for h in HOSTS} for n in range(5)))  # type: ignore[arg-type]


def expected_result(
    host: str, cell: MatrixCell
) -> tuple[str, list[str], list[str], list[str], list[str]]:
    """Return one host's status, log, tasks rolled back or not, and pending handlers."""
    breaks = host == VICTIM
    stops_lane = cell.kind not in (*MADE_UP_FOR, BreakKind.TOLERATED)
    stops_host = stops_lane or (breaks and cell.kind is BreakKind.TOLERATED)
    log = []
    for task in TASKS if not stops_host else range(1, cell.task + 1):
        breaks_task = breaks and task == cell.task
        last = cell.step if breaks_task and stops_host else HANDLER  # the failing step did start
        for step in range(1, last + 1):
            log.append(f"t{task}.{step}")
            if breaks_task and step == cell.step and cell.kind is BreakKind.RESCUED:
                log.append(f"t{task}.saved")

    began = [f"t{task}" for task in range(cell.task, 0, -1)]  # last task first
    undone = began if stops_host and cell.kind is not BreakKind.UNDONE_BY_NOTHING else []
    for task_name in undone:
        log.append(f"{task_name}.undo:{registered_for_rollback(task_name, log)}")

    # the first changed step notified the handler; a rollback restores the state before it
    called = breaks and stops_host and cell.step > 1
    pending = [f"h{cell.task}"] if called and not undone else []
    return expected_status(cell, breaks=breaks, undone=bool(undone)), log, undone, [], pending


def expected_status(cell: MatrixCell, *, breaks: bool, undone: bool) -> str:
    if cell.kind in MADE_UP_FOR:
        return "changed"
    if breaks:
        return {BreakKind.INTERRUPTED: "cancelled", BreakKind.CUT: "lost"}.get(cell.kind, "failed")
    if undone:
        return "cancelled"
    stopped_before_a_task = cell.kind is BreakKind.UNDONE_BY_NOTHING and cell.task < TASKS[-1]
    return "stopped" if stopped_before_a_task else "changed"


def registered_for_rollback(task: str, log: list[str]) -> str:
    """Return what the steps that ran have registered."""
    output = (f"{task}.{step}" for step in STEPS)
    return ",".join(word if word in log else "none" for word in output)


def write_step(cell: MatrixCell, task: int, step: int, log: Path) -> dict[str, Any]:
    """Return one step, which writes to its host's log and fails on the victim."""
    breaks_step = (cell.task, cell.step) == (task, step)
    text = f"echo t{task}.{step} | tee -a {log}/{{{{ host.name }}}}\n"
    if breaks_step and cell.kind in (BreakKind.INTERRUPTED, BreakKind.CUT):
        sleep = f"echo $$ > {log}/pid.new; mv {log}/pid.new {log}/pid; exec sleep {OUTLASTS}"
        text += f"if [ {{{{ host.name }}}} = {VICTIM} ]; then {sleep}; fi\n"
    elif breaks_step:
        text += f"[ {{{{ host.name }}}} != {VICTIM} ]\n"
    created: dict[str, Any] = {"run": text}
    if step != HANDLER:
        created |= {"register": f"r{task}{step}", "notify": f"h{task}"}
    if breaks_step and cell.kind is BreakKind.IGNORED:
        created["ignore_errors"] = True
    if breaks_step and cell.kind is BreakKind.RESCUED:
        saved = f"echo t{task}.saved >> {log}/{{{{ host.name }}}}"
        return {"block": [created], "rescue": [{"run": saved}]}
    return created


def write_task(cell: MatrixCell, task: int, log: Path) -> str:
    words = ",".join(f"{{{{ r{task}{step}.stdout or 'none' }}}}" for step in STEPS)
    undo = f"echo t{task}.undo:{words} >> {log}/{{{{ host.name }}}}"
    created: dict[str, Any] = {
        "steps": [write_step(cell, task, step, log) for step in STEPS],
        "handlers": {f"h{task}": [write_step(cell, task, HANDLER, log)]},
    }
    if cell.kind is not BreakKind.UNDONE_BY_NOTHING:
        created["rollback"] = [{"run": undo}]
    return json.dumps(created)


def run_cell(cell: MatrixCell, folder: Path, sshd: SshdServer) -> CellResult:
    """Run the cell, and read the hosts' logs and the run's journal."""
    root, log = folder / "project", folder / "log"
    root.mkdir(parents=True)
    log.mkdir()
    project = OrchProject(root).add_sshd_stage(
        sshd, {h: f"127.4.0.{n}" for n, h in enumerate(HOSTS, 1)}
    )
    group: dict[str, Any] = {"name": "all", "tasks": [f"t{task}" for task in TASKS]}
    if cell.kind is BreakKind.TOLERATED:
        group["max_failures"] = 1
    project.write({f"tasks/t{task}.yml": write_task(cell, task, log) for task in TASKS})
    project.write({"tasks/all.yml": json.dumps({"tasks": [group]})})
    with project.start_orch("-s", "real", "run", "all", "--json") as process:
        if cell.kind in (BreakKind.INTERRUPTED, BreakKind.CUT):
            wait_until(lambda: others_have_finished(cell, log), f"{cell} is where it breaks")
            wait_until(lambda: has_received(cell, root), f"{cell} being heard")
            if cell.kind is BreakKind.CUT:
                os.kill(connection_of(int((log / "pid").read_text()), sshd), signal.SIGKILL)
            else:
                process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=3 * START_TIMEOUT)
    assert "Traceback" not in err, err
    (journal,) = root.glob(".orch/runs/*/run.json")
    rows = {row["host"]: row for row in json.loads(journal.read_text())["rows"]}
    return CellResult(
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


def others_have_finished(cell: MatrixCell, log: Path) -> bool:
    """Return True if the victim is in the step and the other hosts have ended the task.

    Their lines are then complete, so the expected result does not depend on timing.
    """
    others = [log / host for host in HOSTS if host != VICTIM]
    done = f"t{cell.task}.{HANDLER}\n"
    return (log / "pid").exists() and all(o.exists() and done in o.read_text() for o in others)


def has_received(cell: MatrixCell, root: Path) -> bool:
    """Return True if the step's output has arrived at the controller, which the rollback checks."""
    output = f"t{cell.task}.{cell.step}"
    logs = root.glob(f".orch/runs/*/{VICTIM}.log")
    return any(output in log.read_text().splitlines() for log in logs)


def connection_of(pid: int, sshd: SshdServer) -> int:
    """Return the server process of the connection that started this process."""
    found = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True)
    rows = (row.split() for row in found.stdout.splitlines())
    parents = {int(child): int(parent) for child, parent in rows}
    while parents[pid] != sshd.pid:
        pid = parents[pid]
    assert pid in child_processes(sshd.pid)
    return pid


@pytest.fixture(scope="module")
def cell_results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sshd: SshdServer
) -> Iterator[dict[MatrixCell, Future[CellResult]]]:
    """Run the selected cells, several in parallel."""
    base = tmp_path_factory.mktemp("matrix")
    chosen: list[Any] = [
        item.callspec.params["cell"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {c: pool.submit(run_cell, c, base / f"{n}", sshd) for n, c in enumerate(chosen)}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    "cell",
    [pytest.param(cell, marks=[pytest.mark.long] * (n % 2)) for n, cell in enumerate(CELLS)],
    ids=str,
)
def test_every_host_did_and_says_what_it_should(
    cell_results: dict[MatrixCell, Future[CellResult]], cell: MatrixCell
) -> None:
    assert cell_results[cell].result() == expected_results(cell)
