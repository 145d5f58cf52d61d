"""One thread that moves bytes between the sandbox's processes and their channels."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import threading
from pathlib import Path

from orchestrator.transport.process import MARKER, PIDFD, Process

GRACE = 2.0  # seconds for a shell to end by itself once its stdin is closed
POLL = 0.05  # seconds between looks for ended processes where the system has no pidfd


class Pump:
    """Serves any number of processes with one thread, which starts with the first.

    Nothing is buffered but what a full pipe or a client's window left of one read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._touched: set[Process] = set()
        self._processes: set[Process] = set()
        self._selector = selectors.DefaultSelector()
        self._bell = os.pipe()
        for end in self._bell:
            os.set_blocking(end, False)
        self._selector.register(self._bell[0], selectors.EVENT_READ)
        self._closing = False
        self._thread: threading.Thread | None = None

    def look(self, process: Process) -> None:
        """Serve this process now, since something about it changed, or since it is new."""
        with self._lock:
            self._processes.add(process)
            self._touched.add(process)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="orch-pump", daemon=True)
                self._thread.start()
            self._ring()

    def close(self, marker: str) -> None:
        """End the thread and all processes: the shells, which have a grace to do it themselves
        once their stdin is closed, and what left their sessions but has ``marker`` in its
        environment (Linux only). The connections are closed already.
        """
        with self._lock:
            self._closing = True
            self._ring()
        if self._thread is not None:
            self._thread.join(GRACE)
            for process in list(self._processes):
                process.kill()
            self._thread.join(GRACE)
        for pid in _marked(f"{MARKER}={marker}".encode()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with self._lock:
            self._selector.close()
            for end in self._bell:
                os.close(end)
            self._bell = (-1, -1)

    def _ring(self) -> None:
        if self._bell[1] >= 0:
            with contextlib.suppress(BlockingIOError):  # full: it rings already
                os.write(self._bell[1], b".")

    def _run(self) -> None:
        wait = None if PIDFD else POLL
        while not (self._closing and not self._processes):
            touched: set[Process] = set() if PIDFD else set(self._processes)
            for key, _ in self._selector.select(wait):
                if key.data is None:
                    os.read(self._bell[0], 4096)
                else:
                    touched.add(key.data)
            with self._lock:
                touched |= self._touched
                self._touched = set()
            for process in touched:
                self._serve(process)

    def _serve(self, process: Process) -> None:
        for number in process.step():
            if number in self._selector.get_map():
                self._selector.unregister(number)
            os.close(number)
        for number, events in process.wanted().items():
            if number not in self._selector.get_map():
                if events:
                    self._selector.register(number, events, process)
            elif events:
                self._selector.modify(number, events, process)
            else:
                self._selector.unregister(number)
        if process.finished:
            with self._lock:
                self._processes.discard(process)


def _marked(setting: bytes) -> list[int]:
    """The processes with this in the environment they were started with, but for those that
    belong to somebody else."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours to look at
            if setting in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found
