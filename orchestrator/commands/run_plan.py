"""Runs a plan: journal, sinks, transports and signal handling around the executor.

Also raises the limit of open files, and checks that identity files of the inventory exist.
"""

from __future__ import annotations

import hashlib
import os
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.commands.context import ProjectContext
from orchestrator.commands.event_dispatch import EventDispatcher
from orchestrator.commands.invocation import GitState, describe_invocation
from orchestrator.commands.signals import handle_interrupts
from orchestrator.errors import Diagnostic, DiagnosticCollector, ExitCode, SourcePosition
from orchestrator.executor import CancelToken, RunOptions, execute_plan
from orchestrator.journal import STATE_FOLDER, RunJournal, check_private
from orchestrator.model.event import EventSink, RunEvent, StepFinished, StepStarted, Warned
from orchestrator.model.host import NO_OVERRIDES, SSH_TRANSPORTS, ConnectionOverrides, Host
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.text_encoding import encode_text
from orchestrator.planner.plan import Plan
from orchestrator.transports.prompts import AnswerSource, PromptCallback
from orchestrator.transports.registry import TransportRegistry
from orchestrator.yamlio.local_files import expand_home, path_exists

if TYPE_CHECKING:
    from orchestrator.commands.resume import ResumeRequest
    from orchestrator.executor.worker_hosts import Workers
    from orchestrator.transports.ssh.shared_known_hosts import SharedKnownHosts

_QUIT_HINT = "press Ctrl-C again after a second to exit immediately, without rollback"
_QUIT_NOW_HINT = "one more after a second exits immediately, without rollback"


class UserInterface(Struct, frozen=True):
    """The interactive user.

    ``prompt`` asks for input that a host requires, for example a password; None if not interactive.
    ``on_abort`` is called right before a signal ends the process at once, with the hosts that are
    running a step, and the step.
    """

    prompt: PromptCallback | None
    on_abort: Callable[[Mapping[str, str]], None]


class RunEngine(Protocol):
    """Drives the hosts of a run in other processes.

    ``uses_own_keys``: they are on other machines, with keys of their own.
    """

    @property
    def uses_own_keys(self) -> bool:
        """Return True if the keys of this machine are not used."""

    def start(
        self,
        plan: Plan,
        context: ProjectContext,
        options: RunOptions,
        *,
        prompt: PromptCallback | None,
        connecting: ConnectionOverrides,
    ) -> AbstractContextManager[Workers | None]:
        """Start the workers of a run, and end them afterwards; None if there are to be none.

        Raises UsageError.
        """


def run_plan(
    plan: Plan,
    context: ProjectContext,
    options: RunOptions,
    sink: EventSink,
    environ: Mapping[str, str],
    user_interface: UserInterface,
    connecting: ConnectionOverrides = NO_OVERRIDES,
    resumed: ResumeRequest | None = None,
    engine: RunEngine | None = None,
    *,
    is_recorded: bool = True,
) -> ExitCode:
    """Run the plan and return the exit code. The sink is always closed.

    ``connecting`` replaces settings of the hosts' connections. ``resumed`` is the run that
    goes on, if it is not a new one. ``engine`` drives the hosts in other processes. Without
    ``is_recorded``, the run is not one that others can refer to. Raises UsageError if the engine
    cannot be used.
    """
    check_private(context.root, environ)
    if engine is None or not engine.uses_own_keys:
        plan = with_identity_warnings(plan, context, plan.hosts)
    raise_fd_limit()
    cancel, running_steps = CancelToken(), RunningStepsSink()

    def warn(text: str) -> None:
        emit(Warned(time.time(), text))

    about = describe_plan(plan, context.secrets.masker.mask_text)
    about["is_resumable"] = options.is_resumable
    journal = _make_journal(context, environ, warn, about, resumed) if is_recorded else None
    emit = EventDispatcher(
        (running_steps, *((journal,) if journal else ()), sink),
        get_log_path=lambda: str(journal.folder) if journal and journal.folder else "",
        on_output_lost=cancel.cancel,
        masks=context.secrets.masker,
    )
    transports = make_transports(
        context,
        user_interface.prompt,
        warn,
        connecting,
        record_host_keys=not plan.check_mode,
    )

    def on_first_interrupt() -> None:
        warn(f"interrupted: stopping running steps ({_QUIT_HINT})")
        transports.reset(cancel.cancel)  # a rollback may have to connect again

    def on_repeated_interrupt(name: str) -> None:
        warn(f"{name}: already interrupted, still stopping ({_QUIT_NOW_HINT})")

    def on_abort() -> None:
        sink.close()
        user_interface.on_abort(dict(running_steps.steps))

    with (
        handle_interrupts(on_first_interrupt, on_repeated_interrupt, on_abort),
        closing(transports),
        closing(emit),
        _start_workers(
            engine, plan, context, options, prompt=user_interface.prompt, connecting=connecting
        ) as workers,
    ):
        return execute_plan(
            plan,
            context.stage.hosts,
            transports.connect,
            emit,
            options=options,
            cancel=cancel,
            workers=workers,
        )


def with_identity_warnings(plan: Plan, context: ProjectContext, hosts: Iterable[str]) -> Plan:
    """Return the plan with a warning for each identity file of these hosts that does not exist.

    Raises DefinitionError if a host cannot be logged in to without such a file.
    """
    warnings = check_identity_files(context.stage.hosts[name] for name in hosts)
    return replace(plan, warnings=(*plan.warnings, *warnings))


