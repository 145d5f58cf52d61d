"""Runs over connections with faults: a real sshd behind the proxy, and the real executor."""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.executor import CancelToken, RunOptions, execute_plan
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.model.event import RunEvent, RunFinished, StepOutput
from orchestrator.model.step_result import HostSummary
from orchestrator.planner.plan_builder import build_plan
from orchestrator.planner.request import PlanRequest
from orchestrator.planner.template_objects import run_view
from orchestrator.playbook import TaskRequest, load_tasks
from orchestrator.transports import TransportRegistry
from tests.integration.faults.become_server import PASSWORD, start_become_server
from tests.integration.faults.scenarios import FaultScenario
from tests.projects import OrchProject
from tests.sshd import START_TIMEOUT, SshdServer, serve_sshd
from tests.support.broker import BrokerOfTests
from tests.support.fault_proxy import FaultProxy
from tests.support.link_faults import LinkFault, draw_fault

TIMEOUT, KEEPALIVE = 6.0, 1.0  # seconds: of the hosts' connect settings
LOOK = 0.1  # seconds between looks at a run
LONGEST = 60.0  # seconds: what a run whose every wait ends as it should stays well below


@dataclass(slots=True)
class FaultyRun:
    """A run and everything that is known about it.

    ``logs``: the output of each host's steps. ``connection_counts``: the number of connects per
    host. ``folder`` has the files that were uploaded and downloaded. ``is_skipped``: the run was to
    continue without unreachable hosts. ``leftovers``: what did not end with the run.
    ``starved_seconds``: seconds that this process, and so maybe the server, had to wait for a CPU.
    """

    scenario: FaultScenario
    seed: str
    faults: dict[str, LinkFault]
    struck_hosts: set[str]
    connection_counts: dict[str, int]
    rows: dict[str, HostSummary]
    events: list[RunEvent]
    logs: dict[str, list[str]]
    folder: Path
    is_skipped: bool
    error: BaseException | None = None
    seconds: float = 0.0
    starved_seconds: float = 0.0
    leftovers: list[str] = field(default_factory=list)

    def record_event(self, event: RunEvent) -> None:
        """Record an event, except the large output events of hosts."""
        if not isinstance(event, StepOutput):
            self.events.append(event)


