"""A worker's part of a run: plan the run again, and do what the coordinator calls for."""

from __future__ import annotations

import hashlib
import os
import platform
import tarfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

import orchestrator
from orchestrator.commands.context import (
    PlanOptions,
    ProjectContext,
    ProjectSelector,
    load_context,
)
from orchestrator.commands.event_dispatch import EventMasker
from orchestrator.commands.plan_source import PlanSource
from orchestrator.commands.project_archive import project_digest, unpack_project
from orchestrator.commands.run_plan import (
    make_transports,
    raise_fd_limit,
    with_identity_warnings,
)
from orchestrator.commands.worker_files import CoordinatorFiles, CoordinatorKnownHosts
from orchestrator.errors import OrchError
from orchestrator.executor import CancelToken, RunOptions
from orchestrator.executor.connection_pool import EmitFunction
from orchestrator.executor.progress import EarlierRun
from orchestrator.executor.relayed_channels import ChannelRelay, RelayingConnections
from orchestrator.executor.run import LocalDriver, controller_host
from orchestrator.executor.step_recorder import sent_step
from orchestrator.executor.worker_messages import Events, WorkerFailed, WorkerReady
from orchestrator.executor.worker_server import (
    Coordinator,
    CoordinatorDownloads,
    ReportingMasker,
    WorkerServer,
)
from orchestrator.model.event import RunEvent, StepsSent, Warned
from orchestrator.model.host import ConnectionOverrides
from orchestrator.model.secret import Secret
from orchestrator.model.text_encoding import encode_text
from orchestrator.planner.plan import CONTROLLER, Plan
from orchestrator.templating.compile_cache import cache_folder
from orchestrator.transports.prompts import CredentialPrompt
from orchestrator.transports.registry import TransportRegistry
from orchestrator.yamlio.local_files import REMOTE_PROJECT, RemoteProject


class ProjectCopy(Struct, frozen=True):
    """The project of a run.

    A worker uses the folder ``root`` if it has it with the same contents (``digest``), else it
    gets them. ``identity`` identifies the project independently of its checkout.
    """

    root: str
    digest: str
    identity: str = ""


class WorkerRequest(Struct, frozen=True):
    """Everything that a worker needs to take part in a run.

    ``project`` is None for a worker that this process has started: it uses the same folder.
    ``folder`` is orch's working folder, which such a worker uses as well.
    ``secrets`` are the values that the coordinator has fetched; a worker asks for others.
    ``has_prompt``: the user can be asked; ``password_files`` are the variables that name files with
    passwords, which the coordinator reads. ``own_hosts`` are those that the worker drives.
    ``index`` is the worker's number. ``versions``: see ``code_versions``; ``location``: see
    ``describe_location``.
    """

    versions: Mapping[str, str]
    selector: ProjectSelector
    source: PlanSource
    plan_options: PlanOptions
    connecting: ConnectionOverrides
    environ: Mapping[str, str]
    project: ProjectCopy | None
    folder: str
    secrets: Mapping[Secret, str]
    forks: int
    outer_runs: tuple[str, ...]
    lock_owner: Mapping[str, str]
    is_resumable: bool
    progress: EarlierRun | None
    has_prompt: bool
    password_files: Mapping[str, str] = field(default_factory=dict)
    own_hosts: tuple[str, ...] = ()
    index: int = 0
    location: str = ""


def python_series() -> str:
    """Return the first two numbers of Python's version; the third counts fixes only."""
    return ".".join(platform.python_version_tuple()[:2])


def code_versions() -> dict[str, str]:
    """Return the versions of what must be equal in all processes of a run."""
    libraries = ("msgspec", "jinja2", "pyyaml", "paramiko", "distributed")
    return {
        "orch": orchestrator.__version__,
        "Python": python_series(),
        **{name: version(name) for name in libraries},
    }


