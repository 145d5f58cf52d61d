"""The commands of ``Match exec``: run once for each text, however many hosts ask."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from signal import SIGKILL

from orchestrator.errors import Mark, Problem
from orchestrator.transport.config.tree import ConfigError
from orchestrator.transport.deadline import CancelledError

PATIENCE = 30.0  # seconds
SLICE = 0.2  # seconds between looks at whether the run was cancelled


class Commands:
    """Runs commands with the user's shell, and keeps whether they succeeded."""

    def __init__(self, environ: Mapping[str, str], stop: threading.Event) -> None:
        self._environ, self._stop = dict(environ), stop
        self._lock = threading.Lock()
        self._known: dict[str, Future[bool]] = {}

    def succeeds(self, text: str, mark: Mark) -> bool:
        """Whether the command ends with status 0. Raises ConfigError where it does not end in
        time or can't be run, CancelledError once the run is cancelled.
        """
        with self._lock:
            known = self._known.get(text)
            if known is None:
                mine = self._known[text] = Future()
        if known is not None:
            return known.result()
        try:
            mine.set_result(self._run(text, mark))
        except BaseException as error:
            mine.set_exception(error)
            raise
        return mine.result()

    def _run(self, text: str, mark: Mark) -> bool:
        shell = self._environ.get("SHELL") or "/bin/sh"
        try:
            child = subprocess.Popen(
                [shell, "-c", text],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self._environ,
                start_new_session=True,
            )
        except OSError as error:
            what = f"match: {shell} can't be run: {error.strerror}"
            raise ConfigError(Problem(what, mark)) from None
        end = time.monotonic() + PATIENCE
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return child.wait(SLICE) == 0
                if self._stop.is_set():
                    raise CancelledError
                if time.monotonic() > end:
                    what = f"match: the command did not end within {PATIENCE:g} s: {text}"
                    raise ConfigError(Problem(what, mark))
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, SIGKILL)
                child.wait()
