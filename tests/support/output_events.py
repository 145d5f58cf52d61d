"""Events and results with defaults for the fields that a test does not check."""

from __future__ import annotations

import io

from orchestrator.model.event import HostFinished, RunFinished, RunStarted, StepFinished, StepOutput
from orchestrator.model.step_result import CapturedOutput, HostSummary, Status, StepResult
from orchestrator.output.console import TextConsole

NOW = 1795436531.25


def make_outcome(
    stdout: bytes = b"", stderr: bytes = b"", status: Status = Status.OK, reason: str = ""
) -> StepResult:
    exit_status = 1 if status is Status.FAILED else 0
    return StepResult(
        status,
        exit_status,
        stdout=CapturedOutput(stdout),
        stderr=CapturedOutput(stderr),
        seconds=0.03,
        reason=reason,
    )


def run_started(*hosts: str) -> RunStarted:
    return RunStarted(NOW, "20261123140211-ab12", "dev", ("uname",), hosts)


def step_finished(
    host: str, end: StepResult, number: int = 1, app: str | None = None, name: str = "uname -a"
) -> StepFinished:
    return StepFinished(NOW, app, task="uname", step=number, name=name, host=host, outcome=end)


def step_printed(
    host: str, data: bytes, stream: str = "stdout", app: str | None = None, number: int = 1
) -> StepOutput:
    return StepOutput(NOW, app, task="uname", step=number, host=host, stream=stream, data=data)


def task_finished(host: str, end: StepResult, app: str | None = None) -> HostFinished:
    return HostFinished(NOW, app, "uname", host, end)


def run_finished(*rows: HostSummary, log: str = "") -> RunFinished:
    return RunFinished(NOW + 2.3, 2.3, 0, rows, log)


def make_row(
    host: str, status: Status = Status.OK, reason: str = "", stderr: str = ""
) -> HostSummary:
    return HostSummary(host, None, status, reason, ok=1, seconds=0.03, stderr=stderr)


def make_screen(
    width: int | None = None, *, colour: bool = False
) -> tuple[TextConsole, io.StringIO]:
    stream = io.StringIO()
    return TextConsole(stream, colour=colour, width=width), stream
