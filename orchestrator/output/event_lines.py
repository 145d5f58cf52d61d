"""An event as one plain, stable line: ``14:02:11 uname devserver1: ok (0.03 s)``.

Which events are told: warnings and hosts that failed always; from 0 on what was asked for,
each host's end, and steps that changed something or failed; from 1 (``-v``) every step, its
start and connections; from 2 also connections being made and tasks' ends.
"""

from __future__ import annotations

import time

from msgspec.structs import replace

from orchestrator.model.event import (
    INTERRUPTED,
    ConnectFinished,
    ConnectStarted,
    Crashed,
    Event,
    HostFinished,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    TaskFinished,
    TaskStarted,
    Warned,
)
from orchestrator.model.host_folding import frame_of
from orchestrator.model.sanitize import one_line
from orchestrator.model.step_number import label
from orchestrator.model.step_result import Outcome, Status
from orchestrator.output.console import CYAN, RED, YELLOW, said, style_of
from orchestrator.output.diff import in_short

_QUIET = (Status.OK, Status.SKIPPED)


class Lines:
    """The lines of a whole run. What kept a host from being connected is said when it happens,
    and not a second time as the end of its task; what to do about it only for the first host that
    has the same error. Of those that an interrupt left in the middle of it only how many there
    were, unless each connection is told."""

    def __init__(self, verbose: int) -> None:
        self._verbose = verbose
        self._away: dict[str, str] = {}
        self._hinted: set[tuple[str, ...]] = set()
        self._left: set[str] = set()

    def line(self, event: Event) -> tuple[str, str] | None:
        """The event's line and the style it may have, or None where it is not told."""
        match event:
            case ConnectFinished(error=error) if error == INTERRUPTED and self._verbose <= 0:
                self._left.add(event.host)
                return None
            case HostFinished() if event.host in self._left:
                return None
            case RunFinished() if self._left:
                count = len(self._left)
                what = f"{INTERRUPTED} {count} host{'' if count == 1 else 's'}"
                return _timed(event, what), YELLOW
            case ConnectFinished() if event.error:
                self._away[event.host] = event.error
                said = frame_of(event.error + event.hint, event.host)
                if said in self._hinted and event.hint:
                    event = replace(event, hint="")
                self._hinted.add(said)
            case HostFinished() if event.outcome.status is Status.UNREACHABLE:
                if self._away.get(event.host) == event.outcome.reason:
                    return None
        return line(event, self._verbose)


def line(event: Event, verbose: int) -> tuple[str, str] | None:
    """The event's line and the style it may have, or None where it is not told."""
    found = _always(event) or (_usual(event) if verbose >= 0 else None)
    found = found or (_more(event, verbose) if verbose > 0 else None)
    if found is None:
        return None
    text, style = found
    return _timed(event, text), style


def _timed(event: Event, text: str) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(event.time))} {one_line(text)}"


def target(host: str, app: str | None) -> str:
    """A host as it is called where there may be apps: ``devserver1 blog``."""
    return f"{host} {app}" if app else host


def _always(event: Event) -> tuple[str, str] | None:
    match event:
        case Warned():
            return f"warning: {event.text}", YELLOW
        case Crashed():
            return f"{_task(event.task, event.app)} {event.host}: {event.error}", RED
        case ConnectFinished() if event.error:
            hint = f" ({event.hint})" if event.hint else ""
            return f"connect {event.host}: failed: {event.error}{hint}", RED
        case HostFinished() if event.outcome.status.bad:
            return _host_end(event), style_of(event.outcome.status)
    return None


def _usual(event: Event) -> tuple[str, str] | None:
    match event:
        case RunStarted():
            check = "check of " if event.check else ""
            what = f"{check}{' '.join(event.tasks)} on {_hosts(event.hosts)}"
            return f"run {event.run}: stage {event.stage}, {what}", ""
        case TaskStarted():
            return f"{_task(event.task, event.app)}: begins on {_hosts(event.hosts)}", ""
        case StepFinished() if event.outcome.status not in _QUIET:
            return _step_end(event), style_of(event.outcome.status)
        case HostFinished():
            return _host_end(event), style_of(event.outcome.status)
    return None


def _more(event: Event, verbose: int) -> tuple[str, str] | None:
    match event:
        case StepStarted():
            where = f"{_task(event.task, event.app)} {event.host}"
            return f"{where}: step {label(event.step)} begins: {event.name}", CYAN
        case StepFinished():
            return _step_end(event), style_of(event.outcome.status)
        case ConnectFinished():
            return f"connect {event.host}: ok ({event.seconds:.2f} s)", ""
        case ConnectStarted() if verbose > 1:
            return f"connect {event.host}: begins", ""
        case TaskFinished() if verbose > 1:
            return f"{_task(event.task, event.app)}: ends ({event.seconds:.2f} s)", ""
    return None


def _step_end(event: StepFinished) -> str:
    where = f"{_task(event.task, event.app)} {event.host}"
    return f"{where}: step {label(event.step)} {event.name}: {_ending(event.outcome)}"


def _host_end(event: HostFinished) -> str:
    return f"{_task(event.task, event.app)} {event.host}: {_ending(event.outcome)}"


def _task(task: str, app: str | None) -> str:
    return f"{app} {task}" if app else task


def _hosts(hosts: tuple[str, ...]) -> str:
    return f"{len(hosts)} host{'' if len(hosts) == 1 else 's'}"


def _ending(outcome: Outcome) -> str:
    """``failed (0.03 s): exit 1``: the status in words, how long, and why."""
    ignored = ", ignored" if outcome.ignored else ""
    reason = f": {outcome.reason or in_short(outcome)}" if outcome.reason or outcome.changes else ""
    if not reason and outcome.exit_status:
        reason = f": exit {outcome.exit_status}"
    return f"{said(outcome.status)}{ignored} ({outcome.seconds:.2f} s){reason}"
