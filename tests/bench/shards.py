"""How many hosts a second the client can serve, in one process and in several.

    python -m tests.bench.shards                both tables
    python -m tests.bench.shards canned         only the first
    python -m tests.bench.shards sshd --hosts 500

``canned``: everything orch does but SSH. Hosts are channels in memory that play back what a real
sh once answered to the same steps, so no server takes any CPU. Journal, plain lines and rows are
written as ever, the latter to /dev/null. Since such hosts never let one wait, all threads want the
interpreter at once, which costs one process with many more than it does with real hosts: --forks
says how many there are.
``sshd``: orch as it is, with a real sshd on loopback, whose CPU is not counted.

Processes of one run take turns with those of others, and sshd needs most of the machine; so beside
the wall stands what the CPU seconds allow: hosts / max(CPU of the busiest process, CPU of all / C)
on C processors, which no run can exceed. Medians; runs with one and more processes take turns.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.app.emitter import Emitter
from orchestrator.execute import Cancel, Options, run
from orchestrator.execute.shard_work import Ask, Job
from orchestrator.execute.shards import hire
from orchestrator.inventory.load import load as load_stage
from orchestrator.journal import Journal
from orchestrator.model.host import Host, Stage
from orchestrator.model.masks import Masks
from orchestrator.plan.ask import Ask as Asked
from orchestrator.plan.build import build
from orchestrator.plan.model import Plan
from orchestrator.plan.views import run_view
from orchestrator.report.choose import sinks
from orchestrator.session.channel import Channel, Chunk
from orchestrator.tasks import Request, load
from orchestrator.transport.local import LocalConnection
from tests.bench.farm import farm

PROCESSORS = 2
_OBJECTS_A_LOOK = 50_000  # for the garbage collector, as orch itself has it
_LOOK = 0.02  # seconds between looks at the workers' CPU
_NONCE = re.compile(rb"o_nonce=(\w+)''(\w+);")
_TASKS = {
    "one": "steps: [{run: uname, readonly: true}]\n",
    "twelve": "steps:\n"
    + "".join(f"- run: echo {{{{ host.name }}}} step {n}; uname -a\n" for n in range(12)),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds by the clock, and of CPU: the first process, and the workers."""

    wall: float
    first: float
    workers: tuple[float, ...]

    def rate(self, hosts: int) -> float:
        """Hosts per second by the clock."""
        return hosts / self.wall

    def bound(self, hosts: int) -> float:
        """Hosts per second that the CPU seconds allow."""
        each = (self.first, *self.workers)
        return hosts / max(*each, sum(each) / min(PROCESSORS, len(each)))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["canned", "sshd"])
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--forks", type=int, default=100)
    parser.add_argument("--shards", default="1,2")
    given = parser.parse_args(words)
    counts = [int(count) for count in given.shards.split(",")]
    with tempfile.TemporaryDirectory(prefix="orch-shards-") as folder:
        if "canned" in given.what:
            for task in _TASKS:
                bench = Bench(Path(folder) / task, task, given.hosts, given.forks)
                runs = {count: list[Figures]() for count in counts}
                for _ in range(given.repeat):
                    for count in counts:
                        runs[count].append(bench.once(count))
                for line in table(f"canned, {task} step(s)", given.hosts, runs):
                    print(line, flush=True)
        if "sshd" in given.what:
            for line in over_sshd(Path(folder) / "farm", given.hosts, counts, given.repeat):
                print(line, flush=True)
    return 0


