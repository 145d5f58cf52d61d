"""Runs one function for many hosts in parallel; a failure on one host affects only that host."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from msgspec import Struct

from orchestrator.errors import ConnectError, OrchError, describe_bug
from orchestrator.executor.check_mode import error_text
from orchestrator.executor.connection_pool import EmitFunction
from orchestrator.executor.host_state import HostState
from orchestrator.model.event import Crashed
from orchestrator.model.step_result import Status
from orchestrator.remote_shell import SessionLostError, ShellNotReadyError

T = TypeVar("T")


def run_for_each(
    pool: ThreadPoolExecutor, function: Callable[[T], object], items: Iterable[T]
) -> None:
    """Run the function for every item in the pool; re-raise exceptions when all are done."""
    futures = [pool.submit(function, item) for item in items]
    wait(futures)
    for future in futures:
        future.result()


BUG_REPORT_HINT = "please report it with the traceback, which is in the run's log"


def run_guarded(
    function: Callable[[], object],
    host_state: HostState,
    task: str,
    emit: EmitFunction,
    on_unreachable: Callable[[ConnectError | SessionLostError], None],
) -> None:
    """Run a task's function on one host and turn exceptions into the host's status.

    Call ``on_unreachable`` with the error if the host cannot be reached any more. Any other
    exception is a failure of this host only; its barrier handles it like a failed step.
    """
    try:
        function()
    except (ConnectError, SessionLostError) as error:
        on_unreachable(error)
    except Exception as error:
        host_state.raise_status(
            Status.FAILED, report_failure(error, host_state.app, task, host_state.host.name, emit)
        )
        if not isinstance(error, OrchError):
            host_state.hint = host_state.hint or BUG_REPORT_HINT


def report_failure(
    error: Exception, app: str | None, task: str, host: str, emit: EmitFunction
) -> str:
    """Return why something failed on a host; emit ``Crashed`` unless it is an OrchError."""
    if isinstance(error, OrchError):
        return error_text(error)
    lines = "".join(traceback.format_exception(error))
    emit(
        Crashed(time.time(), app, task=task, host=host, error=describe_bug(error), traceback=lines)
    )
    return describe_bug(error)


class ConnectionFailure(Struct, frozen=True):
    """What a lost connection, or one that could not be made, means for the status of its host."""

    status: Status
    reason: str
    hint: str = ""


def connection_failure(
    error: ConnectError | SessionLostError, *, has_run_steps: bool = False
) -> ConnectionFailure:
    """Return UNREACHABLE, or LOST if a step ran or may have run."""
    if isinstance(error, SessionLostError):
        return ConnectionFailure(Status.LOST, f"{error.reason}, between two steps")
    diagnostic = error.diagnostics[0]
    sent = isinstance(error, ShellNotReadyError) and error.sent
    if sent or has_run_steps:
        context = "; commands already sent may have run" if sent else ", between two steps"
        return ConnectionFailure(Status.LOST, diagnostic.message + context, diagnostic.hint)
    return ConnectionFailure(Status.UNREACHABLE, diagnostic.message, diagnostic.hint)


def mark_connection_failure(host_state: HostState, error: ConnectError | SessionLostError) -> None:
    """Set a host's status to UNREACHABLE, or to LOST if a step ran or may have run."""
    failure = connection_failure(error, has_run_steps=host_state.has_run_steps)
    host_state.raise_status(failure.status, failure.reason, failure.hint)
