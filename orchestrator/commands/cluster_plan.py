"""Clusters on hosts of a stage: which hosts run what, and the plans that set it up and end it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from orchestrator import playbook
from orchestrator.commands.cluster_certificates import ClusterCertificates
from orchestrator.commands.cluster_node import NodeProcess, NodeSettings
from orchestrator.commands.context import PlanOptions, ProjectContext, plan_loaded
from orchestrator.commands.project_identity import project_identity
from orchestrator.commands.worker_process import python_series
from orchestrator.errors import Diagnostic, SourcePosition, UsageError, suggest_nearest
from orchestrator.inventory.hostnames import is_ipv6
from orchestrator.model.cluster import ClusterSettings
from orchestrator.model.host import Host, Stage, VariableLayer
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.planner.plan import Plan
from orchestrator.playbook.model import TaskRequest

PLAYBOOKS_FOLDER = Path(__file__).parents[1] / "cluster"
"""The folder of the playbooks that the commands run, and of their modules."""

_MARK = SourcePosition("<orch cluster>")
_UNSAFE_CHARS = re.compile(r"[^A-Za-z0-9._-]")
_UNIT_DIGEST_CHARS = 8
_DIGEST_CHARS = 16
_NO_CLUSTER_HINT = "add `cluster: {workers: [HOST, …]}` to stage.yml; see `orch doc cluster`"


class ClusterNode(Struct, frozen=True):
    """A host of a cluster, and what it runs."""

    host: Host
    is_scheduler: bool
    workers: int
    regions: tuple[str, ...]

    @property
    def worker_names(self) -> tuple[str, ...]:
        """Return the names of its workers."""
        return tuple(f"{self.host.name}/{number}" for number in range(1, self.workers + 1))


class Cluster(Struct, frozen=True):
    """The cluster of a stage. ``address`` is the scheduler's, as Dask writes it."""

    stage: str
    settings: ClusterSettings
    address: str
    host_name: str
    nodes: tuple[ClusterNode, ...]

    def selected(self, hosts: Sequence[Host]) -> Cluster:
        """Return the cluster with those of its nodes that are among the hosts."""
        names = {host.name for host in hosts}
        return replace(self, nodes=tuple(node for node in self.nodes if node.host.name in names))

    @property
    def scheduler(self) -> ClusterNode:
        """Return the node of the scheduler."""
        return next(node for node in self.nodes if node.is_scheduler)

    @property
    def host_names(self) -> Mapping[str, Sequence[str]]:
        """Return the names and addresses of each host, for its certificate."""
        return {
            node.host.name: (
                node.host.connect.address,
                *((self.host_name,) if node.is_scheduler else ()),
            )
            for node in self.nodes
        }


def resolve_cluster(stage: Stage) -> Cluster:
    """Return the cluster of a stage, the scheduler's host first. Raises UsageError."""
    settings = stage.cluster
    if settings is None:
        message = f"stage '{stage.name}' has no `cluster`"
        raise UsageError(Diagnostic(message, SourcePosition(stage.path), _NO_CLUSTER_HINT))
    regions: dict[str, list[str]] = {}
    for region, names in settings.workers.items():
        if region and region not in stage.regions:
            message = f"'{region}' is not one of the `regions` of stage '{stage.name}'"
            hint = suggest_nearest(region, stage.regions) or "add it to `regions`"
            raise UsageError(Diagnostic(message, region.mark, hint))
        for written in names:
            for host in _hosts_of(stage, written):
                found = regions.setdefault(host, [])
                found += [str(region)] if region and region not in found else []
    scheduler = settings.scheduler or MarkedKey(next(iter(regions), ""), settings.mark)
    if scheduler not in stage.hosts:
        hint = suggest_nearest(scheduler, stage.hosts)
        message = f"'{scheduler}' is not a host of stage '{stage.name}'"
        raise UsageError(Diagnostic(message, scheduler.mark, hint or "name one host"))
    nodes = [
        ClusterNode(
            stage.hosts[host],
            host == scheduler,
            settings.processes if host in regions else 0,
            tuple(regions.get(host, ())),
        )
        for host in dict.fromkeys((str(scheduler), *regions))
    ]
    name = settings.address or stage.hosts[str(scheduler)].connect.address
    shown = f"[{name}]" if is_ipv6(name) else name
    return Cluster(stage.name, settings, f"tls://{shown}:{settings.port}", name, tuple(nodes))


def uncovered_regions(cluster: Cluster, stage: Stage) -> list[MarkedKey]:
    """Return the regions of the stage for which the cluster has no workers."""
    covered = {region for node in cluster.nodes for region in node.regions}
    return [region for region in stage.regions if region not in covered]


