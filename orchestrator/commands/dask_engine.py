"""Runs the hosts of a run in several processes, which Dask's `distributed` starts and connects.

The coordinator, which is orch itself, starts a cluster on this machine or uses a scheduler that
runs already. Each worker of the cluster gets one long task, which serves a part of the hosts; see
``worker_connections`` for how their messages travel.
"""

from __future__ import annotations

import contextvars
import importlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.commands.cli_args import parse_extra_variables
from orchestrator.commands.cluster_certificates import CertificateFolder, TlsFiles
from orchestrator.commands.context import (
    PlanOptions,
    ProjectContext,
    ProjectSelector,
    current_user,
)
from orchestrator.commands.dask_worker_setup import STOP_SIGNALS
from orchestrator.commands.plan_source import PlanSource
from orchestrator.commands.project_archive import pack_project, project_digest
from orchestrator.commands.project_identity import project_identity
from orchestrator.commands.worker_connections import (
    MessageConnection,
    PeerEndedError,
    connect_to_coordinator,
    listen_for_workers,
)
from orchestrator.commands.worker_files import make_process_folder, remove_stale_folders
from orchestrator.commands.worker_process import (
    ProjectCopy,
    WorkerRequest,
    code_versions,
    describe_location,
    plan_digest,
    serve_run,
)
from orchestrator.errors import Diagnostic, SourcePosition, UsageError, suggest_nearest
from orchestrator.executor import RunOptions
from orchestrator.executor.worker_hosts import Workers
from orchestrator.executor.worker_messages import Notice, WorkerEnded, WorkerFailed, WorkerReady
from orchestrator.executor.worker_server import ALIVE_SECONDS, LOST_SECONDS, MessageSender
from orchestrator.model.host import ConnectionOverrides, Host, Stage
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.planner.plan import CONTROLLER, Plan
from orchestrator.planner.remote_project_files import FileAnswers
from orchestrator.transports.prompts import (
    BECOME_FILE_VARIABLE,
    PASSWORD_FILE_VARIABLE,
    CredentialStore,
    PromptCallback,
)
from orchestrator.transports.ssh.shared_known_hosts import OwnKnownHosts
from orchestrator.yamlio.local_files import expand_home

# not `pip install 'orch[dask]'`: that would fetch whatever has this name in the package index
EXTRA_HINT = f"install it beside orch: {sys.executable} -m pip install distributed"

_FOLDER_PREFIX = "orch-dask-"

_MAX_AUTOMATIC_WORKERS = 4
"""One coordinator has no more work for them."""

_NO_LOGS = logging.CRITICAL + 1

_START_TIMEOUT = 60.0  # seconds for the workers to begin, and to plan a run
_PLAN_TIMEOUT_PER_HOST = 0.02  # seconds more to plan a run of many hosts

_TCP_TIMEOUT = f"{LOST_SECONDS + ALIVE_SECONDS:.0f}s"
"""When Dask takes a silent connection for lost: not before orch does."""

