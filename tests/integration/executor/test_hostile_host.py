"""One host that sends garbage, or nothing: it fails with a reason, and the run continues."""

from __future__ import annotations

import shlex
import sys
import tracemalloc
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from orchestrator import playbook
from orchestrator.errors import ExitCode, OrchError
from orchestrator.executor import CancelToken, RunOptions, execute_plan
from orchestrator.executor.remote_query import collect_facts, run_remote_query
from orchestrator.executor.step_recorder import ModuleResultParser
from orchestrator.inventory.stage_loader import load_stage
from orchestrator.model.command import StepCommand
from orchestrator.model.event import Crashed, RunEvent, RunFinished, StepFinished
from orchestrator.model.step_result import HostSummary, Status
from orchestrator.planner.fact_sources import FactSources
from orchestrator.planner.plan_builder import build_plan
from orchestrator.planner.request import PlanRequest
from orchestrator.planner.template_objects import run_view
from orchestrator.remote_shell import SessionLostError, ShellSession
from orchestrator.remote_shell.decoder import ProtocolError
from orchestrator.transports.local import LocalConnection
from tests.support import hostile_host
from tests.support.session_recording import RecordingListener

ROOT = Path(__file__).parents[3]


def hostile_shell(*mode: str) -> str:
    return shlex.join([sys.executable, str(ROOT / "tests/support/hostile_host.py"), *mode])


MOD = dedent("""\
    probe: ":"
    want: {x: y}
    fix: ":"
    """)


class HostileRun:
    """A run on two hosts, `good` and `bad`; ``shells`` replaces their `sh`."""

    def __init__(
        self,
        root: Path,
        task: str,
        shells: Mapping[str, str],
        *,
        files: Mapping[str, str] = {"mod.yml": MOD},
        hosts: Sequence[str] = ("good", "bad"),
        **options: Any,
    ) -> None:
        folder = root / "project" / "inventories" / "dev"
        folder.mkdir(parents=True)
        (folder / "hosts.yml").write_text(yaml.safe_dump({name: {} for name in hosts}))
        (root / "project" / "tasks").mkdir()
        (root / "project" / "tasks" / "t.yml").write_text(task)
        for name, text in files.items():
            (root / "project" / "tasks" / name).write_text(text)
        self.homes = {name: root / name for name in hosts}
        loaded, stage = (
            playbook.load_tasks(root / "project", ["t"]),
            load_stage(root / "project", "dev"),
        )
        asked = PlanRequest(
            stage,
            tuple(stage.hosts.values()),
            (playbook.TaskRequest("t"),),
            loaded.by_name,
            run_view("r", "tester", 0.0),
            show_diff=True,
        )
        for home in self.homes.values():
            home.mkdir()
        connections = {
            name: LocalConnection(
                shells.get(name, "sh"), {"PATH": "/usr/bin:/bin", "HOME": str(home)}
            )
            for name, home in self.homes.items()
        }
        self.events: list[RunEvent] = []
        try:
            self.code = execute_plan(
                build_plan(asked),
                stage.hosts,
                lambda host: connections[host.name],
                self.events.append,
                options=RunOptions(**options),
                cancel=CancelToken(),
            )
        finally:
            for connection in connections.values():
                connection.close()

    @property
    def summary_rows(self) -> dict[str, HostSummary]:
        last = self.events[-1]
        assert isinstance(last, RunFinished)
        return {row.host: row for row in last.rows}

    @property
    def crash_reports(self) -> list[Crashed]:
        return [event for event in self.events if isinstance(event, Crashed)]


TASK = """
    steps:
      - {name: begin, run: touch began}
    rollback:
      - run: touch undone
"""
MODULE = """
    steps:
      - {name: begin, run: touch began, when: host.name == 'good'}
      - {mod: {}, when: host.name == 'bad'}
    rollback:
      - run: touch undone
"""


@pytest.mark.parametrize("mode", hostile_host.SCRIPTED_OUTPUT)
def test_garbage_ends_its_host_only_and_the_rollback_follows(tmp_path: Path, mode: str) -> None:
    ran = HostileRun(tmp_path, MODULE, {"bad": hostile_shell(mode)})
    assert ran.code is ExitCode.FAILED
    assert not ran.crash_reports, ran.crash_reports[0].traceback
    assert ran.summary_rows["bad"].status is Status.LOST
    assert "invalid data" in ran.summary_rows["bad"].reason
    assert "'t' is NOT rolled back" in ran.summary_rows["bad"].reason
    assert (ran.homes["good"] / "began").exists()
    assert (ran.homes["good"] / "undone").exists()


@pytest.mark.parametrize("mode", hostile_host.ODD_OUTPUT)
def test_what_could_be_meant_ends_its_host_one_way_or_the_other(tmp_path: Path, mode: str) -> None:
    ran = HostileRun(tmp_path, MODULE, {"bad": hostile_shell(mode)}, keep_going=True)
    assert not ran.crash_reports, ran.crash_reports[0].traceback
    assert ran.summary_rows["good"].status is Status.CHANGED
    assert ran.code in (ExitCode.OK, ExitCode.FAILED)