def _hosts_of(stage: Stage, name: MarkedKey) -> Sequence[str]:
    """Return the hosts of a role, or a host. Raises UsageError."""
    if name in stage.roles:
        return stage.roles[name].hosts
    if name in stage.hosts:
        return (str(name),)
    message = f"'{name}' is not a role or host of stage '{stage.name}'"
    hint = suggest_nearest(name, (*stage.roles, *stage.hosts))
    raise UsageError(Diagnostic(message, name.mark, hint))


class ClusterCode(Struct, frozen=True):
    """What is installed on the hosts.

    ``wheel`` is the path of a wheel of orch, '' if nothing is installed; ``requirements`` are the
    lines of a requirements file. ``versions`` are those that all processes must have in common.
    """

    versions: Mapping[str, str]
    wheel: str = ""
    requirements: tuple[str, ...] = ()


class ClusterContents(Struct, frozen=True):
    """Everything that the nodes of a cluster depend on.

    ``processes`` are those of each host, ``config`` settings of Dask in them.
    """

    certificates: ClusterCertificates
    code: ClusterCode
    config: Mapping[str, object]
    processes: Mapping[str, tuple[NodeProcess, ...]]

    def digest(self, host: str, python: str) -> str:
        """Return a digest of everything that a running node depends on."""
        parts = (
            self.certificates.authority.certificate,
            self.certificates.hosts[host].certificate,
            python,
            json.dumps(self.code.versions, sort_keys=True),
            Path(self.code.wheel).name,
            "\n".join(self.code.requirements),
            json.dumps(self.config, sort_keys=True),
            msgspec.json.encode(self.processes[host]).decode(),
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_DIGEST_CHARS]


def plan_up(
    context: ProjectContext,
    cluster: Cluster,
    contents: ClusterContents,
    scheduler: ClusterNode,
    *,
    options: PlanOptions,
    environ: Mapping[str, str],
    replaces_authority: bool = False,
) -> Plan:
    """Return the plan that starts the nodes of a cluster. Raises DefinitionError.

    ``scheduler`` is the node of the scheduler, which may not be one of them.
    ``replaces_authority``: the hosts may have certificates of another authority.
    """
    known = [] if replaces_authority else _known_authorities(contents.certificates)
    log = f"{node_folder(context, cluster, scheduler)}/log/scheduler.log"
    variables = {
        node.host.name: {
            **_common_variables(context, cluster, node),
            **_code_variables(cluster, contents.code),
            **_node_variables(context, cluster, node, contents),
            "known_authorities": known,
            "address": cluster.host_name,
            "port": cluster.settings.port,
            "scheduler": scheduler.host.name,
            "scheduler_log": log,
        }
        for node in cluster.nodes
    }
    return _plan(context, "cluster:up", cluster, variables, options=options, environ=environ)


def _code_variables(cluster: Cluster, code: ClusterCode) -> dict[str, object]:
    return {
        "version": code.versions["Python"],
        "versions": json.dumps(code.versions),
        "wheel": code.wheel,
        "wheel_name": Path(code.wheel).name,
        "requirements": "".join(f"{line}\n" for line in code.requirements),
        "pip_options": list(cluster.settings.pip_options),
    }


def _node_variables(
    context: ProjectContext, cluster: Cluster, node: ClusterNode, contents: ClusterContents
) -> dict[str, object]:
    name, folder = node.host.name, node_folder(context, cluster, node)
    python = node_python(cluster, folder)
    digest, pair = contents.digest(name, python), contents.certificates.hosts[name]
    context.secrets.masker.add_secret("cluster key", pair.key)
    settings = NodeSettings(digest, contents.processes[name], contents.config)
    return {
        "digest": digest,
        "settings": msgspec.json.format(msgspec.json.encode(settings)).decode() + "\n",
        "authority": contents.certificates.authority.certificate,
        "certificate": pair.certificate,
        "key": pair.key,
        "unit_text": _unit_text(python, folder),
    }


def plan_check(
    context: ProjectContext,
    cluster: Cluster,
    certificates: ClusterCertificates | None,
    *,
    targets: Mapping[str, str],
    identities: Mapping[str, Sequence[str]],
    timeout: float,
    max_shown: int,
    options: PlanOptions,
    environ: Mapping[str, str],
) -> Plan:
    """Return the plan by which the nodes report what they have. Raises DefinitionError.

    Each connects to its ``targets``, lines of an address and a port, within ``timeout``
    seconds; at most ``max_shown`` that cannot be reached are reported. ``identities`` are key files
    that it needs.
    """
    variables = {
        node.host.name: {
            **_common_variables(context, cluster, node),
            "known_authorities": _known_authorities(certificates) if certificates else [],
            "targets": targets[node.host.name],
            "identities": list(identities[node.host.name]),
            "timeout": timeout,
            "shown": max_shown,
        }
        for node in cluster.nodes
    }
    return _plan(context, "cluster:check", cluster, variables, options=options, environ=environ)


