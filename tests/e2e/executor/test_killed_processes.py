"""SIGKILL of a process of a run with workers, in every phase: nothing is done twice, or left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import pytest

from tests.projects import OrchProject, OrchResult
from tests.sshd import child_processes, wait_until
from tests.support.dask_cluster import DaskCluster, start_cluster
from tests.support.fault_proxy import FaultProxy
from tests.support.link_faults import FaultKind, LinkDirection, LinkFault
from tests.support.rolling_run import HOSTS, STEPS, TIMEOUT, RollingRun, reach_through, rolling_run
from tests.support.stopped_at_event import PAUSED


@dataclass(frozen=True, slots=True)
class Phase:
    """When a process is killed.

    Either ``mark`` is held on ``host`` and others have ``reported`` so many steps, or an ``event``
    is in the journal. ``fails``: a step fails before. ``lost`` are the hosts that are lost if the
    worker of web1 and web3 is killed, with a part of the reason. ``code`` is the run's exit code
    then.
    """

    host: str = "web1"
    mark: str = ""
    reported: tuple[tuple[str, int], ...] = ()
    event: str = ""
    fails: bool = False
    lost: tuple[tuple[str, str], ...] = ()
    code: int = 1


PHASES = {
    "plan": Phase(code=0),
    "connect": Phase("web3", code=4),
    "lock": Phase(mark="lock", code=4),
    "step": Phase(mark="one.1", reported=(("web2", 3),), lost=(("web1", "in step 1 "),)),
    "barrier": Phase(
        "web2",
        "one.2",
        reported=(("web1", 3),),
        lost=(("web1", "has ended, between two steps"),),
    ),
    "second batch": Phase("web3", "two.2", reported=(("web4", 5),), lost=(("web3", "in step 2 "),)),
    "handler": Phase(mark="one.told", reported=(("web2", 3),), lost=(("web1", "in step 3 "),)),
    "rollback": Phase(mark="one.undone", reported=(("web2", 7),), fails=True),
    "hook": Phase(mark="alarm", reported=(("web2", 8), ("web3", 1), ("web4", 1)), fails=True),
    "commit": Phase(
        event="TaskFinished:two:2",
        lost=(("web1", "between two steps"), ("web3", "between two steps")),
    ),
    "unlock": Phase(mark="unlock", code=0),
    "close": Phase(event="RunFinished::1", code=0),
}


@dataclass(slots=True)
class Running:
    """A running orch; ``cluster`` has its workers, or None if they are its own."""

    run: RollingRun
    process: subprocess.Popen[str]
    errors: Path
    cluster: DaskCluster | None

    def worker_of(self, host: str) -> int:
        """Return the process ID of the worker that is connected to a host."""
        (found,) = (pid for pid in self.workers() if is_connected(pid, HOSTS[host]))
        return found

    def workers(self) -> list[int]:
        if self.cluster is not None:
            return [process.pid for process in self.cluster.workers]
        return list(child_processes(self.process.pid))

    def is_paused(self) -> bool:
        return PAUSED in self.errors.read_text()

    def kill(self, victim: str, phase: str) -> None:
        """Kill a process, of the workers that of web1; and wait for its end."""
        if victim == "coordinator":
            self.process.kill()
            self.process.wait(60)
        elif victim == "scheduler":
            assert self.cluster is not None
            self.cluster.scheduler.kill()
            self.cluster.scheduler.wait(60)
        else:
            if phase == "plan":
                pid = self.run.planners()[1]
            else:
                pid = self.workers()[0] if phase == "close" else self.worker_of("web1")
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: has_ended(pid), "the worker's end", TIMEOUT)

    def result(self) -> OrchResult:
        """Let the run go on, and return how it ended."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write("\n")
            self.process.stdin.close()
        code = self.process.wait(100)
        return OrchResult(code, self.errors.with_name("out").read_text(), self.errors.read_text())


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def is_connected(pid: int, address: str) -> bool:
    """Return True if the process has a connection to the address."""
    sockets = set()
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                sockets.add(str(path.readlink()))
    remote = bytes(map(int, reversed(address.split(".")))).hex().upper()
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[2].startswith(f"{remote}:") and f"socket:[{row[9]}]" in sockets for row in rows)