@pytest.mark.parametrize("kind", ["have x=" + "y" * 900, "+have y", "have k=v"])
def test_states_without_end_fail_their_host(tmp_path: Path, kind: str) -> None:
    ran = HostileRun(tmp_path, MODULE, {"bad": hostile_shell("reports", kind)}, keep_going=True)
    row = ran.summary_rows["bad"]
    assert row.status is Status.LOST
    assert "states are larger than 1 MiB: let the probe report a checksum" in row.reason
    assert not ran.crash_reports


@pytest.mark.parametrize("kind", ["old " + "z" * 900, "+old y", "new "])
def test_of_lines_without_end_the_diff_says_that_they_are_long(tmp_path: Path, kind: str) -> None:
    ran = HostileRun(tmp_path, MODULE, {"bad": hostile_shell("reports", kind)}, keep_going=True)
    assert ran.summary_rows["bad"].status is Status.CHANGED
    steps = [event for event in ran.events if isinstance(event, StepFinished)]
    (diff,) = {step.outcome.diff for step in steps if step.host == "bad" and step.name == "mod"}
    assert diff == "long contents differ\n"


@pytest.mark.parametrize("kind", ["old", "+old", "new", "old#", "+have", "have"])
def test_of_reports_no_more_is_kept_than_there_is_room_for(kind: str) -> None:
    report = ModuleResultParser()
    tracemalloc.start()
    try:
        with suppress(ProtocolError):
            for _ in range(60_000):
                report.add_report(kind, "z" * 1000)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max(kept, most) < 8 << 20


@pytest.mark.parametrize("mode", hostile_host.SILENT_OUTPUT)
def test_a_host_that_keeps_an_end_to_itself_runs_into_a_timeout(mode: str, tmp_path: Path) -> None:
    connection = LocalConnection(
        hostile_shell(mode), {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    )
    session = ShellSession(connection.open(), ready_timeout=30, lease=0.2)
    try:
        with pytest.raises(SessionLostError, match=r"did not (start the next|end the) step"):
            session.run([StepCommand(1, "true", timeout=0.1)], RecordingListener())
        assert not session.is_alive
    finally:
        connection.close()


@pytest.mark.long
def test_so_does_what_is_asked_of_it_beside_its_steps(tmp_path: Path) -> None:
    connection = LocalConnection(
        hostile_shell("no end"), {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    )
    session = ShellSession(connection.open(), ready_timeout=30, lease=0.2)
    try:
        with pytest.raises(SessionLostError, match="did not end the step"):
            run_remote_query(session, "true", timeout=0.1)
    finally:
        connection.close()


def test_a_bug_on_one_host_fails_that_host_and_is_told_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.executor.step_recorder import StepRecorder

    taken = StepRecorder.output

    def output(self: StepRecorder, number: int, stream: str, data: bytes) -> None:
        if b"evil" in data:
            raise RuntimeError("no such thing\ncan be")
        taken(self, number, stream, data)

    monkeypatch.setattr(StepRecorder, "output", output)
    task = """
        steps:
          - {name: begin, run: touch began}
          - {name: say, run: "[ ${PWD##*/} = good ] || { echo evil; touch -- evil; exec sleep 987654; }"}
          - {name: on, run: touch on}
        rollback:
          - run: touch undone
    """
    ran = HostileRun(tmp_path, task, {})
    assert ran.code is ExitCode.BUG
    (crash,) = ran.crash_reports
    assert (crash.host, crash.task) == ("bad", "t")
    assert (
        "a bug in orch: RuntimeError: no such thing can be (executor/test_hostile_host.py:"
        in crash.error
    )
    assert crash.traceback.startswith("Traceback")
    row = ran.summary_rows["bad"]
    assert row.status is Status.FAILED
    assert row.reason.startswith("a bug in orch: RuntimeError: no such thing can be")
    assert "in step 2 'say'" in row.reason
    assert "'t' is rolled back" in row.reason
    assert "report it" in row.hint
    for home in ran.homes.values():
        assert (home / "undone").exists()
    assert not (ran.homes["bad"] / "on").exists()


def test_a_bug_while_connecting_fails_that_host(tmp_path: Path, monkeypatch: Any) -> None:
    opened = LocalConnection.open

    def open_(self: LocalConnection, become: str = "") -> Any:
        if self._environment["HOME"].endswith("bad"):
            raise KeyError("x")
        return opened(self, become)

    monkeypatch.setattr(LocalConnection, "open", open_)
    ran = HostileRun(tmp_path, TASK, {}, keep_going=True)
    assert ran.code is ExitCode.BUG
    assert ran.summary_rows["bad"].status is Status.FAILED
    assert ran.summary_rows["good"].status is Status.CHANGED


@pytest.mark.parametrize(
    "tool", ["printf '%05000d' 9", "echo 9999999999999999999999", "printf '\\331\\241'", "echo no"]
)
def test_facts_that_are_no_numbers(tmp_path: Path, tool: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "getconf").write_text(f"#!/bin/sh\n{tool}\n")
    (tools / "getconf").chmod(0o755)
    path = f"{tools}:/usr/bin:/bin"
    connection = LocalConnection("sh", {"PATH": path, "HOME": str(tmp_path)})
    session = ShellSession(connection.open(), ready_timeout=30)
    query = FactSources().query(["cpus"])
    try:
        if "9" in tool:
            with pytest.raises(OrchError, match=r"cpus is a number of (5000|22) digits"):
                collect_facts(session, query)
        else:
            assert collect_facts(session, query)["cpus"] == 0
    finally:
        connection.close()
