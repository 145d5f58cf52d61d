"""A worker's side of a run whose hosts are driven by several workers.

It has the whole plan and the connections of its hosts, and does what the coordinator calls for.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from orchestrator.errors import DefinitionError, describe_bug
from orchestrator.executor.app_hosts import LocalAppHosts, TaskEnd
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.download_run import DownloadJob, DownloadMeans
from orchestrator.executor.host_limits import HostLimits
from orchestrator.executor.host_state import HostState
from orchestrator.executor.parallel import run_for_each
from orchestrator.executor.relayed_channels import ChannelMessage, ChannelRelay
from orchestrator.executor.worker_messages import (
    CallEnded,
    CoordinatorAnswer,
    Events,
    HostCall,
    Notice,
    SecretFound,
    WorkerFailed,
    WorkerQuestion,
    copy_host_state,
    update_host_state,
)
from orchestrator.model.command import DownloadSpec
from orchestrator.model.event import RunEvent
from orchestrator.model.host import Host
from orchestrator.model.secret_masking import SecretMasker
from orchestrator.model.step_result import Status, StepResult
from orchestrator.planner.host_scope import OTHER_HOSTS_RESULTS
from orchestrator.planner.plan import Plan, ThrottledSteps
from orchestrator.remote_shell.bootstrap import LEASE_SECONDS

ALIVE_SECONDS = 5.0
"""How often the coordinator and its workers tell each other that they still run."""

SILENCE_SECONDS = LEASE_SECONDS + 2 * ALIVE_SECONDS
"""How long the coordinator may be silent before its worker ends the running steps.