def describe_location() -> str:
    """Return a text that is the same for processes that see the same files as the same user."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/mnt').readlink()} {os.getuid()}"
    return ""


def plan_digest(plan: Plan) -> str:
    """Return a digest over what the plan does, in which order and on which hosts."""
    digest = hashlib.sha256()
    for app_plan in plan.app_plans:
        digest.update(encode_text(f"{app_plan.app}\0{sorted(app_plan.lock_paths.items())}\0"))
        tasks = [*app_plan.planned_tasks]
        tasks += [task for _, hooks in app_plan.failed_hooks for task in hooks]
        for task in tasks:
            digest.update(encode_text(f"{task.task}\0{task.batch}\0{task.once}\0"))
            for host in task.hosts:
                digest.update(encode_text(f"{host.host}\0"))
                for step in (*host.steps, *host.rollback.steps):
                    digest.update(encode_text(step.display_text))
                    content = sent_step(step, step.command).content if step.command else ""
                    digest.update(encode_text(f"\0{step.number}\0{step.user}\0{content}\0"))
    return digest.hexdigest()


def serve_run(
    request: WorkerRequest,
    send: Callable[[object], None],
    receive: Callable[[float], Sequence[object]],
    is_cancelled: Callable[[], bool],
) -> None:
    """Take part in the run until the coordinator ends it.

    ``receive`` waits for messages for so many seconds at most. ``is_cancelled`` returns True if the
    coordinator is known to have gone, or cannot be told anything any more.
    """
    coordinator = Coordinator(send)
    if (versions := code_versions()) != request.versions:
        different = (
            f"{name} {versions.get(name, 'missing')} instead of {version}"
            for name, version in request.versions.items()
            if versions.get(name) != version
        )
        send(WorkerFailed(f"it has {', '.join(different)}"))
        return
    try:
        if request.project is None:
            os.chdir(request.folder)  # it serves no other run
        coordinator.start_receiving(receive)
        coordinator.watch(is_cancelled)
        _serve(request, coordinator)
    except OrchError as error:
        send(WorkerFailed("; ".join(each.message for each in error.diagnostics)))
    except (OSError, tarfile.TarError) as error:
        send(WorkerFailed(str(error)))


def _project_folder(project: ProjectCopy, coordinator: Coordinator) -> Path:
    """Return a folder with the project's contents, which are fetched if this machine lacks them.

    Raises OSError and tarfile.TarError.
    """
    root = Path(project.root)
    if root.is_dir() and project_digest(root) == project.digest:
        return root
    caches = cache_folder()
    if caches is None:
        raise OSError("there is no folder for caches; set XDG_CACHE_HOME")
    folder = caches / "orch" / "projects" / project.digest
    if not folder.is_dir():
        unpack_project(coordinator.ask_for("project"), folder)
    return folder


def _serve(request: WorkerRequest, coordinator: Coordinator) -> None:
    remote = _remote_project(request, coordinator)
    REMOTE_PROJECT.set(remote)
    with (
        closing(remote.files) if remote is not None and remote.files is not None else nullcontext()
    ):
        _serve_project(request, coordinator, remote)


def _serve_project(
    request: WorkerRequest, coordinator: Coordinator, remote: RemoteProject | None
) -> None:
    masks = ReportingMasker()
    context = _load_context(request, coordinator, masks, remote)
    plan = _plan_run(request, context)
    raise_fd_limit()
    masks.report = coordinator.send
    masker, lock, cancel = EventMasker(masks), threading.Lock(), CancelToken()

    def emit(event: RunEvent) -> None:
        with lock:
            coordinator.send(Events(tuple(masker(event))))
        # what may begin is recorded before, so that a resumed run does not do it again
        if isinstance(event, StepsSent) and not coordinator.ask("recorded"):
            abandon()

    def abandon() -> None:
        transports.reset(connections.abandon)

    transports = _make_transports(
        request, context, coordinator, emit, remote, check=plan.check_mode
    )
    hosts = {**context.stage.hosts, CONTROLLER: controller_host()}
    connections = RelayingConnections(
        hosts,
        transports.connect,
        emit,
        cancel,
        run_id="/".join((*request.outer_runs, plan.run_id)),
        keeps_notes=request.is_resumable,
        delegate_lock=coordinator.delegate_lock,
    )
    relay = ChannelRelay(request.index, coordinator.send, connections.open_here)
    connections.use_relay(relay, request.own_hosts)
    coordinator.relay = relay
    # a process that the coordinator has started writes files as the coordinator does
    downloads = CoordinatorDownloads(coordinator) if request.project is not None else None
    driver = LocalDriver(plan, connections, emit, _run_options(request), downloads)
    server = WorkerServer(
        plan,
        [driver.app_hosts(app_plan) for app_plan in plan.app_plans],
        hosts,
        coordinator,
        cancel,
        on_cancel=lambda: transports.reset(cancel.cancel),
        on_abandon=abandon,
        leave_notes=connections.leave_notes,
        forks=request.forks,
        prepare_thread=partial(REMOTE_PROJECT.set, remote),
        adopt_host=connections.adopt,
    )
    if remote is not None and remote.files is not None:
        remote.files.has_begun = True
    with closing(transports):
        coordinator.send(WorkerReady(plan_digest(plan)))
        server.serve()
    if coordinator.gone_reason:  # it may be heard of again
        coordinator.send(WorkerFailed(f"it lost its coordinator: {coordinator.gone_reason}"))


def _plan_run(request: WorkerRequest, context: ProjectContext) -> Plan:
    """Plan the run as the coordinator has. Raises what a plan of this process raises."""
    plan = request.source.plan(context, request.plan_options, request.environ)
    if context.stage.is_ansible:
        from orchestrator.commands.connections import decrypt_passwords

        decrypt_passwords(context.hosts, plan)
    if request.project is not None:
        with_identity_warnings(plan, context, request.own_hosts)  # this machine's keys are used
    return plan


def _run_options(request: WorkerRequest) -> RunOptions:
    return RunOptions(
        request.forks,
        outer_runs=request.outer_runs,
        lock_owner=request.lock_owner,
        is_resumable=request.is_resumable,
        progress=request.progress,
    )


def _remote_project(request: WorkerRequest, coordinator: Coordinator) -> RemoteProject | None:
    """Return the coordinator's project, or None if this process uses the same folder.

    Raises OSError and tarfile.TarError.
    """
    project = request.project
    if project is None:
        return None
    root, files = str(_project_folder(project, coordinator)), None
    if root != project.root:
        root = str(Path(root).resolve())
    if root != project.root or not request.location or describe_location() != request.location:
        files = CoordinatorFiles(coordinator, root, project.root)
    return RemoteProject(request.folder, root, project.root, files)


def _load_context(
    request: WorkerRequest,
    coordinator: Coordinator,
    masks: ReportingMasker,
    remote: RemoteProject | None,
) -> ProjectContext:
    """Return the project. Raises OrchError."""

    def fetch_secret(secret: Secret) -> str:
        known = request.secrets.get(secret)
        return known if known is not None else str(coordinator.ask_for("secret", secret))

    selector, identity = request.selector, ""
    if request.project is not None and remote is not None:
        selector, identity = replace(selector, directory=remote.root), request.project.identity
    context = load_context(selector, request.environ, "", masks, fetch_secret=fetch_secret)
    return replace(context, identity=identity)


def _make_transports(
    request: WorkerRequest,
    context: ProjectContext,
    coordinator: Coordinator,
    emit: EmitFunction,
    remote: RemoteProject | None,
    *,
    check: bool,
) -> TransportRegistry:
    """Return transports whose questions the coordinator answers."""

    def ask_person(text: str, echo: bool, _stop: threading.Event) -> str | None:
        answer: str | None = coordinator.ask("prompt", text, echo)
        return answer

    def find_answer(prompt: CredentialPrompt) -> tuple[str | None, str]:
        answer: tuple[str | None, str] | None = coordinator.ask("credential", prompt)
        return answer or (None, "the run has ended")

    return make_transports(
        context,
        ask_person if request.has_prompt else None,
        lambda text: emit(Warned(time.time(), text)),
        request.connecting,
        record_host_keys=not check,
        environ={**os.environ, **request.password_files},
        find_answer=find_answer,
        shared_known_hosts=CoordinatorKnownHosts(coordinator, remote) if remote else None,
    )
