"""The hosts of one app run: connect to them, run their part of a task, take their locks, and so on.

The app runner decides what runs when; this decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Set
from typing import Protocol

from msgspec import Struct

from orchestrator.errors import ConnectError
from orchestrator.executor.app_locks import HostLocks, LockAccess, LockRefusal
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.connection_pool import ConnectionPool, EmitFunction
from orchestrator.executor.download_run import Downloads
from orchestrator.executor.host_limits import HostLimits
from orchestrator.executor.host_runner import HostTaskRunner
from orchestrator.executor.host_state import HostState
from orchestrator.executor.parallel import mark_connection_failure, report_failure, run_guarded
from orchestrator.executor.progress import EarlierRun
from orchestrator.model.event import CONNECT_INTERRUPTED, HostFinished
from orchestrator.model.host import Host
from orchestrator.model.step_result import Status, StepResult
from orchestrator.planner.plan import AppPlan, HostPlan, StepProgram
from orchestrator.remote_shell import SessionLostError


class TaskEnd(Struct):
    """How a task ended on one host, beside what the host's state says.

    ``has_begun``: its steps could begin, so there is something to roll back. ``pending_handlers``
    were notified but did not finish.
    """

    has_begun: bool = False
    pending_handlers: tuple[str, ...] = ()


class SideProgram(Struct, frozen=True):
    """A program of the plan outside its order: a rollback, or a task of a ``failed`` hook.

    ``rollback_of`` is the number of the task that is rolled back, from 1. If it is 0, it is the
    task ``index`` of the hooks of ``hook``. ``title`` names it in events.
    """

    title: str
    rollback_of: int = 0
    hook: str = ""
    index: int = 0

    def program_of(self, app_plan: AppPlan, host: str) -> StepProgram:
        """Return the program of a host."""
        host_plan = self.host_plans(app_plan)[host]
        return host_plan.rollback if self.rollback_of else host_plan.program

    def host_plans(self, app_plan: AppPlan) -> dict[str, HostPlan]:
        """Return the plans of all hosts of the task."""
        if self.rollback_of:
            task = app_plan.planned_tasks[self.rollback_of - 1]
        else:
            task = dict(app_plan.failed_hooks)[self.hook][self.index]
        return {each.host: each for each in task.hosts}


class DelegateFailure(Struct, frozen=True):
    """Why a host that steps are delegated to cannot be used."""

    reason: str
    is_unreachable: bool = False


class AppHosts(LockAccess, Protocol):
    """What the app runner needs of its hosts; a failure is recorded in the host's state."""

    hosts: Mapping[str, Host]
    cancel: CancelToken

    def connect(self, host_state: HostState) -> None:
        """Connect to a host."""

    def connect_delegate(self, name: str) -> DelegateFailure | None:
        """Connect to a host that only appears in ``delegate_to``."""

    def run_task(
        self, number: int, host_plan: HostPlan, host_state: HostState, limits: HostLimits
    ) -> TaskEnd:
        """Run the planned task with this index on one host."""

    def run_side_program(
        self, side_program: SideProgram, host_state: HostState, limits: HostLimits
    ) -> None:
        """Run a program outside the plan's order on one host, even if the run is interrupted."""

    def release(self, name: str) -> None:
        """Close what is open to a host, which takes no further part."""


