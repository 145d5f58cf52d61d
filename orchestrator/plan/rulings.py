"""What only this side does: set, fail, assert, wait."""

from __future__ import annotations

from orchestrator.errors import DefinitionError, Problem, Problems
from orchestrator.model.value import Value
from orchestrator.plan.conditions import hold, source_of
from orchestrator.plan.frame import Frame
from orchestrator.plan.model import Ruling
from orchestrator.plan.options import plain_text
from orchestrator.source.read import Reader
from orchestrator.tasks.model import Control


def rule(control: Control, frame: Frame) -> Ruling:
    """What it comes to on this host. Raises Waits and DefinitionError."""
    if control.kind == "assert":
        return _assert(control, frame)
    heard = frame.host.place.heard
    value = control.value.render(frame)
    mark = control.value.mark
    if control.kind == "set":
        if not isinstance(value, dict):
            raise DefinitionError(Problem("set needs a mapping", mark))
        return Ruling("set", values=value, own=frame.host.place.heard == heard)
    if control.kind == "fail":
        return Ruling("fail", ok=False, message=plain_text(value, "fail", mark))
    problems = Problems()
    data = value if isinstance(value, (str, int, float)) else None
    seconds = Reader(problems).duration(Value(data, mark), "wait")
    problems.raise_any()
    return Ruling("wait", seconds=seconds or 0.0)


def _assert(control: Control, frame: Frame) -> Ruling:
    for judgement in control.that:
        if not hold((judgement,), frame):
            message = plain_text(control.value.render(frame), "message", control.value.mark)
            return Ruling(
                "assert", ok=False, message=message or f"{source_of(judgement)} does not hold"
            )
    return Ruling("assert")
