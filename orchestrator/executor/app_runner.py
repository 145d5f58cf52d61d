"""Runs the planned tasks of one app: barriers, failure limits, rollback, handlers and preflight."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.executor.app_hosts import AppHosts, SideProgram
from orchestrator.executor.app_locks import AppLocks
from orchestrator.executor.batch_failures import BatchFailures
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.connection_pool import EmitFunction
from orchestrator.executor.host_limits import HostLimits
from orchestrator.executor.host_state import HostState, results_of_all_hosts
from orchestrator.executor.parallel import run_for_each
from orchestrator.executor.progress import EarlierRun
from orchestrator.model.event import (
    BatchPaused,
    HostFinished,
    TaskFinished,
    TaskSkipped,
    TaskStarted,
    Warned,
)
from orchestrator.model.step_result import Status, StepResult
from orchestrator.planner.plan import AppPlan, HostPlan, Plan, PlannedTask


class RunOptions(Struct, frozen=True):
    """Options of a run that the plan does not contain.

    ``forks``: number of hosts processed in parallel. ``keep_going``: a failed host does not stop
    the others at the barrier. ``skip_unreachable``: leave unreachable hosts out of a run that makes
    changes, instead of stopping the run before it starts. ``ask_about_task`` is called before each
    planned task and returns ``run``, ``skip`` or ``stop``; it returns early if the run is
    interrupted. ``confirm_batch`` is called before a batch that the playbook wants confirmed;
    without it, all are. ``confirm_prompt`` asks at a pause for a person and returns False to stop;
    without it, there is no question. ``exit_on_change``: check mode exits with ``WOULD_CHANGE`` if
    a step would change something. ``rerun_args``: command-line words that select the same options
    when a part of the run is repeated. ``lock_wait``: seconds to wait for a lock that another run
    holds. ``lock_owner``: details of this run that are shown to others who need its locks (owner,
    since, message). ``outer_runs``: the runs that started this one, outermost first.
    ``is_resumable``: it can be resumed later. ``progress``: what it has done before it was resumed,
    or None.
    """

    forks: int = 100
    keep_going: bool = False
    skip_unreachable: bool = False
    ask_about_task: Callable[[PlannedTask, CancelToken], str] | None = None
    confirm_batch: Callable[[PlannedTask, CancelToken], bool] | None = None
    confirm_prompt: Callable[[PlannedTask, CancelToken], bool] | None = None
    exit_on_change: bool = False
    rerun_args: tuple[str, ...] = ()
    lock_wait: float = 0.0
    lock_owner: Mapping[str, str] = field(default_factory=dict)
    outer_runs: tuple[str, ...] = ()
    is_resumable: bool = False
    progress: EarlierRun | None = None


class AppRunner:
    """Runs the planned tasks of one app; ``host_states`` has the state of each host."""

    def __init__(
        self,
        app_plan: AppPlan,
        plan: Plan,
        access: AppHosts,
        *,
        emit: EmitFunction,
        pool: ThreadPoolExecutor,
        options: RunOptions,
    ) -> None:
        """Prepare the host states, the preflight check and the locks; nothing is contacted."""
        self.app_plan, self.plan, self.options = app_plan, plan, options
        self.progress = options.progress or EarlierRun()
        self.access, self.emit, self.pool = access, emit, pool
        taking_part = {
            h.host for planned_task in app_plan.planned_tasks for h in planned_task.hosts
        }
        self.host_states = {
            name: HostState(access.hosts[name], app_plan.app)
            for name in plan.hosts
            if name in taking_part
        }
        self.rollback_stack = RollbackStack()
        self.failed_hosts: set[str] = set()
        self.failed_by_item: dict[int, set[str]] = {}
        self.batch_failures = BatchFailures(app_plan.planned_tasks)
        self.preflight_check = PreflightCheck(app_plan, access, pool)
        self.is_locked = self.is_declined = False
        self.app_locks = AppLocks(
            access,
            tuple(app_plan.lock_paths),
            pool,
            wait_seconds=options.lock_wait,
            notify=lambda text: emit(Warned(time.time(), text)),
        )
        numbered_tasks = list(enumerate(app_plan.planned_tasks))
        self.last_task_of_host = (
            {}
            if self._stays_connected()
            else {h.host: n for n, planned_task in numbered_tasks for h in planned_task.hosts}
        )
        self.last_planned_task = {
            h.host: n
            for n, planned_task in numbered_tasks
            if not planned_task.any_host
            for h in planned_task.hosts
        }

    def _stays_connected(self) -> bool:
        """Return True if a host may be needed again after its last task."""
        return (
            self.app_plan.app is not None
            or bool(self.app_plan.failed_hooks)
            or bool(self.preflight_check.delegate_hosts)
            or any(h.rollback.steps for task in self.app_plan.planned_tasks for h in task.hosts)
        )

    def run(self) -> None:
        """Run every planned task in order until the app run ends, fails or is interrupted."""
        skip = self.options.skip_unreachable
        needed = self._hosts_to_connect()
        if not needed:
            self._run_tasks()  # all has been done before the run was resumed
            return
        if self.plan.changes and (
            reason := self.preflight_check.connect_all(needed, skip_unreachable=skip)
        ):
            self._mark_not_started(0, Status.NOT_STARTED, reason)
            return
        try:
            if self._take_locks():
                self._run_tasks()
        finally:
            for name, reason in self.app_locks.release_all().items():
                self.host_states[name].raise_status(
                    Status.LOST, f"its lock could not be released: {reason}"
                )

    def _hosts_to_connect(self) -> dict[str, HostState]:
        """Return the states of the hosts that the run needs; with locks, if any, then all."""
        with_work = self.progress.hosts_with_work(self.app_plan)
        if self.app_plan.lock_paths and (with_work or self.progress.may_hold_locks):
            return self.host_states
        return {name: state for name, state in self.host_states.items() if name in with_work}

    def _take_locks(self) -> bool:
        """Take the app's locks if the plan has any; return True if the app run can start."""
        if not self.app_plan.lock_paths:
            return True
        active_hosts = [
            name for name, host_state in self.host_states.items() if not host_state.is_stopped
        ]
        refusal = self.app_locks.take(active_hosts, self.access.cancel)
        if refusal is not None:
            self.is_locked = refusal.is_held
            if (failure := refusal.failure) is not None:
                host_state = self.host_states[refusal.host]
                host_state.raise_status(failure.status, failure.reason, failure.hint)
            elif not refusal.is_held:
                self.host_states[refusal.host].raise_status(Status.FAILED, refusal.reason)
            self._mark_not_started(0, Status.NOT_STARTED, refusal.reason)
        return refusal is None

    def _run_tasks(self) -> None:
        cancel = self.access.cancel
        for number, planned_task in enumerate(self.app_plan.planned_tasks):
            if cancel.is_cancelled:
                self._end_run(number, None, "interrupted")
                return
            if self.batch_failures.has_failed(planned_task):
                continue
            if planned_task.is_commit:
                self.rollback_stack.commit(planned_task, self.app_plan.planned_tasks[:number])
                continue
            if planned_task.prompt:
                if not self._pass_prompt(number, planned_task):
                    self._stop_here(number)
                    return
                continue
            answer = self._what_to_do(number, planned_task)
            if cancel.is_cancelled:
                self._end_run(number, None, "interrupted")
                return
            if answer == "stop":
                self._stop_here(number)
                return
            if answer == "skip":
                continue
            self._run_task(number, planned_task)
            reason = "" if cancel.is_cancelled else self._failure_reason(planned_task)
            if reason and not self._end_batch(number, planned_task, reason):
                self._end_run(number + 1, planned_task, reason)
                return
            # also during the rollback of hosts whose failure is tolerated
            if cancel.is_cancelled:
                self._end_run(number + 1, None, "interrupted")
                return

    def _stop_here(self, number: int) -> None:
        """End the app run before this task because a person wants so."""
        if self.access.cancel.is_cancelled:
            self._end_run(number, None, "interrupted")
            return
        self.is_declined = True
        self._keep_awaited_handlers()
        self._mark_not_started(number, Status.NOT_STARTED, "stopped by you")

    def _pass_prompt(self, number: int, planned_task: PlannedTask) -> bool:
        """Ask a person, unless that was done before the run was resumed; False to stop."""
        app, ask = self.app_plan.app, self.options.confirm_prompt
        is_answered = self.progress.has_started_after(app, number + 1)
        if self.plan.check_mode or ask is None or is_answered:
            return True
        return ask(planned_task, self.access.cancel)

    def _what_to_do(self, number: int, planned_task: PlannedTask) -> str:
        """Pause and ask before a task, where that is wanted; return ``run``, ``skip`` or ``stop``.

        What was answered before the run was resumed is not asked again.
        """
        app = self.app_plan.app
        known = self.progress.of_task(app, number + 1)
        if known is not None and known.is_skipped:
            return "skip"
        if known is None and not self._pass_gate(planned_task):
            return "stop"
        ask = self.options.ask_about_task
        if ask is None or self.progress.is_complete(app, number + 1, planned_task):
            return "run"
        answer = ask(planned_task, self.access.cancel)
        if answer == "skip":
            self.emit(TaskSkipped(time.time(), app, planned_task.task, number + 1))
        return answer

    def _pass_gate(self, planned_task: PlannedTask) -> bool:
        """Pause and ask before a batch; return False if it must not start."""
        gate, cancel = planned_task.gate, self.access.cancel
        if gate is None or self.plan.check_mode:
            return True
        if gate.pause:
            task, batch = planned_task.task, planned_task.batch
            self.emit(BatchPaused(time.time(), self.app_plan.app, task, batch, gate.pause))
            cancel.sleep(gate.pause)
        if cancel.is_cancelled:
            return False
        ask = self.options.confirm_batch if gate.confirm else None
        return (ask is None or ask(planned_task, cancel)) and not cancel.is_cancelled

    def _failure_reason(self, planned_task: PlannedTask) -> str:
        """Return why the app run has failed in this task, or ''.

        Hosts whose failure is tolerated are rolled back, each on its own.
        """
        host_states = [self.host_states[host.host] for host in planned_task.hosts]
        states = {
            p.host.name: str(p.status)
            for p in host_states
            if self._counts_as_failure(p, planned_task)
        }
        counted = states.keys() - self.failed_hosts
        self.failed_hosts |= counted
        allowed = 0
        if planned_task.max_failures is not None:
            failed_in_item = self.failed_by_item.setdefault(planned_task.max_failures.item, set())
            failed_in_item |= counted
            allowed = planned_task.max_failures.limit - len(failed_in_item) + len(counted)
        if not counted:
            needed = planned_task.once and len(states) == len(planned_task.hosts)
            if needed and not self.options.keep_going:  # every host that could run it had stopped
                first = next(iter(states))
                return f"{first}, which was to run '{planned_task.task}' once, {states[first]}"
            return ""
        if len(counted) > allowed and not self.options.keep_going:
            stopped = str(Status.STOPPED)
            first = min((n for n in states if n in counted), key=lambda n: states[n] == stopped)
            return f"{first} {states[first].replace('_', ' ')}"
        self._roll_back(counted, "")
        return ""

    def _counts_as_failure(self, host_state: HostState, planned_task: PlannedTask) -> bool:
        """Return True if the host's status counts as a failure of the planned task."""
        if host_state.status is Status.UNREACHABLE:
            return planned_task.max_failures is not None or (
                planned_task.once and not planned_task.any_host
            )
        return host_state.is_stopped

    def _end_batch(self, number: int, planned_task: PlannedTask, reason: str) -> bool:
        """End only the batch in which a task failed; return False if the app run has to end.

        What the batch started is rolled back, but not the ``once`` tasks in it, which ran for the
        next batches too. Its hosts take no further part.
        """
        states = self.host_states
        stopped = [host.host for host in planned_task.hosts if states[host.host].is_stopped]
        scope = self.batch_failures.add(number, stopped)
        if scope is None:
            return False
        self.failed_hosts |= set(scope.hosts)
        text = f"batch {planned_task.batch} failed: {reason}; the others go on"
        self.emit(
            Warned(time.time(), f"{self.app_plan.app}: {text}" if self.app_plan.app else text)
        )
        self._mark_not_started(number + 1, Status.NOT_STARTED, reason, scope.hosts)
        self._roll_back_started(
            lambda task: (
                set()
                if task.once
                else {host.host for host in task.hosts}
                if task.batch_scope == scope
                else set(scope.hosts)
            ),
            reason,
        )
        return True

    def _end_run(self, number: int, planned_task: PlannedTask | None, reason: str) -> None:
        """End the app run: roll back, then run the ``failed`` hooks unless it was interrupted.

        ``planned_task`` is the task that failed, or None if the run was interrupted.
        """
        self._keep_awaited_handlers()
        started_hosts = self.rollback_stack.started_hosts()
        status = Status.CANCELLED if planned_task is None else Status.NOT_STARTED
        self._mark_not_started(number, status, reason)
        self._roll_back(started_hosts, reason)
        hooks, failed_in_hook = dict(self.app_plan.failed_hooks), set[tuple[str, str]]()
        for name in reversed(planned_task.parents if planned_task else ()):
            for index, hook in enumerate(hooks.get(name, ())):
                if not self.access.cancel.is_cancelled:
                    side_program = SideProgram(hook.task, hook=name, index=index)
                    self._run_failed_hook(hook, side_program, failed_in_hook)

    def _run_failed_hook(
        self,
        planned_task: PlannedTask,
        side_program: SideProgram,
        failed_in_hook: set[tuple[str, str]],
    ) -> None:
        """Run a task of a ``failed`` hook, also on hosts that took no part in the run so far.

        Failures are added to the host's summary; ``failed_in_hook`` collects them, and the rest of
        the hook is not run on these hosts.
        """
        known_states = self.host_states
        hook = planned_task.parents[planned_task.parents.index(side_program.hook) + 1]
        runnable = [
            h
            for h in planned_task.hosts
            if (hook, h.host) not in failed_in_hook
            and (
                h.host not in known_states or known_states[h.host].status is not Status.UNREACHABLE
            )
        ]
        names = [h.host for h in (runnable[:1] if planned_task.any_host else runnable)]
        if not names:
            return
        new = {
            n: HostState(self.access.hosts[n], self.app_plan.app)
            for n in names
            if n not in known_states
        }
        self.host_states = {
            n: (known_states | new)[n] for n in self.access.hosts if n in known_states or n in new
        }
        for name, hook_state in self._run_side_program(side_program, names).items():
            self.host_states[name].add_hook_result(planned_task.task, hook_state)
            if hook_state.is_stopped:
                failed_in_hook.add((hook, name))

    def _mark_not_started(
        self, number: int, status: Status, reason: str, names: Collection[str] | None = None
    ) -> None:
        """Mark the remaining tasks of every host, from task ``number`` on, as not started.

        If ``status`` is NOT_STARTED, a host that has already run some of its steps becomes STOPPED.
        ``names`` restricts that to some hosts.
        """
        for planned_task in self.app_plan.planned_tasks[number:]:
            for host in planned_task.hosts:
                if names is not None and host.host not in names:
                    continue
                host_state = self.host_states[host.host]
                is_standby = (
                    planned_task.any_host
                    and host is not planned_task.hosts[0]
                    and host_state.status
                )
                if host_state.is_stopped or is_standby:
                    continue
                if status is Status.NOT_STARTED and any(host_state.counts.values()):
                    host_state.raise_status(
                        Status.STOPPED, f"stopped before '{planned_task.task}': {reason}"
                    )
                else:
                    host_state.raise_status(
                        status, f"'{planned_task.task}' was not started: {reason}"
                    )

    def _roll_back(self, names: set[str], reason: str) -> None:
        """Roll back what these hosts started since the last commit, the last task first."""
        self._roll_back_started(lambda _task: names, reason)

    def _roll_back_started(self, hosts_of: Callable[[PlannedTask], set[str]], reason: str) -> None:
        """Roll back each started task on the hosts that ``hosts_of`` returns, if they started it.

        A failed rollback stops neither the other hosts nor the rollbacks of earlier tasks.
        """
        if self.plan.check_mode:
            return
        for planned_task, started_hosts in reversed(self.rollback_stack.started_tasks):
            names = hosts_of(planned_task)
            hosts = [
                host.host
                for host in planned_task.hosts
                if host.host in names & started_hosts and host.rollback.steps
            ]
            if not hosts:
                continue
            number = 1 + next(
                n for n, each in enumerate(self.app_plan.planned_tasks) if each is planned_task
            )
            side_program = SideProgram(f"rollback of {planned_task.task}", rollback_of=number)
            rollback_states = self._run_side_program(side_program, hosts)
            for name, host_state in rollback_states.items():
                self.host_states[name].add_rollback_result(planned_task.task, host_state, reason)
            started_hosts.difference_update(names)

    def _run_side_program(
        self, side_program: SideProgram, names: Sequence[str]
    ) -> dict[str, HostState]:
        """Run a program outside the plan's order, each host on its own, and return their states."""
        began = time.monotonic()
        separate_states = {
            name: HostState(self.access.hosts[name], self.app_plan.app) for name in names
        }
        limits = HostLimits(CancelToken())  # it goes on if the run is interrupted
        other_results = results_of_all_hosts(self.host_states)
        for name, host_state in separate_states.items():
            if name in self.host_states:
                host_state.results = self.host_states[name].results
                host_state.results.update(other_results)
        host_plans = side_program.host_plans(self.app_plan)
        programs = (
            host_plans[name].rollback if side_program.rollback_of else host_plans[name].program
            for name in names
        )
        steps = max((len(program.steps) for program in programs), default=0)
        app, title, number = self.app_plan.app, side_program.title, side_program.rollback_of
        started = TaskStarted(time.time(), app, title, tuple(names), steps, number=number)
        self.emit(replace(started, rollback=number > 0))
        run_for_each(
            self.pool,
            lambda name: self.access.run_side_program(side_program, separate_states[name], limits),
            names,
        )
        ended = TaskFinished(time.time(), app, title, time.monotonic() - began)
        self.emit(replace(ended, number=number))
        return separate_states

    def _run_task(self, number: int, planned_task: PlannedTask) -> None:
        began = time.monotonic()
        hosts = (
            planned_task.hosts
            if not planned_task.any_host
            else self._first_reachable_host(number, planned_task)
        )
        done = self._hosts_done(number)
        names = tuple(
            host.host
            for host in hosts
            if host.host not in done and not self.host_states[host.host].is_stopped
        )
        steps = max((len(host.steps) for host in hosts), default=0)
        self.rollback_stack.begin_task(planned_task)
        other_results = results_of_all_hosts(self.host_states)
        for host in hosts:
            self.host_states[host.host].registered_names.clear()
            self.host_states[host.host].results.update(other_results)
        app, total = self.app_plan.app, len(self.app_plan.planned_tasks)
        started = TaskStarted(time.time(), app, planned_task.task, names, steps)
        is_done = bool(done) and all(host.host in done for host in hosts)
        if not is_done:
            self.emit(replace(started, number=number + 1, total=total))
        limits = HostLimits(
            self.access.cancel,
            stops_at_error=planned_task.stops_at_error,
            check_mode=self.plan.check_mode,
        )
        run_for_each(
            self.pool,
            lambda host: self._run_task_on_host(number, planned_task, host, limits),
            hosts,
        )
        self._share_delegated_skips(hosts)
        if planned_task.once:
            self._share_once_results(hosts)
            for host in planned_task.hosts:
                self.host_states[host.host].raise_status(
                    Status.SKIPPED
                )  # a standby host of ``any_host`` that had nothing to do
        ended = TaskFinished(time.time(), app, planned_task.task, time.monotonic() - began)
        if not is_done:
            self.emit(replace(ended, number=number + 1))

    def _hosts_done(self, number: int) -> set[str]:
        """Return the hosts that had done all of the task before the run was resumed."""
        known = self.progress.of_task(self.app_plan.app, number + 1)
        return {name for name, each in known.hosts.items() if each.is_complete} if known else set()

    def _share_delegated_skips(self, hosts: Iterable[HostPlan]) -> None:
        """Record steps that check mode skipped for a delegate in the delegate's own state."""
        for host in hosts:
            for step in self.host_states[host.host].skipped_by_check:
                delegate_state = self.host_states.get(step.host)
                if delegate_state is not None and step not in delegate_state.skipped_by_check:
                    delegate_state.skipped_by_check.append(step)

    def _first_reachable_host(self, number: int, planned_task: PlannedTask) -> tuple[HostPlan, ...]:
        """Return the first reachable host, for a task that runs once on any host.

        A host that had begun it before the run was resumed goes on with it.
        """
        known = self.progress.of_task(self.app_plan.app, number + 1)
        for host in planned_task.hosts:
            if known is not None and host.host in known.hosts:
                return (host,)
        for host in planned_task.hosts:
            host_state = self.host_states[host.host]
            if not host_state.is_stopped:
                self.access.connect(host_state)
            if not host_state.is_stopped:
                return (host,)
        return planned_task.hosts[:1]

    def _share_once_results(self, hosts: Iterable[HostPlan]) -> None:
        """Copy results registered by a ``once`` task to all hosts."""
        for host in hosts:
            source_state = self.host_states[host.host]
            for host_state in self.host_states.values():
                source_state.share_with(host_state)

    def _run_task_on_host(
        self, number: int, planned_task: PlannedTask, host_plan: HostPlan, limits: HostLimits
    ) -> None:
        host_state = self.host_states[host_plan.host]
        if host_state.is_stopped:
            return
        if self.access.cancel.is_cancelled:
            host_state.raise_status(
                Status.CANCELLED, f"'{planned_task.task}' was not started: interrupted"
            )
            return
        before, seconds = dict(host_state.counts), host_state.seconds

        progress = self.progress.of_host(self.app_plan.app, number + 1, host_plan.host)

        end = self.access.run_task(number, host_plan, host_state, limits)
        if end.has_begun:
            self.rollback_stack.add_host(host_plan.host)
        self._keep_handlers(planned_task, host_plan, host_state, end.pending_handlers)
        if host_state.is_stopped:
            limits.note_failure(host_plan.host)
        if host_state.status is None:
            host_state.raise_status(Status.SKIPPED)
        if progress is None or not progress.is_complete:
            self._emit_host_finished(
                number, planned_task, host_state, before, host_state.seconds - seconds
            )
        if self.last_task_of_host.get(host_plan.host) == number or (
            host_state.is_stopped and self.last_task_of_host
        ):
            self.access.release(host_plan.host)

    def _keep_awaited_handlers(self) -> None:
        """Record the handlers of later planned tasks that have been notified."""
        for planned_task in self.app_plan.planned_tasks:
            for host_plan in planned_task.hosts:
                host_state = self.host_states[host_plan.host]
                names = awaited_handlers(host_plan, host_state)
                self._keep_handlers(planned_task, host_plan, host_state, names)

    def _keep_handlers(
        self,
        planned_task: PlannedTask,
        host_plan: HostPlan,
        host_state: HostState,
        names: Iterable[str],
    ) -> None:
        """Record pending handlers with the commands that run them."""
        if self.plan.check_mode:
            return
        app = ("--app", self.app_plan.app) if self.app_plan.app else ()
        rerun_args = (*self.options.rerun_args, *app)
        for name in names:
            command_line = rerun_command(self.plan.stage, planned_task, host_plan, name, rerun_args)
            host_state.pending_handlers[planned_task.task, name] = command_line

    def _emit_host_finished(
        self,
        number: int,
        planned_task: PlannedTask,
        host_state: HostState,
        before: Mapping[str, int],
        seconds: float,
    ) -> None:
        """Emit HostFinished with the worst status that the host counted in this task."""
        counted = {
            counter for counter, count in host_state.counts.items() if count > before[counter]
        }
        status = next(
            (Status(s) for s in ("changed", "unknown", "ok", "skipped") if s in counted), Status.OK
        )
        shows_status = host_state.is_stopped or (self.plan.check_mode and status is Status.CHANGED)
        if shows_status and host_state.status is not None:
            status = host_state.status
        outcome = StepResult(status, seconds=seconds, reason=host_state.reason)
        host, app = host_state.host.name, self.app_plan.app
        last = number >= self.last_planned_task.get(host, 0)
        self.emit(
            HostFinished(
                time.time(),
                app,
                task=planned_task.task,
                host=host,
                outcome=outcome,
                last=last,
                number=number + 1,
            )
        )


