"""Events as the journal keeps them: without what the hosts printed, which is in their logs."""

from __future__ import annotations

import re
from typing import Any, get_args

from orchestrator.model import number
from orchestrator.model.event import Event, RunFinished
from orchestrator.model.outcome import Outcome, Row

_KINDS = {kind.__name__: kind for kind in (*get_args(Event), Row)}
_FIELDS = {name: kind.__struct_fields__ for name, kind in _KINDS.items()}
_CALLED = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in _KINDS}


def record(event: Event) -> dict[str, Any]:
    """The event as plain data: ``event`` is its name in snake_case, then its fields.

    Of an outcome: status, exit_status, seconds, reason, ignored, and the bytes printed.
    """
    found: dict[str, Any] = {"event": _CALLED[type(event).__name__]}
    for name in _FIELDS[type(event).__name__]:
        value = getattr(event, name)
        if isinstance(value, Outcome):
            found |= _outcome(value)
        elif not (isinstance(event, RunFinished) and name == "rows"):  # run.json has them
            found |= number.fields(value) if name == "step" else {name: value}
    return found


def row(ended: Row) -> dict[str, Any]:
    """Where a host stands at the end, as plain data."""
    found = {name: getattr(ended, name) for name in _FIELDS[Row.__name__]}
    found["status"] = ended.status.value
    return found


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
