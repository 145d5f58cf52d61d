"""The cost of one process with its children: time, CPU and memory."""

from __future__ import annotations

import ctypes
import fcntl
import os
import pty
import resource
import statistics
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

T = TypeVar("T")
_ROOT = Path(__file__).parents[2]
_LOOK = 0.1  # interval in seconds for reading the memory
_SIZE = (40, 120)  # rows and columns of the terminal
_BLOCK = 512  # bytes, of getrusage(2)
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_ENDING = 30.0  # seconds for a server's sessions to end


@dataclass(frozen=True, slots=True)
class ProcessCost:
    """Costs of a process tree.

    ``wall`` and ``cpu`` (user and system) are seconds. ``pss`` is the maximum of memory used by all
    processes at once in MiB, with shared pages divided between them (proc(5), smaps_rollup); 0 if
    not measured. ``disk``: bytes read from a disk and not from the cache.
    """

    wall: float
    cpu: float
    status: int
    disk: int
    pss: float = 0.0


def measure_process(
    words: Sequence[str],
    environ: Mapping[str, str],
    log: Path,
    *,
    watch: bool = False,
    terminal: bool = False,
) -> ProcessCost:
    """Run a command with its output in ``log``, optionally on its own terminal.

    ``watch``: measure its memory, which costs all processes some time.
    """
    most = [0.0]
    before = set(_children(os.getpid()))
    with (
        _adopt_orphans(),
        log.open("wb") as out,
        _output_target(out, terminal=terminal) as output_target,
    ):
        began = time.monotonic()
        process = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=output_target,
            stderr=output_target,
            env=environ,
            cwd=_ROOT,
        )
        over = threading.Event()
        watching = threading.Thread(target=_sample_memory, args=(process.pid, over, most))
        if watch:
            watching.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        burnt = usage.ru_utime + usage.ru_stime + sum(map(_cpu_seconds, _adopted_children(before)))
        over.set()
        if watch:
            watching.join()
    reap_children(before)
    return ProcessCost(wall, burnt, process.returncode, usage.ru_inblock * _BLOCK, most[0])


@contextmanager
def _adopt_orphans() -> Iterator[None]:
    """Adopt processes whose parent ends."""
    libc = ctypes.CDLL(None)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_SUBREAPER, 0, 0, 0, 0)


def median_of(runs: Iterable[T], of: Callable[[T], float]) -> float:
    """Return the median of one figure."""
    return statistics.median(map(of, runs))


def server_cpu_seconds(pid: int) -> float:
    """Return CPU seconds of a server's sessions, its only children, and of all other commands.

    All of them must have ended.
    """
    end = time.monotonic() + _ENDING
    while _children(pid) and time.monotonic() < end:
        time.sleep(0.01)
    reap_children({pid})
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    theirs = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")  # cutime, cstime
    ours = resource.getrusage(resource.RUSAGE_CHILDREN)
    return theirs + ours.ru_utime + ours.ru_stime


def reap_children(keep: set[int]) -> None:
    """Reap child processes that have ended, except those that other code waits for."""
    for child in _children(os.getpid()):
        with suppress(ChildProcessError):
            if child not in keep:
                os.waitpid(child, os.WNOHANG)


def _adopted_children(before: set[int]) -> Iterator[int]:
    """Yield the processes that a command left in the background, which are adopted: ssh masters.

    Others belong to the server.
    """
    for pid in set(_children(os.getpid())) - before:
        with suppress(OSError):  # it has ended meanwhile
            if Path(f"/proc/{pid}/comm").read_text() == "ssh\n":
                yield pid


def _cpu_seconds(pid: int) -> float:
    usage = os.wait4(pid, 0)[2]
    return usage.ru_utime + usage.ru_stime


@contextmanager
def _output_target(out: BinaryIO, *, terminal: bool) -> Iterator[int]:
    if not terminal:
        yield out.fileno()
        return
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("4H", *_SIZE, 0, 0))
    copying = threading.Thread(target=_copy_output, args=(near, out))
    copying.start()
    try:
        yield far
    finally:
        os.close(far)
        copying.join()
        os.close(near)


def _copy_output(near: int, out: BinaryIO) -> None:
    with suppress(OSError):  # EIO: no process has the other end open any more
        while data := os.read(near, 1 << 16):
            out.write(data)


def _sample_memory(pid: int, over: threading.Event, most: list[float]) -> None:
    while not over.wait(_LOOK):
        most[0] = max(most[0], sum(map(_pss, _process_tree(pid))))


def _process_tree(pid: int) -> Iterator[int]:
    yield pid
    for child in _children(pid):
        yield from _process_tree(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):  # it has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def _pss(pid: int) -> float:
    with suppress(OSError):
        for row in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if row.startswith("Pss:"):
                return int(row.split()[1]) / 1024
    return 0.0
