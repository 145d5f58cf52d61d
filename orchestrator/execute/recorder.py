"""What a session says of its steps, made into outcomes, results and events."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import OrchError
from orchestrator.execute.capture import Capture
from orchestrator.execute.fleet import Emit
from orchestrator.execute.progress import Progress
from orchestrator.model.command import Command
from orchestrator.model.event import StepFinished, StepOutput, StepStarted
from orchestrator.model.outcome import Outcome, Status
from orchestrator.model.result import Result, result_of
from orchestrator.plan.model import PlannedStep
from orchestrator.session import Ending, How, Session

_SIGNALLED = range(129, 193)
"""Exit statuses by which a shell reports that a signal ended a command: 128 plus its number
(dash and bash manuals; POSIX.1-2017, XCU 2.8.2 asks for more than 128)."""


class Recorder:
    """Is the session's listener for one task on one host."""

    def __init__(self, progress: Progress, task: str, emit: Emit) -> None:
        self.progress, self.task, self._emit = progress, task, emit
        self.began = False
        self._session: Session | None = None
        self._steps: dict[int, tuple[PlannedStep, Command]] = {}
        self._results: dict[int, Result] = {}
        self._running: PlannedStep | None = None
        self._since = 0.0
        self._captures = {"stdout": Capture(), "stderr": Capture()}

    def segment(self, steps: Sequence[tuple[PlannedStep, Command]], session: Session) -> None:
        """These steps are about to be sent over this session."""
        self.began, self._session = True, session
        self._steps = {step.number: (step, command) for step, command in steps}

    def started(self, number: int) -> None:
        """The host began a step."""
        self._start(self._steps[number][0])

    def output(self, number: int, stream: str, data: bytes) -> None:
        """A step (0: none) wrote something."""
        if number and self._running is not None:
            self._captures[stream].add(data)
        task = self.task if number else ""
        host, app = self.progress.host.name, self.progress.app
        self._emit(StepOutput(time.time(), app, task, number, host, stream, data))

    def ended(self, number: int, ending: Ending) -> None:
        """A step is over, by itself or not."""
        step, command = self._steps[number]
        outcome = self._outcome(step, command, ending)
        self._finish(step, outcome)

    def lost(self, reason: str) -> None:
        """The session is gone: the running step's end is not known."""
        if self._running is None:
            self.progress.worst(Status.LOST, f"{reason}, between two steps")
            return
        step = self._running
        self._finish(step, self._captured(Status.LOST, None, reason))

    def skipped(self, step: PlannedStep, reason: str) -> None:
        """A step that is not sent at all."""
        self._start(step)
        self._finish(step, Outcome(Status.SKIPPED, reason=reason))

    def broken(self, step: PlannedStep, reason: str) -> None:
        """A step whose text could not be made out of the results."""
        self._start(step)
        self._finish(step, Outcome(Status.FAILED, reason=reason))

    def _start(self, step: PlannedStep) -> None:
        self._running, self._since = step, time.monotonic()
        self._captures = {"stdout": Capture(), "stderr": Capture()}
        host, app = self.progress.host.name, self.progress.app
        self._emit(StepStarted(time.time(), app, self.task, step.number, step.name, host))

    def _finish(self, step: PlannedStep, outcome: Outcome) -> None:
        if self._running is not step:  # skipped on the host, without a start
            self._start(step)
        self._running = None
        failed = outcome.status.bad
        self._results[step.number] = result = result_of(outcome, failed=failed)
        if step.register:
            self.progress.results[step.register] = result
        for name, numbers in step.gathers:
            self.progress.results[name] = gathered(numbers, self._results)
        self.progress.count(step, outcome)
        host, app = self.progress.host.name, self.progress.app
        self._emit(StepFinished(time.time(), app, self.task, step.number, step.name, host, outcome))

    def _captured(self, status: Status, exit_status: int | None, reason: str = "") -> Outcome:
        return Outcome(
            status,
            exit_status,
            self._captures["stdout"].done(),
            self._captures["stderr"].done(),
            time.monotonic() - self._since,
            reason,
        )

    def _outcome(self, step: PlannedStep, command: Command, ending: Ending) -> Outcome:
        if ending.how is How.SKIPPED:
            return Outcome(Status.SKIPPED, reason=ending.reason)
        if ending.how is How.ENDED:
            return self._captured(Status.CANCELLED, None, "interrupted")
        if ending.how is How.TIMED_OUT:
            reason = f"ended after its timeout of {command.timeout:g} s"
            outcome = self._captured(Status.TIMED_OUT, None, reason)
            return replace(outcome, ignored=command.ignore)
        status, reason = _status(ending)
        outcome = self._captured(status, ending.exit_status, reason)
        if step.judge is not None:
            outcome = self._judged(step, outcome, ending)
        return replace(outcome, ignored=command.ignore and outcome.status.bad)

    def _judged(self, step: PlannedStep, outcome: Outcome, ending: Ending) -> Outcome:
        if step.judge is None or self._session is None:
            return outcome
        try:
            verdict = step.judge(self.progress.results, result_of(outcome, failed=ending.failed))
        except OrchError as error:
            return replace(outcome, status=Status.FAILED, reason=error.problems[0].what)
        failed = ending.failed if verdict.failed is None else verdict.failed
        changed = ending.changed if verdict.changed is None else verdict.changed
        self._session.tell(step.number, changed=changed and not failed, failed=failed)
        if failed:
            reason = outcome.reason or "failed_when holds"
            return replace(outcome, status=Status.FAILED, reason=reason)
        return replace(outcome, status=Status.CHANGED if changed else Status.OK, reason="")


def gathered(numbers: Sequence[int], results: dict[int, Result]) -> Result:
    """The result of several steps as one: the last one's output, and whether any changed."""
    ran = [results[n] for n in numbers if n in results and not results[n].skipped]
    if not ran:
        return Result(str(Status.SKIPPED), skipped=True)
    failed, changed = any(r.failed for r in ran), any(r.changed for r in ran)
    status = Status.FAILED if failed else Status.CHANGED if changed else Status.OK
    return replace(ran[-1], status=str(status), changed=changed, failed=failed)


def _status(ending: Ending) -> tuple[Status, str]:
    if not ending.failed:
        return (Status.CHANGED if ending.changed else Status.OK), ""
    if ending.exit_status is not None and ending.exit_status in _SIGNALLED:
        return Status.KILLED, f"killed by {_signal_name(ending.exit_status - 128)}"
    return Status.FAILED, ending.reason or f"exit status {ending.exit_status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
