"""Events as plain, stable lines: ``14:02:11 uname devserver1: ok (0.03 s)``.

The verbosity selects events. Always shown are warnings and failed hosts; from 0 on the requested
tasks, each host's result, and steps that changed something or failed; from 1 (``-v``) every step,
its start, and finished connections; from 2 also started connections and the ends of tasks.
"""

from __future__ import annotations

import time

from msgspec.structs import replace

from orchestrator.model.event import (
    CONNECT_INTERRUPTED,
    BatchPaused,
    ConnectFinished,
    ConnectStarted,
    Crashed,
    HostFinished,
    Noted,
    RunEvent,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    TaskFinished,
    TaskStarted,
    Warned,
)
from orchestrator.model.host_folding import message_frame
from orchestrator.model.sanitize import to_one_line
from orchestrator.model.step_number import number_label
from orchestrator.model.step_result import Status, StepResult
from orchestrator.output.console import CYAN, RED, YELLOW, status_text, style_of
from orchestrator.output.diff import one_line_change

_QUIET_STATUSES = (Status.OK, Status.SKIPPED)


class EventLineFormatter:
    """A formatter of the events of a whole run.

    A connection error is shown when it occurs and not again as the result of the host's task; its
    hint is shown only for the first host with the same error. Connections aborted by an interrupt
    are only counted, unless connections are shown (``verbose`` above 0). ``has_times``: each line
    begins with the time of day.
    """

    def __init__(self, verbose: int, *, has_times: bool = True) -> None:
        self._verbose, self._has_times = verbose, has_times
        self._away: dict[str, str] = {}
        self._hinted: set[tuple[str, ...]] = set()
        self._left: set[str] = set()

    def format_event(self, event: RunEvent) -> tuple[str, str] | None:
        """Return the event's line and its style, or None if the event is not shown."""
        match event:
            case ConnectFinished(error=error) if (
                error == CONNECT_INTERRUPTED and self._verbose <= 0
            ):
                self._left.add(event.host)
                return None
            case HostFinished() if event.host in self._left:
                return None
            case RunFinished() if self._left:
                count = len(self._left)
                what = f"{CONNECT_INTERRUPTED} {count} host{'' if count == 1 else 's'}"
                return self._with_time(event, what), YELLOW
            case ConnectFinished() if event.error:
                self._away[event.host] = event.error
                error_text = message_frame(event.error + event.hint, event.host)
                if error_text in self._hinted and event.hint:
                    event = replace(event, hint="")
                self._hinted.add(error_text)
            case HostFinished() if event.outcome.status is Status.UNREACHABLE:
                if self._away.get(event.host) == event.outcome.reason:
                    return None
        found = _warning_line(event)
        found = found or (_progress_line(event) if self._verbose >= 0 else None)
        found = found or (_verbose_line(event, self._verbose) if self._verbose > 0 else None)
        return found and (self._with_time(event, found[0]), found[1])

    def _with_time(self, event: RunEvent, text: str) -> str:
        line = to_one_line(text)
        if not self._has_times:
            return line
        return f"{time.strftime('%H:%M:%S', time.localtime(event.time))} {line}"


def host_label(host: str, app: str | None) -> str:
    """Return the label of a host, with its app if there is one: ``devserver1 blog``."""
    return f"{host} {app}" if app else host


def _warning_line(event: RunEvent) -> tuple[str, str] | None:
    match event:
        case Warned():
            return f"warning: {event.text}", YELLOW
        case Crashed():
            return f"{_task_text(event.task, event.app)} {event.host}: {event.error}", RED
        case ConnectFinished() if event.error:
            hint = f" ({event.hint})" if event.hint else ""
            return f"connect {event.host}: failed: {event.error}{hint}", RED
        case HostFinished() if event.outcome.status.is_failure:
            return _host_end_text(event), style_of(event.outcome.status)
    return None


def _progress_line(event: RunEvent) -> tuple[str, str] | None:
    match event:
        case RunStarted():
            check = "check of " if event.check else ""
            what = f"{check}{' '.join(event.tasks)} on {_hosts_text(event.hosts)}"
            resumed = " (resumed)" if event.resumed else ""
            return f"run {event.run}{resumed}: stage {event.stage}, {what}", ""
        case TaskStarted():
            return f"{_task_text(event.task, event.app)}: begins on {_hosts_text(event.hosts)}", ""
        case BatchPaused():
            where = f"{_task_text(event.task, event.app)}: batch {event.batch}"
            return f"{where} begins in {event.seconds:g} s", ""
        case StepFinished() if event.outcome.status not in _QUIET_STATUSES:
            return _step_end_text(event), style_of(event.outcome.status)
        case HostFinished():
            return _host_end_text(event), style_of(event.outcome.status)
    return None


def _verbose_line(event: RunEvent, verbose: int) -> tuple[str, str] | None:
    match event:
        case StepStarted():
            step_host = f"{_task_text(event.task, event.app)} {event.host}"
            return f"{step_host}: step {number_label(event.step)} begins: {event.name}", CYAN
        case StepFinished():
            return _step_end_text(event), style_of(event.outcome.status)
        case ConnectFinished():
            return f"connect {event.host}: ok ({event.seconds:.2f} s)", ""
        case Noted():
            return f"note: {event.text}", CYAN
        case ConnectStarted() if verbose > 1:
            return f"connect {event.host}: begins", ""
        case TaskFinished() if verbose > 1:
            return f"{_task_text(event.task, event.app)}: ends ({event.seconds:.2f} s)", ""
    return None


def _step_end_text(event: StepFinished) -> str:
    step_host = f"{_task_text(event.task, event.app)} {event.host}"
    return (
        f"{step_host}: step {number_label(event.step)} {event.name}: {_result_text(event.outcome)}"
    )


def _host_end_text(event: HostFinished) -> str:
    return f"{_task_text(event.task, event.app)} {event.host}: {_result_text(event.outcome)}"


def _task_text(task: str, app: str | None) -> str:
    return f"{app} {task}" if app else task


def _hosts_text(hosts: tuple[str, ...]) -> str:
    return f"{len(hosts)} host{'' if len(hosts) == 1 else 's'}"


def _result_text(outcome: StepResult) -> str:
    """Return a result as ``failed (0.03 s): exit 1``: status, duration and reason."""
    ignored = ", ignored" if outcome.ignored else ""
    reason = (
        f": {outcome.reason or one_line_change(outcome)}"
        if outcome.reason or outcome.changes
        else ""
    )
    if not reason and outcome.exit_status:
        reason = f": exit {outcome.exit_status}"
    return f"{status_text(outcome.status)}{ignored} ({outcome.seconds:.2f} s){reason}"
