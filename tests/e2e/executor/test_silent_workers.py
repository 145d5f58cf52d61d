"""Workers that cannot be reached for a time: shorter than a lease it changes nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.executor.test_killed_processes import (
    Running,
    check_resumed,
    is_connected,
    make_folder,
    start,
    steps_begun_twice,
)
from tests.projects import OrchProject
from tests.sshd import wait_until
from tests.support.dask_cluster import DaskCluster, start_cluster
from tests.support.fault_proxy import FaultProxy
from tests.support.rolling_run import HOSTS, STEPS, TIMEOUT, RollingRun, rolling_run

LONGER = 105.0
"""Seconds after which a silent worker is lost, and its steps have ended."""


@contextmanager
def cluster_with_link(folder: Path) -> Iterator[tuple[DaskCluster, FaultProxy]]:
    """Start two workers, the first of which reaches the scheduler through the proxy."""
    with ExitStack() as stack:
        proxies: list[FaultProxy] = []

        def link(port: int) -> int:
            if proxies:
                return port
            proxies.append(FaultProxy(port))
            stack.callback(proxies[0].close)
            return proxies[0].port

        cluster = stack.enter_context(start_cluster(make_folder(folder / "cluster"), 2, link=link))
        yield cluster, proxies[0]


def interruption(
    what: str, running: Running, cluster: DaskCluster, proxy: FaultProxy
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return functions that stop something, and let it go on."""
    if what == "link":
        return proxy.hold, proxy.release
    pid = {
        "worker": cluster.workers[0].pid,
        "scheduler": cluster.scheduler.pid,
        "coordinator": running.process.pid,
    }[what]
    return lambda: os.kill(pid, signal.SIGSTOP), lambda: os.kill(pid, signal.SIGCONT)


def reach_step(run: RollingRun, cluster: DaskCluster) -> tuple[str, str]:
    """Wait until the first step is held on both hosts of the first batch.

    Return the host of the first worker, and the other one.
    """

    def is_reached() -> bool:
        hosts = ("web1", "web2")
        has_begun = all(run.reported(host, "step_started") for host in hosts)
        return has_begun and all(run.is_held(host, "one.1") for host in hosts)

    wait_until(is_reached, "one.1", TIMEOUT)
    is_first = is_connected(cluster.workers[0].pid, HOSTS["web1"])
    return ("web1", "web2") if is_first else ("web2", "web1")


def last(seconds: float) -> None:
    """Let a state last for so long."""
    threading.Event().wait(seconds)


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        ("link", 1.0),
        *(
            # a host ends its steps if their worker does not renew its lease, which it does each 20 s
            pytest.param(what, 35.0 if what == "worker" else 50.0, marks=pytest.mark.long)
            for what in ("link", "worker", "scheduler", "coordinator")
        ),
    ],
)
def test_a_silence_shorter_than_the_lease_changes_nothing(
    project: OrchProject, tmp_path: Path, what: str, seconds: float
) -> None:
    with rolling_run(project, tmp_path) as run, cluster_with_link(tmp_path) as (cluster, proxy):
        for host in ("web1", "web2"):
            run.hold(host, "one.1")
        with start(run, cluster, "") as running:
            cut_off, _ = reach_step(run, cluster)
            stop, go_on = interruption(what, running, cluster, proxy)
            stop()
            run.go_on()  # the step ends while nobody can be told
            wait_until(lambda: run.marks("ended")[cut_off, "one.1"] == 1, "the step", TIMEOUT)
            last(seconds)
            go_on()
            done = running.result()
        assert done.code == 0, done.err
        assert {row["status"] for row in done.host_rows.values()} == {"changed"}
        for kind in ("begun", "ended"):
            marks = run.marks(kind)
            assert all(marks[host, step] == 1 for host in HOSTS for step in STEPS), marks
        run.wait_until_left()
        assert run.locked_hosts() == []


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("what", ["link", "worker", "scheduler"])
def test_a_silence_longer_than_the_lease_loses_the_hosts_and_nothing_is_done_after_it(
    project: OrchProject, tmp_path: Path, what: str
) -> None:
    with rolling_run(project, tmp_path) as run, cluster_with_link(tmp_path) as (cluster, proxy):
        for host in ("web1", "web2"):
            run.hold(host, "one.1")
        with start(run, cluster, "") as running:
            cut_off, other = reach_step(run, cluster)
            stop, go_on = interruption(what, running, cluster, proxy)
            stop()
            lost = {cut_off, other} if what == "scheduler" else {cut_off}
            if what != "scheduler":
                run.go_on_with(other, "one.1")
            last(LONGER)
            run.wait_until_ended()  # the steps, not because anything lets them go on
            done = running.result()
            begun = run.marks("begun")
            run.go_on()
            go_on()
        rows = done.host_rows
        assert done.code == 1, done.err
        assert rows[other]["status"] == ("lost" if what == "scheduler" else "cancelled"), rows
        for host in lost:
            assert rows[host]["status"] == "lost"
            assert "nothing was heard of its worker for" in rows[host]["reason"]
            assert "in step 1 " in rows[host]["reason"]
        run.wait_until_left()
        wait_until(lambda: run.locked_hosts() == [], "the locks' release", TIMEOUT)
        assert run.marks("begun") == begun
        assert steps_begun_twice(run) == []
        (name,) = (path.name for path in run.project.root.glob(".orch/runs/*"))
        check_resumed(run, name, {(host, "one.1") for host in lost}, cluster)
