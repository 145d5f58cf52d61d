"""What a stage's cluster lacks: on this machine, on its hosts, and between them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.commands.cluster_certificates import ClusterCertificates
from orchestrator.commands.cluster_plan import ClusterNode, plan_check, uncovered_regions
from orchestrator.commands.cluster_setup import ClusterSetup
from orchestrator.commands.context import PlanOptions, ProjectContext, ProjectSelector
from orchestrator.commands.dask_engine import DaskEngine, EngineChoice, hosts_by_region
from orchestrator.commands.plan_source import AdhocCommand
from orchestrator.commands.run_plan import UserInterface, run_plan
from orchestrator.commands.worker_process import code_versions
from orchestrator.errors import ExitCode, OrchError, UsageError
from orchestrator.executor import RunOptions
from orchestrator.inventory.hostnames import parse_host_spec
from orchestrator.model.event import ConnectFinished, EventSink, RunEvent, StepFinished
from orchestrator.model.host import SSH_TRANSPORTS, ConnectionOverrides, Host
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.planner.plan import Plan

_UP = "run `orch cluster up`"
_SSH_PORT = 22
_TIMEOUT = 5.0
_MAX_SHOWN = 50
_MAX_CLOCK_DIFFERENCE = 300.0
_NUMBER = lazy_regex(r"[0-9]{1,12}")
_CHECK_MODE = PlanOptions(check=True)
"""Nothing is changed, neither known_hosts here."""


class ClusterFinding(Struct, frozen=True):
    """The result of a check, and what to do if ``state`` is not ok: warn, fail or unreachable.

    ``host`` is '' for this machine.
    """

    host: str
    check: str
    message: str
    hint: str = ""
    state: str = "ok"


class _Target(Struct, frozen=True):
    """What a node has to reach for a host."""

    host: str
    address: str
    port: int

    @property
    def line(self) -> str:
        """Return the line that the node reads."""
        return f"{self.address}\t{self.port}"


class NodeReport(Struct):
    """What a host of the cluster has reported.

    ``missing_keys`` are numbers of key files, from 0. ``closed`` are the targets that it does not
    reach: their numbers, from 0, with the reason.
    """

    values: dict[str, str] = field(default_factory=dict)
    missing_keys: list[int] = field(default_factory=list)
    closed: dict[int, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> NodeReport:
        """Parse the lines of a report; unknown ones are ignored."""
        report = cls()
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            number, _, reason = rest.partition(" ")
            if word in ("lacks", "closed") and not _NUMBER.fullmatch(number):
                continue
            if word == "lacks":
                report.missing_keys.append(int(number))
            elif word == "closed":
                report.closed[int(number)] = reason
            else:
                report.values[word] = rest
        return report


class ClusterChecker:
    """Checks a cluster; nothing is changed on any host."""

    def __init__(
        self,
        setup: ClusterSetup,
        selector: ProjectSelector,
        environ: Mapping[str, str],
        *,
        forks: int,
        user_interface: UserInterface,
        connecting: ConnectionOverrides,
    ) -> None:
        """Contact nothing yet. ``selector`` selects the stage for the workers."""
        self._setup, self._selector, self._environ = setup, selector, environ
        self._options = RunOptions(forks)
        self._user_interface, self._connecting = user_interface, connecting
        self._regions = {
            region: [setup.context.stage.hosts[name] for name in names]
            for region, names in hosts_by_region(
                tuple(setup.context.stage.hosts), setup.context.stage
            ).items()
        }

    def check(self) -> Iterator[ClusterFinding]:
        """Yield the results. Raises OrchError if the project has an error."""
        certificates = None
        try:
            certificates = self._setup.folder.load()
            yield from self._check_here(certificates)
        except UsageError as error:
            yield _finding_of(error, "", "certificates")
        yield from self._check_nodes(certificates)
        if certificates is not None:
            yield from self._check_workers()

    def _check_here(self, certificates: ClusterCertificates | None) -> Iterator[ClusterFinding]:
        versions = code_versions()
        shown = f"orch {versions['orch']}, Python {versions['Python']}"
        yield ClusterFinding("", "versions", f"{shown}, distributed {versions['distributed']}")
        missing = uncovered_regions(self._setup.cluster, self._setup.context.stage)
        for region in missing:
            message = f"the region '{region}' has no workers ({region.mark})"
            hint = "add it to `workers` of `cluster`"
            yield ClusterFinding("", "regions", message, hint, "fail")
        written, own = self._setup.context.stage.engine, f"dask={self._setup.cluster.address}"
        if written is None or written.data != own:
            message = "runs do not use the cluster without `--engine`"
            yield ClusterFinding(
                "", "engine", message, f"write `engine: {own}` to stage.yml", "warn"
            )
        if certificates is None:
            yield ClusterFinding("", "certificates", "there are no certificates", _UP, "fail")
            return
        pairs = {"the authority": certificates.authority}
        if certificates.client is not None:
            pairs["this machine"] = certificates.client
        pairs |= {
            node.host.name: certificates.hosts[node.host.name]
            for node in self._setup.cluster.nodes
            if node.host.name in certificates.hosts
        }
        now = datetime.now(UTC)
        for name, pair in pairs.items():
            if pair.needs_renewal:
                end = f"{pair.expires:%Y-%m-%d}"
                message = f"the certificate of {name} is valid until {end}"
                state = "fail" if pair.expires < now else "warn"
                yield ClusterFinding("", "certificates", message, f"{_UP}, which renews it", state)
        first = min(pair.expires for pair in pairs.values())
        if first > now:
            yield ClusterFinding("", "certificates", f"they are valid until {first:%Y-%m-%d}")

    def _check_nodes(self, certificates: ClusterCertificates | None) -> Iterator[ClusterFinding]:
        """Yield what the hosts of the cluster report over SSH."""
        digests = self._setup.digests(certificates) if certificates else {}
        plan = plan_check(
            self._setup.context,
            self._setup.chosen,
            certificates,
            targets={
                node.host.name: "\n".join(
                    f"{each.address}\t{each.port}" for each in self._targets(node)
                )
                for node in self._setup.chosen.nodes
            },
            identities={
                node.host.name: sorted(self._identities(node)) for node in self._setup.chosen.nodes
            },
            timeout=_TIMEOUT,
            max_shown=_MAX_SHOWN,
            options=_CHECK_MODE,
            environ=self._environ,
        )
        events = _EventRecorder()
        self._run(plan, self._setup.context, events)
        for node in self._setup.chosen.nodes:
            name = node.host.name
            if name in events.unreachable:
                message, hint = events.unreachable[name]
                yield ClusterFinding(name, "connect", message, hint, "unreachable")
            elif name not in events.outputs:
                reason = events.failures.get(name, "it has sent no report")
                yield ClusterFinding(name, "report", reason, "see `orch doctor`", "fail")
            else:
                report = NodeReport.parse(events.outputs[name])
                yield from self._check_node(node, report, digests.get(name, ""))

    def _check_node(
        self, node: ClusterNode, report: NodeReport, digest: str
    ) -> Iterator[ClusterFinding]:
        name, values, installs = node.host.name, report.values, self._setup.installs
        yield from _check_python(name, values, installs=installs)
        if values.get("authority") == "other":
            message = "its certificates are those of another machine"
            hint = "copy the folder .orch/cluster of the project from there, or pass "
            hint += "--new-certificates to `orch cluster up`"
            yield ClusterFinding(name, "certificates", message, hint, "fail")
        elif "node" not in values:
            yield ClusterFinding(name, "process", "nothing of the cluster runs", _UP, "fail")
        elif digest and values["node"] != digest:
            message = "what runs is not what would be started now"
            yield ClusterFinding(name, "process", message, _UP, "fail")
        else:
            yield ClusterFinding(name, "process", "runs")
        clock = values.get("clock", "")
        if _NUMBER.fullmatch(clock) and abs(int(clock) - time.time()) > _MAX_CLOCK_DIFFERENCE:
            message = "its clock differs by more than 5 minutes from that of this machine"
            hint = "set it: certificates are not valid before they are made"
            yield ClusterFinding(name, "clock", message, hint, "fail")
        yield from self._check_reach(node, report)

    def _check_reach(self, node: ClusterNode, report: NodeReport) -> Iterator[ClusterFinding]:
        """Yield which of the scheduler and of its hosts a node does not reach."""
        name = node.host.name
        targets = self._targets(node)
        reasons: dict[str, list[str]] = {}
        for number, reason in report.closed.items():
            if 0 < number < len(targets):
                target = targets[number]
                reasons.setdefault(f"port {target.port}: {reason}", []).append(target.host)
        if 0 in report.closed and "node" in report.values:
            message = f"it does not reach the scheduler at {self._setup.cluster.address}: "
            hint = "open the port between them, or set `address` of `cluster`"
            yield ClusterFinding(name, "scheduler", message + report.closed[0], hint, "fail")
        for text, unreached in reasons.items():
            message = f"it does not reach {fold_hostnames(unreached)}, {text}"
            hint = "let it in, or name a `jump` host; or other `workers` for the region"
            yield ClusterFinding(name, "hosts", message, hint, "fail")
        identities = sorted(self._identities(node).items())
        for number in report.missing_keys:
            path, users = identities[number] if number < len(identities) else ("", [])
            message = f"it has no key {path}, which is for {fold_hostnames(users)}"
            hint = "create one there: a worker uses the keys of its own machine"
            yield ClusterFinding(name, "keys", message, hint, "fail")
        hosts = [host for host in self._hosts_of(node) if not host.connect.identity]
        if hosts and node.workers and "keys" not in report.values:
            message = f"it has no key in ~/.ssh, for {fold_hostnames(h.name for h in hosts)}"
            hint = "create one there, unless an agent or ssh_config has another"
            yield ClusterFinding(name, "keys", message, hint, "warn")

    def _check_workers(self) -> Iterator[ClusterFinding]:
        """Yield whether the workers are there, and which hosts they cannot log in to."""
        setup = self._setup
        address = setup.cluster.address
        if not setup.is_answering():
            message = f"the scheduler at {address} cannot be reached"
            hint = f"{_UP}, open its port, or set `address` of `cluster`"
            yield ClusterFinding("", "scheduler", message, hint, "fail")
            return
        try:
            rows = setup.rows()
        except UsageError as error:
            yield _finding_of(error, "", "scheduler")
            return
        wrong = [row for row in rows if row.state]
        for row in wrong:
            message = f"{row.process}: {row.state}"
            yield ClusterFinding(row.host, "workers", message, _UP, "fail")
        if wrong:
            return
        yield ClusterFinding("", "workers", f"{len(rows) - 1} registered")
        yield from self._log_in()

    def _log_in(self) -> Iterator[ClusterFinding]:
        """Let the workers log in to all hosts of the stage, and yield what fails."""
        setup, events = self._setup, _EventRecorder()
        context = replace(setup.context, hosts=tuple(setup.context.stage.hosts.values()))
        source = AdhocCommand((":",), readonly=True, stdin=None)
        engine = DaskEngine(
            EngineChoice(address=setup.cluster.address),
            self._selector,
            source,
            _CHECK_MODE,
            self._environ,
        )
        try:
            plan = source.plan(context, _CHECK_MODE, self._environ)
            self._run(plan, context, events, engine)
        except OrchError as error:
            yield _finding_of(error, "", "log in")
            return
        groups: dict[tuple[str, str], list[str]] = {}
        for host, reason in events.unreachable.items():
            groups.setdefault(reason, []).append(host)
        for (message, hint), hosts in groups.items():
            text = f"workers cannot log in to {fold_hostnames(hosts)}: {message}"
            yield ClusterFinding("", "log in", text, hint, "fail")
        for host, text in events.failures.items():
            yield ClusterFinding(host, "log in", text, "", "fail")
        if not groups and not events.failures:
            yield ClusterFinding("", "log in", f"workers log in to {len(context.hosts)} hosts")

    def _run(
        self,
        plan: Plan,
        context: ProjectContext,
        sink: EventSink,
        engine: DaskEngine | None = None,
    ) -> None:
        """Run a plan without a record. Raises KeyboardInterrupt if it was interrupted."""
        if context.stage.is_ansible:
            from orchestrator.commands.connections import decrypt_passwords

            decrypt_passwords(context.hosts, plan)
        code = run_plan(
            plan,
            context,
            self._options,
            sink,
            self._environ,
            user_interface=self._user_interface,
            connecting=self._connecting,
            engine=engine,
            is_recorded=False,
        )
        if code is ExitCode.INTERRUPTED:
            raise KeyboardInterrupt

    def _hosts_of(self, node: ClusterNode) -> list[Host]:
        """Return the hosts that the workers of a node may drive, without those of its machine."""
        if not node.workers:
            return []
        found = [host for region in ("", *node.regions) for host in self._regions.get(region, ())]
        return [host for host in found if host.connect.transport in SSH_TRANSPORTS]

    def _targets(self, node: ClusterNode) -> list[_Target]:
        """Return what a node has to reach: the scheduler, which is first, and its hosts."""
        cluster = self._setup.cluster
        found = {(cluster.host_name, cluster.settings.port): "the scheduler"}
        for host in self._hosts_of(node):
            found.setdefault(self._first_hop(host), host.name)
        return [_Target(host, address, port) for (address, port), host in found.items()]

    def _first_hop(self, host: Host) -> tuple[str, int]:
        """Return the address and port to which a worker connects for a host."""
        connect = host.connect
        if not connect.jump:
            return connect.address, connect.port or _SSH_PORT
        spec = parse_host_spec(connect.jump.split(",")[0])
        known = self._setup.context.stage.hosts.get(spec.names[0])
        if known is not None and not known.connect.jump:
            return known.connect.address, spec.port or known.connect.port or _SSH_PORT
        return spec.names[0], spec.port or _SSH_PORT

    def _identities(self, node: ClusterNode) -> dict[str, list[str]]:
        """Return the key files that the inventory names, outside of the project, with hosts."""
        root, found = self._setup.context.root, dict[str, list[str]]()
        for host in self._hosts_of(node):
            for path in host.connect.identity:
                if "%" not in path and "$" not in path and not Path(path).is_relative_to(root):
                    found.setdefault(path, []).append(host.name)
        return found


def exit_code_of(findings: Iterable[ClusterFinding]) -> ExitCode:
    """Return the exit code of a check."""
    states = {finding.state for finding in findings}
    if "fail" in states:
        return ExitCode.FAILED
    return ExitCode.UNREACHABLE if "unreachable" in states else ExitCode.OK


def _check_python(
    name: str, values: Mapping[str, str], *, installs: bool
) -> Iterator[ClusterFinding]:
    here = code_versions()
    python, wanted = values.get("python", ""), here["Python"]
    hint = f"install Python {wanted}, and set `python` of `cluster`"
    if not python:
        yield ClusterFinding(name, "Python", "there is no Python", hint, "fail")
    elif python != wanted:
        message = f"it has Python {python}, and orch runs here with {wanted}"
        yield ClusterFinding(name, "Python", message, hint, "fail")
    elif installs and "venv" not in values:
        message = "its Python cannot make environments"
        hint = "install its venv and ensurepip, such as the package python3-venv"
        yield ClusterFinding(name, "Python", message, hint, "fail")
    else:
        yield ClusterFinding(name, "Python", python)
    found: Mapping[str, str] = {}
    with suppress(ValueError, RecursionError):
        loaded = json.loads(values.get("versions", ""))
        found = loaded if isinstance(loaded, dict) else {}
    differ = [
        f"{each} {found.get(each, 'missing')} instead of {version}"
        for each, version in here.items()
        if found.get(each) != version
    ]
    if not found:
        hint = _UP if installs else "install orch and distributed, or leave out `install: false`"
        yield ClusterFinding(name, "versions", "orch is not installed", hint, "fail")
    elif differ:
        hint = _UP if installs else "install these versions, or leave out `install: false`"
        yield ClusterFinding(name, "versions", f"it has {', '.join(differ)}", hint, "fail")


class _EventRecorder:
    """A sink that keeps what hosts print, and why they cannot be reached."""

    def __init__(self) -> None:
        self.outputs: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.unreachable: dict[str, tuple[str, str]] = {}

    def __call__(self, event: RunEvent) -> None:
        """Record an event."""
        if isinstance(event, ConnectFinished) and event.error:
            self.unreachable[event.host] = (event.error, event.hint)
        elif isinstance(event, StepFinished):
            if event.outcome.reason or event.outcome.exit_status:
                reason = event.outcome.reason or f"exit status {event.outcome.exit_status}"
                self.failures[event.host] = reason
            else:
                self.outputs[event.host] = event.outcome.stdout.text

    def close(self) -> None:
        """Do nothing."""


def _finding_of(error: OrchError, host: str, check: str) -> ClusterFinding:
    first = error.diagnostics[0]
    message = f"{first.message} ({first.mark})" if first.mark else first.message
    return ClusterFinding(host, check, message, first.hint, "fail")