def _start_workers(
    engine: RunEngine | None,
    plan: Plan,
    context: ProjectContext,
    options: RunOptions,
    *,
    prompt: PromptCallback | None,
    connecting: ConnectionOverrides,
) -> AbstractContextManager[Workers | None]:
    if engine is None:
        return nullcontext()
    return engine.start(plan, context, options, prompt=prompt, connecting=connecting)


def describe_plan(plan: Plan, mask: Callable[[str], str]) -> dict[str, Any]:
    """Return the fields of a run's record that say what was planned."""
    digest, masked = hashlib.sha256(), dict[str, bytes]()
    for app_plan in plan.app_plans:
        for number, task in enumerate(app_plan.planned_tasks, start=1):
            digest.update(encode_text(f"{app_plan.app}\0{number}\0{task.task}\0"))
            for host in task.hosts:
                digest.update(encode_text(f"{host.host}\0"))
                for step in host.steps:
                    text = step.display_text
                    if text not in masked:
                        masked[text] = encode_text(mask(text))
                    digest.update(masked[text])
    return {"changes": plan.changes, "plan_digest": digest.hexdigest(), "folder": working_folder()}


def working_folder() -> str:
    """Return orch's working folder, or '' if it was removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _make_journal(
    context: ProjectContext,
    environ: Mapping[str, str],
    warn: Callable[[str], None],
    about: Mapping[str, Any],
    resumed: ResumeRequest | None,
) -> RunJournal:
    return RunJournal(
        context.root,
        environ,
        warn,
        context.stage.keep_runs,
        about={**describe_invocation(context), **about},
        describe_end=GitState(context.root).result,
        resumed=(resumed.run.folder, resumed.events) if resumed else None,
    )


def make_transports(
    context: ProjectContext,
    prompt: PromptCallback | None,
    warn: Callable[[str], object],
    connecting: ConnectionOverrides,
    *,
    record_host_keys: bool = True,
    environ: Mapping[str, str] | None = None,
    find_answer: AnswerSource | None = None,
    shared_known_hosts: SharedKnownHosts | None = None,
) -> TransportRegistry:
    """Return the transports of a stage's hosts; the arguments are those of the registry."""
    return TransportRegistry(
        record_host_keys=record_host_keys,
        environ=environ,
        find_answer=find_answer,
        shared_known_hosts=shared_known_hosts,
        sandbox_folder=context.root / STATE_FOLDER / "sandbox" / context.stage.name,
        hosts=context.stage.hosts,
        prompt_user=prompt,
        on_secret=context.secrets.masker.add_secret,
        warn=warn,
        ssh_config=connecting.ssh_config,
        persist=connecting.persist,
        project=context.root,
    )


class RunningStepsSink:
    """A sink that records which step each host is running."""

    def __init__(self) -> None:
        """Start without running steps."""
        self.steps: dict[str, str] = {}

    def __call__(self, event: RunEvent) -> None:
        """Update the running steps."""
        if isinstance(event, StepStarted):
            self.steps[event.host] = f"{event.task}: {event.name}"
        elif isinstance(event, StepFinished):
            self.steps.pop(event.host, None)

    def close(self) -> None:
        """Do nothing."""


def raise_fd_limit() -> None:
    """Raise the soft limit of open files to the hard limit.

    Each connection needs one or two files, and the usual soft limit of 1024 is only for programs
    that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 65536 if hard == resource.RLIM_INFINITY else hard
    if soft not in (limit, resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


_IDENTITY_HINT = "check the path; it is a file on this machine"


def check_identity_files(hosts: Iterable[Host]) -> tuple[str, ...]:
    """Check that the identity files of these hosts can be read, before any host is connected.

    One of a host's files is sufficient. Return a warning for each setting of which no file can be,
    if an agent may still have the key. Raises DefinitionError if `identities_only` excludes that.
    """
    is_usable = cache(lambda names: any(map(_is_usable, names)))  # cached because hosts share them
    missing: dict[tuple[str, ...], list[Host]] = {}
    for host in hosts:
        names = host.connect.identity
        if host.connect.transport in SSH_TRANSPORTS and names and not is_usable(names):
            missing.setdefault((str(_identity_position(host)), *names), []).append(host)
    diagnostics = DiagnosticCollector()
    warnings: list[str] = []
    for (_, *files), affected_hosts in missing.items():
        mark = _identity_position(affected_hosts[0])
        host_list = fold_hostnames(host.name for host in affected_hosts)
        kind, verb = ("file", "does") if len(files) == 1 else ("files", "do")
        is_there = any(path_exists(expand_home(name)) for name in files)
        problem = "cannot be read" if is_there else f"{verb} not exist"
        message = f"the key {kind} {' and '.join(files)} {problem}: {host_list}"
        if all(host.connect.identities_only for host in affected_hosts):
            diagnostics.diagnostics.append(Diagnostic(message, mark, _IDENTITY_HINT))
        else:
            warnings.append(f"{message} ({mark})")
    diagnostics.raise_any()
    return tuple(warnings)


def _is_usable(name: str) -> bool:
    """Return False if the file cannot be read, and its public part does not exist.

    An agent may have the key of a public part. A name with tokens (ssh_config(5), TOKENS) is left
    to ssh.
    """
    if "%" in name or "$" in name or name.lower() == "none":
        return True
    path = expand_home(name)
    if path_exists(Path(f"{path}.pub")):
        return True
    return path_exists(path) and os.access(path, os.R_OK)


def _identity_position(host: Host) -> SourcePosition:
    """Return where the layer of highest precedence sets the identity."""
    written = [layer.connect["identity"] for layer in host.layers if "identity" in layer.connect]
    return written[-1].mark if written else host.mark
