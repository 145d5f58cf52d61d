"""The coordinator's side of a run whose hosts are driven by several workers.

The app runner runs here, with the plan and the state of every host. Whatever needs a connection is
a call to the worker that has the host.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.errors import Diagnostic, OrchError, describe_bug
from orchestrator.executor.app_hosts import (
    DelegateFailure,
    SideProgram,
    TaskEnd,
    pending_handlers,
)
from orchestrator.executor.app_locks import LockRefusal
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.connection_pool import ConnectionPool, EmitFunction
from orchestrator.executor.download_run import DownloadJob, DownloadMeans, LocalDownloads
from orchestrator.executor.host_limits import HostLimits
from orchestrator.executor.host_state import COUNTER_BY_STATUS, HostState
from orchestrator.executor.parallel import ConnectionFailure
from orchestrator.executor.relayed_channels import (
    COORDINATOR,
    ChannelInput,
    ChannelKey,
    ChannelMessage,
    ChannelOutput,
    ChannelRelay,
    ChannelReply,
    ChannelRequest,
    ended_output,
    open_requested,
)
from orchestrator.executor.worker_messages import (
    CallEnded,
    CoordinatorAnswer,
    Events,
    HostCall,
    Notice,
    SecretFound,
    WorkerQuestion,
    copy_host_state,
    update_host_state,
)
from orchestrator.model.event import (
    HostFinished,
    RunEvent,
    StepFinished,
    StepsSent,
    StepStarted,
)
from orchestrator.model.host import Host
from orchestrator.model.step_result import Status, StepResult
from orchestrator.planner.host_scope import OTHER_HOSTS_RESULTS
from orchestrator.planner.plan import CONTROLLER, AppPlan, HostPlan, Plan, ThrottledSteps
from orchestrator.remote_shell.channel_protocol import Channel

AskPerson = Callable[[str, bool], str | None]


class WorkerLostError(Exception):
    """The worker that drives a host has ended."""


class WorkerLink(Protocol):
    """The way to one worker."""

    name: str

    def send(self, message: object) -> None:
        """Send a message; messages arrive in order. Does not wait, and never fails."""


class _PendingCall:
    """A call that a worker has not ended yet."""

    def __init__(self, worker: int, host_state: HostState | None) -> None:
        self.worker, self.host_state = worker, host_state
        self.future: Future[CallEnded] = Future()


class CallProgress(Struct):
    """What a call has reported of its host's steps.

    ``sent`` may have begun and have not ended; ``running`` has begun. The steps of ``changed`` and
    ``failed`` are among those of ``finished``.
    """

    sent: set[int] = field(default_factory=set)
    running: StepStarted | None = None
    counts: Counter[str] = field(default_factory=Counter)
    finished: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)

    def note(self, event: RunEvent) -> None:
        """Note an event of the host."""
        match event:
            case StepsSent():
                self.sent = {step.step for step in event.steps}
            case StepStarted():
                self.running = event
            case StepFinished(step=step, outcome=outcome):
                self.running = None
                self.sent.discard(step)
                self.finished.add(step)
                if outcome.status is Status.CHANGED:
                    self.changed.add(step)
                if outcome.status.is_failure and not outcome.ignored:
                    self.failed.add(step)
                counter = "ok" if outcome.ignored else COUNTER_BY_STATUS.get(outcome.status)
                if counter is not None:
                    self.counts[counter] += 1


class Workers:
    """The workers of a run. Thread-safe.

    ``worker_of`` is the index of the worker that drives a host. ``prompt`` asks the user,
    ``find_answer`` finds a password or passphrase, ``fetch_secret`` returns the value of a secret,
    and ``pack_project`` the project's files; ``answers`` has functions for other kinds of
    questions. ``add_secret`` is called with each secret that a worker learns.
    """

    def __init__(
        self,
        links: Sequence[WorkerLink],
        worker_of: Mapping[str, int],
        *,
        prompt: AskPerson | None,
        fetch_secret: Callable[[Any], str],
        add_secret: Callable[[str, str], object],
        find_answer: Callable[[Any], tuple[str | None, str]],
        pack_project: Callable[[], bytes],
        answers: Mapping[str, Callable[..., Any]],
    ) -> None:
        """Store the ways to the workers, which are ready for calls."""
        self.links, self.worker_of, self._other_answers = links, dict(worker_of), answers
        self._prompt, self._fetch_secret, self._add_secret = prompt, fetch_secret, add_secret
        self._pack_project, self._find_answer = pack_project, find_answer
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._calls: dict[int, _PendingCall] = {}
        self._lost: dict[int, str] = {}
        self._emit: EmitFunction = lambda _event: None
        self._connections: ConnectionPool | None = None
        self._relay = ChannelRelay(
            COORDINATOR, partial(self._pass_on, COORDINATOR), self._open_local_channel
        )
        self._providers: dict[ChannelKey, int] = {}
        self._limits: dict[tuple[int, int | str], HostLimits] = {}
        self._slots: dict[int, list[tuple[HostLimits, ThrottledSteps]]] = {}
        self._delegate_locks: dict[str, _DelegateLock] = {}
        self._answers: dict[str, str | None] = {}
        self._credentials: dict[Any, tuple[str | None, str]] = {}
        self._prompt_lock = threading.Lock()
        self._progress: dict[tuple[str | None, str], CallProgress] = {}
        self._receiving = threading.Lock()
        self._questions = ThreadPoolExecutor(1024, thread_name_prefix="question")

    def begin(self, emit: EmitFunction, connections: ConnectionPool) -> None:
        """Pass events to ``emit`` from now on, and an interrupt to the workers.

        ``connections`` are those of this process, for steps on this machine.
        """
        self._emit, self._connections = emit, connections
        connections.cancel.add_callback(lambda: self.notify_all(Notice("cancel")))

    def notify_all(self, notice: Notice) -> None:
        """Send a notice to every worker."""
        for link in self.links:
            link.send(notice)

    def lost_reason(self, worker: int) -> str:
        """Return why a worker has ended, or '' if it has not."""
        return self._lost.get(worker, "")

    def call(self, worker: int, call: HostCall, host_state: HostState | None) -> CallEnded:
        """Let a worker do something for a host, and return how that ended.

        The call gets its number here; ``host_state`` answers what it asks. Raises WorkerLostError.
        """
        pending = _PendingCall(worker, host_state)
        with self._lock:
            if worker in self._lost:
                raise WorkerLostError(self._lost[worker])
            number = next(self._numbers)
            self._calls[number] = pending
            self.links[worker].send(replace(call, number=number))
        return pending.future.result()

    def receive(self, worker: int, messages: Iterable[object]) -> None:
        """Handle messages of a worker; called by one thread a worker.

        What arrives of a lost worker does not count any more, and its questions are not answered.
        """
        # all at once: threads that took turns at each event would mostly wait for each other
        with self._receiving:
            for message in messages:
                if not self.lost_reason(worker) or isinstance(message, SecretFound):
                    self._handle(worker, message)
                elif isinstance(message, WorkerQuestion):
                    self.links[worker].send(CoordinatorAnswer(message.number))

    def _handle(self, worker: int, message: object) -> None:
        match message:
            case Events():
                for event in message.events:
                    self._note_progress(event)
                    self._emit(event)
            case CallEnded():
                with self._lock:
                    pending = self._calls.pop(message.number, None)
                if pending is not None:
                    pending.future.set_result(message)
            case SecretFound():
                self._add_secret(message.name, message.text)
            case WorkerQuestion():
                self._questions.submit(self._answer, worker, message)
            case ChannelRequest() | ChannelReply() | ChannelInput() | ChannelOutput():
                self._pass_on(worker, message)

    def _pass_on(self, sender: int, message: ChannelMessage) -> None:
        """Pass a message of a channel on to the process that it is for."""
        key, lost = message.channel, ""
        receiver: int | None
        with self._lock:
            if isinstance(message, ChannelRequest):
                # a host that no worker has yet is that of the first one that needs it
                receiver = COORDINATOR
                if message.host != CONTROLLER:
                    receiver = self.worker_of.setdefault(message.host, sender)
                self._providers[key] = receiver
                lost = self._lost.get(receiver, "")
            elif isinstance(message, ChannelInput):
                receiver = self._providers.get(key)
                if message.is_closed:
                    self._providers.pop(key, None)
            else:
                receiver = key[0]
        if lost:
            self._deliver(sender, ended_output(key, lost))
        elif receiver is not None:
            self._deliver(receiver, message)

    def _deliver(self, receiver: int, message: ChannelMessage) -> None:
        if receiver == COORDINATOR:
            self._relay.receive(message)
        else:
            self.links[receiver].send(message)

    def _open_local_channel(self, request: ChannelRequest) -> tuple[Channel, str]:
        assert self._connections is not None
        return open_requested(self._connections, request)

    def _note_progress(self, event: RunEvent) -> None:
        if isinstance(event, StepsSent | StepStarted | StepFinished):
            progress = self._progress.get((event.app, event.host))
            if progress is not None:
                progress.note(event)

    def lose(self, worker: int, reason: str) -> None:
        """Record that a worker has ended: its calls fail, and so do later ones.

        If it still runs, as it cannot be reached, it ends the steps of its hosts.
        """
        with self._receiving, self._lock:
            if worker in self._lost:
                return
            self._lost[worker] = reason
            calls = [n for n, each in self._calls.items() if each.worker == worker]
            pending = [self._calls.pop(number) for number in calls]
            channels = dict(self._providers)
        self.links[worker].send(Notice("abandon"))
        for key, provider in channels.items():
            if provider == worker:
                self._deliver(key[0], ended_output(key, reason))
            elif key[0] == worker:
                self._pass_on(worker, ChannelInput(key, is_closed=True))
        for delegate_lock in list(self._delegate_locks.values()):
            delegate_lock.release(worker)
        for limits, steps in self._slots.pop(worker, []):
            limits.leave(steps)
        for each in pending:
            each.future.set_exception(WorkerLostError(reason))

    def begin_progress(self, app: str | None, host: str) -> CallProgress:
        """Return what will be reported of a call that is about to run steps of the host."""
        progress = self._progress[app, host] = CallProgress()
        return progress

    def use_limits(self, app: int, task: int | str, limits: HostLimits) -> None:
        """Remember the limits of a task, which its hosts in all workers share."""
        self._limits[app, task] = limits

    def close(self) -> None:
        """End the workers' part of the run."""
        self.notify_all(Notice("end"))
        self._relay.close("the run has ended")
        self._questions.shutdown(wait=False, cancel_futures=True)

    def _answer(self, worker: int, question: WorkerQuestion) -> None:
        value: object = None
        errors: tuple[Diagnostic, ...] = ()
        try:
            value = self._answer_to(worker, question)
        except OrchError as error:
            errors = error.diagnostics
        except Exception as error:
            errors = (Diagnostic(describe_bug(error)),)
        answer = CoordinatorAnswer(question.number, value, errors, question.is_urgent)
        self.links[worker].send(answer)

    def _answer_to(self, worker: int, question: WorkerQuestion) -> Any:
        arguments = question.arguments
        match question.kind:
            case "results":
                return self._results_of(*arguments)
            case "enter_limit":
                return self._enter_limit(worker, *arguments)
            case "leave_limit":
                app, task, steps = arguments
                self._slots[worker].remove((self._limits[app, task], steps))
                self._limits[app, task].leave(steps)
            case "lock_delegate":
                delegate_lock = self._delegate_lock_of(arguments[0])
                delegate_lock.acquire(worker, lambda: bool(self.lost_reason(worker)))
            case "unlock_delegate":
                self._delegate_lock_of(arguments[0]).release(worker)
            case "recorded":  # events are handled before a question that follows them
                return not self.lost_reason(worker)
            case "prompt":
                return self._ask_person(*arguments)
            case "credential":
                return self._find_once(arguments[0])
            case "secret":
                return self._fetch_secret(arguments[0])
            case "project":
                return self._pack_project()
            case "is_new_download":
                return LocalDownloads().is_new(arguments[0])
            case "download":
                return self._download(arguments[0])
            case kind:
                return self._other_answers[kind](*arguments)
        return None

    def _download(self, job: DownloadJob) -> StepResult:
        """Write what a worker's host sends to files of this machine."""
        assert self._connections is not None
        timeout = self._connections.hosts[job.host].connect.timeout
        cancel, limits = self._connections.cancel, None
        if job.task is not None:
            limits = self._limits[job.task]

        def open_channel() -> tuple[Channel, float]:
            channel = self._relay.open(
                job.host,
                job.user,
                app=job.session_owner,
                is_side=True,
                for_rollback=job.for_rollback,
            )
            return channel, timeout

        def is_stopped() -> bool:
            is_interrupted = cancel.is_cancelled and not job.for_rollback
            return is_interrupted or bool(limits is not None and limits.first_failed)

        return LocalDownloads().run(job, DownloadMeans(open_channel, is_stopped, self._emit))

    def _results_of(self, call: int, host: str) -> Mapping[str, Any]:
        """Return the results of another host as they were when the task of a call began."""
        with self._lock:
            pending = self._calls.get(call)
        if pending is None or pending.host_state is None:
            return {}
        all_results: Mapping[str, Mapping[str, Any]]
        all_results = pending.host_state.results.get(OTHER_HOSTS_RESULTS, {})
        return all_results.get(host, {})

    def _enter_limit(self, worker: int, app: int, task: int | str, steps: ThrottledSteps) -> bool:
        limits = self._limits[app, task]
        has_entered = limits.enter(steps)
        if has_entered:
            with self._lock:
                is_lost = worker in self._lost
                if not is_lost:
                    self._slots.setdefault(worker, []).append((limits, steps))
            if is_lost:
                limits.leave(steps)
        return has_entered

    def owner_of(self, host: str, other: int) -> int:
        """Return the worker that connects to a host: ``other`` if no worker has it yet."""
        with self._lock:
            return self.worker_of.setdefault(host, other)

    def _delegate_lock_of(self, host: str) -> _DelegateLock:
        with self._lock:
            return self._delegate_locks.setdefault(host, _DelegateLock())

    def _ask_person(self, text: str, echo: bool) -> str | None:
        """Ask the user once for all workers."""
        with self._prompt_lock:
            if text not in self._answers:
                self._answers[text] = self._prompt(text, echo) if self._prompt else None
            return self._answers[text]

    def _find_once(self, prompt: Any) -> tuple[str | None, str]:
        """Find a password once for all workers."""
        with self._prompt_lock:
            if prompt not in self._credentials:
                self._credentials[prompt] = self._find_answer(prompt)
            return self._credentials[prompt]