def table(what: str, hosts: int, runs: dict[int, list[Figures]]) -> Iterator[str]:
    """A row for each number of processes."""
    yield f"\n| {what}, {hosts} hosts | wall s | CPU s, first | CPU s, workers | hosts/s | bound |"
    yield "|---|---|---|---|---|---|"
    rates: list[tuple[float, float]] = []
    for count, each in runs.items():
        wall, first = (statistics.median(getattr(f, n) for f in each) for n in ("wall", "first"))
        work = [statistics.median(w) for w in zip(*(sorted(f.workers) for f in each), strict=True)]
        rate, bound = (
            statistics.median(getattr(f, n)(hosts) for f in each) for n in ("rate", "bound")
        )
        rates.append((rate, bound))
        told = " + ".join(f"{seconds:.2f}" for seconds in work) or "-"
        yield f"| shards {count} | {wall:.2f} | {first:.2f} | {told} | {rate:.0f} | {bound:.0f} |"
    ratios = (f"{more / one:.2f}" for one, more in zip(rates[0], rates[-1], strict=True))
    yield f"| last / first | | | | {' | '.join(ratios)} |"


class Bench:
    """A plan for so many hosts, made once, and what a sh answered to it."""

    def __init__(self, root: Path, task: str, hosts: int, forks: int = 100) -> None:
        self.forks = forks
        (root / "inventories" / "s").mkdir(parents=True)
        (root / "tasks").mkdir()
        names = "".join(f"h{n:05}: {{}}\n" for n in range(hosts))
        (root / "inventories" / "s" / "hosts.yml").write_text(names)
        (root / "tasks" / f"{task}.yml").write_text(_TASKS[task])
        self.root = root
        self.stage = load_stage(root, "s")
        self.plan = self._planned(task, self.stage)
        self.answer = self._recorded()

    def _planned(self, task: str, stage: Stage, few: int | None = None) -> Plan:
        tasks = load(self.root, [task]).by_name
        hosts = tuple(stage.hosts.values())[:few]
        view = run_view("r", "me", time.time())
        return build(Asked(stage, hosts, (Request(task),), tasks, view))

    def _recorded(self) -> tuple[Chunk, ...]:
        """What a sh answers to the steps of one host, with NONCE for the nonce."""
        tape: list[Recording] = []

        def connect(_host: Host) -> Recording:
            tape.append(Recording())
            return tape[0]

        plan = self._planned(self.plan.tasks[0], self.stage, 1)
        code = run(
            plan, self.stage.hosts, connect, lambda _: None, options=Options(), cancel=Cancel()
        )
        assert code == 0
        return tuple(tape[0].chunks)

    def once(self, count: int) -> Figures:
        """Run it in processes of its own."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                self._once(count, writer)
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as told:
            lines = [json.loads(line) for line in told]
        os.waitpid(child, 0)
        (wall, first), workers = lines[-1], [cpu for _, cpu in lines[:-1]]
        return Figures(wall, first, tuple(workers))

    def _once(self, count: int, writer: int) -> None:
        gc.set_threshold(_OBJECTS_A_LOOK)
        began, cpu = time.monotonic(), time.process_time()

        def told() -> None:
            took = time.monotonic() - began, time.process_time() - (cpu if not working else 0)
            os.write(writer, f"{json.dumps(took)}\n".encode())

        working: list[bool] = []

        def opens(_ask: Ask | None, _line: object) -> Canned:
            working.append(True)
            return Canned(self.answer, told)

        options = Options(self.forks, shards=count)
        job = Job(self.plan, self.stage.hosts, options, opens, Masks(), False)
        shards = hire(job, None, lambda host: host.name)
        null = io.TextIOWrapper(io.FileIO(os.devnull, "w"))
        sink = sinks(json=False, verbose=0, stdout=null, stderr=null, environ={"NO_COLOR": "1"})
        journal = Journal(self.root, {}, lambda _: None)
        emit = Emitter((journal, sink), lambda: "", lambda: None)
        outside = Canned(self.answer, lambda: None)
        code = run(
            self.plan,
            self.stage.hosts,
            outside.connect,
            emit,
            options=options,
            cancel=Cancel(),
            shards=shards,
        )
        emit.close()
        if shards is not None:
            shards.close()
        assert code == 0, code
        told()


class Recording:
    """A sh on this machine whose words are kept."""

    place = ""

    def __init__(self) -> None:
        self.of, self.chunks = LocalConnection(), list[Chunk]()

    def open(self, become: str = "") -> Channel:
        return Tape(self.of.open(become), self.chunks)

    def close(self) -> None:
        self.of.close()


class Tape:
    """Its channel."""

    def __init__(self, of: Channel, chunks: list[Chunk]) -> None:
        self.of, self.chunks, self.nonce = of, chunks, b""

    def write(self, data: bytes | memoryview) -> int:
        self.nonce = self.nonce or nonce_of(data)
        return self.of.write(data)

    def read(self, timeout: float | None) -> Chunk:
        chunk = self.of.read(timeout)
        parts = (part.replace(self.nonce, b"NONCE") for part in (chunk.stdout, chunk.stderr))
        self.chunks.append(Chunk(*parts))
        return chunk

    def wake(self) -> None:
        self.of.wake()

    def close_stdin(self) -> None:
        self.of.close_stdin()

    def close(self) -> None:
        self.of.close()

    def exit_status(self) -> int | None:
        return self.of.exit_status()

    def cause(self) -> str:
        return ""


class Canned:
    """Connects to hosts that all say the same."""

    place = ""

    def __init__(self, chunks: tuple[Chunk, ...], told: object) -> None:
        self.chunks, self.told = chunks, told

    def connect(self, _host: Host) -> Canned:
        return Canned(self.chunks, lambda: None)

    def open(self, _become: str = "") -> Channel:
        return CannedChannel(self.chunks)

    def interrupt(self, cancel: Cancel) -> None:
        cancel.stop()

    def close(self) -> None:
        assert callable(self.told)
        self.told()


class CannedChannel:
    """Plays the answer back, piece by piece."""

    def __init__(self, chunks: tuple[Chunk, ...]) -> None:
        self.chunks, self.nonce, self.at = chunks, b"", 0

    def write(self, data: bytes | memoryview) -> int:
        self.nonce = self.nonce or nonce_of(data)
        return len(data)

    def read(self, _timeout: float | None) -> Chunk:
        chunk = self.chunks[self.at]
        self.at += 1
        own = (part.replace(b"NONCE", self.nonce) for part in (chunk.stdout, chunk.stderr))
        return Chunk(*own)

    def wake(self) -> None: ...

    def close_stdin(self) -> None: ...

    def close(self) -> None: ...

    def exit_status(self) -> int | None:
        return None

    def cause(self) -> str:
        return ""


def nonce_of(data: bytes | memoryview) -> bytes:
    """The nonce of the session whose first words these are."""
    found = _NONCE.search(bytes(data[:4096]))
    assert found is not None
    return found[1] + found[2]


def over_sshd(folder: Path, hosts: int, counts: list[int], repeat: int) -> Iterator[str]:
    """Whole processes against a real server."""
    with farm(folder) as there:
        (there.project / "tasks" / "uname.yml").write_text(_TASKS["one"])
        (there.project / "tasks" / "twelve.yml").write_text(_TASKS["twelve"])
        stage = there.stage(hosts)
        for task in ("uname", "twelve"):
            runs = {count: list[Figures]() for count in counts}
            for _ in range(repeat):
                for count in counts:
                    words = ["-C", str(there.project), "-s", stage, "run", task]
                    runs[count].append(whole([*words, "--shards", str(count)], there.environ()))
            yield from table(f"sshd, {task}, whole process", hosts, runs)


def whole(words: list[str], environ: dict[str, str]) -> Figures:
    """One run of orch; the CPU of its workers as looked at until they end."""
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        seen: dict[int, float] = {}
        over = threading.Event()
        looking = threading.Thread(target=_look, args=(process.pid, seen, over))
        looking.start()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        over.set()
        looking.join()
        log.seek(0)
        assert process.returncode == 0, log.read()[-2000:].decode()
    workers = tuple(sorted(seen.values()))
    return Figures(wall, used.ru_utime + used.ru_stime - sum(workers), workers)


def _look(pid: int, seen: dict[int, float], over: threading.Event) -> None:
    while not over.wait(_LOOK):
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for child in children:
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                seen[int(child)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue  # ended between the two


if __name__ == "__main__":
    sys.exit(main())
