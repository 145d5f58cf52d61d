"""Match lines: parse their criteria, evaluate them, and run the commands of ``Match exec``."""

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

from orchestrator.errors import Diagnostic, SourcePosition, suggest_nearest
from orchestrator.transports.deadline import CancelledError
from orchestrator.transports.ssh_config.config_keywords import TRY_SSH_HINT, InvalidValueError
from orchestrator.transports.ssh_config.config_lexer import next_token
from orchestrator.transports.ssh_config.config_tree import MatchCriterion, SshConfigError
from orchestrator.transports.ssh_config.patterns import compile_patterns

STANDALONE_CRITERIA = ("all", "canonical", "final")
LIST_CRITERIA = ("host", "originalhost", "user", "localuser", "tagged")
SUPPORTED_CRITERIA = (*STANDALONE_CRITERIA, *LIST_CRITERIA, "exec")
UNSUPPORTED_CRITERIA = ("localnetwork", "command", "sessiontype", "version")


class MatchContext(Struct, frozen=True):
    """The values that Match lines are compared with at one point of a lookup.

    ``host`` is the current name, ``original_host`` the one that was looked up, ``user`` the login
    user and ``local_user`` the user who runs orch. ``run_command`` returns whether a command
    succeeds.
    """

    host: str
    original_host: str
    user: str
    local_user: str
    tag: str
    is_final_pass: bool
    run_command: Callable[[str, SourcePosition], bool]


def parse_criteria(text: str, position: SourcePosition) -> tuple[MatchCriterion, ...]:
    """Return the criteria of a Match line. Raises InvalidValueError and UnclosedQuoteError."""
    found: list[MatchCriterion] = []
    while True:
        word, text = next_token(text)
        if not word or word.startswith("#"):
            break
        negated, kind = word.startswith("!"), word.removeprefix("!").lower()
        if kind in STANDALONE_CRITERIA:
            found.append(MatchCriterion(kind, negated, None, "", position))
            if kind == "all":
                _check_alone(found, text)
                return tuple(found)
            continue
        _check_known(kind)
        value, text = next_token(text)
        if not value or value.startswith("#"):
            raise InvalidValueError(f"'{kind}' needs a value")
        found.append(_make_criterion(kind, negated, value, position))
    if not found:
        raise InvalidValueError("missing criterion (`Match all` matches every host)")
    return tuple(found)


def criteria_match(criteria: tuple[MatchCriterion, ...], context: MatchContext) -> bool:
    """Return True if all criteria match. A command runs only if those before it match."""
    matched = True
    for one in criteria:
        if one.kind == "all":
            return matched and not one.is_negated
        if one.kind == "exec":
            matched = matched and context.run_command(one.text, one.position) != one.is_negated
        elif one.patterns is None:
            matched = matched and context.is_final_pass != one.is_negated
        else:
            matched = (
                matched
                and one.patterns.matches(_compared_value(one.kind, context)) != one.is_negated
            )
    return matched


def _compared_value(kind: str, context: MatchContext) -> str:
    match kind:
        case "host":
            return context.host.lower()
        case "originalhost":
            return context.original_host.lower()
        case "user":
            return context.user
        case "localuser":
            return context.local_user
        case _:
            return context.tag


def _make_criterion(
    kind: str, negated: bool, value: str, position: SourcePosition
) -> MatchCriterion:
    if kind == "exec":
        return MatchCriterion(kind, negated, None, value, position)
    text = value.lower() if kind in ("host", "originalhost") else value
    return MatchCriterion(kind, negated, compile_patterns(text.split(",")), "", position)


def _check_alone(found: list[MatchCriterion], rest: str) -> None:
    word, _ = next_token(rest)
    if len(found) > 2 or (word and not word.startswith("#")):
        raise InvalidValueError("'all' cannot be combined with other criteria")


def _check_known(kind: str) -> None:
    if kind in UNSUPPORTED_CRITERIA:
        raise InvalidValueError(f"'Match {kind}' is not supported")
    if kind not in SUPPORTED_CRITERIA:
        near = suggest_nearest(kind, SUPPORTED_CRITERIA)
        hint = f"{near} {TRY_SSH_HINT}" if near else TRY_SSH_HINT
        raise InvalidValueError(f"unknown criterion {kind!r}", hint)


COMMAND_TIMEOUT = 30.0  # seconds
POLL_INTERVAL = 0.2  # seconds between checks for cancellation


class MatchExecRunner:
    """Runs each command of ``Match exec`` once, with the user's shell, and keeps the result."""

    def __init__(self, environ: Mapping[str, str], stop: threading.Event) -> None:
        self._environ, self._stop = dict(environ), stop
        self._lock = threading.Lock()
        self._results: dict[str, Future[bool]] = {}

    def command_succeeds(self, text: str, position: SourcePosition) -> bool:
        """Return True if the command exits with status 0.

        Raises SshConfigError if it cannot be run or takes too long, and CancelledError.
        """
        with self._lock:
            known = self._results.get(text)
            if known is None:
                mine = self._results[text] = Future()
        if known is not None:
            return known.result()
        try:
            mine.set_result(self._run(text, position))
        except BaseException as error:
            mine.set_exception(error)
            raise
        return mine.result()

    def _run(self, text: str, position: SourcePosition) -> bool:
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
            message = f"match: {shell} can't be run: {error.strerror}"
            raise SshConfigError(Diagnostic(message, position)) from None
        end = time.monotonic() + COMMAND_TIMEOUT
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return child.wait(POLL_INTERVAL) == 0
                if self._stop.is_set():
                    raise CancelledError
                if time.monotonic() > end:
                    message = f"match: the command did not end within {COMMAND_TIMEOUT:g} s: {text}"
                    raise SshConfigError(Diagnostic(message, position))
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, SIGKILL)
                child.wait()