def plan_down(
    context: ProjectContext,
    cluster: Cluster,
    options: PlanOptions,
    environ: Mapping[str, str],
    *,
    keep: bool,
) -> Plan:
    """Return the plan that ends the nodes, and removes their files unless ``keep`` is True.

    Raises DefinitionError.
    """
    variables = {
        node.host.name: {**_common_variables(context, cluster, node), "keep": keep}
        for node in cluster.nodes
    }
    return _plan(context, "cluster:down", cluster, variables, options=options, environ=environ)


def node_folder(context: ProjectContext, cluster: Cluster, node: ClusterNode) -> str:
    """Return the folder of a node on its host; `~/` is the home folder of the login user."""
    base = cluster.settings.folder
    if not base:
        identity = context.identity or project_identity(context.root)
        base = f"~/.orch/cluster/{identity}/{_UNSAFE_CHARS.sub('_', cluster.stage)}"
    return f"{base}/{_UNSAFE_CHARS.sub('_', node.host.name)}"


def node_python(cluster: Cluster, folder: str) -> str:
    """Return the path of the Python that runs the node in this folder."""
    return f"{_venv(folder)}/bin/python" if cluster.settings.install else cluster.settings.python


def _venv(folder: str) -> str:
    """Return the environment in a node's folder; one of another Python cannot be updated."""
    return f"{folder}/venv-{python_series()}"


def _common_variables(
    context: ProjectContext, cluster: Cluster, node: ClusterNode
) -> dict[str, object]:
    folder = node_folder(context, cluster, node)
    own = hashlib.sha256(folder.encode()).hexdigest()[:_UNIT_DIGEST_CHARS]
    names = "-".join(_UNSAFE_CHARS.sub("_", each) for each in (cluster.stage, node.host.name))
    return {
        "folder": folder,
        "unit": f"orch-cluster-{names}-{own}.service",
        "install": cluster.settings.install,
        "own_python": cluster.settings.python,
        "venv": _venv(folder),
        "node_python": node_python(cluster, folder),
    }


def _unit_text(python: str, folder: str) -> str:
    """Return the unit of systemd that runs a node."""

    def word(path: str) -> str:
        """Return a word of ExecStart, see systemd.service(5) and systemd.unit(5)."""
        text = path.replace("%", "%%").replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
        return f'"%h/{text.removeprefix("~/")}"' if path.startswith("~/") else f'"{text}"'

    return f"""\
[Unit]
Description=Workers of orch
[Service]
ExecStart={word(python)} -m orchestrator.commands.cluster_node {word(folder)}
Restart=always
RestartSec=5
[Install]
WantedBy=default.target
"""


def _known_authorities(certificates: ClusterCertificates) -> list[str]:
    """Return a line of each authority whose certificates hosts may have."""
    known = (certificates.authority.certificate, certificates.old_authority)
    return [_one_line(each) for each in known if each]


def _one_line(certificate: str) -> str:
    """Return the part of a certificate that identifies it: a line of its own."""
    lines = certificate.splitlines()
    return lines[-2] if len(lines) > 2 else certificate


def _plan(
    context: ProjectContext,
    name: str,
    cluster: Cluster,
    variables: Mapping[str, Mapping[str, object]],
    *,
    options: PlanOptions,
    environ: Mapping[str, str],
) -> Plan:
    """Return the plan of a playbook that comes with orch, on the nodes alone."""
    hosts = {
        node.host.name: _with_variables(node.host, variables[node.host.name])
        for node in cluster.nodes
    }
    stage = replace(context.stage, hosts={**context.stage.hosts, **hosts}, apps={})
    own = replace(context, stage=stage, hosts=tuple(hosts.values()))
    loaded = playbook.load_tasks(PLAYBOOKS_FOLDER, [name])
    return plan_loaded(own, (TaskRequest(name),), loaded.by_name, options, environ)


def _with_variables(host: Host, variables: Mapping[str, object]) -> Host:
    """Return the host with the variable ``cluster``, and none of the user's variables.

    Its environment stays: it may have a proxy. Defaults of modules would change what is done.
    """
    layers = [
        replace(layer, vars={}, defaults={}, encrypted=None)
        for layer in host.layers
        if layer.environment
    ]
    value = _marked(dict(variables))
    own = VariableLayer("host", host.name, vars={MarkedKey("cluster", _MARK): value})
    return replace(host, layers=(*layers, own))


def _marked(data: object) -> MarkedValue:
    if isinstance(data, dict):
        inner = {MarkedKey(str(key), _MARK): _marked(item) for key, item in data.items()}
        return MarkedValue(inner, _MARK, literal=True)
    if isinstance(data, list):
        return MarkedValue([_marked(item) for item in data], _MARK, literal=True)
    assert data is None or isinstance(data, str | int | float | bool)
    return MarkedValue(data, _MARK, literal=True)
