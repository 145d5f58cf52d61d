"""Commands that are typed one after the other, and run on the hosts of a stage over kept sessions.

Each command is a run of its own, of an ad-hoc plan. The connections and shells are kept from one to
the next, and so is the working folder of each host.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.commands.cli_args import parse_common_options
from orchestrator.commands.context import PlanOptions, ProjectContext, outer_runs, plan_task
from orchestrator.commands.event_dispatch import EventDispatcher
from orchestrator.commands.invocation import GitState, describe_invocation
from orchestrator.commands.run_plan import check_identity_files, make_transports, raise_fd_limit
from orchestrator.commands.signals import SignalAction, watch_signals
from orchestrator.errors import Diagnostic, ExitCode, OrchError, UsageError
from orchestrator.executor import CancelToken, KeptConnections, RunOptions, execute_plan
from orchestrator.inventory.limit import select_hosts
from orchestrator.journal import CONSOLE_FOLDER, KEPT_COMMANDS, RunJournal, check_private
from orchestrator.model.command import StepCommand, WorkingFolder
from orchestrator.model.event import (
    ConnectFinished,
    ConnectStarted,
    EventSink,
    RunEvent,
    RunFinished,
    StepFinished,
    Warned,
)
from orchestrator.model.host import NO_OVERRIDES, ConnectionOverrides, Host
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.step_result import HostSummary, Status
from orchestrator.output.compared_outputs import ComparedOutputs
from orchestrator.planner.plan import HostPlan, Plan, PlannedStep, ResumedAction
from orchestrator.playbook.adhoc import adhoc_task
from orchestrator.transports.prompts import PromptCallback

OK_HOSTS, FAILED_HOSTS = "ok", "failed"
"""Names of the hosts on which the last command succeeded, and failed."""

_AWAY = frozenset({Status.LOST, Status.UNREACHABLE})
_STOP_SECONDS = 3.0
"""Seconds that hosts have to end a command, before another Ctrl-C closes their connections.

