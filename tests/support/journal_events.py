"""Events with defaults for the fields that a test of the journal does not check."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.event import (
    HostFinished,
    RunFinished,
    RunStarted,
    StepFinished,
    StepOutput,
    StepStarted,
)
from orchestrator.model.step_result import CapturedOutput, HostSummary, Status, StepResult

NOW = 1795436531.25
RUN = "20261123140211-ab12"


def run_started(
    run: str = RUN,
    stage: str = "dev",
    *,
    tasks: tuple[str, ...] = ("uname",),
    hosts: tuple[str, ...] = ("a", "b"),
    apps: Mapping[str, tuple[str, ...]] | None = None,
    within: tuple[str, ...] = (),
    time: float = NOW,
) -> RunStarted:
    return RunStarted(time, run, stage, tasks, hosts, apps=apps or {}, within=within)


def step_started(
    host: str, step: int = 1, app: str | None = None, name: str = "uname -a"
) -> StepStarted:
    return StepStarted(NOW, app, task="uname", step=step, name=name, host=host)


def step_printed(
    host: str, data: bytes, stream: str = "stdout", step: int = 1, app: str | None = None
) -> StepOutput:
    return StepOutput(NOW, app, task="uname", step=step, host=host, stream=stream, data=data)


def step_finished(
    host: str, status: Status = Status.OK, step: int = 1, app: str | None = None, reason: str = ""
) -> StepFinished:
    end = StepResult(
        status, int(status is Status.FAILED), CapturedOutput(b"kept"), seconds=0.03, reason=reason
    )
    return StepFinished(NOW, app, task="uname", step=step, name="uname -a", host=host, outcome=end)


def task_finished(
    host: str,
    status: Status = Status.OK,
    app: str | None = None,
    *,
    task: str = "uname",
    last: bool = True,
) -> HostFinished:
    return HostFinished(NOW, app, task=task, host=host, outcome=StepResult(status), last=last)


def run_finished(**states: Status) -> RunFinished:
    rows = tuple(
        HostSummary(host, None, status, "why", roles=("web",)) for host, status in states.items()
    )
    return RunFinished(NOW + 2, 2.0, 1, rows, "/log")