class RollbackStack:
    """Planned tasks in the order in which they were started, with the hosts to roll back.

    The worker threads add their hosts to the last task.
    """

    def __init__(self) -> None:
        """Create an empty stack."""
        self.started_tasks: list[tuple[PlannedTask, set[str]]] = []

    def begin_task(self, planned_task: PlannedTask) -> None:
        """Push a planned task that no host has started yet."""
        self.started_tasks.append((planned_task, set()))

    def add_host(self, name: str) -> None:
        """Record that this host started the last task."""
        self.started_tasks[-1][1].add(name)

    def started_hosts(self) -> set[str]:
        """Return the hosts that have something to roll back."""
        return {name for _, names in self.started_tasks for name in names}

    def commit(self, commit: PlannedTask, before: Sequence[PlannedTask]) -> None:
        """Drop what a commit makes permanent from the stack.

        ``before`` are the planned tasks before the commit. In a batch, drop only what its hosts
        started, what ran for the batch, and ``once`` tasks, since these run for every host.
        """
        if commit.commit_scope is None:
            self.started_tasks.clear()
            return
        batch_tasks = {
            id(planned_task) for planned_task in before[commit.commit_scope.first_task :]
        }
        for planned_task, names in self.started_tasks:
            if planned_task.once or id(planned_task) in batch_tasks:
                names.clear()
            names.difference_update(commit.commit_scope.hosts)