@contextmanager
def start(run: RollingRun, cluster: DaskCluster | None, event: str) -> Iterator[Running]:
    """Start the run in the workers of the cluster, or in two of its own."""
    program = ["orchestrator"]
    if event:
        program = ["tests.support.stopped_at_event", "pause", event]
    engine = ["--engine", "dask=local:2"] if cluster is None else []
    errors, environ = run.state / "err", cluster.environ if cluster is not None else {}
    stdout: IO[str]
    stderr: IO[str]
    with errors.open("w") as stderr, errors.with_name("out").open("w") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-m", *program, "-C", str(run.project.root), *run.words, *engine],
            env=run.project.environ(environ),
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )
    try:
        yield Running(run, process, errors, cluster)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextmanager
def arranged(
    run: RollingRun, name: str, phase: Phase
) -> Iterator[tuple[Callable[[Running], object], Callable[[], object]]]:
    """Let the run stay in the phase; yield functions that wait until it is reached, and end it."""
    if phase.fails:
        run.fail("web2", "two.2")
    if phase.mark:
        run.hold(phase.host, phase.mark)

    def reach(running: Running) -> None:
        if phase.event:
            wait_until(running.is_paused, "the event", TIMEOUT)
        elif phase.mark:
            wait_until(
                lambda: (
                    run.is_held(phase.host, phase.mark)
                    and all(run.reported(host) == count for host, count in phase.reported)
                ),
                f"{phase.mark} on {phase.host}",
                TIMEOUT,
            )

    if name == "plan":
        (run.state / "hold-plan").touch()
        reach_plan = partial(wait_until, lambda: len(run.planners()) > 1, "a plan", TIMEOUT)
        yield lambda _running: reach_plan(), run.go_on
    elif name == "connect":
        with closing(FaultProxy(run.sshd.port)) as proxy:
            reach_through(run, proxy.port)
            address = HOSTS[phase.host]
            proxy.set_faults({address: LinkFault(FaultKind.STALL, LinkDirection.TO_SERVER, 0)})

            def are_connected() -> bool:
                stalled = address in proxy.struck_addresses
                return stalled and all(proxy.tries[each] for each in HOSTS.values())

            reach_all = partial(wait_until, are_connected, "the connections", TIMEOUT)
            yield lambda _running: reach_all(), lambda: proxy.set_faults({})
    else:
        yield reach, run.go_on


def check_next_run(run: RollingRun, *, is_stale: bool) -> None:
    """Check that no lock hinders another run, unless its owner is gone without a trace."""

    def run_quick() -> OrchResult:
        return run.project.orch("-s", "dev", "run", "quick", "--app", "shop", ORCH_ENGINE="local")

    if is_stale:
        wait_until(
            lambda: "it is stale: its owner is gone" in run_quick().out, "a stale lock", TIMEOUT
        )
    else:
        again = run_quick()
        assert again.code == 0, again.out + again.err
        assert run.locked_hosts() == []


def check_resumed(
    run: RollingRun, name: str, lost: set[tuple[str, str]], cluster: DaskCluster | None
) -> None:
    """Resume the run of this ID, or run it without one; check that each step was done once.

    ``lost`` are the hosts and steps that were held and ended: they begin twice. The workers of the
    cluster, if any, drive the hosts.
    """
    words = ("resume", name, "--lost", "rerun", "--yes") if name else run.words
    done = run.project.orch(*words, **(cluster.environ if cluster is not None else {}))
    assert done.code == 0, done.out + done.err
    begun, ended, failed = map(run.marks, ("begun", "ended", "failed"))
    for host in HOSTS:
        for step in STEPS:
            undone = begun[host, f"{step.partition('.')[0]}.undone"]
            about = (host, step, begun, ended, done.err)
            assert ended[host, step] + failed[host, step] - undone == 1, about
            assert begun[host, step] - undone == 1 + ((host, step) in lost), about
    run.wait_until_left()
    assert run.locked_hosts() == []


def steps_begun_twice(run: RollingRun) -> list[tuple[str, str]]:
    begun = run.marks("begun").items()
    return [each for each, count in begun if count > 1 and each[1] not in ("lock", "unlock")]


