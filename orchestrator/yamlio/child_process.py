"""Local child processes, which are killed if orch is interrupted."""

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

_TERM_TIMEOUT = 1.0  # seconds between SIGTERM and SIGKILL
_POLL_INTERVAL = 0.02  # seconds between checks whether the child has exited


def run_child(
    words: Sequence[str], folder: str, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Run a command without standard input and return its output.

    The command keeps orch's terminal and process group, because it may prompt there. If orch is
    interrupted, the command's descendants are therefore found by their parent process IDs. Raises
    OSError and ValueError if the command cannot be run.
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
    """Return the result of ``work`` for the process that ``start`` returns.

    If ``work`` raises or is interrupted, call ``end`` with the process. An interrupt is raised in
    the main thread, possibly inside of Popen after the process was started, and then nothing would
    refer to the process. So another thread starts it.
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
    except BaseException as error:  # re-raised by started.result()
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
        with suppress(ProcessLookupError, PermissionError):  # exited, or running as another user
            os.kill(pid, number)


def _descendants(pid: int) -> Iterator[int]:
    """Yield the IDs of a process's descendants."""
    children: dict[int, list[int]] = {}
    for each, parent in _process_parents():
        children.setdefault(parent, []).append(each)
    found = list(children.get(pid, ()))
    while found:
        each = found.pop()
        yield each
        found += children.get(each, ())


def _process_parents() -> Iterator[tuple[int, int]]:
    """Yield every process ID with its parent's: from Linux's /proc (proc(5)), else from `ps`."""
    proc = Path("/proc")
    stats = (
        [each / "stat" for each in proc.iterdir() if each.name.isdigit()] if proc.is_dir() else []
    )
    for stat in stats:
        with suppress(OSError):  # it has exited
            yield int(stat.parent.name), int(stat.read_bytes().rpartition(b")")[2].split()[1])
    if not stats:
        table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=False)
        for row in table.stdout.splitlines():
            if len(words := row.split()) == 2:
                yield int(words[0]), int(words[1])