class FaultTestbed:
    """The server, the proxy in front of it, and a project for one scenario."""

    def __init__(
        self, folder: Path, sshd: SshdServer, proxy: FaultProxy, scenario: FaultScenario
    ) -> None:
        self._folder, self._sshd, self._proxy = folder, sshd, proxy
        self.scenario = scenario
        (folder / "inventories").mkdir(parents=True)
        self._home = folder / "home"
        self._home.mkdir()
        self.broker = BrokerOfTests(folder)
        self._password = self._home / "password"
        self._password.write_text(f"{PASSWORD}\n")
        self._password.chmod(0o600)
        known = folder / "known_hosts"
        names = f"[*]:{proxy.port},[*]:{sshd.port}"
        known.write_text(f"{names} {sshd.host_key}\n")
        server = {
            "user": sshd.user,
            "port": proxy.port,
            "identity": str(sshd.key),
            "identities_only": True,
            "known_hosts": str(known),
            "timeout": TIMEOUT,
            "keepalive": KEEPALIVE,
        }
        scenario.write_project(OrchProject(folder), server, folder / "runs")
        self._stage = load_stage(folder, "real")
        self._tasks = load_tasks(folder, ["all"]).by_name

    def run(self, number: int) -> FaultyRun:
        """Run the scenario with the faults of this number, which alone determines them."""
        seed = f"{self.scenario.name} {number}"
        mix = self.scenario.mixes[number % len(self.scenario.mixes)]
        spared = self.scenario.delegates if number % 3 else ()
        drawn = {
            host: draw_fault(f"{seed} {host}", mix, self.scenario.stream_lengths(host))
            for host in self.scenario.addresses
            if host not in spared
        }
        return self.run_with_faults(
            seed, {host: fault for host, fault in drawn.items() if fault}, number
        )

    def run_with_faults(
        self, seed: str, faults: dict[str, LinkFault], number: int = 0
    ) -> FaultyRun:
        """Run the scenario with these faults, by host."""
        addresses = self.scenario.addresses
        by_address = {addresses[host]: fault for host, fault in faults.items()}
        finds_open = self.scenario.is_kept and number % 2
        self._proxy.set_faults({} if finds_open else by_address)
        if finds_open:
            self._warm_up()
            self._proxy.strike(by_address)
        identity = f"r{os.getpid()}-{time.monotonic_ns()}"
        folder = self._folder / "runs" / identity
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        hosts = tuple(self._stage.hosts[name] for name in self.scenario.hosts)
        for name in self.scenario.hosts:
            (folder / name).touch()
            (folder / name).chmod(0o666)
        requests = (TaskRequest("all"),)
        view = run_view(identity, "me", time.time())
        apps, root = tuple(self._stage.apps.values()), str(self._folder)
        ask = PlanRequest(self._stage, hosts, requests, self._tasks, view, apps=apps, root=root)
        plan = build_plan(ask)
        skip = number % 5 != 4
        ran = FaultyRun(
            self.scenario,
            seed,
            faults=faults,
            struck_hosts=set(),
            connection_counts={},
            rows={},
            events=[],
            logs={},
            folder=folder,
            is_skipped=skip,
        )
        before = set(threading.enumerate()), open_descriptors(), child_processes()
        connector = self._transports()

        def work() -> None:
            options = RunOptions(keep_going=True, skip_unreachable=skip)
            try:
                execute_plan(
                    plan,
                    self._stage.hosts,
                    connector.connect,
                    ran.record_event,
                    options=options,
                    cancel=CancelToken(),
                )
            except BaseException as error:
                ran.error = error
            finally:
                connector.close()

        began = time.monotonic()
        thread = threading.Thread(target=work, name="run")
        thread.start()
        while thread.is_alive() and time.monotonic() - began < LONGEST:
            since = time.monotonic()
            thread.join(LOOK)
            ran.starved_seconds = max(ran.starved_seconds, time.monotonic() - since - LOOK)
        ran.seconds = time.monotonic() - began
        if thread.is_alive():
            ran.leftovers.append(f"the run, after {LONGEST:g} s")
            faulthandler.dump_traceback(all_threads=True)
            connector.close()
            thread.join()
        by_address = {address: host for host, address in addresses.items()}
        ran.struck_hosts = {by_address[address] for address in self._proxy.struck_addresses}
        ran.connection_counts = {by_address[a]: count for a, count in self._proxy.tries.items()}
        self._proxy.set_faults({})
        ran.leftovers += _leftovers(*before)
        self.broker.end()
        ran.leftovers += self._leftover_processes()
        ran.rows = {
            row.host: row for e in ran.events if isinstance(e, RunFinished) for row in e.rows
        }
        ran.logs = {h.name: _read_lines(folder / h.name) for h in hosts}
        return ran

    def _transports(self) -> TransportRegistry:
        environ = {
            "PATH": os.environ["PATH"],
            "ORCH_BECOME_PASSWORD_FILE": str(self._password),
        }
        hosts, none = self._stage.hosts, self._home / "none"
        if not self.scenario.is_kept:
            return TransportRegistry(
                home=self._home, environ=environ, hosts=hosts, system_config=none
            )
        return self.broker.transports(
            self._home, environ=environ, hosts=hosts, system_config=none, persist=600.0
        )

    def _warm_up(self) -> None:
        """Leave a connection to each host, with a prepared shell, with the broker."""
        with closing(self._transports()) as transports:
            for name in self.scenario.hosts:
                transports.connect(self._stage.hosts[name]).close()
        for name in self.scenario.hosts:
            self.broker.wait_for_shells(name, 1)

    def _leftover_processes(self) -> list[str]:
        """Return the processes on the server that outlive a run, after killing them."""
        end = time.monotonic() + START_TIMEOUT
        while (pids := self._sshd.session_processes()) and time.monotonic() < end:
            time.sleep(0.01)
        words = ["ps", "-o", "pid=,ppid=,user=,args=", "-p", ",".join(map(str, pids))]
        left = (
            subprocess.run(words, capture_output=True, check=False).stdout.decode() if pids else ""
        )
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return [f"{' '.join(line.split())} on the server" for line in left.splitlines()]


def _read_lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1]


def _leftovers(threads: set[threading.Thread], files: int, pids: set[int]) -> list[str]:
    """Return what a run left behind, shortly after its end."""
    end = time.monotonic() + 5

    def found() -> list[str]:
        more = [f"thread {t.name}" for t in set(threading.enumerate()) - threads]
        more += [f"process {pid}" for pid in child_processes() - pids]
        return more + ([f"{n} descriptors"] if (n := open_descriptors() - files) > 0 else [])

    while (left := found()) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def child_processes() -> set[int]:
    """Return the child processes of this process, including those it has inherited."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # the thread has ended
            found.update(int(word) for word in (task / "children").read_text().split())
    return found


@contextmanager
def start_testbed(folder: Path, scenario: FaultScenario) -> Iterator[FaultTestbed]:
    """Start a testbed, and end it."""
    temp_folder = folder / "there"
    lines = ["MaxStartups 1000:30:2000", "LogLevel ERROR"]
    with (
        start_become_server(temp_folder, lines)
        if scenario.needs_become
        else _plain_server(temp_folder, lines) as sshd
    ):
        proxy = FaultProxy(sshd.port)
        try:
            testbed = FaultTestbed(temp_folder / scenario.name, sshd, proxy, scenario)
            yield testbed
            testbed.broker.close()
        finally:
            proxy.close()
            shutil.rmtree(temp_folder / scenario.name)


@contextmanager
def _plain_server(folder: Path, lines: list[str]) -> Iterator[SshdServer]:
    """Start a server with its own temporary folder, where broken connections leave files."""
    temp = folder / "tmp"
    temp.mkdir(parents=True)
    with serve_sshd(folder, lines, environment={"TMPDIR": str(temp)}) as sshd:
        yield sshd
