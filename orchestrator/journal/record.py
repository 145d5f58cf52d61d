"""Events as the journal keeps them: without what the hosts printed, which is in their logs."""

from __future__ import annotations

import re
from dataclasses import fields
from functools import cache
from typing import Any

from orchestrator.model.event import Event, RunFinished
from orchestrator.model.outcome import Outcome, Row


def record(event: Event) -> dict[str, Any]:
    """The event as plain data: ``event`` is its name in snake_case, then its fields.

    Of an outcome: status, exit_status, seconds, reason, ignored, and the bytes printed.
    """
    kind: type[Any] = type(event)
    found: dict[str, Any] = {"event": _called(kind)}
    for name in _names(kind):
        value = getattr(event, name)
        if isinstance(value, Outcome):
            found |= _outcome(value)
        elif not (kind is RunFinished and name == "rows"):  # run.json has them
            found[name] = value
    return found


def row(ended: Row) -> dict[str, Any]:
    """Where a host stands at the end, as plain data."""
    found = {name: getattr(ended, name) for name in _names(Row)}
    found["status"] = ended.status.value
    return found


@cache
def _called(kind: type[Any]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


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
