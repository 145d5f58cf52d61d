"""Checks every host of a stage: connectivity, and the requirements of steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.commands.context import ProjectContext
from orchestrator.commands.doctor_checks import (
    DIGEST_TOOLS,
    MODULE_TOOLS,
    PROCESS_GROUP_TOOLS,
    STEP_TOOLS,
    DoctorReport,
    HostRequirements,
    RequirementsFinder,
    become_findings,
    clock_findings,
    disk_findings,
    tool_findings,
)
from orchestrator.commands.run_plan import UserInterface, raise_fd_limit
from orchestrator.commands.signals import handle_interrupts
from orchestrator.errors import ConnectError, ExitCode
from orchestrator.executor import CancelToken
from orchestrator.journal import STATE_FOLDER, check_private
from orchestrator.model.command import StepCommand
from orchestrator.model.condition import ConstantCondition
from orchestrator.model.host import Host
from orchestrator.model.host_check import (
    CONNECTION_CHECKS,
    HOST_CHECKS,
    HealthFinding,
    HostCheck,
    HostHealth,
)
from orchestrator.model.shell_quoting import shell_quote
from orchestrator.model.text_encoding import decode_bytes
from orchestrator.modules import MODULES_FOLDER
from orchestrator.remote_shell import CommandResult, SessionLostError, ShellSession
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports.connection_info import ConnectionInfo, ConnectionInspector
from orchestrator.transports.registry import TransportRegistry

_ANSWER_TIMEOUT = 20.0  # seconds for a host to reply; a network file system may hang
_MAX_ANSWER_BYTES = 1 << 16  # maximum size of a reply
_CHECK_BY_PHASE = {  # the check that failed, by the phase of a ConnectError
    "ssh_config": "resolve", "resolve": "resolve", "connect": "reach", "banner": "reach",
    "kex": "reach", "host key": "key", "auth": "auth",
}  # fmt: skip
_LOGIN_KEYWORDS = frozenset(
    "gssapiauthentication hostbasedauthentication pkcs11provider securitykeyprovider".split()
)
"""Login methods that do not matter if another one succeeded."""


class DoctorResult(Struct, frozen=True):
    """Results in the order of the stage's hosts.

    ``tasks_unreadable``: the tasks have errors, so their requirements are unknown.
    """

    host_checks: tuple[HostCheck, ...]
    exit_code: ExitCode
    tasks_unreadable: bool = False


def check_hosts(
    context: ProjectContext,
    *,
    forks: int,
    environ: Mapping[str, str],
    user_interface: UserInterface,
    ssh_config: str | None,
) -> DoctorResult:
    """Check all hosts, ``forks`` in parallel. Nothing is changed on hosts, nor in known_hosts.

    The first Ctrl-C ends the checks with the results so far, a second one at once.
    """
    if any(host.connect.transport == "sandbox" for host in context.hosts):
        check_private(context.root, environ)
    raise_fd_limit()
    cancel, stop = CancelToken(), threading.Event()
    connector = TransportRegistry(
        record_host_keys=False,
        sandbox_folder=context.root / STATE_FOLDER / "sandbox" / context.stage.name,
        environ=environ,
        hosts=context.stage.hosts,
        prompt_user=user_interface.prompt,
        on_secret=context.secrets.masker.add_secret,
        ssh_config=ssh_config,
    )

    def stop_checks() -> None:
        stop.set()
        cancel.cancel()
        connector.cancel()

    connection_inspector = ConnectionInspector(environ, context.stage.hosts, stop, ssh_config)
    requirements_finder = RequirementsFinder(context.root)

    def inspect_host(host: Host) -> HostCheck:
        return HostInspector(
            host, requirements_finder.requirements_of(host), connector, connection_inspector, cancel
        ).inspect()

    with handle_interrupts(stop_checks, lambda _: None, lambda: user_interface.on_abort({})):
        try:
            with ThreadPoolExecutor(forks) as pool:
                host_checks = tuple(pool.map(inspect_host, context.hosts))
        finally:
            connector.close()
    return DoctorResult(
        host_checks,
        _exit_code(host_checks, interrupted=cancel.is_cancelled),
        requirements_finder.tasks_unreadable,
    )


def _exit_code(host_checks: tuple[HostCheck, ...], *, interrupted: bool) -> ExitCode:
    states = {host_check.state for host_check in host_checks}
    if interrupted:
        return ExitCode.INTERRUPTED
    if HostHealth.FAILS in states:
        return ExitCode.FAILED
    return ExitCode.UNREACHABLE if HostHealth.UNREACHABLE in states else ExitCode.OK


class HostInspector:
    """Checks a single host."""

    def __init__(
        self,
        host: Host,
        requirements: HostRequirements,
        connector: TransportRegistry,
        connection_inspector: ConnectionInspector,
        cancel: CancelToken,
    ) -> None:
        """Share what the checks of all hosts use."""
        self._host, self._requirements = host, requirements
        self._connector, self._connection_inspector, self._cancel = (
            connector,
            connection_inspector,
            cancel,
        )
        self._connection_info = ConnectionInfo()

    def inspect(self) -> HostCheck:
        """Check the host and return the result."""
        host_check = HostCheck(
            self._host.name, HostHealth.INTERRUPTED, self._host.connect.transport
        )
        if self._cancel.is_cancelled:
            return host_check
        try:
            self._connection_info = self._connection_inspector.inspect(self._host)
            host_check = replace(
                host_check,
                endpoint=self._connection_info.endpoint,
                jump_hosts=self._connection_info.jump_hosts,
            )
            with closing(self._connector.connect(self._host)) as connection:
                return self._check_over_shell(connection, host_check)
        except ConnectError as error:
            return (
                host_check
                if self._cancel.is_cancelled
                else self._unreachable_check(error, host_check)
            )
        except SessionLostError as error:
            if self._cancel.is_cancelled:
                return host_check
            finding = HealthFinding(
                "shell", str(error), "the connection dropped after login; try again", fails=True
            )
            return replace(
                host_check,
                state=HostHealth.FAILS,
                findings=(finding,),
                passed_checks=_checks_before("shell"),
            )

    def _unreachable_check(self, error: ConnectError, host_check: HostCheck) -> HostCheck:
        check = _CHECK_BY_PHASE.get(error.phase, "shell")
        passed = _checks_before(check)
        if ": jump host " in error.reason:  # the connection failed at a jump host, not at this host
            check, passed = "reach", frozenset()
        endpoint = self._connection_info.endpoint
        via = (
            f" via {', '.join(self._connection_info.jump_hosts)}"
            if self._connection_info.jump_hosts
            else ""
        )
        prefix = f"{endpoint}{via}: " if endpoint and not error.reason.startswith(endpoint) else ""
        message = f"{error.phase}: {prefix}{error.reason}"
        findings = (
            HealthFinding(check, message, error.diagnostics[0].hint, fails=True),
            *self._ignored_settings(logged_in=False),
        )
        return replace(
            host_check, state=HostHealth.UNREACHABLE, passed_checks=passed, findings=findings
        )

    def _ignored_settings(self, *, logged_in: bool) -> list[HealthFinding]:
        """Return findings for ssh_config options that orch ignores; ``logged_in``: login worked."""
        return [
            HealthFinding(
                "ssh_config", f"{option} is ignored: {option.reason}", f"set at {option.position}"
            )
            for option in self._connection_info.unsupported
            if not logged_in or option.keyword.lower() not in _LOGIN_KEYWORDS
        ]

    def _check_over_shell(self, connection: Connection, host_check: HostCheck) -> HostCheck:
        """Run the doctor script and evaluate its report.

        Raises ConnectError and SessionLostError.

        """
        session = ShellSession(connection.open(), ready_timeout=self._host.connect.timeout)
        remove_callback = self._cancel.add_callback(session.cancel)
        try:
            listener, sent_at = DoctorListener(), time.time()
            session.run(
                [
                    StepCommand(
                        1,
                        self._doctor_script(),
                        timeout=_ANSWER_TIMEOUT,
                        changed_condition=ConstantCondition(False),
                    )
                ],
                listener,
            )
            began = time.monotonic()
            if session.is_alive:
                session.run((), DoctorListener())
            latency = time.monotonic() - began
        finally:
            remove_callback()
            session.close()
        if self._cancel.is_cancelled:
            return host_check
        report = DoctorReport.parse(listener.text)
        skew = report.clock_skew(sent_at, listener.first_received_at or time.time())
        findings = [
            *self._agent_findings(),
            *self._evaluate_report(report, skew),
            *self._ignored_settings(logged_in=True),
        ]
        connection_checks = (
            CONNECTION_CHECKS
            if self._connection_info.endpoint or host_check.transport == "sandbox"
            else ("shell",)
        )
        passed = {*connection_checks, *HOST_CHECKS} - (
            set() if self._has_become_users else {"become"}
        )
        return replace(
            host_check,
            state=_overall_health(findings),
            passed_checks=frozenset(passed if report.is_complete else connection_checks),
            findings=tuple(findings),
            shell_name=report.shell,
            free_bytes=report.free_bytes,
            clock_skew=skew,
            latency=latency,
        )

    def _agent_findings(self) -> list[HealthFinding]:
        """Return findings for agents that do not reply; login works without them, but slowly."""
        agents = map(self._connector.agents.agent_at, self._connection_info.agent_sockets)
        return [
            HealthFinding("auth", agent.error, agent.remedy)
            for agent in agents
            if agent is not None and agent.error and not agent.is_absent
        ]

    @property
    def _has_become_users(self) -> bool:
        return bool(self._requirements.users)

    def _evaluate_report(self, report: DoctorReport, skew: float | None) -> list[HealthFinding]:
        findings = [
            *become_findings(report, self._host.connect.become_method, self._requirements.users),
            *disk_findings(report),
            *clock_findings(skew),
            *tool_findings(report, self._requirements),
        ]
        if not report.is_complete:
            message = f"the host did not complete its report within {_ANSWER_TIMEOUT:g} s"
            hint = "check whether `df` hangs on a network file system, or sudo on a directory"
            findings.insert(0, HealthFinding("shell", message, hint, fails=True))
        return findings

    def _doctor_script(self) -> str:
        modules = self._requirements.modules.values()
        more = {tool for choices in modules for choice in choices for tool in choice}
        variables = {
            "tools": " ".join((*STEP_TOOLS, *MODULE_TOOLS, *DIGEST_TOOLS, *PROCESS_GROUP_TOOLS)),
            "more": " ".join(sorted(more)),
            "method": self._host.connect.become_method,
        }
        assignments = " ".join(f"{name}={shell_quote(text)}" for name, text in variables.items())
        users = " ".join(map(shell_quote, self._requirements.users))
        return f"{assignments}\nset -- {users}\n{(MODULES_FOLDER / 'doctor.sh').read_text('utf-8')}"


def _checks_before(check: str) -> frozenset[str]:
    return frozenset(CONNECTION_CHECKS[: CONNECTION_CHECKS.index(check)])


def _overall_health(findings: list[HealthFinding]) -> HostHealth:
    if any(finding.fails for finding in findings):
        return HostHealth.FAILS
    return HostHealth.WARNED if findings else HostHealth.FINE


class DoctorListener:
    """Session listener that keeps the script's report.

    ``first_received_at`` is when the first bytes arrived, in seconds since the epoch.
    """

    def __init__(self) -> None:
        """Create a listener without a report."""
        self._received = bytearray()
        self.first_received_at: float | None = None

    @property
    def text(self) -> str:
        """Return the report received so far."""
        return decode_bytes(bytes(self._received))

    def started(self, step: int) -> None:
        """Ignore the start of the script."""

    def reported(self, step: int, kind: str, text: str) -> None:
        """Ignore report lines of modules."""

    def output(self, step: int, stream: str, data: bytes) -> None:
        """Keep the standard output of the script."""
        if step and stream == "stdout" and len(self._received) < _MAX_ANSWER_BYTES:
            self.first_received_at = self.first_received_at or time.time()
            self._received += data

    def ended(self, step: int, ending: CommandResult) -> None:
        """Ignore the script's result."""