SERVER_CONFIG: Mapping[str, Any] = {
    # a task that may have begun is never begun again
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.worker.profile.enabled": False,
    # nothing is written to disk
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.comm.require-encryption": True,
    "distributed.comm.timeouts.tcp": _TCP_TIMEOUT,
    # Dask's web servers cannot be left out, but serve nothing
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
"""Settings of Dask in a scheduler and in workers."""

_LOCAL_CONFIG: Mapping[str, Any] = {
    **SERVER_CONFIG,
    "distributed.worker.preload": ["orchestrator.commands.dask_worker_setup"],
}


class EngineChoice(Struct, frozen=True):
    """The engine of a run: ``processes`` on this machine, or the scheduler at ``address``."""

    processes: int = 0
    address: str = ""


def parse_engine(text: str, mark: SourcePosition | None = None) -> EngineChoice | None:
    """Return the engine that a text names, or None for this process.

    ``mark`` is the position of the text. Raises UsageError.
    """
    if text in ("", "local"):
        return None
    kind, _, where = text.partition("=")
    where = where or f"local:{max(2, os.cpu_count() or 2)}"
    number = where.removeprefix("local:")
    if kind == "dask" and where.startswith("local:") and number.isdecimal() and int(number) > 0:
        return EngineChoice(processes=int(number))
    if kind == "dask" and where.startswith("tls://") and where.partition("://")[2]:
        return EngineChoice(address=where)
    message = f"unknown engine {text!r}"
    hint = "write local, dask=local:N or dask=tls://HOST:PORT"
    if kind == "dask" and where.startswith("tcp://"):
        hint = "only tls:// is used, because secrets are sent to the workers"
    raise UsageError(Diagnostic(message, mark or SourcePosition("--engine"), hint))


def automatic_engine(hosts: Sequence[Host], connecting: ConnectionOverrides) -> EngineChoice | None:
    """Return workers of this machine for a run on very many hosts, or None if they gain nothing.

    They cannot use kept connections, which are faster.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    is_kept = connecting.persist or (
        connecting.persist is None and any(host.connect.persist for host in hosts)
    )
    if is_kept or (cores or 1) < 2 or importlib.util.find_spec("distributed") is None:
        return None
    return EngineChoice(processes=min(cores or 1, _MAX_AUTOMATIC_WORKERS))


class DaskEngine(Struct, frozen=True):
    """Drives the hosts of a run in the workers of a cluster.

    ``selector``, ``source``, ``plan_options`` and ``environ`` are what the plan was made from.
    ``tell`` is called with notes for the user. ``is_automatic``: nobody has asked for workers, so
    this process drives the hosts if they cannot be used.
    """

    choice: EngineChoice
    selector: ProjectSelector
    source: PlanSource
    plan_options: PlanOptions
    environ: Mapping[str, str]
    tell: Callable[[str], object] = lambda _text: None
    is_automatic: bool = False

    @property
    def uses_own_keys(self) -> bool:
        """Return True if the workers are those of a scheduler, which may be on other machines."""
        return bool(self.choice.address)

    @contextmanager
    def start(
        self,
        plan: Plan,
        context: ProjectContext,
        options: RunOptions,
        *,
        prompt: PromptCallback | None,
        connecting: ConnectionOverrides,
    ) -> Iterator[Workers | None]:
        """Start the workers, let each plan the run, yield them, and end them.

        Raises UsageError if a worker cannot take part or has another plan; nothing was contacted
        then. With ``is_automatic``, yields None instead.
        """
        request = self._make_request(plan, context, options, connecting)
        request = replace(request, has_prompt=prompt is not None)
        with ExitStack() as stack:
            try:
                workers = self._start(stack, plan, context, request, prompt=prompt)
            except UsageError as error:
                if not self.is_automatic:
                    raise
                stack.close()
                reason = "; ".join(each.message for each in error.diagnostics)
                self.tell(f"{reason}: this process drives all hosts")
                workers = None
            yield workers

    def _start(
        self,
        stack: ExitStack,
        plan: Plan,
        context: ProjectContext,
        request: WorkerRequest,
        *,
        prompt: PromptCallback | None,
    ) -> Workers:
        folder = ""
        if self.choice.address:
            files = CertificateFolder(context.root, context.stage.name).tls_files(
                self.choice.address
            )
            client = stack.enter_context(_connect_to_cluster(self.choice.address, files))
        else:
            count = min(self.choice.processes, len(plan.hosts))
            self.tell(f"starting {count} worker{'' if count == 1 else 's'}")
            client, folder = stack.enter_context(_local_cluster(count))
        return self._begin_run(stack, client, plan, context, request, folder=folder, prompt=prompt)

    def _begin_run(
        self,
        stack: ExitStack,
        client: Any,
        plan: Plan,
        context: ProjectContext,
        request: WorkerRequest,
        *,
        folder: str,
        prompt: PromptCallback | None,
    ) -> Workers:
        """Return the workers once all of them have the plan; ``stack`` ends them.

        One that ends before is replaced, as nothing was contacted yet. Raises UsageError.
        """
        gone: set[str] = set()
        while True:
            free = self._find_workers(client, plan, context.stage, gone)
            divided = _divide_hosts(plan, context.stage, free)
            with ExitStack() as attempt:
                try:
                    tasks = attempt.enter_context(_WorkerTasks(client, divided, request, folder))
                    tasks.meet()
                    workers = self._make_workers(tasks, divided, context, prompt)
                    tasks.begin(workers, plan)
                except _WorkerGoneError as error:
                    gone.add(error.address)
                    if len(gone) > max(_MAX_REPLACED, len(divided)):
                        message = f"{error}, like {len(gone) - 1} others"
                        raise UsageError(Diagnostic(message, None, _CLUSTER_HINT)) from None
                    self.tell(f"{error}; its hosts are given to another one")
                    continue
                stack.push(attempt.pop_all())
                return workers

    def _find_workers(
        self, client: Any, plan: Plan, stage: Stage, gone: Container[str]
    ) -> dict[str, frozenset[str]]:
        """Return the workers that may take part, each with its regions. Raises UsageError."""
        if self.choice.address:
            return _free_workers(client, gone)
        with suppress(TimeoutError):  # one that has ended is started again
            count = min(self.choice.processes, len(plan.hosts))
            client.wait_for_workers(count, timeout=_START_TIMEOUT)
        everywhere = frozenset(map(str, stage.regions))
        return dict.fromkeys(_free_workers(client, gone), everywhere)

    def _make_workers(
        self,
        tasks: _WorkerTasks,
        divided: Mapping[str, Sequence[str]],
        context: ProjectContext,
        prompt: PromptCallback | None,
    ) -> Workers:
        never, masker = threading.Event(), context.secrets.masker
        known_hosts = OwnKnownHosts(Path.home())
        credentials = CredentialStore(prompt, self.environ, never, masker.add_secret)
        return Workers(
            tasks.links,
            {host: n for n, hosts in enumerate(divided.values()) for host in hosts},
            prompt=(lambda text, echo: prompt(text, echo, never)) if prompt else None,
            fetch_secret=context.secrets.resolve_secret,
            find_answer=credentials.find_answer,
            add_secret=masker.add_secret,
            pack_project=partial(pack_project, context.root),
            answers={
                "files": FileAnswers(str(context.root)),
                "known_hosts": known_hosts.read,
                "record_host_key": known_hosts.record,
            },
        )

    def _make_request(
        self,
        plan: Plan,
        context: ProjectContext,
        options: RunOptions,
        connecting: ConnectionOverrides,
    ) -> WorkerRequest:
        project, root, environ = None, context.root, self.environ
        if self.choice.address:
            identity = project_identity(root) if context.stage.apps else ""
            project = ProjectCopy(str(root), project_digest(root), identity)
        hosts = tuple(host.name for host in context.hosts)
        run_user = self.plan_options.run_user or current_user()
        return WorkerRequest(
            versions=code_versions(),
            selector=replace(
                self.selector,
                limit=None,
                hosts=hosts,
                inventories=tuple(map(_absolute_inventory, self.selector.inventories)),
            ),
            source=self.source,
            plan_options=replace(
                self.plan_options,
                run_id=plan.run_id,
                run_user=run_user,
                extra_values=parse_extra_variables(self.plan_options.extra),
            ),
            connecting=connecting,
            environ=dict(environ),
            project=project,
            folder=str(Path.cwd()),
            secrets=context.secrets.fetched_values(),
            forks=options.forks,
            outer_runs=options.outer_runs,
            lock_owner=options.lock_owner,
            is_resumable=options.is_resumable,
            progress=options.progress,
            has_prompt=False,
            location=describe_location(),
            password_files={
                name: environ[name]
                for name in (PASSWORD_FILE_VARIABLE, BECOME_FILE_VARIABLE)
                if name in environ
            },
        )


def _absolute_inventory(source: str) -> str:
    """Return the path of an inventory for a process with another working folder."""
    path = expand_home(source)
    return str(path.absolute()) if path.exists() else source


@contextmanager
def _connect_to_cluster(address: str, files: TlsFiles | None) -> Iterator[Any]:
    """Connect to a scheduler, with these certificates, else with those of Dask's configuration.

    Raises UsageError.
    """
    distributed = import_distributed()
    silence_logs()
    dask = importlib.import_module("dask")
    dask.config.refresh()
    dask.config.set({"distributed.comm.timeouts.tcp": _TCP_TIMEOUT})
    security = security_of(files) if files else distributed.Security(require_encryption=True)
    if not security.tls_client_cert:
        message = f"no certificate for {address} is configured"
        hint = "`orch cluster up` makes a cluster, or set distributed.comm.tls in Dask's "
        hint += "configuration; see the guide on several workers"
        raise UsageError(Diagnostic(message, None, hint))
    try:
        client = distributed.Client(
            address, security=security, set_as_default=False, timeout=_CONNECT_TIMEOUT
        )
    except (OSError, ValueError) as error:
        message = f"no connection to the scheduler {address}: {str(error) or 'it does not answer'}"
        raise UsageError(Diagnostic(message, None, _CLUSTER_HINT)) from None
    try:
        yield client
    finally:
        _close_client(client)


def _close_client(client: Any) -> None:
    """Close the connection to the scheduler, also if that does not answer any more."""
    with suppress(OSError, TimeoutError):
        client.close(timeout=_CLOSE_TIMEOUT)


def _free_workers(client: Any, gone: Container[str] = ()) -> dict[str, frozenset[str]]:
    """Return the addresses of workers that have a free thread, each with its resources.

    Those in ``gone`` are left out. Raises UsageError if there are none.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"]
    found = {address: worker for address, worker in workers.items() if address not in gone}
    if not found:
        raise UsageError(Diagnostic("the scheduler has no workers", None, _CLUSTER_HINT))
    tasks = client.processing()
    free = {
        address: frozenset(worker.get("resources") or {})
        for address, worker in sorted(found.items())
        if len(tasks.get(address, ())) < worker["nthreads"]
    }
    if not free:
        message = f"all {len(found)} workers are busy with other runs"
        hint = "try again later, or start workers with more threads: each takes so many runs"
        raise UsageError(Diagnostic(message, None, hint))
    return free


def _divide_hosts(
    plan: Plan, stage: Stage, workers: Mapping[str, frozenset[str]]
) -> dict[str, list[str]]:
    """Return the hosts of each worker that gets some.

    The hosts of a region are divided among the workers that have it as a resource, the others among
    all. Raises UsageError with the hosts that no worker may drive.
    """
    divided: dict[str, list[str]] = {address: [] for address in workers}
    missing: dict[str, list[str]] = {}
    by_region = hosts_by_region(_hosts_of_run(plan), stage)
    for region, hosts in by_region.items():
        able = [address for address, resources in workers.items() if region in ("", *resources)]
        if not able:
            missing[region] = hosts
        for host in hosts:
            if able:
                min((divided[address] for address in able), key=len).append(host)
    if missing:
        listed = (f"'{region}': {fold_hostnames(hosts)}" for region, hosts in missing.items())
        message = f"no worker has the resource of the region {'; '.join(listed)}"
        raise UsageError(
            Diagnostic(
                message,
                None,
                "name one under `workers` of `cluster`, or start one with --resources REGION=1",
            )
        )
    return {address: hosts for address, hosts in divided.items() if hosts}


def _hosts_of_run(plan: Plan) -> tuple[str, ...]:
    """Return the hosts of the plan, and those that run something after a failure or for others."""
    in_hooks = [
        host
        for app_plan in plan.app_plans
        for _, tasks in app_plan.failed_hooks
        for task in tasks
        for host in task.hosts
    ]
    planned = (
        host
        for app_plan in plan.app_plans
        for task in app_plan.planned_tasks
        for host in task.hosts
    )
    delegates = (
        step.delegate_to
        for host in (*planned, *in_hooks)
        for step in (*host.program.steps, *host.rollback.steps)
        if step.delegate_to not in ("", CONTROLLER)
    )
    return tuple(dict.fromkeys((*plan.hosts, *(host.host for host in in_hooks), *delegates)))


def hosts_by_region(hosts: Sequence[str], stage: Stage) -> dict[str, list[str]]:
    """Return the hosts by region, '' for those in none, which come last. Raises UsageError."""
    region_of: dict[str, str] = {}
    for region, names in stage.regions.items():
        for name in names:
            if name not in stage.roles and name not in stage.hosts:
                message = f"'{name}' is not a role or host of stage '{stage.name}'"
                hint = suggest_nearest(name, (*stage.roles, *stage.hosts))
                raise UsageError(Diagnostic(message, name.mark, hint))
            for host in stage.roles[name].hosts if name in stage.roles else (name,):
                other = region_of.setdefault(host, str(region))
                if other != region:
                    message = f"'{host}' is in two regions: '{other}' and '{region}'"
                    raise UsageError(Diagnostic(message, name.mark, "keep one"))
    found: dict[str, list[str]] = {region: [] for region in (*map(str, stage.regions), "")}
    for host in hosts:
        found[region_of.get(host, "")].append(host)
    return found


@contextmanager
def _local_cluster(processes: int) -> Iterator[tuple[Any, str]]:
    """Start a cluster on this machine that only this process can use; end it afterwards.

    Yields a client, and a private folder.
    """
    distributed = import_distributed()
    silence_logs()
    remove_stale_folders(_FOLDER_PREFIX)
    folder = str(make_process_folder(_FOLDER_PREFIX))
    security = distributed.Security.temporary()
    try:
        with (
            _start_cluster(processes, security, folder) as cluster,
            distributed.Client(cluster, security=security, set_as_default=False) as client,
        ):
            yield client, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start_cluster(processes: int, security: Any, folder: str) -> Any:
    """Return a cluster of so many processes. Raises UsageError if they do not start.

    They inherit blocked signals until they have left the terminal's process group: a Ctrl-C is for
    this process. So does the thread that starts them, and not this one, which has to see it.
    """
    distributed, started, failed = import_distributed(), list[Any](), list[BaseException]()

    def start() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            with importlib.import_module("dask").config.set(
                {**_LOCAL_CONFIG, "temporary-directory": folder}
            ):
                started.append(
                    distributed.LocalCluster(
                        n_workers=processes,
                        threads_per_worker=1,
                        processes=True,
                        security=security,
                        protocol="tls://",
                        host="127.0.0.1",
                        dashboard_address=None,
                        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                        silence_logs=_NO_LOGS,
                        local_directory=folder,
                    )
                )
        except Exception as error:  # whatever keeps processes from starting
            failed.append(error)

    _start_resource_tracker()
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    if failed:
        message = f"the workers did not start: {failed[0].__cause__ or failed[0]}"
        raise UsageError(Diagnostic(message, None, "run it with --engine local"))
    return started[0]


def _start_resource_tracker() -> None:
    """Start the process that removes what others leave, in this thread: it unblocks signals.

    It is not to tell what it removes, after a second Ctrl-C: nobody can do anything about it.
    """
    options = sys.warnoptions
    options.append("ignore:resource_tracker")  # its own options are those of this process
    try:
        resource_tracker.ensure_running()
    finally:
        options.pop()


def import_distributed() -> Any:
    """Return Dask's package, which is untyped. Raises UsageError."""
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        message = "workers need the package `distributed`"
        raise UsageError(Diagnostic(message, None, EXTRA_HINT)) from None
    return distributed


def security_of(files: TlsFiles) -> Any:
    """Return the certificates for a connection, as Dask takes them."""
    return import_distributed().Security(
        require_encryption=True,
        tls_ca_file=files.authority,
        tls_client_cert=files.certificate,
        tls_client_key=files.key,
    )


def silence_logs() -> None:
    """Keep logs and warnings of Dask off the terminal: what matters is reported by this module."""
    names = ("distributed", "tornado", "asyncio")
    known = [name for name in logging.root.manager.loggerDict if name.startswith("distributed.")]
    for name in (*names, *known):  # Dask's configuration sets a level for some of them
        logging.getLogger(name).setLevel(_NO_LOGS)
    warnings.filterwarnings("ignore", module=r"distributed\.")


class _WorkerGoneError(Exception):
    """A worker has ended before its part of the run began."""

    def __init__(self, address: str, detail: str = "") -> None:
        self.address = address
        reason = f" ({detail})" if detail else ""
        super().__init__(f"the worker {address} has ended before the run began{reason}")


class _Link:
    """The way to and from one worker.

    ``heard_at`` is when something came from it, in seconds of the monotonic clock.
    """

    def __init__(self, name: str, connection: MessageConnection) -> None:
        self.name, self._connection = name, connection
        self.heard_at = time.monotonic()
        self.on_broken: Callable[[str], object] = lambda _reason: None
        self._sender = MessageSender(connection.send, connection.gather_seconds, self._note_unsent)

    def send(self, message: object) -> None:
        self._sender.send(message)

    def _note_unsent(self, error: OSError) -> None:
        # who receives finds the end of a process after what it has sent
        if not isinstance(error, PeerEndedError):
            self.on_broken(str(error))

    def receive(self, timeout: float | None = None) -> Sequence[object]:
        """Return the next messages, () if there are none within ``timeout`` seconds.

        Raises OSError if the connection is lost.
        """
        messages = self._connection.receive(timeout)
        if messages:
            self.heard_at = time.monotonic()
        return messages

    def close(self, timeout: float) -> None:
        """Send what is left, for so many seconds at most."""
        self._sender.close(timeout)


class _WorkerTasks:
    """The tasks in the workers, one for each worker."""

    def __init__(
        self,
        client: Any,
        divided: Mapping[str, Sequence[str]],
        request: WorkerRequest,
        folder: str,
    ) -> None:
        """Give each worker its task; ``divided`` has the hosts of each, by its address.

        ``folder`` is a private one that the workers have as well, or ''.
        """
        run = secrets.token_hex(8)
        self._client, self._divided, self._request = client, divided, request
        self._listener = listen_for_workers(import_distributed(), client, run, folder)
        self.links = list[_Link]()
        self._futures = [
            client.submit(
                serve_worker,
                self._listener.address,
                index,
                key=f"orch-{run}-{index}",
                workers=[address],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
            for index, address in enumerate(divided)
        ]
        self._is_ended = threading.Event()
        self._receivers: list[threading.Thread] = []
        self._workers: Workers | None = None
        self._has_begun = False

    def meet(self) -> None:
        """Wait for all workers, and send them the request.

        Raises UsageError, and _WorkerGoneError.
        """
        connections: dict[int, MessageConnection] = {}
        deadline = time.monotonic() + _START_TIMEOUT
        while len(connections) < len(self._divided):
            try:
                index, connection = self._listener.accept(_POLL_SECONDS)
                connections[index] = connection
            except (TimeoutError, PeerEndedError):
                self._check_workers()
                if time.monotonic() > deadline:
                    waiting = (a for n, a in enumerate(self._divided) if n not in connections)
                    missing = ", ".join(waiting)
                    message = f"no answer from the worker {missing} within {_START_TIMEOUT:g} s"
                    raise UsageError(Diagnostic(message, None, _CLUSTER_HINT)) from None
            except OSError as error:
                raise _scheduler_error(error) from None
        for index, (address, hosts) in enumerate(self._divided.items()):
            self.links.append(_Link(address, connections[index]))
            self.links[-1].send(replace(self._request, own_hosts=tuple(hosts), index=index))

    def _check_workers(self) -> None:
        """Raise _WorkerGoneError if a worker has ended that has not begun its part of the run."""
        try:
            found = self._client.scheduler_info(n_workers=-1)["workers"]
        except OSError as error:
            raise _scheduler_error(error) from None
        for address, future in zip(self._divided, self._futures, strict=True):
            if address not in found or future.status in ("error", "lost", "cancelled"):
                raise _WorkerGoneError(address, _error_of(future))

    def __enter__(self) -> _WorkerTasks:
        return self

    def __exit__(self, *_: object) -> None:
        """End the tasks; a worker that does not end is ended with its cluster."""
        self._is_ended.set()
        if self._workers is not None:
            with suppress(Exception):  # the scheduler may be gone
                self._client.unsubscribe_topic("all")
        lost = self._workers.lost_reason if self._workers is not None else lambda _index: ""
        deadline = time.monotonic() + _END_TIMEOUT
        for link in self.links:
            link.send(Notice("end"))
        for index, link in enumerate(self.links):
            link.close(0 if lost(index) else max(0.0, deadline - time.monotonic()))
        for index, thread in enumerate(self._receivers):
            thread.join(0 if lost(index) else max(0.0, deadline - time.monotonic()))
        self._listener.close()
        if not self._has_begun:  # the workers may take part in the next attempt
            with suppress(Exception):  # the scheduler may be gone
                self._client.cancel(self._futures)

    def begin(self, workers: Workers, plan: Plan) -> None:
        """Wait until every worker has the same plan, then pass their messages to ``workers``.

        From then on, a worker that ends is lost. Raises UsageError, and _WorkerGoneError.
        """
        self._workers = workers
        self._client.subscribe_topic("all", self._note_event)
        threading.Thread(target=self._tell_alive, daemon=True).start()
        timeout = _START_TIMEOUT + _PLAN_TIMEOUT_PER_HOST * len(plan.hosts)
        ready = {link.name: self._await_plan(n, link, timeout) for n, link in enumerate(self.links)}
        digest = plan_digest(plan)
        for name, each in ready.items():
            if each.digest != digest:
                text = f"the worker {name} has another plan than this process"
                hint = "a template or a program of the inventory gives another result there"
                raise UsageError(Diagnostic(text, None, hint))
        self._check_workers()
        self._has_begun = True
        _wait_for_connections(self._client)
        for index, (link, future) in enumerate(zip(self.links, self._futures, strict=True)):
            link.heard_at = time.monotonic()
            link.on_broken = partial(self._note_broken, index)
            future.add_done_callback(partial(self._note_end, index))
            self._receivers.append(
                threading.Thread(target=self._receive, args=(index, link), daemon=True)
            )
            self._receivers[-1].start()

    def _await_plan(self, index: int, link: _Link, timeout: float) -> WorkerReady:
        """Wait for a worker's plan, and answer its questions.

        Raises UsageError, and _WorkerGoneError.
        """
        deadline, ready = time.monotonic() + timeout, None
        while ready is None:
            try:
                batch = link.receive(_POLL_SECONDS)
            except PeerEndedError:
                raise _WorkerGoneError(link.name) from None
            except OSError as error:
                raise _scheduler_error(error) from None
            if not batch:
                self._check_workers()
                if time.monotonic() > deadline:
                    text = f"the worker {link.name} did not plan the run in {timeout:.0f} s"
                    raise UsageError(Diagnostic(text, None, _CLUSTER_HINT))
            for message in batch:
                if isinstance(message, WorkerFailed):
                    text = f"the worker {link.name} cannot take part: {message.reason}"
                    raise UsageError(Diagnostic(text, None, _CLUSTER_HINT))
                if isinstance(message, WorkerReady):
                    ready = message
                elif self._workers is not None:
                    self._workers.receive(index, (message,))
        return ready

    def _receive(self, index: int, link: _Link) -> None:
        assert self._workers is not None
        while True:
            try:
                batch = link.receive()
            except PeerEndedError:
                self._lose(index, f"its worker {link.name} has ended")
                return
            except OSError as error:
                self._note_broken(index, str(error))
                return
            last = [each for each in batch if isinstance(each, WorkerEnded | WorkerFailed)]
            self._workers.receive(index, [each for each in batch if each not in last])
            for message in last:
                if isinstance(message, WorkerEnded):
                    return
                self._lose(index, f"its worker {link.name} failed: {message.reason}")

    def _lose(self, index: int, reason: str) -> None:
        """Note that a worker has gone; before its part of the run has begun, that is looked for."""
        if self._workers is not None and self._has_begun and not self._is_ended.is_set():
            self._workers.lose(index, reason)

    def _note_broken(self, index: int, reason: str) -> None:
        self._lose(index, f"the connection to its worker was lost ({reason})")

    def _note_event(self, event: tuple[float, Any]) -> None:
        """Handle an event of the scheduler: a worker may have gone.

        The scheduler would keep the task of such a worker for when it returns.
        """
        message = event[1]
        if isinstance(message, dict) and message.get("action") == "remove-worker":
            for index, link in enumerate(self.links):
                if link.name == message.get("worker"):
                    self._lose(index, f"its worker {link.name} has ended")

    def _note_end(self, index: int, future: Any) -> None:
        reason = f"its worker {self.links[index].name} has ended"
        if error := _error_of(future):
            reason += f": {error}"
        self._lose(index, reason)

    def _tell_alive(self) -> None:
        """Tell the workers that this process runs, and look whether they do."""
        while not self._is_ended.wait(ALIVE_SECONDS):
            for index, link in enumerate(self.links):
                link.send(Notice("alive"))
                silence = time.monotonic() - link.heard_at
                if silence > LOST_SECONDS:
                    self._lose(index, f"nothing was heard of its worker for {silence:.0f} s")


def _error_of(future: Any) -> str:
    """Return the error with which a worker's task ended, or '' if the worker was killed."""
    if future.status != "error":
        return ""
    try:
        error = future.exception(timeout=_CLOSE_TIMEOUT)
    except Exception:  # whatever keeps it from being fetched
        return ""
    return "" if type(error).__name__ == "KilledWorker" else str(error)


def _wait_for_connections(client: Any) -> None:
    """Let new connections to the scheduler wait as long as those that exist."""
    settings = {"distributed.comm.timeouts.connect": _TCP_TIMEOUT}
    importlib.import_module("dask").config.set(settings)
    client.rpc.timeout = LOST_SECONDS + ALIVE_SECONDS


def _scheduler_error(error: OSError) -> UsageError:
    message = f"the connection to the scheduler was lost: {error}"
    return UsageError(Diagnostic(message, None, _CLUSTER_HINT))


_CLUSTER_HINT = "`orch cluster check` says what is missing; see the guide on several workers"
_END_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 3.0
_MAX_REPLACED = 3  # workers that end before the run begins, until it is refused
_POLL_SECONDS = 0.5  # how often workers that have not begun are looked at
_WAIT_SECONDS = 1.0  # how often a worker that waits for its request looks whether it is wanted
_CONNECT_TIMEOUT = 10.0


def serve_worker(address: str, index: int) -> None:
    """Serve one shard of a run; Dask calls this in a worker.

    ``address`` is where the coordinator waits: see ``worker_connections``. The request arrives from
    there, because what is an argument of a task may be kept by the scheduler.
    """
    distributed = import_distributed()
    client, worker = distributed.get_client(), distributed.get_worker()
    key = worker.get_current_task()
    connection = connect_to_coordinator(distributed, client, address, index)
    _wait_for_connections(client)
    is_broken = threading.Event()
    sender = MessageSender(
        connection.send, connection.gather_seconds, lambda _error: is_broken.set()
    )
    rest = list[object]()

    def receive_rest(timeout: float) -> Sequence[object]:
        if rest:
            messages: Sequence[object] = tuple(rest)
            rest.clear()
            return messages
        return connection.receive(timeout)

    def is_cancelled() -> bool:
        """Return True if the scheduler has dropped the task, as it does if its client is gone.

        Also if nothing can be sent any more.
        """
        task = worker.state.tasks.get(key)
        return is_broken.is_set() or task is None or task.state == "cancelled"

    first: Sequence[object] = ()
    deadline = time.monotonic() + _START_TIMEOUT
    with suppress(PeerEndedError):
        while not first and time.monotonic() < deadline and not is_cancelled():
            first = connection.receive(_WAIT_SECONDS)
    if not first or not isinstance(first[0], WorkerRequest):
        sender.close()
        return  # another worker serves the hosts
    rest += first[1:]
    try:
        # in a thread of its own, which has no settings of an earlier run
        contextvars.Context().run(serve_run, first[0], sender.send, receive_rest, is_cancelled)
    finally:
        sender.send(WorkerEnded())
        sender.close()
