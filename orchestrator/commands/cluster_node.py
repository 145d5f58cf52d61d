"""Runs a host's part of a cluster: the scheduler, workers, or both.

`orch cluster up` starts ``python -m orchestrator.commands.cluster_node FOLDER`` on each host. It
starts the processes that FOLDER/node.json names, and starts one again that ends. The processes
import this module as well (`--preload`): they end if this process is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from msgspec import Struct, field

NODE_FILE, PID_FILE, LOCK_FILE = "node.json", "node.pid", "node.lock"
_MODULE = "orchestrator.commands.cluster_node"
_MAX_LOG_BYTES = 1 << 20
_FIRST_DELAY, _MAX_DELAY = 0.5, 30.0
"""Seconds before a process that ended is started again: more for one that ends soon each time."""
_LONG_RUN = 60.0
_END_TIMEOUT = 10.0
_START_TIMEOUT = 60.0
_POLL = 0.05
_SHOWN_LOG_CHARS = 2000


class NodeProcess(Struct, frozen=True):
    """A process of a node: its name, the module of Dask that it runs, and its arguments."""

    name: str
    module: str
    arguments: tuple[str, ...]


class NodeSettings(Struct, frozen=True):
    """What a host runs. ``digest`` is that of everything that a running node depends on.

    ``config`` are settings of Dask.
    """

    digest: str
    processes: tuple[NodeProcess, ...]
    config: Mapping[str, Any] = field(default_factory=dict)


def main(words: Sequence[str]) -> int:
    """Run the node in the folder ``words[0]``; with ``--detach``, in a process of its own.

    ``--versions`` prints the versions of code that workers must have in common.
    """
    if words == ["--versions"]:
        from orchestrator.commands.worker_process import code_versions

        print(json.dumps(code_versions()))
        return 0
    folder = Path(words[0])
    if "--detach" in words:
        return _detach(folder)
    return _Node(folder).run()


def _detach(folder: Path) -> int:
    """Start the node in a process of its own; return when it runs, or its exit status."""
    log = _open_log(folder / "log" / "node.log")
    child = subprocess.Popen(
        [sys.executable, "-m", _MODULE, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=folder,
        start_new_session=True,
    )
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        status = child.poll()
        if status is not None:
            print(
                (folder / "log" / "node.log").read_text(errors="replace")[-2000:], file=sys.stderr
            )
            return status or 1
        with suppress(OSError, ValueError, IndexError):
            if int((folder / PID_FILE).read_text().split()[0]) == child.pid:
                return 0
        time.sleep(_POLL)
    print("it did not start in time", file=sys.stderr)
    return 1


class _Child:
    """A process that is started again when it ends."""

    def __init__(self, process: NodeProcess, folder: Path, environ: Mapping[str, str]) -> None:
        self._process, self._folder, self._environ = process, folder, environ
        self._running: subprocess.Popen[bytes] | None = None
        self._delay = _FIRST_DELAY
        self._started_at = self._start_at = 0.0

    def tend(self, alive: int) -> None:
        """Start the process if it does not run; ``alive`` is a pipe that it watches."""
        now = time.monotonic()
        if self._running is not None:
            if self._running.poll() is None:
                return
            status, self._running = self._running.returncode, None
            is_early = now - self._started_at < _LONG_RUN
            self._delay = min(self._delay * 2, _MAX_DELAY) if is_early else _FIRST_DELAY
            self._start_at = now + self._delay
            print(f"{self._process.name} ended with status {status}", file=sys.stderr, flush=True)
        if now < self._start_at:
            return
        with _open_log(self._folder / "log" / f"{self._process.name}.log") as log:
            self._running = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    self._process.module,
                    *("--preload", _MODULE),
                    *self._process.arguments,
                ],
                stdin=alive,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._environ,
            )
        self._started_at = now

    def send(self, number: int) -> None:
        if self._running is not None and self._running.poll() is None:
            self._running.send_signal(number)

    def wait(self, deadline: float) -> None:
        if self._running is not None:
            with suppress(subprocess.TimeoutExpired):
                self._running.wait(max(0.0, deadline - time.monotonic()))


class _Node:
    """The processes of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_ended = threading.Event()

    def run(self) -> int:
        """Run the processes until a signal ends them; return the exit status."""
        os.umask(0o077)
        with (self._folder / LOCK_FILE).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print(f"another process runs the node in {self._folder}", file=sys.stderr)
                return 1
            return self._run()

    def _run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        settings = load_settings(self._folder)
        # nobody writes to it: it ends when this process does
        alive, _own_end = os.pipe()
        environ = _environ_of(self._folder, settings)
        children = [_Child(each, self._folder, environ) for each in settings.processes]
        pid_file = self._folder / PID_FILE
        temporary = pid_file.with_suffix(".new")
        temporary.write_text(f"{os.getpid()} {settings.digest}\n")
        temporary.replace(pid_file)
        try:
            while not self._is_ended.wait(_POLL):
                for child in children:
                    child.tend(alive)
        finally:
            # workers first, so that they can tell the scheduler that they leave
            deadline = time.monotonic() + _END_TIMEOUT
            for child in reversed(children):
                child.send(signal.SIGTERM)
                child.wait(deadline)
                child.send(signal.SIGKILL)
            pid_file.unlink(missing_ok=True)
        return 0

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._is_ended.set()


def load_settings(folder: Path) -> NodeSettings:
    """Return the settings of a node. Raises OSError and msgspec.DecodeError."""
    import msgspec

    return msgspec.json.decode((folder / NODE_FILE).read_bytes(), type=NodeSettings)


def _environ_of(folder: Path, settings: NodeSettings) -> dict[str, str]:
    """Return the environment of the processes, with the settings of Dask as variables."""
    tls = "distributed.comm.tls"
    config = {**settings.config, f"{tls}.ca-file": str(folder / "tls" / "ca.pem")}
    for role in ("scheduler", "worker", "client"):
        config[f"{tls}.{role}.cert"] = str(folder / "tls" / "cert.pem")
        config[f"{tls}.{role}.key"] = str(folder / "tls" / "key.pem")
    variables = {
        "DASK_" + name.upper().replace(".", "__").replace("-", "_"): str(value)
        for name, value in config.items()
    }
    # what the process that started this one was for does not matter here
    own = {
        name: text for name, text in os.environ.items() if not name.startswith(("ORCH_", "DASK_"))
    }
    return {**own, **variables}


def _open_log(path: Path) -> Any:
    """Open a log to append to it; one that is long becomes NAME.1."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with suppress(OSError):
        if path.stat().st_size > _MAX_LOG_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")


def dask_setup(server: Any) -> None:
    """Prepare a process of the node: end with it, and report its versions; Dask calls this."""
    threading.Thread(target=_end_with_node, daemon=True).start()
    if hasattr(server, "startup_information"):  # it is a worker
        from orchestrator.commands.worker_process import code_versions

        versions = code_versions()

        async def report(_worker: object) -> Mapping[str, str]:
            return versions

        server.startup_information["orch_versions"] = report


def _end_with_node() -> None:
    """Exit as soon as the other end of stdin is closed."""
    with suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
