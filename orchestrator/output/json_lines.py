r"""Events as JSON lines for programs (``--json``).

Each line is an object with ``event`` (the event's name in snake_case), ``time`` (seconds since the
epoch) and the event's own fields. ``step_output`` is not sent, because ``step_finished`` has the
output; nor are ``transfer_progress``, which is for people, and ``steps_sent``, which is for
resuming. Empty keys are left out only as
documented below. A host's bytes that are not UTF-8 are ``\xNN`` in every text. ``substep`` is
present only for the steps of a loop over a result: the position in the loop, counted from 1;
``step`` is the number of the loop.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.model import step_number
from orchestrator.model.event import (
    HostFinished,
    RunEvent,
    RunFinished,
    StepFinished,
    StepOutput,
    StepsSent,
    StepStarted,
    TransferProgress,
)
from orchestrator.model.step_result import HostSummary, StepResult
from orchestrator.model.text_encoding import dump_json
from orchestrator.output.console import TextConsole

FIELD_HELP: Mapping[str, str] = {
    "event": "The event's name",
    "time": "Seconds since the epoch",
    "run": "The run's ID",
    "stage": "The stage",
    "tasks": "The tasks of the command line",
    "hosts": "The names of the hosts",
    "check": "Whether this is a check",
    "apps": "The hosts of each app",
    "within": "The IDs of the runs that started this one, outermost first",
    "resumed": "Whether the run goes on after an earlier end",
    "redone_from": "The number of the task, by app, from which a resumed run repeats what it "
    "had done",
    "host": "The host's name",
    "seconds": "The duration in seconds",
    "error": "The error; empty if there is none",
    "hint": "What to do about it",
    "app": "The app, or null",
    "task": "The task's name",
    "steps": "The number of steps",
    "number": "The task's number among those of its app, from 1; for a rollback, that of the task "
    "that is rolled back; 0 for a task that runs on a failure",
    "total": "The number of the app's tasks; 0 for a rollback",
    "rollback": "Whether this is the rollback of a task",
    "batch": "The batch's number and the number of batches, like 2/3",
    "step": "The step's number in the task, from 1",
    "substep": "The number of the item, of a loop over a result",
    "loop": "The number of the first step of the loop, of a loop over known items",
    "name": "The step's name",
    "status": "The status: ok, changed, failed, …",
    "exit_status": "The exit status of the command, or null",
    "stdout": "The standard output",
    "stderr": "The standard error",
    "stdout_dropped": "The number of bytes of the standard output that were not kept",
    "stderr_dropped": "The number of bytes of the standard error that were not kept",
    "reason": "Why the status is not ok",
    "ignored": "Whether the failure was ignored",
    "attempts": "How often the step was run, if that is more than once",
    "changes": "The states that differ: objects of `key`, `before` and `after`",
    "diff": "The changed content as a unified diff",
    "position": "Where a failed step is written: file, line and column",
    "text": "The warning, or the remark",
    "traceback": "The traceback of the bug",
    "exit_code": "The exit code of orch",
    "rows": "The summary: for each host and app an object of `host`, `app`, `status`, `reason`, "
    "`ok`, `changed`, `unknown`, `failed`, `skipped` (numbers of steps), `seconds` and, if there "
    "is one, `hint`",
    "log": "The folder of the run's logs",
}
"""The fields of events, with their meanings."""


class JsonLinesSink:
    """A sink that writes each event as one line of ASCII and flushes it."""

    def __init__(self, out: TextConsole) -> None:
        self._out = out

    def __call__(self, event: RunEvent) -> None:
        if not isinstance(event, StepOutput | StepsSent | TransferProgress):
            line = dump_json(event_to_json(event))
            self._out.lines([line.replace("##[", r"#\u0023[")])  # a command of GitHub Actions

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def event_to_json(event: RunEvent) -> Mapping[str, Any]:
    """Return the event as plain data."""
    found: dict[str, Any] = {"event": _snake_case(type(event).__name__), "time": event.time}
    match event:
        case StepFinished(_, app, task, step, name, host, outcome, loop):
            found |= {
                "app": app,
                "task": task,
                **step_number.number_fields(step),
                "name": name,
                "host": host,
                "number": event.number,
            }
            return found | ({"loop": loop} if loop else {}) | _result_json(outcome)
        case HostFinished(_, app, task, host, outcome):
            found |= {"app": app, "task": task, "host": host, "number": event.number}
            found["status"] = outcome.status.value
            return found | {"reason": outcome.reason, "seconds": round(outcome.seconds, 4)}
        case RunFinished():
            found |= {
                "exit_code": int(event.exit_code),
                "rows": [_row_json(row) for row in event.rows],
            }
            return found | {"seconds": round(event.seconds, 4), "log": event.log}
    found |= {name: getattr(event, name) for name in event.__struct_fields__ if name != "shell_pid"}
    return (
        found | step_number.number_fields(event.step) if isinstance(event, StepStarted) else found
    )


def _result_json(outcome: StepResult) -> dict[str, Any]:
    """Return a result as plain data.

    ``reason``, ``ignored``, ``stdout_dropped`` and ``stderr_dropped`` (bytes), ``changes``,
    ``diff`` and ``position`` are left out if empty, ``attempts`` if 1.
    """
    found: dict[str, Any] = {
        "status": outcome.status.value,
        "exit_status": outcome.exit_status,
        "stdout": outcome.stdout.display_text,
        "stderr": outcome.stderr.display_text,
        "seconds": round(outcome.seconds, 4),
    }
    extra = {
        "reason": outcome.reason,
        "ignored": outcome.ignored,
        "attempts": outcome.attempts if outcome.attempts > 1 else 0,
        "stdout_dropped": outcome.stdout.dropped,
        "stderr_dropped": outcome.stderr.dropped,
        "changes": [
            {"key": change.key, "before": change.before, "after": change.after}
            for change in outcome.changes
        ],
        "diff": outcome.diff,
        "position": outcome.position,
    }
    return found | {key: value for key, value in extra.items() if value}


def _row_json(row: HostSummary) -> dict[str, Any]:
    """Return a host's summary; ``hint`` (what to do, pending handlers) is left out if empty."""
    return ({"hint": row.hint} if row.hint else {}) | {
        "host": row.host,
        "app": row.app,
        "status": row.status.value,
        "reason": row.reason,
        "ok": row.ok,
        "changed": row.changed,
        "unknown": row.unknown,
        "failed": row.failed,
        "skipped": row.skipped,
        "seconds": round(row.seconds, 4),
    }


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
