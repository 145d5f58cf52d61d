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
from orchestrator.executor.check_mode import reason_of
from orchestrator.executor.connection_pool import Emit
from orchestrator.executor.host_state import Progress
from orchestrator.model.event import Crashed
from orchestrator.model.step_result import Status
from orchestrator.remote_shell import Lost

T = TypeVar("T")


def each(pool: ThreadPoolExecutor, do: Callable[[T], object], items: Iterable[T]) -> None:
    """Do it for every item, many at a time; what one of them raises is raised after all."""
    futures = [pool.submit(do, item) for item in items]
    wait(futures)
    for future in futures:
        future.result()


HINT = "please report it with the traceback, which is in the run's log"


def guarded(
    do: Callable[[], object],
    progress: Progress,
    task: str,
    emit: Emit,
    away: Callable[[ConnectError | Lost], None],
) -> None:
    """Do what a task is to do on one host, in that host's thread.

    ``away`` is given the error where the host cannot be reached any more. Whatever else is raised
    is a failure of this host: the others go on, and what follows a failed host follows.
    """
    try:
        do()
    except (ConnectError, Lost) as error:
        away(error)
    except Exception as error:
        progress.worst(Status.FAILED, caught(error, progress.app, task, progress.host.name, emit))
        if not isinstance(error, OrchError):
            progress.hint = progress.hint or HINT


def caught(error: Exception, app: str | None, task: str, host: str, emit: Emit) -> str:
    """Return why something failed on a host; tell it as a bug of orch if it is none of the errors
    that are the user's to see."""
    if isinstance(error, OrchError):
        return reason_of(error)
    lines = "".join(traceback.format_exception(error))
    emit(
        Crashed(time.time(), app, task=task, host=host, error=describe_bug(error), traceback=lines)
    )
    return describe_bug(error)
