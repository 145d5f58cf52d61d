"""Setting up a stage's cluster, ending it, and its state."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.commands.cluster_certificates import (
    CertificateFolder,
    ClusterCertificates,
    TlsFiles,
)
from orchestrator.commands.cluster_node import NodeProcess
from orchestrator.commands.cluster_plan import (
    ClusterCode,
    ClusterContents,
    ClusterNode,
    node_folder,
    node_python,
    plan_down,
    plan_up,
    resolve_cluster,
)
from orchestrator.commands.context import PlanOptions, ProjectContext
from orchestrator.commands.dask_engine import SERVER_CONFIG, import_distributed
from orchestrator.commands.dask_nodes import (
    ClusterWorker,
    await_workers,
    read_workers,
    scheduler_process,
    worker_process,
)
from orchestrator.commands.own_wheel import build_wheel, pinned_requirements
from orchestrator.commands.worker_process import code_versions
from orchestrator.errors import Diagnostic, UsageError
from orchestrator.journal import check_private
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.planner.plan import Plan

START_TIMEOUT = 90.0
"""Seconds for the workers to register with their scheduler."""

_PROBE_TIMEOUT = 5.0


class ClusterRow(Struct, frozen=True):
    """A process of a cluster. ``state`` is '' if it is as it should be, else what is wrong."""

    host: str
    process: str
    state: str = ""
    address: str = ""
    regions: tuple[str, ...] = ()
    threads: int = 0
    busy: int = 0
    versions: Mapping[str, str] = {}
    expires: datetime | None = None


class ClusterSetup:
    """The cluster of a command's stage, and those of its nodes that the command selects."""

    def __init__(self, context: ProjectContext, environ: Mapping[str, str]) -> None:
        """Resolve the cluster. Raises UsageError if it is missing, or nothing of it selected."""
        import_distributed()
        self.cluster = resolve_cluster(context.stage)
        self.chosen = self.cluster.selected(context.hosts)
        if not self.chosen.nodes:
            names = fold_hostnames(node.host.name for node in self.cluster.nodes)
            message = "no host of the cluster is selected"
            raise UsageError(Diagnostic(message, None, f"its hosts are {names}"))
        hosts = tuple(node.host for node in self.chosen.nodes)
        self.context = replace(context, hosts=hosts)
        self.folder = CertificateFolder(context.root, context.stage.name)
        self._environ = environ
        check_private(context.root, environ)

    @contextmanager
    def plan_up(self, options: PlanOptions, *, new_certificates: bool) -> Iterator[Plan]:
        """Yield the plan that starts the nodes; its files exist until the end of the context.

        Certificates are made, unless ``options`` are those of a check. Raises UsageError and
        DefinitionError.
        """
        if new_certificates and len(self.chosen.nodes) < len(self.cluster.nodes):
            message = "--new-certificates makes those of all hosts, and --limit selects some"
            raise UsageError(Diagnostic(message, None, "drop --limit"))
        certificates = self.folder.complete(
            self.cluster.stage, self.cluster.host_names, renew=new_certificates
        )
        if not options.check:
            self.folder.save(certificates, self.cluster.address)
        with tempfile.TemporaryDirectory(prefix="orch-wheel-") as folder:
            yield plan_up(
                self.context,
                self.chosen,
                self._contents(certificates, Path(folder)),
                self.cluster.scheduler,
                options=options,
                environ=self._environ,
                replaces_authority=new_certificates,
            )

    @property
    def installs(self) -> bool:
        """Return True if orch is installed on the hosts."""
        return self.cluster.settings.install

    def digests(self, certificates: ClusterCertificates) -> dict[str, str]:
        """Return what the nodes would run with if they were started now, by host."""
        with tempfile.TemporaryDirectory(prefix="orch-wheel-") as folder:
            contents = self._contents(certificates, Path(folder))
        found = {}
        for node in self.chosen.nodes:
            if node.host.name in certificates.hosts:
                python = node_python(self.cluster, node_folder(self.context, self.cluster, node))
                found[node.host.name] = contents.digest(node.host.name, python)
        return found

    def plan_down(self, options: PlanOptions, *, keep: bool) -> Plan:
        """Return the plan that ends the nodes. Raises DefinitionError."""
        return plan_down(self.context, self.chosen, options, self._environ, keep=keep)

    def check_idle(self) -> None:
        """Raise UsageError if runs use the selected workers now, as far as that can be known."""
        files = self.folder.tls_files(self.cluster.address)
        if files is None or not self.is_answering():
            return
        names = {name for node in self.chosen.nodes for name in node.worker_names}
        is_all = any(node.is_scheduler for node in self.chosen.nodes)
        try:
            workers = read_workers(self.cluster.address, files)
        except UsageError:
            return  # it is another scheduler, or one with other certificates
        busy = [each.name for each in workers if each.busy and (is_all or each.name in names)]
        if busy:
            message = f"runs use workers of the cluster: {', '.join(busy)}"
            hint = "wait for their end, or pass --force: their hosts may become `lost`"
            raise UsageError(Diagnostic(message, None, hint))

    def is_answering(self) -> bool:
        """Return True if something accepts connections at the scheduler's address."""
        target = (self.cluster.host_name, self.cluster.settings.port)
        try:
            with socket.create_connection(target, _PROBE_TIMEOUT):
                return True
        except OSError:
            return False

    def forget(self) -> None:
        """Remove the certificates if the command has ended all nodes."""
        if len(self.chosen.nodes) == len(self.cluster.nodes):
            self.folder.remove()

    def await_workers(self) -> tuple[list[ClusterRow], list[str]]:
        """Wait for the workers of the selected nodes; return the rows, and the missing workers.

        Raises UsageError.
        """
        versions = code_versions()
        workers, missing = await_workers(
            self.cluster.address,
            self._files(),
            [name for node in self.chosen.nodes for name in node.worker_names],
            START_TIMEOUT,
            lambda worker: worker.versions == versions,
        )
        return self._rows(workers), missing

    def rows(self) -> list[ClusterRow]:
        """Return the processes of the selected nodes. Raises UsageError."""
        return self._rows(read_workers(self.cluster.address, self._files()))

    def _files(self) -> TlsFiles:
        files = self.folder.tls_files(self.cluster.address)
        if files is None:
            message = f"there are no certificates for the cluster {self.cluster.address}"
            hint = "`orch cluster up` makes them; another machine needs the folder .orch/cluster"
            raise UsageError(Diagnostic(message, None, f"{hint} of the one that did"))
        return files

    def _rows(self, workers: Sequence[ClusterWorker]) -> list[ClusterRow]:
        certificates = self.folder.load()
        pairs = certificates.hosts if certificates else {}
        by_name = {worker.name: worker for worker in workers}
        rows: list[ClusterRow] = []
        for node in self.chosen.nodes:
            name = node.host.name
            expires = pairs[name].expires if name in pairs else None
            if node.is_scheduler:
                address = self.cluster.address
                rows.append(ClusterRow(name, "scheduler", address=address, expires=expires))
            for number, worker_name in enumerate(node.worker_names, start=1):
                row = ClusterRow(name, f"worker {number}", "missing", expires=expires)
                rows.append(_with_worker(row, by_name.pop(worker_name, None)))
        if len(self.chosen.nodes) == len(self.cluster.nodes):
            rows += [_with_worker(ClusterRow("", name), by_name[name]) for name in by_name]
        return rows

    def _contents(self, certificates: ClusterCertificates, folder: Path) -> ClusterContents:
        """Return what the nodes depend on; files are written to the folder."""
        processes = {node.host.name: self._processes(node) for node in self.chosen.nodes}
        return ClusterContents(certificates, self._code(folder), SERVER_CONFIG, processes)

    def _code(self, folder: Path) -> ClusterCode:
        versions = code_versions()
        if not self.cluster.settings.install:
            return ClusterCode(versions)
        wheel = build_wheel()
        path = folder / wheel.name
        path.write_bytes(wheel.data)
        return ClusterCode(versions, str(path), pinned_requirements())

    def _processes(self, node: ClusterNode) -> tuple[NodeProcess, ...]:
        settings = self.cluster.settings
        found = [scheduler_process(settings.listen, settings.port)] if node.is_scheduler else []
        found += [
            worker_process(name, number, self.cluster.address, settings.threads, node.regions)
            for number, name in enumerate(node.worker_names, start=1)
        ]
        return tuple(found)


def _with_worker(row: ClusterRow, worker: ClusterWorker | None) -> ClusterRow:
    if worker is None:
        return row
    differs = worker.versions != code_versions()
    state = "not of this cluster" if not row.host else "other versions" if differs else ""
    return replace(
        row,
        state=state,
        address=worker.address,
        regions=worker.regions,
        threads=worker.threads,
        busy=worker.busy,
        versions=worker.versions,
    )
