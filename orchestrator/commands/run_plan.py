"""Carrying a plan out: journal, sinks, transports and signals around the executor.

How many files this process may have open.

Identity files that the inventory names and this machine does not have.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.commands.context import ProjectContext
from orchestrator.commands.event_dispatch import EventDispatcher
from orchestrator.commands.signals import handle_interrupts
from orchestrator.errors import Diagnostic, DiagnosticCollector, ExitCode, SourcePosition
from orchestrator.executor import CancelToken, RunOptions, execute_plan
from orchestrator.journal import STATE_FOLDER, RunJournal, check_private
from orchestrator.model.event import EventSink, RunEvent, StepFinished, StepStarted, Warned
from orchestrator.model.host import Host
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.planner.plan import Plan
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports.prompts import PromptCallback
from orchestrator.transports.registry import TransportRegistry
from orchestrator.yamlio.local_files import expand_home, path_exists

_QUIT_HINT = "Ctrl-C again, a second later or more: leave at once, nothing is rolled back then"
_QUIT_NOW_HINT = "one more, a second later or more: leave at once, nothing is rolled back then"


class UserInterface(Struct, frozen=True):
    """Who sits at the terminal. ``prompt`` asks for what a host wants to know, a password say;
    None where nobody sits there.
    ``on_abort`` is told, right before a signal ends the process at once, the hosts that are still in
    the middle of a step, with that step.
    """

    prompt: PromptCallback | None
    on_abort: Callable[[Mapping[str, str]], None]


def run_plan(
    plan: Plan,
    context: ProjectContext,
    options: RunOptions,
    sink: EventSink,
    environ: Mapping[str, str],
    user_interface: UserInterface,
    ssh_config: str | None = None,
) -> ExitCode:
    """Run the plan; the exit code it comes to. The sink is closed in any case.

    ``ssh_config`` is read in place of the user's and the system's.
    """
    check_private(context.root, environ)
    identity_warnings = check_identity_files(context.stage.hosts[name] for name in plan.hosts)
    plan = (
        replace(plan, warnings=(*plan.warnings, *identity_warnings)) if identity_warnings else plan
    )
    raise_fd_limit()
    cancel, running_steps = CancelToken(), RunningStepsSink()
    journal = RunJournal(context.root, environ, lambda text: emit(Warned(time.time(), text)))
    emit = EventDispatcher(
        (running_steps, journal, sink),
        get_log_path=lambda: str(journal.folder) if journal.folder else "",
        on_output_lost=cancel.cancel,
        masks=context.secrets.masker,
    )

    def warn(text: str) -> None:
        emit(Warned(time.time(), text))

    connectors = InterruptibleConnector(
        _connector_factory(plan, context, user_interface.prompt, warn, ssh_config)
    )

    def on_first_interrupt() -> None:
        emit(Warned(time.time(), f"interrupted: ending what runs ({_QUIT_HINT})"))
        connectors.interrupt(cancel)

    def on_repeated_interrupt(name: str) -> None:
        emit(Warned(time.time(), f"{name}: interrupted already, still ending ({_QUIT_NOW_HINT})"))

    def on_abort() -> None:
        sink.close()
        user_interface.on_abort(dict(running_steps.steps))

    with handle_interrupts(on_first_interrupt, on_repeated_interrupt, on_abort):
        try:
            return execute_plan(
                plan,
                context.stage.hosts,
                connectors.connect,
                emit,
                options=options,
                cancel=cancel,
            )
        finally:
            try:
                emit.close()
            finally:
                connectors.close()


def _connector_factory(
    plan: Plan,
    context: ProjectContext,
    prompt: PromptCallback | None,
    warn: Callable[[str], object],
    ssh_config: str | None,
) -> Callable[[TransportRegistry | None], TransportRegistry]:
    """Return what makes a connector of the run, also after another."""
    sandbox = context.root / STATE_FOLDER / "sandbox" / context.stage.name

    def make_connector(previous: TransportRegistry | None) -> TransportRegistry:
        return TransportRegistry(
            record_host_keys=not plan.check_mode,
            sandbox_folder=sandbox,
            hosts=context.stage.hosts,
            prompt_user=prompt,
            on_secret=context.secrets.masker.add_secret,
            warn=warn,
            previous=previous,
            ssh_config=ssh_config,
        )

    return make_connector


class InterruptibleConnector:
    """A process's connections to hosts, of which an interrupt ends those that are being made.
    ``make_connector`` makes what connects, also after another."""

    def __init__(
        self, make_connector: Callable[[TransportRegistry | None], TransportRegistry]
    ) -> None:
        self._make_connector, self._connectors = make_connector, [make_connector(None)]

    def connect(self, host: Host) -> Connection:
        """Connect. Raises ConnectError."""
        return self._connectors[-1].connect(host)

    def interrupt(self, cancel: CancelToken) -> None:
        """Set ``cancel`` and end what is pending."""
        self._connectors.append(
            self._make_connector(self._connectors[0])
        )  # what undoes may have to connect again
        cancel.cancel()
        self._connectors[0].cancel()

    def close(self) -> None:
        """End all connections."""
        for each in self._connectors:
            each.close()


class RunningStepsSink:
    """A sink that knows which hosts are in the middle of which step."""

    def __init__(self) -> None:
        self.steps: dict[str, str] = {}

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, StepStarted):
            self.steps[event.host] = f"{event.task}: {event.name}"
        elif isinstance(event, StepFinished):
            self.steps.pop(event.host, None)

    def close(self) -> None:
        """Nothing to let go."""


def raise_fd_limit() -> None:
    """Let this process hold as many connections as the system lets it: each is a file or two,
    and the usual soft limit of 1024 is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 65536 if hard == resource.RLIM_INFINITY else hard
    if soft not in (limit, resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


_IDENTITY_HINT = "is the path right? it is a file of this machine"


def check_identity_files(hosts: Iterable[Host]) -> tuple[str, ...]:
    """Look for the identity files of these hosts, before any of them is connected to.

    One of a host's files is enough. Return a warning for each setting of which no file exists,
    where an agent may still hold the key. Raises DefinitionError where `identities_only` rules
    that out.
    """
    is_usable = cache(lambda names: any(map(_is_usable, names)))  # hosts share them
    missing: dict[tuple[str, ...], list[Host]] = {}
    for host in hosts:
        names = host.connect.identity
        if host.connect.transport in ("ssh", "openssh") and names and not is_usable(names):
            missing.setdefault((str(_identity_position(host)), *names), []).append(host)
    diagnostics = DiagnosticCollector()
    warnings: list[str] = []
    for (_, *files), affected_hosts in missing.items():
        mark = _identity_position(affected_hosts[0])
        host_list = fold_hostnames(host.name for host in affected_hosts)
        message = (
            f"{' and '.join(files)} {'does' if len(files) == 1 else 'do'} not exist: {host_list}"
        )
        if all(host.connect.identities_only for host in affected_hosts):
            diagnostics.diagnostics.append(Diagnostic(message, mark, _IDENTITY_HINT))
        else:
            warnings.append(f"{message} ({mark})")
    diagnostics.raise_any()
    return tuple(warnings)


def _is_usable(name: str) -> bool:
    """Return False for a file that does not exist, nor its public part, whose key an agent may
    hold. A name with tokens (ssh_config(5), TOKENS) is left to ssh."""
    if "%" in name or "$" in name or name.lower() == "none":
        return True
    path = expand_home(name)
    return path_exists(path) or path_exists(Path(f"{path}.pub"))


def _identity_position(host: Host) -> SourcePosition:
    """Return where the strongest layer sets the identity."""
    written = [layer.connect["identity"] for layer in host.layers if "identity" in layer.connect]
    return written[-1].mark if written else host.mark
