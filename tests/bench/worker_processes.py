"""Measures how much faster several processes drive many hosts than one does.

    python -m tests.bench.worker_processes                        2,000 hosts, 12 steps, 2 workers
    python -m tests.bench.worker_processes --hosts 1000 --steps 1 --workers 2 --repeat 5

Hosts are canned: channels in memory that play back what a real sh once answered to the same steps,
so no server takes any CPU, and all of it is orch's. Journal, lines and table are written as ever,
the latter to /dev/null. Runs with one process and with several take turns, each in a process of its
own. The start of the cluster is stated apart: until every worker has its plan.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import pickle
import re
import resource
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.commands import dask_engine, worker_connections, worker_process
from orchestrator.commands.context import PlanOptions, ProjectContext, ProjectSelector, load_context
from orchestrator.commands.dask_engine import DaskEngine, EngineChoice
from orchestrator.commands.event_dispatch import EventDispatcher
from orchestrator.commands.plan_source import TaskWords
from orchestrator.executor import CancelToken, RunOptions, execute_plan
from orchestrator.journal import RunJournal
from orchestrator.model.host import NO_OVERRIDES, Host
from orchestrator.output.display_options import DisplayOptions
from orchestrator.output.sinks import choose_sinks
from orchestrator.output.terminal_lock import TerminalLock
from orchestrator.planner.plan import Plan
from orchestrator.remote_shell.channel_protocol import ReadChunk
from orchestrator.transports.local import LocalConnection

_NONCE = re.compile(rb"o_nonce=(\w+)''(\w+);")
MODULE = "tests.bench.worker_processes"
RECORDING = "ORCH_BENCH_RECORDING"
"""The variable with the path of the recorded answers, for the workers."""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--forks", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args(words)
    dask_engine._LOCAL_CONFIG["distributed.worker.preload"] = [MODULE]  # type: ignore[index]
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as folder:
        bench = CannedRun(Path(folder), options.hosts, options.steps, options.forks)
        runs: dict[int, list[dict[str, float]]] = {0: [], options.workers: []}
        for _ in range(options.repeat):
            for workers, measured in runs.items():
                engine = EngineChoice(processes=workers) if workers else None
                measured.append(bench.measure(engine))
    print(f"\n{options.hosts} canned hosts, {options.steps} steps, medians of {options.repeat}\n")
    columns = ("plan s", "start s", "run s", "CPU of orch s", "CPU of workers s", "MiB of orch")
    columns += ("KiB a host to workers", "KiB a host from workers", "batches")
    print(f"| workers | {' | '.join(columns)} |")
    print(f"|---|{'---|' * len(columns)}")
    medians = {
        workers: {key: statistics.median(each[key] for each in measured) for key in measured[0]}
        for workers, measured in runs.items()
    }
    for workers, row in medians.items():
        keys = (
            "plan",
            "start",
            "run",
            "cpu",
            "worker_cpu",
            "memory",
            "sent",
            "received",
            "batches",
        )
        print(f"| {workers or 'none'} | {' | '.join(f'{row[key]:.2f}' for key in keys)} |")
    ratio = medians[0]["run"] / medians[options.workers]["run"]
    print(f"\none process / {options.workers} workers: {ratio:.2f}")
    return 0


class CannedRun:
    """A project, and what a real sh answers to the steps of one of its hosts."""

    def __init__(
        self, root: Path, hosts: int, steps: int, forks: int, regions: Sequence[str] = ()
    ) -> None:
        """Write the project, and record the answers; the hosts are divided among the regions."""
        self.root, self.forks = root, forks
        stage = root / "inventories" / "s"
        stage.mkdir(parents=True)
        (root / "tasks").mkdir()
        names = [f"h{n:05}" for n in range(hosts)]
        (stage / "hosts.yml").write_text("".join(f"{name}: {{}}\n" for name in names))
        parts = {region: names[n :: len(regions)] for n, region in enumerate(regions)}
        if parts:
            (stage / "stage.yml").write_text(json.dumps({"regions": parts}))
        texts = (f"- run: echo {{{{ host.name }}}} step {n}; uname -a\n" for n in range(steps))
        (root / "tasks" / "work.yml").write_text("steps:\n" + "".join(texts))
        self._record()

    def _record(self) -> None:
        context, plan = self._plan("h00000")
        recorded = _RecordedConnection()
        options, cancel = RunOptions(), CancelToken()
        code = execute_plan(
            plan,
            context.stage.hosts,
            lambda _host: recorded,
            lambda _event: None,
            options=options,
            cancel=cancel,
        )
        assert code == 0
        path = self.root / "recording"
        path.write_bytes(pickle.dumps(recorded.chunks))
        os.environ[RECORDING] = str(path)

    def _plan(self, limit: str | None = None) -> tuple[ProjectContext, Plan]:
        context = load_context(ProjectSelector(str(self.root), ("s",), limit), os.environ, "")
        return context, TaskWords(("work",)).plan(context, PlanOptions(), os.environ)

    def measure(self, engine: EngineChoice | None) -> dict[str, float]:
        """Run it in a process of its own, and return seconds by the clock and of CPU."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(reader)
                os.write(writer, json.dumps(self._measure(engine)).encode())
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader) as measured:
            text = measured.read()
        _, status = os.waitpid(child, 0)
        assert status == 0
        return dict(json.loads(text))

    def _measure(self, engine: EngineChoice | None) -> dict[str, float]:
        gc.set_threshold(50_000)  # as orch has it
        began = time.monotonic()
        context, plan = self._plan()
        gc.freeze()
        planned = time.monotonic()
        null = io.TextIOWrapper(io.FileIO(os.devnull, "w"))
        journal = RunJournal(self.root, os.environ, _ignore, 30, about={}, describe_end=dict)
        sink = choose_sinks(
            DisplayOptions(),
            stdout=null,
            stderr=null,
            environ={"NO_COLOR": "1"},
            terminal_lock=TerminalLock(),
            find_expected=lambda *_: None,
        )
        emit = EventDispatcher((journal, sink), lambda: "", lambda: None)
        options = RunOptions(self.forks, is_resumable=True)

        def run(started: float, remote: Any) -> dict[str, float]:
            code = execute_plan(
                plan,
                context.stage.hosts,
                CannedTransports().connect,
                emit,
                options=options,
                cancel=CancelToken(),
                workers=remote,
            )
            assert code == 0
            emit.close()
            times = time.monotonic() - started, started - planned, planned - began
            return dict(zip(("run", "start", "plan"), times, strict=True))

        if engine is not None:
            traffic = Traffic()
            worker_connections.pickle = traffic  # type: ignore[assignment]
            with DaskEngine(
                engine,
                ProjectSelector(str(self.root), ("s",)),
                TaskWords(("work",)),
                PlanOptions(),
                os.environ,
            ).start(plan, context, options, prompt=None, connecting=NO_OVERRIDES) as remote:
                figures = run(time.monotonic(), remote)
            figures["sent"] = traffic.sent / 1024 / len(plan.hosts)
            figures["received"] = traffic.received / 1024 / len(plan.hosts)
            figures["batches"] = traffic.batches
        else:
            figures = run(planned, None) | {"sent": 0, "received": 0, "batches": 0}
        own, children = (
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        figures["memory"] = own.ru_maxrss / 1024
        figures["cpu"] = own.ru_utime + own.ru_stime
        figures["worker_cpu"] = children.ru_utime + children.ru_stime
        return figures


class Traffic:
    """Counts what the coordinator sends and receives."""

    def __init__(self) -> None:
        self.sent = self.received = self.batches = 0

    def dumps(self, value: object) -> bytes:
        data = pickle.dumps(value)
        self.sent += len(data)
        self.batches += 1
        return data

    def loads(self, data: bytes) -> Any:
        self.received += len(data)
        self.batches += 1
        return pickle.loads(data)


def _ignore(_text: str) -> None: ...


def dask_setup(_worker: object) -> None:
    """Connect to canned hosts in a worker; Dask calls this."""
    worker_process.make_transports = lambda *_, **__: CannedTransports()  # type: ignore[assignment]


class _RecordedConnection:
    """A connection to a local shell that records what it reads."""

    endpoint = ""

    def __init__(self) -> None:
        self._connection, self.chunks = LocalConnection(), list[ReadChunk]()

    def open(self, become: str = "") -> Any:
        return _RecordedChannel(self._connection.open(become), self.chunks)

    def close(self) -> None:
        self._connection.close()


class _RecordedChannel:
    def __init__(self, channel: Any, chunks: list[ReadChunk]) -> None:
        self._channel, self._chunks, self._nonce = channel, chunks, b""

    def write(self, data: bytes | memoryview) -> int:
        self._nonce = self._nonce or _nonce_of(data)
        return int(self._channel.write(data))

    def read(self, timeout: float | None) -> ReadChunk:
        chunk: ReadChunk = self._channel.read(timeout)
        parts = (part.replace(self._nonce, b"NONCE") for part in (chunk.stdout, chunk.stderr))
        self._chunks.append(ReadChunk(*parts))
        return chunk

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self._channel, name)  # type: ignore[no-any-return]


