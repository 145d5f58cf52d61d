"""Events and outcomes with what a test does not care about filled in."""

from __future__ import annotations

import io

from orchestrator.model.event import HostFinished, RunFinished, RunStarted, StepFinished, StepOutput
from orchestrator.model.step_result import Captured, Outcome, Row, Status
from orchestrator.output.console import Out

NOW = 1795436531.25


def outcome(
    stdout: bytes = b"", stderr: bytes = b"", status: Status = Status.OK, reason: str = ""
) -> Outcome:
    exit_status = 1 if status is Status.FAILED else 0
    return Outcome(
        status,
        exit_status,
        stdout=Captured(stdout),
        stderr=Captured(stderr),
        seconds=0.03,
        reason=reason,
    )


def started(*hosts: str) -> RunStarted:
    return RunStarted(NOW, "20261123140211-ab12", "dev", ("uname",), hosts)


def step(
    host: str, end: Outcome, number: int = 1, app: str | None = None, name: str = "uname -a"
) -> StepFinished:
    return StepFinished(NOW, app, task="uname", step=number, name=name, host=host, outcome=end)


def printed(
    host: str, data: bytes, stream: str = "stdout", app: str | None = None, number: int = 1
) -> StepOutput:
    return StepOutput(NOW, app, task="uname", step=number, host=host, stream=stream, data=data)


def host_end(host: str, end: Outcome, app: str | None = None) -> HostFinished:
    return HostFinished(NOW, app, "uname", host, end)


def finished(*rows: Row, log: str = "") -> RunFinished:
    return RunFinished(NOW + 2.3, 2.3, 0, rows, log)


def row(host: str, status: Status = Status.OK, reason: str = "", stderr: str = "") -> Row:
    return Row(host, None, status, reason, ok=1, seconds=0.03, stderr=stderr)


def screen(width: int | None = None, *, colour: bool = False) -> tuple[Out, io.StringIO]:
    stream = io.StringIO()
    return Out(stream, colour=colour, width=width), stream
