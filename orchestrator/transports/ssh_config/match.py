"""Match lines: their conditions as written, and whether they hold for a host.

The commands of ``Match exec``: run once for each text, however many hosts ask.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from signal import SIGKILL

from msgspec import Struct

from orchestrator.errors import Mark, Problem, nearest
from orchestrator.transports.deadline import CancelledError
from orchestrator.transports.ssh_config.config_keywords import TRY_SSH, BadValueError
from orchestrator.transports.ssh_config.config_lexer import token
from orchestrator.transports.ssh_config.config_tree import ConfigError, Criterion
from orchestrator.transports.ssh_config.patterns import compiled

ALONE = ("all", "canonical", "final")
LISTS = ("host", "originalhost", "user", "localuser", "tagged")
KNOWN = (*ALONE, *LISTS, "exec")
NEWER = ("localnetwork", "command", "sessiontype", "version")


class Subject(Struct, frozen=True):
    """What Match lines judge at one moment of a lookup: the host as it is named so far, how it
    was called, who logs in, who runs orch, and its tag. ``run`` tells whether a command succeeds.
    """

    host: str
    original: str
    user: str
    local: str
    tag: str
    final: bool
    run: Callable[[str, Mark], bool]


def read_criteria(text: str, mark: Mark) -> tuple[Criterion, ...]:
    """The conditions of a Match line. Raises BadValueError and QuotesError."""
    found: list[Criterion] = []
    while True:
        word, text = token(text)
        if not word or word.startswith("#"):
            break
        negated, kind = word.startswith("!"), word.removeprefix("!").lower()
        if kind in ALONE:
            found.append(Criterion(kind, negated, None, "", mark))
            if kind == "all":
                _must_be_alone(found, text)
                return tuple(found)
            continue
        _must_be_known(kind)
        value, text = token(text)
        if not value or value.startswith("#"):
            raise BadValueError(f"'{kind}' needs something to compare with")
        found.append(_with(kind, negated, value, mark))
    if not found:
        raise BadValueError("it needs a condition; `Match all` is for every host")
    return tuple(found)


def holds(criteria: tuple[Criterion, ...], subject: Subject) -> bool:
    """Whether all of them are met. Commands run only where those before are."""
    met = True
    for one in criteria:
        if one.kind == "all":
            return met and not one.negated
        if one.kind == "exec":
            met = met and subject.run(one.text, one.mark) != one.negated
        elif one.patterns is None:
            met = met and subject.final != one.negated
        else:
            met = met and one.patterns.match(_compared(one.kind, subject)) != one.negated
    return met


def _compared(kind: str, subject: Subject) -> str:
    match kind:
        case "host":
            return subject.host.lower()
        case "originalhost":
            return subject.original.lower()
        case "user":
            return subject.user
        case "localuser":
            return subject.local
        case _:
            return subject.tag


def _with(kind: str, negated: bool, value: str, mark: Mark) -> Criterion:
    if kind == "exec":
        return Criterion(kind, negated, None, value, mark)
    text = value.lower() if kind in ("host", "originalhost") else value
    return Criterion(kind, negated, compiled(text.split(",")), "", mark)


def _must_be_alone(found: list[Criterion], rest: str) -> None:
    others = [one for one in found[:-1] if one.kind not in ALONE]
    word, _ = token(rest)
    if len(others) > 1 or (word and not word.startswith("#")):
        raise BadValueError("'all' can't stand beside other conditions")


def _must_be_known(kind: str) -> None:
    if kind in NEWER:
        raise BadValueError(f"orch can't judge 'Match {kind}'")
    if kind not in KNOWN:
        near = nearest(kind, KNOWN)
        hint = f"{near} {TRY_SSH}" if near else TRY_SSH
        raise BadValueError(f"there is no condition {kind!r}", hint)


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
