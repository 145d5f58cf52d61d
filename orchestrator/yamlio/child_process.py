"""A command on this machine, of which nothing is left if we are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TypeVar

T = TypeVar("T")

_TERM_TIMEOUT = 1.0  # seconds for what is asked to end
_POLL_INTERVAL = 0.02  # seconds between looks at whether it has


def run_child(
    words: Sequence[str], folder: str, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with nothing to read, and return what it printed.

    It keeps our terminal and process group, since it may have something to ask there. So what it
    started is found by its parents if we have to leave. Raises OSError and ValueError where it
    cannot be run.
    """

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            words,
            cwd=folder or None,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    child, (out, err) = supervise_child(
        start, lambda child: (child, child.communicate()), _end_child
    )
    return subprocess.CompletedProcess(words, child.returncode, out, err)


def supervise_child(
    start: Callable[[], subprocess.Popen[bytes]],
    work: Callable[[subprocess.Popen[bytes]], T],
    end: Callable[[subprocess.Popen[bytes]], None],
) -> T:
    """Return what ``work`` makes of the process that ``start`` returns.

    Call ``end`` with the process where ``work`` raises, or an interrupt does. An interrupt is
    raised in the main thread, also inside of Popen, after the process has begun: nothing would
    refer to it then. So another thread starts it.
    """
    started: Future[subprocess.Popen[bytes]] = Future()
    try:
        Thread(target=_start_child, args=(started, start)).start()
        return work(started.result())
    except BaseException:
        if not started.cancel() and started.exception() is None:
            end(started.result())
        raise


def _start_child(
    started: Future[subprocess.Popen[bytes]], start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    if not started.set_running_or_notify_cancel():
        return
    try:
        started.set_result(start())
    except BaseException as error:  # it is raised where the result is asked for
        started.set_exception(error)


def _end_child(child: subprocess.Popen[bytes]) -> None:
    family = [child.pid, *_descendants(child.pid)]
    _signal_all(family, signal.SIGTERM)
    until = time.monotonic() + _TERM_TIMEOUT
    while child.poll() is None and time.monotonic() < until:
        time.sleep(_POLL_INTERVAL)
    if child.poll() is None:
        family = list(dict.fromkeys((*family, *_descendants(child.pid))))
    _signal_all([pid for pid in family if pid != child.pid or child.poll() is None], signal.SIGKILL)
    child.wait()
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def _signal_all(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):  # it has ended, or became root
            os.kill(pid, number)


def _descendants(pid: int) -> Iterator[int]:
    """Yield the ids of a process's children, and of theirs."""
    children: dict[int, list[int]] = {}
    for each, parent in _process_parents():
        children.setdefault(parent, []).append(each)
    found = list(children.get(pid, ()))
    while found:
        each = found.pop()
        yield each
        found += children.get(each, ())


def _process_parents() -> Iterator[tuple[int, int]]:
    """Yield every process with its parent: from Linux's /proc (proc(5)), else as `ps` has it."""
    proc = Path("/proc")
    stats = (
        [each / "stat" for each in proc.iterdir() if each.name.isdigit()] if proc.is_dir() else []
    )
    for stat in stats:
        with suppress(OSError):  # it has ended
            yield int(stat.parent.name), int(stat.read_bytes().rpartition(b")")[2].split()[1])
    if not stats:
        table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=False)
        for row in table.stdout.splitlines():
            if len(words := row.split()) == 2:
                yield int(words[0]), int(words[1])
