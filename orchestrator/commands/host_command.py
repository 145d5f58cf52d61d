"""Run a user's command, or a login shell, on one host, outside of the steps of a run."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from msgspec import Struct

from orchestrator.commands.context import PlanOptions, ProjectContext, plan_task
from orchestrator.commands.run_plan import check_identity_files, make_transports
from orchestrator.errors import (
    ConnectError,
    DefinitionError,
    Diagnostic,
    SourcePosition,
    UsageError,
)
from orchestrator.journal import check_private
from orchestrator.model.command import StepCommand
from orchestrator.model.host import NO_OVERRIDES, ConnectionOverrides, Host
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.shell_quoting import always_shell_quote
from orchestrator.planner.plan import Plan
from orchestrator.playbook.adhoc import adhoc_task, command_text
from orchestrator.remote_shell.channel_protocol import (
    CommandChannel,
    Connection,
    ReadChunk,
    Terminal,
)
from orchestrator.remote_shell.start_script import FIND_LOGIN_SHELL, StartScript
from orchestrator.transports.prompts import PromptCallback

_SIGNAL_TIMEOUT = 3.0  # seconds for a host to send a signal to a command
_SETS_VARIABLE = re.compile(r"^export ", re.MULTILINE)


class HostCommand(Struct, frozen=True):
    """What to run on a host.

    ``user`` is the become user, '' for the login user. ``text`` is the shell text to run; '' is the
    login shell as sshd starts it on a terminal.
    """

    host: Host
    user: str
    text: str


def only_host(hosts: Sequence[Host], pattern: str) -> Host:
    """Return the only host that the pattern selected. Raises UsageError if there are several."""
    if len(hosts) == 1:
        return hosts[0]
    names = fold_hostnames(host.name for host in hosts)
    message = f"'{pattern}' selects {len(hosts)} hosts, and a shell runs on one: {names}"
    hint = "name one of them; `orch exec` runs a command on several hosts"
    raise UsageError(Diagnostic(message, None, hint))


def plan_host_command(
    context: ProjectContext,
    host: Host,
    command: Sequence[str],
    options: PlanOptions,
    environ: Mapping[str, str],
    *,
    on_terminal: bool,
) -> HostCommand:
    """Return how to run the command, or a shell if it is empty, with the settings of a step.

    Several words are one command, each an argument; a single word is shell text. Raises
    DefinitionError with all errors.
    """
    words = command or (":",)
    task = adhoc_task(words, readonly=False)
    user, planned = _only_step(plan_task(context, task, options, environ), host)
    own = command_text(words)
    settings = planned.text.removesuffix(own)
    shell = host.connect.shell
    if command:
        text = f"{settings}exec {shell} -c {always_shell_quote(own)}"
    elif host.connect.is_set("shell"):
        text = f"{settings}exec {shell}"
    elif settings or user or not on_terminal:
        # the profile that a login shell reads often sets PATH, which would override the variables
        option = "" if _SETS_VARIABLE.search(settings) else " -l"
        text = f'{FIND_LOGIN_SHELL}{settings}exec "$SHELL"{option}'
    else:
        text = ""
    return HostCommand(host, user, text)


def _only_step(plan: Plan, host: Host) -> tuple[str, StepCommand]:
    """Return the become user and the command of the plan's only step. Raises DefinitionError."""
    steps = [
        step
        for app_plan in plan.app_plans
        for planned_task in app_plan.planned_tasks
        for host_plan in planned_task.hosts
        for step in host_plan.steps
    ]
    if len(steps) != 1:
        message = f"the apps of --app have {len(steps)} environments on {host.name}"
        raise DefinitionError(Diagnostic(message, SourcePosition("--app"), "name one app"))
    if steps[0].command is None:
        names = ", ".join(f"`{name}`" for name in steps[0].awaited_names)
        message = f"the environment of {host.name} depends on {names}, which only a run collects"
        raise DefinitionError(Diagnostic(message, host.mark, "use `orch exec` for one command"))
    return steps[0].user, steps[0].command


class StartedCommand(Struct, frozen=True):
    """A command that runs on a host.

    ``output`` is what it has printed so far. ``send_signal`` sends it a signal, by its name without
    ``SIG``, over another channel; SSH has a request for that, which sshd refuses for root.
    """

    channel: CommandChannel
    output: ReadChunk
    send_signal: Callable[[str], None]


class HostCommandRunner:
    """The connection of one command. ``cancel`` may be called by another thread."""

    def __init__(
        self,
        context: ProjectContext,
        command: HostCommand,
        environ: Mapping[str, str],
        prompt: PromptCallback | None,
        warn: Callable[[str], object],
        connecting: ConnectionOverrides = NO_OVERRIDES,
    ) -> None:
        """Check local files; connect later. Raises DefinitionError.

        ``prompt`` asks the user, None if nobody can be asked. ``warn`` is called with warnings.
        """
        check_private(context.root, environ)
        self._command = command
        for text in check_identity_files((command.host,)):
            warn(text)
        self._transports = make_transports(context, prompt, warn, connecting)
        self._connection: Connection | None = None

    def cancel(self) -> None:
        """Cancel the connection, or close it; ``start`` then raises ConnectError."""
        self._transports.cancel()
        if self._connection is not None:
            self._connection.close()

    @contextmanager
    def start(self, terminal: Terminal | None) -> Iterator[StartedCommand]:
        """Connect, start the command and yield it; disconnect afterwards. Raises ConnectError."""
        host = self._command.host
        try:
            connection = self._connection = self._transports.connect(host)
            try:
                yield self._start(connection, terminal)
            except ConnectError as error:
                raise error.with_endpoint(connection.endpoint) from error
        finally:
            self._transports.close()

    def _start(self, connection: Connection, terminal: Terminal | None) -> StartedCommand:
        text, user = self._command.text, self._command.user
        timeout = self._command.host.connect.timeout
        if not text:
            channel = connection.start_command("", terminal)
            return StartedCommand(channel, ReadChunk(), lambda _name: None)
        script = StartScript(text, on_terminal=terminal is not None)
        channel = connection.start_command(script.command, terminal, user)
        shell = script.send(channel, timeout)

        def send_signal(name: str) -> None:
            kill = f"sh -c 'kill -s {name} -- -{shell.pid} || kill -s {name} {shell.pid}'"
            with suppress(ConnectError, OSError):  # the connection is gone, and so is the command
                _wait_for_end(connection.start_command(kill, None, user))

        return StartedCommand(channel, shell.output, send_signal)


def _wait_for_end(channel: CommandChannel) -> None:
    deadline = time.monotonic() + _SIGNAL_TIMEOUT
    while not channel.read(max(0.0, deadline - time.monotonic())).eof:
        if time.monotonic() >= deadline:
            break
    channel.close()