def awaited_handlers(host_plan: HostPlan, host_state: HostState) -> Iterator[str]:
    """Yield the names of handlers that steps of earlier planned tasks have notified."""
    for step in host_plan.steps:
        if not host_state.notified_keys.isdisjoint(step.notified_as):
            yield step.handler


def rerun_command(
    stage: str,
    planned_task: PlannedTask,
    host_plan: HostPlan,
    handler: str,
    rerun_args: Iterable[str],
) -> str:
    """Return the shell command that runs one handler on its host, with ``rerun_args`` added."""
    # a playbook item may have its own name or be inline, so name its task file
    task_name = (planned_task.parents or (planned_task.task,))[-1]
    arguments = (
        "run",
        task_name,
        *host_plan.rerun_args,
        *rerun_args,
        "--handler",
        handler,
        "-l",
        host_plan.host,
    )
    return shlex.join(("orch", "-s", stage, *arguments))


class PreflightCheck:
    """Connects the hosts of one app run before it starts.

    ``delegate_unreachable``: a host that only appears in ``delegate_to``, and so has no summary,
    cannot be reached.
    """

    def __init__(self, app_plan: AppPlan, access: AppHosts, pool: ThreadPoolExecutor) -> None:
        """Store the plan and collect the hosts that steps are delegated to."""
        self.app_plan, self.access, self.pool = app_plan, access, pool
        self.delegate_unreachable = False
        self.delegate_hosts = {
            step.delegate_to
            for planned_task in app_plan.planned_tasks
            for host in planned_task.hosts
            for step in (*host.program.steps, *host.rollback.steps)
            if step.delegate_to
        }

    def connect_all(self, host_states: Mapping[str, HostState], *, skip_unreachable: bool) -> str:
        """Connect every host before anything changes; return why the app run cannot start, or ''.

        With ``skip_unreachable`` it starts without the unreachable hosts, unless a task needs one
        of them.
        """
        run_for_each(self.pool, self.access.connect, host_states.values())
        if self.access.cancel.is_cancelled:
            return "interrupted"
        unreachable = {name for name, state in host_states.items() if state.is_stopped}
        if unreachable and not skip_unreachable:
            first = next(name for name in host_states if name in unreachable)
            other_failure = host_states[first].status is not Status.UNREACHABLE
            return f"{first} {'failed to connect' if other_failure else 'is unreachable'}"
        for planned_task in self.app_plan.planned_tasks:
            if planned_task.once and all(host.host in unreachable for host in planned_task.hosts):
                names = ", ".join(host.host for host in planned_task.hosts)
                if not planned_task.any_host:
                    return f"{names}, the primary, is unreachable"
                return f"all hosts that could run '{planned_task.task}' are unreachable: {names}"
        return self._connect_delegates(host_states)

    def _connect_delegates(self, host_states: Mapping[str, HostState]) -> str:
        for name in sorted(self.delegate_hosts - host_states.keys()):
            if failure := self.access.connect_delegate(name):
                self.delegate_unreachable = failure.is_unreachable
                return failure.reason
        return ""
