"""Executes a plan: runs all its apps in parallel and returns the exit code."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from orchestrator.errors import ExitCode, SourcePosition
from orchestrator.executor.app_hosts import AppHosts, LocalAppHosts
from orchestrator.executor.app_locks import HostLocks, LockOwner, lock_users
from orchestrator.executor.app_runner import AppRunner, RunOptions
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.connection_pool import ConnectFunction, ConnectionPool, EmitFunction
from orchestrator.executor.download_run import Downloads
from orchestrator.executor.kept_connections import KeptConnections
from orchestrator.executor.parallel import report_failure, run_for_each
from orchestrator.executor.progress import EarlierRun
from orchestrator.model.event import Crashed, RunEvent, RunFinished, RunStarted, Warned
from orchestrator.model.host import ConnectionOptions as Settings
from orchestrator.model.host import Host
from orchestrator.model.step_result import HostSummary, Status
from orchestrator.planner.plan import CONTROLLER, AppPlan, Plan

if TYPE_CHECKING:
    from orchestrator.executor.worker_hosts import Workers

_WOULD_CHANGE_STATUSES = frozenset({Status.WOULD_CHANGE, Status.WOULD_RUN, Status.UNKNOWN})


class RunResult(Struct, frozen=True):
    """Results of the app runs.

    ``delegate_unreachable``: a host that only appears in ``delegate_to``, and so has no summary, is
    unreachable. ``is_locked``: another run holds a lock. ``is_declined``: the user stopped the run
    at a prompt.
    """

    summaries: tuple[HostSummary, ...]
    delegate_unreachable: bool = False
    is_locked: bool = False
    is_declined: bool = False


def execute_plan(
    plan: Plan,
    hosts: Mapping[str, Host],
    connect: ConnectFunction,
    emit: EmitFunction,
    *,
    options: RunOptions,
    cancel: CancelToken,
    kept: KeptConnections | None = None,
    workers: Workers | None = None,
) -> ExitCode:
    """Run the plan and return the exit code; RunFinished has a summary of every host.

    Connections are taken from ``kept`` and handed back to it; without it, they are closed. With
    ``workers``, these connect to the hosts instead of this process.
    """
    began = time.monotonic()
    emit(_run_started_event(plan, options))
    for warning in plan.warnings:
        emit(Warned(time.time(), warning))
    crashes: list[str] = []

    def emit_and_note(event: RunEvent) -> None:
        if isinstance(event, Crashed):
            crashes.append(event.host)
        emit(event)

    all_hosts = {**hosts, CONTROLLER: controller_host()}
    driver: RunDriver
    if workers is not None:
        from orchestrator.executor.worker_hosts import WorkerDriver  # few runs have workers

        local_connections = ConnectionPool(all_hosts, connect, emit_and_note, cancel)
        driver = WorkerDriver(plan, workers, local_connections, emit_and_note)
    else:
        connections = ConnectionPool(
            all_hosts,
            connect,
            emit_and_note,
            cancel,
            run_id="/".join((*options.outer_runs, plan.run_id)),
            kept=kept,
            keeps_notes=options.is_resumable,
        )
        driver = LocalDriver(plan, connections, emit_and_note, options)
    run_result = run_app_plans(plan, driver, emit_and_note, options)
    code = _exit_code_of_run(
        run_result, options, interrupted=cancel.is_cancelled, has_bug=bool(crashes)
    )
    emit(RunFinished(time.time(), time.monotonic() - began, code, run_result.summaries))
    return code


def _exit_code_of_run(
    run_result: RunResult, options: RunOptions, *, interrupted: bool, has_bug: bool
) -> ExitCode:
    code = exit_code(
        run_result.summaries,
        interrupted=interrupted,
        delegate_unreachable=run_result.delegate_unreachable,
        has_bug=has_bug,
    )
    if code is ExitCode.OK and run_result.is_locked:
        code = ExitCode.LOCKED
    if code is ExitCode.OK and run_result.is_declined:
        code = ExitCode.USAGE
    if (
        code is ExitCode.OK
        and options.exit_on_change
        and {summary.status for summary in run_result.summaries} & _WOULD_CHANGE_STATUSES
    ):
        code = ExitCode.WOULD_CHANGE
    return code


def controller_host() -> Host:
    """Return this machine as a host, for local steps."""
    settings = Settings(CONTROLLER, transport="local")
    return Host(CONTROLLER, settings, (), (), SourcePosition(CONTROLLER))


def _run_started_event(plan: Plan, options: RunOptions) -> RunStarted:
    apps = {
        app_plan.app: _hosts_of_app(app_plan, plan)
        for app_plan in plan.app_plans
        if app_plan.app is not None
    }
    return RunStarted(
        time.time(),
        plan.run_id,
        stage=plan.stage,
        tasks=plan.tasks,
        hosts=plan.hosts,
        check=plan.check_mode,
        apps=apps,
        within=options.outer_runs,
        resumed=options.progress is not None,
        redone_from=options.progress.redone_from if options.progress else {},
    )


def _hosts_of_app(app_plan: AppPlan, plan: Plan) -> tuple[str, ...]:
    taking_part = {
        host.host for planned_task in app_plan.planned_tasks for host in planned_task.hosts
    }
    return tuple(name for name in plan.hosts if name in taking_part)


class RunDriver(Protocol):
    """Gives each app run its hosts, and releases all of them at the end."""

    def app_hosts(self, app_plan: AppPlan) -> AppHosts:
        """Return the hosts of an app run."""

    def release_all(self, pool: ThreadPoolExecutor) -> None:
        """Close what is open to the hosts."""


class LocalDriver:
    """Runs everything in this process."""

    def __init__(
        self,
        plan: Plan,
        connections: ConnectionPool,
        emit: EmitFunction,
        options: RunOptions,
        downloads: Downloads | None = None,
    ) -> None:
        """Store what all app runs share; nothing is contacted."""
        self._downloads = downloads
        self._plan, self._connections = plan, connections
        self._emit, self._options = emit, options

    def app_hosts(self, app_plan: AppPlan) -> LocalAppHosts:
        """Return the hosts of an app run."""
        app, options = app_plan.app, self._options
        locks = HostLocks(
            self._connections.for_rollback(),
            app,
            paths=app_plan.lock_paths,
            users=lock_users(app_plan),
            owner=LockOwner(self._plan.run_id, app or "", options.outer_runs, options.lock_owner),
            emit=self._emit,
        )
        progress = options.progress or EarlierRun()
        return LocalAppHosts(
            app_plan, self._connections, locks, self._emit, progress, downloads=self._downloads
        )

    def release_all(self, pool: ThreadPoolExecutor) -> None:
        """Close the connections of all hosts, or hand them back."""
        run_for_each(pool, self._release, self._connections.connected_hosts())

    def _release(self, name: str) -> None:
        try:
            self._connections.release(name)
        except Exception as error:
            report_failure(error, None, "disconnect", name, self._emit)


def run_app_plans(
    plan: Plan, driver: RunDriver, emit: EmitFunction, options: RunOptions
) -> RunResult:
    """Run the app plans in parallel and release all hosts at the end."""
    app_plans = plan.app_plans
    host_count = sum(
        len({h.host for planned_task in app_plan.planned_tasks for h in planned_task.hosts})
        for app_plan in app_plans
    )
    with ThreadPoolExecutor(max(1, min(options.forks, host_count))) as pool:
        app_runners = [
            AppRunner(
                app_plan, plan, driver.app_hosts(app_plan), emit=emit, pool=pool, options=options
            )
            for app_plan in app_plans
        ]
        try:
            if len(app_runners) == 1:
                app_runners[0].run()
            else:
                with ThreadPoolExecutor(len(app_runners)) as side_by_side:
                    run_for_each(side_by_side, AppRunner.run, app_runners)
        finally:
            driver.release_all(pool)
    return RunResult(
        tuple(
            state.summarize()
            for app_runner in app_runners
            for state in app_runner.host_states.values()
        ),
        any(runner.preflight_check.delegate_unreachable for runner in app_runners),
        any(runner.is_locked for runner in app_runners),
        any(runner.is_declined for runner in app_runners),
    )


def exit_code(
    summaries: Iterable[HostSummary],
    *,
    interrupted: bool,
    delegate_unreachable: bool = False,
    has_bug: bool = False,
) -> ExitCode:
    """Return the exit code for the worst status of any host.

    ``delegate_unreachable``: a host that only appears in ``delegate_to``, and so has no summary, is
    unreachable. ``has_bug``: an unexpected exception occurred on any host.
    """
    statuses = {summary.status for summary in summaries}
    if interrupted:
        return ExitCode.INTERRUPTED
    if has_bug:
        return ExitCode.BUG
    if statuses & {Status.FAILED, Status.TIMED_OUT, Status.KILLED, Status.LOST, Status.CANCELLED}:
        return ExitCode.FAILED
    return (
        ExitCode.UNREACHABLE
        if delegate_unreachable or Status.UNREACHABLE in statuses
        else ExitCode.OK
    )
