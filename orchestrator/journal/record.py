"""Events as the journal keeps them: without what the hosts printed, which is in their logs."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from orchestrator.model.event import Event, RunFinished
from orchestrator.model.outcome import Outcome, Row


def record(event: Event) -> dict[str, Any]:
    """The event as plain data: ``event`` is its name in snake_case, then its fields.

    Of an outcome: status, exit_status, seconds, reason, ignored, and the bytes printed.
    """
    found: dict[str, Any] = {"event": re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(event).__name__)}
    found["event"] = found["event"].lower()
    for field in fields(event):
        value = getattr(event, field.name)
        if isinstance(value, Outcome):
            found |= _outcome(value)
        elif not (isinstance(event, RunFinished) and field.name == "rows"):  # run.json has them
            found[field.name] = value
    return found


def row(ended: Row) -> dict[str, Any]:
    """Where a host stands at the end, as plain data."""
    found = {field.name: getattr(ended, field.name) for field in fields(ended)}
    return found | {"status": ended.status.value}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    sizes = {
        name: len(stream.head) + len(stream.tail) + stream.dropped
        for name, stream in (("stdout", outcome.stdout), ("stderr", outcome.stderr))
    }
    return {
        "status": outcome.status.value,
        "exit_status": outcome.exit_status,
        "seconds": round(outcome.seconds, 4),
        "reason": outcome.reason,
        "ignored": outcome.ignored,
        "bytes": sizes,
    }