What comes between two signs of life does not shorten the lease.
"""

LOST_SECONDS = SILENCE_SECONDS + 25.0
"""How long a worker may be silent before its hosts are lost: it has ended their steps by then."""

_WATCH_SECONDS = 1.0

SendFunction = Callable[[object], None]

_URGENT_KINDS = ("lock_delegate", "files", "is_new_download", "download")
_END_NOTICE = Notice("end")
_ABANDON_NOTICE = Notice("abandon")


class Coordinator:
    """The way to the coordinator: sends messages, and asks questions. Thread-safe.

    ``inbox`` has the calls and notices, and ends with a notice to abandon the run if the
    coordinator has gone: ``gone_reason`` says how that is known. ``relay`` gets the messages of
    channels.
    """

    def __init__(self, send: SendFunction) -> None:
        """Store the function that sends a message, in order."""
        self.send, self.gone_reason = send, ""
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._questions: dict[int, Future[CoordinatorAnswer]] = {}
        self.relay: ChannelRelay | None = None
        self._delegate_locks: dict[str, threading.Lock] = {}
        self._lock_holder = threading.local()
        self._lock = threading.Lock()
        self._is_ended = False
        self._heard_at = time.monotonic()

    def ask(self, kind: str, *arguments: Any) -> Any:
        """Ask the coordinator and return the answer, or None if it is gone."""
        number, future = next(self._numbers), Future[CoordinatorAnswer]()
        with self._lock:
            if self._is_ended:
                return None
            self._questions[number] = future
        # others wait for the lock of a delegate
        is_urgent = kind in _URGENT_KINDS or getattr(self._lock_holder, "is_holding", False)
        self.send(WorkerQuestion(number, kind, arguments, is_urgent))
        answer = future.result()
        if answer.errors:
            raise DefinitionError(*answer.errors)
        return answer.value

    def ask_for(self, kind: str, *arguments: Any) -> Any:
        """Like ``ask``, for what cannot be missing. Raises OSError if the coordinator is gone."""
        answer = self.ask(kind, *arguments)
        if answer is None:
            raise OSError(f"the coordinator has gone, which has the {kind}")
        return answer

    def receive(self, answer: CoordinatorAnswer) -> None:
        """Hand an answer to who waits for it."""
        with self._lock:
            future = self._questions.pop(answer.number, None)
        if future is not None:
            future.set_result(answer)

    def start_receiving(self, receive: Callable[[float], Sequence[object]]) -> None:
        """Receive messages in a thread of its own: hand out answers, and keep the others.

        ``receive`` waits for messages for so many seconds at most; it may raise OSError.
        """
        self._heard_at = time.monotonic()
        threading.Thread(target=self._receive_all, args=(receive,), daemon=True).start()

    def _receive_all(self, receive: Callable[[float], Sequence[object]]) -> None:
        while not self._is_ended:
            try:
                messages = receive(SILENCE_SECONDS)
            except OSError as error:
                self.note_gone(f"the connection to it was lost ({error})")
                return
            # also if this process was stopped: what has arrived meanwhile counts no more
            if self._check_silence():
                return
            if messages:
                self._heard_at = time.monotonic()
            for message in messages:
                if isinstance(message, CoordinatorAnswer):
                    self.receive(message)
                elif isinstance(message, ChannelMessage):
                    if self.relay is not None:
                        self.relay.receive(message)
                elif message == _ABANDON_NOTICE:
                    self.note_gone("it gave this worker up")
                    return
                else:
                    self.inbox.put(message)
                    if message == _END_NOTICE:
                        self.note_end()

    def _check_silence(self) -> bool:
        """Return True if the coordinator was silent for too long, and note that it has gone."""
        seconds = time.monotonic() - self._heard_at
        if seconds > SILENCE_SECONDS:
            self.note_gone(f"nothing was heard of it for {seconds:.0f} s")
        return seconds > SILENCE_SECONDS

    def watch(self, is_cancelled: Callable[[], bool]) -> None:
        """Look every second whether the coordinator has gone, in a thread of its own.

        The thread also tells the coordinator that this process runs.
        """

        def look() -> None:
            told_at = time.monotonic()
            while not self._is_ended:
                if is_cancelled():
                    self.note_gone("the scheduler has lost it")
                elif not self._check_silence() and time.monotonic() - told_at >= ALIVE_SECONDS:
                    told_at = time.monotonic()
                    self.send(Notice("alive"))
                time.sleep(_WATCH_SECONDS)

        threading.Thread(target=look, daemon=True).start()

    def note_gone(self, reason: str) -> None:
        """Note that the coordinator has gone, unless the run has ended."""
        with self._lock:
            if self._is_ended:
                return
            self.gone_reason = reason
        self.note_end()
        self.inbox.put(_ABANDON_NOTICE)

    def note_end(self) -> None:
        """Answer all questions with None, from now on."""
        with self._lock:
            self._is_ended = True
            waiting = list(self._questions.values())
            self._questions.clear()
        for future in waiting:
            future.set_result(CoordinatorAnswer(0))
        if self.relay is not None:
            self.relay.close("the coordinator has gone")

    @contextmanager
    def delegate_lock(self, name: str) -> Iterator[None]:
        """Hold the lock of a host that steps are delegated to, among all workers."""
        with self._lock:
            own = self._delegate_locks.setdefault(name, threading.Lock())
        with own:  # one thread of this worker at a time
            self.ask("lock_delegate", name)
            self._lock_holder.is_holding = True
            try:
                yield
            finally:
                self._lock_holder.is_holding = False
                self.send(WorkerQuestion(0, "unlock_delegate", (name,), is_urgent=True))

    def emit(self, event: RunEvent) -> None:
        """Send an event."""
        self.send(Events((event,)))


class ReportingMasker(SecretMasker):
    """A masker that reports each secret that it learns after ``report`` is set."""

    def __init__(self) -> None:
        """Start without secrets."""
        super().__init__()
        self.report: SendFunction | None = None

    def add_secret(self, name: str, text: str) -> None:
        """Mask this text from now on."""
        super().add_secret(name, text)
        if self.report is not None:
            self.report(SecretFound(name, text))


class CoordinatorDownloads:
    """Lets the coordinator write what is downloaded."""

    def __init__(self, coordinator: Coordinator) -> None:
        """Store the coordinator."""
        self._coordinator = coordinator

    def is_new(self, download: DownloadSpec) -> bool:
        """Implement ``Downloads.is_new``."""
        return bool(self._coordinator.ask("is_new_download", download))

    def run(self, job: DownloadJob, _means: DownloadMeans) -> StepResult:
        """Implement ``Downloads.run``."""
        outcome: StepResult | None = self._coordinator.ask("download", job)
        return outcome or StepResult(Status.CANCELLED, reason="the coordinator has gone")


class RemoteResults(Mapping[str, Mapping[str, Any]]):
    """The results of all hosts at the start of a task, asked for when a template needs them."""

    def __init__(self, coordinator: Coordinator, call: int, hosts: Mapping[str, Host]) -> None:
        """Store the call of the task; nothing is asked yet."""
        self._coordinator, self._call, self._hosts = coordinator, call, hosts
        self._known: dict[str, Mapping[str, Any]] = {}

    def __getitem__(self, host: str) -> Mapping[str, Any]:
        """Return the results of a host."""
        if host not in self._hosts:
            raise KeyError(host)
        if host not in self._known:
            self._known[host] = self._coordinator.ask("results", self._call, host) or {}
        return self._known[host]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the hosts."""
        return iter(self._hosts)

    def __len__(self) -> int:
        """Return the number of hosts."""
        return len(self._hosts)


