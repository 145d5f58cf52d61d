"""A Dask cluster on loopback, over TLS, for runs with ``--engine dask=tls://…``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from tests.sshd import wait_until

_START_TIMEOUT = 60.0  # seconds

_ORPHAN = "import ctypes, os, signal; ctypes.CDLL(None).prctl(1, signal.SIGKILL); "
"""Python code that lets a process end with the one that started it (prctl(2), PR_SET_PDEATHSIG)."""


@dataclass(frozen=True, slots=True)
class DaskCluster:
    """A scheduler and its workers."""

    address: str
    folder: Path
    scheduler: subprocess.Popen[bytes]
    workers: tuple[subprocess.Popen[bytes], ...]

    @property
    def environ(self) -> dict[str, str]:
        """Return the variables with which orch uses the cluster."""
        tls = "DASK_DISTRIBUTED__COMM__TLS__"
        return {
            "ORCH_ENGINE": f"dask={self.address}",
            f"{tls}CA_FILE": str(self.folder / "ca.pem"),
            f"{tls}CLIENT__KEY": str(self.folder / "key.pem"),
            f"{tls}CLIENT__CERT": str(self.folder / "cert.pem"),
        }


@contextmanager
def start_cluster(
    folder: Path,
    workers: int,
    hidden: Path | None = None,
    *,
    link: Callable[[int], int] = lambda port: port,
    environ: Mapping[str, str] = MappingProxyType({}),
    regions: Sequence[str] = (),
) -> Iterator[DaskCluster]:
    """Start a scheduler and so many workers, and end them afterwards.

    The workers do not see what is in the folder ``hidden``. They connect to the port that ``link``
    returns for the scheduler's, have ``environ`` in their environments, and each is in one of the
    ``regions``, in turn.
    """
    _write_certificates(folder)
    files = ("ca-file", "ca"), ("cert", "cert"), ("key", "key")
    tls = [word for option, name in files for word in (f"--tls-{option}", f"{name}.pem")]
    (folder / "home").mkdir()
    state = folder / "scheduler.json"
    processes = [
        _start(
            folder,
            "dask_scheduler",
            *("--protocol", "tls", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
            *("--dashboard-address", "127.0.0.1:0"),
            *("--scheduler-file", str(state), "--no-jupyter", *tls),
        )
    ]
    try:
        wait_until(lambda: _address_in(state) != "", "the scheduler has an address", _START_TIMEOUT)
        address = _address_in(state)
        host, _, port = address.rpartition(":")
        for number in range(workers):
            region = ["--resources", f"{regions[number % len(regions)]}=1"] if regions else []
            processes.append(
                _start(
                    folder,
                    "dask_worker",
                    *(
                        f"{host}:{link(int(port))}",
                        "--host",
                        "127.0.0.1",
                        "--nthreads",
                        "8",
                        "--no-nanny",
                        "--no-dashboard",
                    ),
                    *("--name", str(number), "--local-directory", str(folder / f"w{number}")),
                    *("--death-timeout", "60", *region, *tls),
                    hidden=hidden,
                    environ=environ,
                )
            )
        log = folder / "dask_scheduler.log"
        wait_until(
            lambda: log.read_text().count("Register worker") == workers,
            "the workers are registered",
            _START_TIMEOUT,
        )
        yield DaskCluster(address, folder, processes[0], tuple(processes[1:]))
    finally:
        for process in reversed(processes):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


def _start(
    folder: Path,
    program: str,
    *words: str,
    hidden: Path | None = None,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[bytes]:
    code = (
        f"{_ORPHAN}import runpy; runpy.run_module('distributed.cli.{program}', run_name='__main__')"
    )
    with (folder / f"{program}.log").open("ab") as log:
        command = [sys.executable, "-c", code, *words]
        if hidden is not None:
            mount = 'mount -t tmpfs none "$0" && exec "$@"'
            command = ["unshare", "-m", "sh", "-c", mount, str(hidden), *command]
        return subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "LANG": "C.UTF-8"}
            | environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _write_certificates(folder: Path) -> None:
    from distributed import Security

    made = Security.temporary().get_tls_config_for_role("client")
    for name, key in (("ca", "ca_file"), ("cert", "cert"), ("key", "key")):
        path = folder / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_text(made[key])


def _address_in(state: Path) -> str:
    with suppress(OSError, ValueError):
        return str(json.loads(state.read_text())["address"])
    return ""


@cache
def shared_cluster(workers: int) -> DaskCluster:
    """Return a cluster that ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="orch-dask-")
    _kept.append(folder)
    starting = start_cluster(Path(folder.name), workers)
    _kept.append(starting)
    return starting.__enter__()


_kept: list[object] = []