class LocalAppHosts:
    """The hosts of one app run, over the connections of this process."""

    def __init__(
        self,
        app_plan: AppPlan,
        connections: ConnectionPool,
        locks: HostLocks,
        emit: EmitFunction,
        progress: EarlierRun,
        downloads: Downloads | None = None,
    ) -> None:
        """Store the plan; ``progress`` is what the run has done before it was resumed.

        ``downloads`` writes what is downloaded, this process unless given.
        """
        self._downloads = downloads
        self.hosts, self.cancel = connections.hosts, connections.cancel
        self._app_plan, self._connections, self._emit = app_plan, connections, emit
        self._locks, self._progress = locks, progress

    def take_lock(self, name: str) -> LockRefusal | None:
        """Take the host's lock, or return why that is not possible."""
        return self._locks.take(name)

    def release_lock(self, name: str) -> str:
        """Release the host's lock if it is held; return why that failed, or ''."""
        return self._locks.release(name)

    def free_lock(self, name: str) -> str:
        """Free the host's lock, which another process of this run took; return why not, or ''."""
        return self._locks.free(name)

    def connect(self, host_state: HostState) -> None:
        """Connect to a host, or record in its state why that failed."""
        if self.cancel.is_cancelled:
            return
        name = host_state.host.name
        run_guarded(
            lambda: self._connections.connect(name),
            host_state,
            "connect",
            self._emit,
            lambda error: self._note_failure(host_state, error),
        )

    def _note_failure(self, host_state: HostState, error: ConnectError | SessionLostError) -> None:
        """Record a connect error in the host's state; as cancelled if the run was interrupted."""
        if self.cancel.is_cancelled:
            host_state.raise_status(Status.CANCELLED, CONNECT_INTERRUPTED)
        else:
            mark_connection_failure(host_state, error)

    def connect_delegate(self, name: str) -> DelegateFailure | None:
        """Connect to a host that only appears in ``delegate_to``; return why that failed."""
        try:
            self._connections.connect(name)
        except ConnectError as error:
            reason = f"{name}, which steps are delegated to, is unreachable"
            return DelegateFailure(f"{reason}: {error.diagnostics[0].message}", is_unreachable=True)
        except Exception as error:
            reason = f"{name}, which steps are delegated to, cannot be connected"
            bug = report_failure(error, self._app_plan.app, "connect", name, self._emit)
            return DelegateFailure(f"{reason}: {bug}")
        return None

    def run_task(
        self, number: int, host_plan: HostPlan, host_state: HostState, limits: HostLimits
    ) -> TaskEnd:
        """Run the planned task with this index on one host."""
        planned_task, end = self._app_plan.planned_tasks[number], TaskEnd()
        name, app = host_plan.host, self._app_plan.app
        progress = self._progress.of_host(app, number + 1, name)

        def run_steps() -> None:
            runner = HostTaskRunner(
                self._connections,
                host_state,
                planned_task.task,
                self._emit,
                number=number + 1,
                progress=progress,
                limits=limits,
                downloads=self._downloads,
            )
            if progress is None or not progress.is_complete:
                self._connections.connect(name)
                self._locks.renew(name)
            end.has_begun = True
            if not runner.run(host_plan.program):
                state = runner.state
                end.pending_handlers = pending_handlers(
                    host_plan, state.finished_steps, state.changed_steps, state.failed_steps
                )

        run_guarded(
            run_steps,
            host_state,
            planned_task.task,
            self._emit,
            lambda error: self._note_failure(host_state, error),
        )
        return end

    def run_side_program(
        self, side_program: SideProgram, host_state: HostState, limits: HostLimits
    ) -> None:
        """Run a program outside the plan's order on one host, even if the run is interrupted."""
        name, number = host_state.host.name, side_program.rollback_of
        connections = self._connections.for_rollback()
        task = HostTaskRunner(
            connections,
            host_state,
            side_program.title,
            self._emit,
            number=number,
            limits=limits,
            downloads=self._downloads,
        )
        run_guarded(
            lambda: task.run(side_program.program_of(self._app_plan, name)),
            host_state,
            side_program.title,
            self._emit,
            lambda error: mark_connection_failure(host_state, error),
        )
        outcome = StepResult(
            host_state.status or Status.OK, reason=host_state.reason, seconds=host_state.seconds
        )
        app = self._app_plan.app
        self._emit(HostFinished(time.time(), app, side_program.title, name, outcome, number=number))

    def release(self, name: str) -> None:
        """Close the host's connection, or hand it back."""
        self._connections.release(name)


def pending_handlers(
    host_plan: HostPlan, finished: Set[int], changed: Set[int], failed: Set[int]
) -> tuple[str, ...]:
    """Return the names of notified but unfinished handlers, in the order of definition.

    The arguments are the numbers of the steps that have ended so.
    """
    steps_of: dict[tuple[str, tuple[int, ...]], set[int]] = {}
    for step in host_plan.steps:
        if step.handler:
            steps_of.setdefault((step.handler, step.notified_by), set()).add(step.number)
    pending = []
    for (name, notified_by), numbers in steps_of.items():
        is_done = numbers & finished and not numbers & failed
        if not is_done and not changed.isdisjoint(notified_by):
            pending.append(name)
    return tuple(pending)