A process that ignores TERM is killed after one."""

_STOPPING = "interrupted: ending the command on the hosts"
_LEAVING = "interrupted again: closing the connections of the hosts that still run it"


class LostHostsError(OrchError):
    """All hosts of a command are lost."""

    exit_code = ExitCode.UNREACHABLE


class ConsoleOptions(Struct, frozen=True):
    """What holds for every command: options of its steps and connections, and ``forks``."""

    forks: int = 100
    connecting: ConnectionOverrides = NO_OVERRIDES
    timeout: str | None = None
    environment: tuple[str, ...] = ()


class HostConsole:
    """The hosts of a console, their connections, and what is known of them between commands.

    ``become_user`` runs the commands ('': the login user). ``lost`` are the hosts that take no part
    until ``reconnect``, with the reason. ``statuses`` and ``outputs`` are of the last command.
    ``is_terminated``: a signal other than Ctrl-C arrived, so the console is to end.
    """

    def __init__(
        self,
        context: ProjectContext,
        environ: Mapping[str, str],
        options: ConsoleOptions,
        prompt: PromptCallback | None,
        warn: Callable[[str], object],
    ) -> None:
        """Check the project's files and the options; nothing is contacted.

        ``prompt`` asks for input that a host requires; ``warn`` is called with warnings that do not
        belong to a command. Raises DefinitionError and UsageError.
        """
        parse_common_options(timeout=options.timeout, environment=options.environment)
        check_private(context.root, environ)
        for warning in check_identity_files(context.hosts):
            warn(warning)
        raise_fd_limit()
        self.context, self._environ, self._options = context, environ, options
        self.become_user = ""
        self.lost: dict[str, str] = {}
        self.statuses: dict[str, Status] = {}
        self.outputs = ComparedOutputs()
        self.is_terminated = False
        self._hosts = context.hosts
        self._folders: dict[str, WorkingFolder] = {}
        self._connecting: set[str] = set()
        self._lost_reasons: dict[str, str] = {}
        self._warn = self._warn_idle = warn
        self.connections = KeptConnections()
        self._transports = make_transports(context, prompt, self._emit_warning, options.connecting)

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Return the selected hosts, lost ones included, in the order of the inventory."""
        return self._hosts

    @property
    def active_hosts(self) -> tuple[Host, ...]:
        """Return the hosts that take part in the next command."""
        return tuple(host for host in self._hosts if host.name not in self.lost)

    def folder_of(self, name: str) -> WorkingFolder:
        """Return the working folder of a host."""
        return self._folders.get(name, WorkingFolder())

    def start_folder(self, name: str) -> WorkingFolder:
        """Return the folder of the next command: home is the home folder of its own user."""
        folder = self.folder_of(name)
        return replace(folder, path="") if folder.is_home else folder

    def shared_folder(self) -> str:
        """Return the working folder of all active hosts, or '' if it is not the same, or home."""
        folders = [self.folder_of(host.name) for host in self.active_hosts]
        paths = {"" if folder.is_home else folder.path for folder in folders}
        return paths.pop() if len(paths) == 1 else ""

    def set_limit(self, limit: str | None) -> None:
        """Select hosts from now on; None: all that the console started with.

        Raises DefinitionError if the limit is invalid, or leaves no host.
        """
        self._hosts = self.context.hosts if limit is None else self._matching_hosts(limit)

    def set_become(self, user: str) -> None:
        """Run commands as this user from now on; '': as the login user. Raises UsageError."""
        parse_common_options(become=user or None)
        self.become_user = user

    def targets(self, selector: str) -> tuple[Host, ...]:
        """Return the active hosts of a selector: a limit, or `ok` or `failed`; '' for all.

        Raises UsageError or DefinitionError if it is invalid or selects no host, LostHostsError if
        all that it selects are lost.
        """
        chosen = self._selected_names(selector)
        hosts = tuple(host for host in self._hosts if host.name in chosen)
        active = tuple(host for host in hosts if host.name not in self.lost)
        if active:
            return active
        if hosts:
            names = fold_hostnames(host.name for host in hosts)
            hint = "`:reconnect` connects lost hosts again"
            raise LostHostsError(Diagnostic(f"no host is connected: {names}", None, hint))
        message = f"@{selector}: none of the {len(self._hosts)} selected hosts"
        hint = "`:hosts` lists them; `:limit` selects all again"
        raise UsageError(Diagnostic(message, None, hint))

    def _selected_names(self, selector: str) -> set[str]:
        if not selector:
            return {host.name for host in self._hosts}
        if selector not in (OK_HOSTS, FAILED_HOSTS):
            return {host.name for host in self._matching_hosts(selector)}
        wants_failed = selector == FAILED_HOSTS
        names = {n for n, status in self.statuses.items() if status.is_failure is wants_failed}
        if not names:
            how = "failed" if wants_failed else "succeeded"
            before = f"the last command {how} on no host" if self.statuses else "no command ran yet"
            raise UsageError(Diagnostic(f"@{selector}: {before}"))
        return names

    def _matching_hosts(self, limit: str) -> tuple[Host, ...]:
        """Return the hosts of a limit that the console started with. Raises DefinitionError."""
        found = {host.name for host in select_hosts(self.context.stage, limit)}
        hosts = tuple(host for host in self.context.hosts if host.name in found)
        if not hosts:
            message = (
                f"'{limit}' selects none of the {len(self.context.hosts)} hosts of the console"
            )
            raise UsageError(Diagnostic(message, None, "`:hosts` lists the selected ones"))
        return hosts

    def run_line(self, line: str, hosts: Sequence[Host], sink: EventSink) -> ExitCode:
        """Run a command line on these hosts, each in its working folder; the sink is closed."""
        plan = self._plan_line(line, hosts, readonly=False)
        folders = {host.name: self.start_folder(host.name) for host in hosts}
        journal = RunJournal(
            self.context.root,
            self._environ,
            self._emit_warning,
            KEPT_COMMANDS,
            CONSOLE_FOLDER,
            about=self._describe_line(line),
        )
        options = RunOptions(
            self._options.forks,
            keep_going=True,
            skip_unreachable=True,
            outer_runs=outer_runs(self._environ),
        )
        return self._run(plan_in_folders(plan, folders), (journal, self.outputs, sink), options)

    def connect(self, hosts: Sequence[Host], sink: EventSink) -> None:
        """Connect these hosts, without a record; those that are unreachable count as lost."""
        for host in hosts:
            self.lost.pop(host.name, None)
        statuses = self.statuses
        options = RunOptions(self._options.forks, keep_going=True)
        self._run(self._plan_line(":", hosts, readonly=True), (sink,), options)
        self.statuses = statuses

    def run_plan(self, plan: Plan, sink: EventSink, options: RunOptions) -> ExitCode:
        """Run the plan of tasks over the kept connections, recorded as any run."""
        journal = RunJournal(
            self.context.root,
            self._environ,
            self._emit_warning,
            self.context.stage.keep_runs,
            about=describe_invocation(self.context),
            describe_end=GitState(self.context.root).result,
        )
        return self._run(plan, (journal, sink), options)

    def context_of(self, hosts: Sequence[Host]) -> ProjectContext:
        """Return the context of the console with only these hosts selected."""
        return replace(self.context, hosts=tuple(hosts))

    def close(self) -> None:
        """Close all connections."""
        self.connections.close()
        self._transports.close()

    def _describe_line(self, line: str) -> dict[str, Any]:
        """Return the fields of a command's record; the line follows the words of the console."""
        about = describe_invocation(self.context)
        return about | {"argv": [*about["argv"], self.context.secrets.masker.mask_text(line)]}

    def _emit_warning(self, text: str) -> None:
        self._warn(text)

    def _plan_line(self, line: str, hosts: Sequence[Host], *, readonly: bool) -> Plan:
        options = PlanOptions(
            common=parse_common_options(
                become=self.become_user or None,
                timeout=self._options.timeout,
                environment=self._options.environment,
            )
        )
        task = adhoc_task([line], readonly=readonly)
        return plan_task(self.context_of(hosts), task, options, self._environ)

    def _run(self, plan: Plan, sinks: Sequence[EventSink], options: RunOptions) -> ExitCode:
        """Run the plan over the kept connections; a journal, if any, is the first of the sinks."""
        journal = sinks[0] if isinstance(sinks[0], RunJournal) else None
        cancel = CancelToken()
        self._lost_reasons = {}
        emit = EventDispatcher(
            sinks,
            get_log_path=lambda: str(journal.folder) if journal and journal.folder else "",
            on_output_lost=cancel.cancel,
            masks=self.context.secrets.masker,
        )

        def note_and_emit(event: RunEvent) -> None:
            self._note_event(event)
            emit(event)

        began_to_stop: list[float] = []

        def on_signal(number: int, act: SignalAction) -> None:
            self.is_terminated = self.is_terminated or number != signal.SIGINT
            now = time.monotonic()
            if act is SignalAction.BEGIN:
                began_to_stop.append(now)
                self._begin_stop(cancel)
            elif act is not SignalAction.NOTHING and now - began_to_stop[0] >= _STOP_SECONDS:
                self._give_up()

        self._warn = lambda text: emit(Warned(time.time(), text))
        with watch_signals(on_signal):
            try:
                return execute_plan(
                    plan,
                    self.context.stage.hosts,
                    self._transports.connect,
                    note_and_emit,
                    options=options,
                    cancel=cancel,
                    kept=self.connections,
                )
            finally:
                self._warn = self._warn_idle
                emit.close()

    def _begin_stop(self, cancel: CancelToken) -> None:
        """End the running command on all hosts."""
        self._warn(_STOPPING)
        if self._connecting:
            self._transports.reset(cancel.cancel)
        else:
            cancel.cancel()

    def _give_up(self) -> None:
        """Close the connections of the hosts that still run the command."""
        self._warn(_LEAVING)
        self.connections.disconnect()

    def _note_event(self, event: RunEvent) -> None:
        match event:
            case ConnectStarted(host=host):
                self._connecting.add(host)
            case ConnectFinished(host=host):
                self._connecting.discard(host)
            case StepFinished(host=host, outcome=outcome):
                self._lost_reasons[host] = outcome.reason
                if outcome.folder is not None:
                    self._folders[host] = outcome.folder
            case RunFinished():
                self._note_rows(event.rows)

    def _note_rows(self, rows: Iterable[HostSummary]) -> None:
        self.statuses = {}
        for row in rows:
            worst = self.statuses.get(row.host, row.status)
            self.statuses[row.host] = min(worst, row.status, key=lambda s: s.severity_rank)
            if row.status in _AWAY:
                self.lost[row.host] = self._lost_reasons.get(row.host) or row.reason


def plan_in_folders(plan: Plan, folders: Mapping[str, WorkingFolder]) -> Plan:
    """Return the plan of an ad-hoc command, which starts in the folder of its host."""
    (app_plan,) = plan.app_plans
    (planned_task,) = app_plan.planned_tasks
    hosts = tuple(_host_in_folder(host, folders[host.host]) for host in planned_task.hosts)
    planned_task = replace(planned_task, hosts=hosts)
    return replace(plan, app_plans=(replace(app_plan, planned_tasks=(planned_task,)),))


def _host_in_folder(host: HostPlan, folder: WorkingFolder) -> HostPlan:
    def in_folder(action: ResumedAction) -> ResumedAction:
        return replace(action, folder=folder) if isinstance(action, StepCommand) else action

    def step_in_folder(step: PlannedStep) -> PlannedStep:
        resume = step.resume  # if the environment depends on facts
        if resume is not None:
            return replace(step, resume=lambda results: in_folder(resume(results)))
        command = step.command and replace(step.command, folder=folder)
        return replace(step, command=command)

    steps = tuple(map(step_in_folder, host.program.steps))
    return replace(host, program=replace(host.program, steps=steps))
