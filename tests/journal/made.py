"""Events with what a test of the journal does not care about filled in."""

from __future__ import annotations

from orchestrator.model.event import RunFinished, RunStarted, StepFinished, StepOutput, StepStarted
from orchestrator.model.outcome import Captured, Outcome, Row, Status

NOW = 1795436531.25
RUN = "20261123140211-ab12"


def started(run: str = RUN, stage: str = "dev") -> RunStarted:
    return RunStarted(NOW, run, stage, ("uname",), ("a", "b"))


def begun(host: str, step: int = 1, app: str | None = None, name: str = "uname -a") -> StepStarted:
    return StepStarted(NOW, app, "uname", step, name, host)


def printed(
    host: str, data: bytes, stream: str = "stdout", step: int = 1, app: str | None = None
) -> StepOutput:
    return StepOutput(NOW, app, "uname", step, host, stream, data)


def ended(
    host: str, status: Status = Status.OK, step: int = 1, app: str | None = None, reason: str = ""
) -> StepFinished:
    end = Outcome(
        status, int(status is Status.FAILED), Captured(b"kept"), seconds=0.03, reason=reason
    )
    return StepFinished(NOW, app, "uname", step, "uname -a", host, end)


def finished(**states: Status) -> RunFinished:
    rows = tuple(Row(host, None, status, "why", roles=("web",)) for host, status in states.items())
    return RunFinished(NOW + 2, 2.0, 1, rows, "/log")
