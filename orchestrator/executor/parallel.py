"""Doing the same for many hosts at a time.

What happens on one host ends that host's part of the run, and nobody else's.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from orchestrator.errors import ConnectError, OrchError, describe_bug
from orchestrator.executor.check_mode import error_text
from orchestrator.executor.connection_pool import EmitFunction
from orchestrator.executor.host_state import HostState
from orchestrator.model.event import Crashed
from orchestrator.model.step_result import Status
from orchestrator.remote_shell import SessionLostError

T = TypeVar("T")


def run_for_each(
    pool: ThreadPoolExecutor, function: Callable[[T], object], items: Iterable[T]
) -> None:
    """Do it for every item, many at a time; what one of them raises is raised after all."""
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
    """Do what a task is to do on one host, in that host's thread.

    ``on_unreachable`` is given the error where the host cannot be reached any more. Whatever else is raised
    is a failure of this host: the others go on, and what follows a failed host follows.
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
    """Return why something failed on a host; tell it as a bug of orch if it is none of the errors
    that are the user's to see."""
    if isinstance(error, OrchError):
        return error_text(error)
    lines = "".join(traceback.format_exception(error))
    emit(
        Crashed(time.time(), app, task=task, host=host, error=describe_bug(error), traceback=lines)
    )
    return describe_bug(error)
