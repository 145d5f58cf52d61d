"""A cluster of Dask on hosts of a stage: what each host runs, and what its scheduler reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from msgspec import Struct, field

from orchestrator.commands.cluster_certificates import TlsFiles
from orchestrator.commands.cluster_node import NodeProcess
from orchestrator.commands.dask_engine import import_distributed, security_of, silence_logs
from orchestrator.errors import Diagnostic, UsageError

VERSIONS_KEY = "orch_versions"
"""The key of a worker's versions in what the scheduler reports about it."""

_CONNECT_TIMEOUT = 10.0
_POLL = 0.1


class ClusterWorker(Struct, frozen=True):
    """A worker as the scheduler knows it. ``busy`` of its ``threads`` take part in runs."""

    name: str
    address: str
    threads: int
    busy: int
    regions: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def scheduler_process(listen: str, port: int) -> NodeProcess:
    """Return the scheduler of a node."""
    arguments = [
        *("--protocol", "tls", "--port", str(port)),
        *("--dashboard-address", "127.0.0.1:0", "--no-dashboard", "--no-jupyter"),
    ]
    if listen:
        arguments += ["--host", f"[{listen}]" if ":" in listen else listen]
    return NodeProcess("scheduler", "distributed.cli.dask_scheduler", tuple(arguments))


def worker_process(
    name: str, number: int, scheduler: str, threads: int, regions: Sequence[str]
) -> NodeProcess:
    """Return a worker of a node, which the scheduler knows by this name."""
    arguments = [
        scheduler,
        *("--no-nanny", "--nworkers", "1", "--nthreads", str(threads), "--name", name),
        *("--dashboard-address", "127.0.0.1:0", "--no-dashboard"),
        *("--memory-limit", "0", "--local-directory", f"work/{number}"),
    ]
    if regions:
        arguments += ["--resources", " ".join(f"{region}=1" for region in regions)]
    return NodeProcess(f"worker-{number}", "distributed.cli.dask_worker", tuple(arguments))


def read_workers(address: str, files: TlsFiles) -> list[ClusterWorker]:
    """Return the workers of a scheduler. Raises UsageError if it cannot be reached."""
    with _connect(address, files) as client:
        return _workers_of(client)


def await_workers(
    address: str,
    files: TlsFiles,
    names: Iterable[str],
    timeout: float,
    is_current: Callable[[ClusterWorker], bool] = lambda _worker: True,
) -> tuple[list[ClusterWorker], list[str]]:
    """Wait until the workers of these names are there; return the workers, and missing names.

    A worker for which ``is_current`` is False is one that is about to end. Raises UsageError if
    the scheduler does not answer in time.
    """
    deadline, wanted = time.monotonic() + timeout, list(names)
    while True:
        try:
            with _connect(address, files) as client:
                while True:
                    workers = _workers_of(client)
                    found = {worker.name for worker in workers if is_current(worker)}
                    missing = [name for name in wanted if name not in found]
                    if not missing or time.monotonic() > deadline:
                        return workers, missing
                    time.sleep(_POLL)
        except UsageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL)


def _connect(address: str, files: TlsFiles) -> Any:
    distributed = import_distributed()
    silence_logs()
    security = security_of(files)
    try:
        return distributed.Client(
            address, security=security, set_as_default=False, timeout=_CONNECT_TIMEOUT
        )
    except (OSError, ValueError) as error:
        reason = str(error.__cause__ or error) or "it does not answer"
        message = f"no connection to the scheduler {address}: {reason}"
        hint = "`orch cluster check` says what is missing"
        raise UsageError(Diagnostic(message, None, hint)) from None


def _workers_of(client: Any) -> list[ClusterWorker]:
    found, busy = None, {}
    with suppress(OSError):
        found = client.scheduler_info(n_workers=-1)["workers"]
        busy = client.processing()
    if found is None:
        raise UsageError(Diagnostic("the connection to the scheduler was lost"))
    return [
        ClusterWorker(
            str(worker["name"]),
            address,
            int(worker["nthreads"]),
            len(busy.get(address, ())),
            regions=tuple(sorted(worker.get("resources") or ())),
            versions=dict(worker.get(VERSIONS_KEY) or {}),
        )
        for address, worker in sorted(found.items())
    ]