class _DelegateLock:
    """One worker at a time may use the session of a host that steps are delegated to."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._worker: int | None = None

    def acquire(self, worker: int, is_lost: Callable[[], bool]) -> None:
        """Wait until no worker holds the lock, and take it, unless the worker has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._worker is None)
            if not is_lost():
                self._worker = worker

    def release(self, worker: int) -> None:
        """Release the lock if this worker holds it."""
        with self._changed:
            if self._worker == worker:
                self._worker = None
                self._changed.notify_all()


class WorkerAppHosts:
    """The hosts of one app run, each over the connections of its worker."""

    def __init__(
        self,
        index: int,
        app_plan: AppPlan,
        workers: Workers,
        *,
        hosts: Mapping[str, Host],
        cancel: CancelToken,
        emit: EmitFunction,
    ) -> None:
        """Store the plan; ``index`` is the app plan's in the plan."""
        self.hosts, self.cancel = hosts, cancel
        self._index, self._app_plan, self._workers, self._emit = index, app_plan, workers, emit
        self._known_results: dict[str, dict[str, object]] = {name: {} for name in hosts}

    def take_lock(self, name: str) -> LockRefusal | None:
        """Take the host's lock, or return why that is not possible."""
        try:
            refusal: LockRefusal | None = self._call("take_lock", name)
        except WorkerLostError as lost:
            failure = ConnectionFailure(Status.UNREACHABLE, str(lost))
            return LockRefusal(name, str(lost), is_held=False, failure=failure)
        return refusal

    def release_lock(self, name: str) -> str:
        """Release the host's lock; another worker frees that of a worker that has ended."""
        try:
            return str(self._call("release_lock", name))
        except WorkerLostError as lost:
            return self._free_lock(name, str(lost))

    def _free_lock(self, name: str, reason: str) -> str:
        """Let another worker free a host's lock; return why none can, or ''."""
        for worker in range(len(self._workers.links)):
            if not self._workers.lost_reason(worker):
                with suppress(WorkerLostError):
                    failure = str(self._call("free_lock", name, worker=worker))
                    if not failure:
                        return ""
                    reason = failure
        return reason

    def connect(self, host_state: HostState) -> None:
        """Connect to a host, or record in its state why that failed."""
        if not self.cancel.is_cancelled:
            try:
                self._call("connect", host_state.host.name, host_state)
            except WorkerLostError as lost:
                host_state.raise_status(Status.UNREACHABLE, str(lost))

    def connect_delegate(self, name: str) -> DelegateFailure | None:
        """Let its worker connect to a host that only appears in ``delegate_to``."""
        if name == CONTROLLER:
            return None
        worker = self._workers.owner_of(name, min(self._delegating_workers(name), default=0))
        try:
            failure: DelegateFailure | None = self._call("connect_delegate", name, worker=worker)
        except WorkerLostError as lost:
            reason = f"{name}, which steps are delegated to, is unreachable"
            return DelegateFailure(f"{reason}: {lost}", is_unreachable=True)
        return failure

    def _delegating_workers(self, name: str) -> set[int]:
        return {
            self._workers.worker_of[host.host]
            for task in self._app_plan.planned_tasks
            for host in task.hosts
            if any(step.delegate_to == name for step in (*host.program.steps, *host.rollback.steps))
        }

    def run_task(
        self, number: int, host_plan: HostPlan, host_state: HostState, limits: HostLimits
    ) -> TaskEnd:
        """Run the planned task with this index on one host."""
        name = host_plan.host
        self._workers.use_limits(self._index, number, limits)
        if limits.stops_at_error:
            limits.on_first_failure = lambda host: self._workers.notify_all(
                Notice("host_failed", (self._index, number, host))
            )
        progress = self._workers.begin_progress(self._app_plan.app, name)
        try:
            end: TaskEnd = self._call("run_task", name, host_state, (number,))
        except WorkerLostError as lost:
            title = self._app_plan.planned_tasks[number].task
            self._note_lost(host_state, progress, title, number + 1, str(lost))
            has_begun = bool(progress.finished or progress.sent or progress.running)
            pending = pending_handlers(
                host_plan, progress.finished, progress.changed, progress.failed
            )
            return TaskEnd(has_begun=has_begun, pending_handlers=pending)
        return end

    def run_side_program(
        self, side_program: SideProgram, host_state: HostState, limits: HostLimits
    ) -> None:
        """Run a program outside the plan's order on one host, even if the run is interrupted."""
        name, app = host_state.host.name, self._app_plan.app
        self._workers.use_limits(self._index, side_program.title, limits)
        progress = self._workers.begin_progress(app, name)
        try:
            self._call("run_side_program", name, host_state, (side_program,))
        except WorkerLostError as lost:
            number = side_program.rollback_of
            self._note_lost(host_state, progress, side_program.title, number, str(lost))
            outcome = StepResult(host_state.status or Status.LOST, reason=host_state.reason)
            self._emit(
                HostFinished(time.time(), app, side_program.title, name, outcome, number=number)
            )

    def _note_lost(
        self,
        host_state: HostState,
        progress: CallProgress,
        title: str,
        number: int,
        reason: str,
    ) -> None:
        """Record what the end of its worker means for a host, and for the step that it ran."""
        name, running = host_state.host.name, progress.running
        for counter, count in progress.counts.items():
            host_state.counts[counter] += count
        if running is None:
            what = f"; steps of '{title}' may have run" if progress.sent else ", between two steps"
            host_state.raise_status(Status.LOST, f"{reason}{what}")
            return
        host_state.raise_status(Status.LOST, f"{reason}, in step {running.step} '{running.name}'")
        host_state.counts["failed"] += 1
        lost = StepResult(Status.LOST, reason=reason, seconds=time.time() - running.time)
        self._emit(
            StepFinished(
                time.time(),
                running.app,
                task=running.task,
                step=running.step,
                name=running.name,
                host=name,
                outcome=lost,
                number=number,
            )
        )

    def release(self, name: str) -> None:
        """Close what is open to a host, which takes no further part."""
        try:
            self._call("release", name)
        except WorkerLostError:
            return  # its connections ended with it

    def _call(
        self,
        operation: str,
        name: str,
        host_state: HostState | None = None,
        arguments: tuple[Any, ...] = (),
        worker: int | None = None,
    ) -> Any:
        if worker is None:
            worker = self._workers.worker_of[name]
        known = self._known_results.setdefault(name, {})
        copied = copy_host_state(host_state, known) if host_state is not None else None
        call = HostCall(0, self._index, operation, host=name, state=copied, arguments=arguments)
        ended = self._workers.call(worker, call, host_state)
        if host_state is not None and ended.state is not None:
            update_host_state(host_state, ended.state, known)
        return ended.value


class WorkerDriver:
    """Runs every host's part in the worker that has the host."""

    def __init__(
        self,
        plan: Plan,
        workers: Workers,
        connections: ConnectionPool,
        emit: EmitFunction,
    ) -> None:
        """Store what all app runs share; the workers' events are emitted from now on.

        ``connections`` are those of this process, for steps on this machine.
        """
        self._plan, self._workers, self._connections = plan, workers, connections
        self._emit = emit
        workers.begin(emit, connections)

    def app_hosts(self, app_plan: AppPlan) -> WorkerAppHosts:
        """Return the hosts of an app run."""
        index = next(n for n, each in enumerate(self._plan.app_plans) if each is app_plan)
        return WorkerAppHosts(
            index,
            app_plan,
            self._workers,
            hosts=self._connections.hosts,
            cancel=self._connections.cancel,
            emit=self._emit,
        )

    def release_all(self, _pool: ThreadPoolExecutor) -> None:
        """End the workers' part of the run, and with it their connections."""
        self._workers.close()
        self._connections.release(CONTROLLER)