SAMPLE = {("worker", "second batch"), ("coordinator", "handler")}
VICTIMS = ("worker", "scheduler", "coordinator", "own worker", "coordinator of own workers")


@pytest.mark.parametrize(
    ("victim", "name"),
    [
        pytest.param(victim, name, marks=[] if (victim, name) in SAMPLE else pytest.mark.long)
        for victim in VICTIMS
        for name in PHASES
    ],
)
def test_a_killed_process_leaves_nothing_and_nothing_is_done_twice(
    project: OrchProject, tmp_path: Path, victim: str, name: str
) -> None:
    phase, has_own = PHASES[name], "own" in victim
    kind = victim.removesuffix(" of own workers").removeprefix("own ")
    starting = nullcontext() if has_own else start_cluster(make_folder(tmp_path / "cluster"), 2)
    is_cut = kind != "worker" or phase.host in ("web1", "web3")
    held = {(phase.host, phase.mark)} & {(host, step) for host in HOSTS for step in STEPS}
    is_stale = (
        has_own and kind == "coordinator" and name not in ("plan", "connect", "lock", "close")
    )
    with (
        rolling_run(project, tmp_path) as run,
        starting as cluster,
        arranged(run, name, phase) as (reach, go_on),
    ):
        with start(run, cluster, phase.event) as running:
            reach(running)
            running.kill(kind, name)
            if is_cut:
                run.wait_until_ended()  # nothing else lets it go on
            go_on()
            done = None if kind == "coordinator" else running.result()
        run.wait_until_left()
        assert steps_begun_twice(run) == []
        if done is not None:
            check_end(done, kind, name)
        run_ids = [path.name for path in run.project.root.glob(".orch/runs/*")]
        check_next_run(run, is_stale=is_stale)
        is_complete = done is not None and done.code == 0
        if not is_complete:
            surviving = None if kind == "scheduler" else cluster
            check_resumed(run, "".join(run_ids), held if is_cut else set(), surviving)


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def check_end(done: OrchResult, kind: str, name: str) -> None:
    """Check the rows and the exit code of a run of which a worker, or the scheduler, was killed."""
    if kind == "scheduler" and name == "plan":
        assert (done.code, "the connection to the scheduler was lost" in done.err) == (2, True)
        return
    phase, rows = PHASES[name], done.host_rows
    lost = {host: row["reason"] for host, row in rows.items() if row["status"] == "lost"}
    if kind == "worker":
        assert done.code == phase.code, done.err
        assert ("its hosts are given to another one" in done.err) == (name == "plan"), done.err
        assert lost.keys() >= {host for host, _ in phase.lost}, rows
        for host, reason in phase.lost:
            assert "worker" in lost[host] and reason in lost[host]
        assert not lost.keys() & {"web2", "web4"}


@pytest.mark.long
@pytest.mark.parametrize("victim", ["worker", "coordinator"])
def test_a_process_that_is_killed_while_the_workers_start_leaves_nothing(
    project: OrchProject, tmp_path: Path, victim: str
) -> None:
    with rolling_run(project, tmp_path) as run:
        with start(run, None, "") as running:
            starting: list[int] = []

            def has_child() -> bool:
                starting[:] = starting_workers(running.process.pid)
                return bool(starting)

            wait_until(has_child, "a process of a worker", TIMEOUT)
            os.kill(starting[0] if victim == "worker" else running.process.pid, signal.SIGKILL)
            done = running.result()
            if victim == "coordinator":
                wait_until(lambda: all(map(has_ended, starting)), "the workers' end", TIMEOUT)
        if victim == "worker" and done.code != 0:
            assert (done.code, "the workers did not start" in done.err) == (2, True), done.err
        elif victim == "worker":
            assert all(run.marks("ended")[host, step] == 1 for host in HOSTS for step in STEPS)
        if done.code != 0:
            assert not run.marks("begun")
        run.wait_until_left()
        check_next_run(run, is_stale=False)


def starting_workers(pid: int) -> list[int]:
    """Return the processes of workers that a process has started."""
    found = []
    for child in child_processes(pid):
        with suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found
