"""One host working through one task: segments out, events back."""

from __future__ import annotations

import time

from orchestrator.errors import OrchError
from orchestrator.execute.fleet import Emit, Fleet
from orchestrator.execute.progress import Progress
from orchestrator.execute.recorder import Recorder
from orchestrator.model.command import Command
from orchestrator.model.outcome import Status
from orchestrator.plan.model import HostPlan, PlannedStep
from orchestrator.session import Lost, Session
from orchestrator.templating import Waits


class HostTask:
    """Sends one task's steps in as few segments as their data allows."""

    def __init__(self, fleet: Fleet, progress: Progress, task: str, emit: Emit) -> None:
        self.fleet, self.progress = fleet, progress
        self.recorder = Recorder(progress, task, emit)
        self.session: Session | None = None
        self.segment: list[tuple[PlannedStep, Command]] = []

    def run(self, plan: HostPlan) -> None:
        """Every step until one fails, or the run is cancelled. Raises ConnectError."""
        began = time.monotonic()
        unwatch = self.fleet.cancel.watch(self._cancel)
        try:
            for step in plan.steps:
                self._take(step)
                if self._over():
                    break
            else:
                self._flush()
        finally:
            unwatch()
            self.progress.seconds += time.monotonic() - began
        if self.fleet.cancel.stopping and not self.progress.stopped:
            self.progress.worst(Status.CANCELLED, "interrupted")

    def _over(self) -> bool:
        return self.progress.stopped or self.fleet.cancel.stopping

    def _take(self, step: PlannedStep) -> None:
        made = step.command or step.skip or self._later(step)
        if self._over() or made is None:
            return
        if isinstance(made, str):
            self._flush()
            if not self._over():
                self.recorder.skipped(step, made)
            return
        self.segment.append((step, made))
        if step.stops:
            self._flush()

    def _later(self, step: PlannedStep) -> Command | str | None:
        """What a waiting step has become; the segment before it goes out if it must."""
        if step.later is None:
            raise TypeError("a step is a command, a skip, or waits")
        try:
            try:
                return step.later(self.progress.results)
            except Waits:
                self._flush()
                return None if self._over() else step.later(self.progress.results)
        except OrchError as error:
            self._flush()
            if not self._over():
                problem = error.problems[0]
                reason = f"{problem.mark}: {problem.what}" if problem.mark else problem.what
                self.recorder.broken(step, reason)
            return None

    def _flush(self) -> None:
        segment, self.segment = self.segment, []
        if not segment or self._over():
            return
        session = self.session = self.fleet.session(self.progress.host.name, self.progress.app)
        if not self.recorder.began:
            session.begin_task()
        self.recorder.segment(segment, session)
        if self.fleet.cancel.stopping:
            session.cancel()
        try:
            session.run([command for _, command in segment], self.recorder)
        except Lost as lost:
            self.recorder.lost(lost.reason)

    def _cancel(self) -> None:
        if self.session is not None:
            self.session.cancel()