class SharedLimits(HostLimits):
    """The limits of a task whose hosts are driven by several workers."""

    def __init__(
        self,
        cancel: CancelToken,
        coordinator: Coordinator,
        task: tuple[int, int | str],
        *,
        stops_at_error: bool,
        check_mode: bool,
    ) -> None:
        """Store the index of the app, and the index or title of the task."""
        super().__init__(cancel, stops_at_error=stops_at_error, check_mode=check_mode)
        self._coordinator, self._task = coordinator, task
        self.key = task

    def enter(self, steps: ThrottledSteps) -> bool:
        """Wait until the host may run the steps; return False if the run has ended before."""
        return bool(self._coordinator.ask("enter_limit", *self._task, steps))

    def leave(self, steps: ThrottledSteps) -> None:
        """Let the next host run the steps."""
        self._coordinator.ask("leave_limit", *self._task, steps)


class WorkerServer:
    """Does what the coordinator calls for, each call in a thread of its own."""

    def __init__(
        self,
        plan: Plan,
        app_hosts: Sequence[LocalAppHosts],
        hosts: Mapping[str, Host],
        coordinator: Coordinator,
        cancel: CancelToken,
        on_cancel: Callable[[], object],
        on_abandon: Callable[[], object],
        leave_notes: Callable[[str], object],
        forks: int,
        prepare_thread: Callable[[], object],
        adopt_host: Callable[[str], object],
    ) -> None:
        """Store the plan and the hosts of each of its apps.

        ``adopt_host`` is called with each host that the coordinator calls for.
        ``on_cancel`` is called if the run is interrupted, ``on_abandon`` if everything is to end.
        ``leave_notes`` is called with each host at the end of an abandoned run. ``forks`` is how
        many hosts the run works on at once; ``prepare_thread`` is called in each of their threads.
        """
        self._plan, self._app_hosts, self._hosts = plan, app_hosts, hosts
        self._coordinator, self._cancel, self._on_cancel = coordinator, cancel, on_cancel
        self._on_abandon, self._leave_notes = on_abandon, leave_notes
        self._adopt_host = adopt_host
        self._make_pool = partial(
            ThreadPoolExecutor, forks, thread_name_prefix="host", initializer=prepare_thread
        )
        self._pool = self._make_pool()
        self._lock = threading.Lock()
        self._states: dict[tuple[int, str], tuple[HostState, dict[str, object]]] = {}
        self._limits: dict[tuple[int, int | str], SharedLimits] = {}
        self._plans = {
            (app, number, host.host): host
            for app, app_plan in enumerate(plan.app_plans)
            for number, task in enumerate(app_plan.planned_tasks)
            for host in task.hosts
        }

    def serve(self) -> None:
        """Handle messages until the coordinator ends the run, or has gone.

        Then nothing is left running on the hosts, and no lock is left there.
        """
        try:
            while self._handle(self._coordinator.inbox.get()):
                pass
        finally:
            self._coordinator.note_end()
            self._on_abandon()
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._coordinator.gone_reason:
            with self._make_pool() as pool:
                run_for_each(pool, self._leave_host, self._hosts)

    def _leave_host(self, name: str) -> None:
        """Leave a host whose coordinator does not know what happened there last."""
        self._leave_notes(name)
        for app_hosts in self._app_hosts:
            app_hosts.release_lock(name)  # if it fails, the lock is stale

    def _handle(self, message: object) -> bool:
        """Handle one message; return False if it is the last one."""
        match message:
            case HostCall():
                self._pool.submit(self._run, message)
            case Notice(kind="end" | "abandon"):
                return False
            case Notice(kind="cancel"):
                self._on_cancel()
            case Notice(kind="host_failed"):
                app, number, host = message.arguments
                self._limits_of(app, number).note_failure(host)
        return True

    def _run(self, call: HostCall) -> None:
        try:
            self._coordinator.send(self._run_call(call))
        except Exception as error:  # what concerns one host is handled further down
            self._coordinator.send(WorkerFailed(describe_bug(error)))

    def _run_call(self, call: HostCall) -> CallEnded:
        hosts = self._app_hosts[call.app]
        self._adopt_host(call.host)
        value: object = None
        host_state, known = self._state_of(call)
        match call.operation:
            case "connect":
                hosts.connect(host_state)
            case "connect_delegate":
                value = hosts.connect_delegate(call.host)
            case "run_task":
                value = self._run_task(call, host_state)
            case "run_side_program":
                (side_program,) = call.arguments
                limits = self._limits_of(call.app, side_program.title)
                hosts.run_side_program(side_program, host_state, limits)
            case "take_lock":
                value = hosts.take_lock(call.host)
            case "release_lock":
                value = hosts.release_lock(call.host)
            case "free_lock":
                value = hosts.free_lock(call.host)
            case "release":
                hosts.release(call.host)
        copied = copy_host_state(host_state, known) if call.state is not None else None
        return CallEnded(call.number, copied, value)

    def _run_task(self, call: HostCall, host_state: HostState) -> TaskEnd:
        (number,) = call.arguments
        host_plan = self._plans[call.app, number, call.host]
        limits = self._limits_of(call.app, number)
        end = self._app_hosts[call.app].run_task(number, host_plan, host_state, limits)
        if host_state.is_stopped:
            limits.note_failure(call.host)  # at once; the coordinator tells the other workers
        return end

    def _state_of(self, call: HostCall) -> tuple[HostState, dict[str, object]]:
        """Return the host's state as the call has it, and the results that the other side knows."""
        app, key = self._plan.app_plans[call.app].app, (call.app, call.host)
        with self._lock:
            host_state, known = self._states.setdefault(
                key, (HostState(self._hosts[call.host], app), {})
            )
        if call.state is None:
            return host_state, known
        if call.operation == "run_side_program":
            results = host_state.results
            host_state = HostState(self._hosts[call.host], app, results=results)
        update_host_state(host_state, call.state, known)
        host_state.results[OTHER_HOSTS_RESULTS] = RemoteResults(
            self._coordinator, call.number, self._hosts
        )
        return host_state, known

    def _limits_of(self, app: int, task: int | str) -> SharedLimits:
        """Return the limits of a task, or of a program outside the plan's order."""
        stops, cancel = False, CancelToken()
        if isinstance(task, int):
            stops = self._plan.app_plans[app].planned_tasks[task].stops_at_error
            cancel = self._cancel
        with self._lock:
            return self._limits.setdefault(
                (app, task),
                SharedLimits(
                    cancel,
                    self._coordinator,
                    (app, task),
                    stops_at_error=stops,
                    check_mode=self._plan.check_mode,
                ),
            )