class CannedTransports:
    """Connects to hosts that all answer what was recorded."""

    endpoint = ""

    def __init__(self) -> None:
        self._chunks = pickle.loads(Path(os.environ[RECORDING]).read_bytes())

    def connect(self, _host: Host) -> Any:
        return self

    def open(self, _become: str = "") -> Any:
        return _CannedChannel(self._chunks)

    def reset(self, on_ready: Callable[[], object]) -> None:
        on_ready()

    def close(self) -> None: ...


class _CannedChannel:
    def __init__(self, chunks: Sequence[ReadChunk]) -> None:
        self._chunks, self._nonce = iter(chunks), b""

    def write(self, data: bytes | memoryview) -> int:
        self._nonce = self._nonce or _nonce_of(data)
        return len(data)

    def read(self, _timeout: float | None) -> ReadChunk:
        chunk = next(self._chunks)
        return ReadChunk(
            chunk.stdout.replace(b"NONCE", self._nonce), chunk.stderr.replace(b"NONCE", self._nonce)
        )

    def wake(self) -> None: ...

    def close_stdin(self) -> None: ...

    def close(self) -> None: ...

    def exit_status(self) -> int | None:
        return None

    def cause(self) -> str:
        return ""

    def prepared_shell(self) -> None:
        return None


def _nonce_of(data: bytes | memoryview) -> bytes:
    """Return the nonce of the session whose first words these are."""
    found = _NONCE.search(bytes(data[:4096]))
    assert found is not None
    return found[1] + found[2]


if __name__ == "__main__":
    sys.exit(main())