class MessageSender:
    """Sends messages in order, in a thread of its own, as many at once as have gathered.

    They are gathered for ``gather_seconds``, because each batch costs milliseconds, but not if one
    of them is urgent, or of a channel. ``send_batch`` sends some; if it raises OSError,
    ``on_broken`` is called with the error, and the rest is dropped.
    """

    def __init__(
        self,
        send_batch: Callable[[Sequence[object]], None],
        gather_seconds: float,
        on_broken: Callable[[OSError], object],
    ) -> None:
        """Start the thread."""
        self._send_batch, self._on_broken = send_batch, on_broken
        self._gather_seconds = gather_seconds
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._is_urgent = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, message: object) -> None:
        """Send a message soon."""
        self._queue.put(message)
        if isinstance(message, ChannelMessage) or getattr(message, "is_urgent", False):
            self._is_urgent.set()

    def close(self, timeout: float | None = None) -> None:
        """Send what is left, and end the thread; wait for so many seconds at most."""
        self._queue.put(_END)
        self._thread.join(timeout)

    def _run(self) -> None:
        is_ended = is_broken = False
        while not is_ended:
            batch = [self._queue.get()]
            if batch[0] is not _END:
                self._is_urgent.wait(self._gather_seconds)
            self._is_urgent.clear()
            while len(batch) < _MAX_BATCH and not self._queue.empty():
                batch.append(self._queue.get())
            if _END in batch:
                batch, is_ended = batch[: batch.index(_END)], True
            if batch and not is_broken:
                try:
                    self._send_batch(batch)
                except OSError as error:
                    is_broken = True
                    self._on_broken(error)


_END = object()
_MAX_BATCH = 2000
"""Limit of the messages that are sent together."""
