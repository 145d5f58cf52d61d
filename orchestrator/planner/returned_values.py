"""The values that a module's probe prints for later steps: checked, typed and bounded.

They are lines ``KEY=VALUE`` of its output (``modules/functions.sh``), in which any byte can be
``%XX``. A list has a line for each item. It is a host's text: whatever it is, the values have the
types that the module declares.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from msgspec.structs import replace

from orchestrator.model.registered_result import RegisteredResult, registered_result
from orchestrator.model.step_result import Status, StepResult
from orchestrator.model.text_encoding import decode_bytes, encode_text
from orchestrator.planner.host_json import parse_host_json
from orchestrator.planner.plan import PlannedStep
from orchestrator.playbook.model import TaskParam
from orchestrator.playbook.param_types import convert_param

_JSON_TYPES = ("dict", "any")


def registered_step_result(
    step: PlannedStep, outcome: StepResult, *, failed: bool
) -> RegisteredResult:
    """Return the registered result of a step, with the values that its module returned.

    They are None if the step did not succeed, unless it printed them.
    """
    result = registered_result(outcome, failed=failed, name=step.name)
    if not step.returns:
        return result
    values: dict[str, object] = dict.fromkeys(step.returns)
    succeeded = outcome.status in (Status.OK, Status.CHANGED)
    if outcome.stdout.is_empty and not succeeded:
        return replace(result, values=values)
    if outcome.stdout.dropped:
        error = f"'{step.name}' returned too much: {outcome.stdout.dropped} bytes were not kept"
        return replace(result, values=values, values_error=error)
    try:
        text = decode_bytes(outcome.stdout.head + outcome.stdout.tail)
        return replace(result, values=parse_values(step.returns, text))
    except ValueError as error:
        if not succeeded:
            return replace(result, values=values)
        message = f"the result of '{step.name}' cannot be used: {error}"
        return replace(result, values=values, values_error=message)


def parse_values(returns: Mapping[str, TaskParam], text: str) -> dict[str, object]:
    """Return the value of each field; one that was not printed has its default, or is None.

    One of any type that is not JSON is the ValueError for who uses it. Raises ValueError.
    """
    found: dict[str, object] = {
        name: param.written_default.to_plain() if param.written_default else None
        for name, param in returns.items()
    }
    items: dict[str, list[object]] = {}
    for line in text.split("\n"):
        if not line:
            continue
        name, equals, written = line.partition("=")
        param = returns.get(name)
        if param is None or not equals:
            raise ValueError(f"{line[:100]!r} is not one of the values {', '.join(returns)}")
        value = decode_bytes(unquote_to_bytes(encode_text(written)))
        if param.type == "list":
            items.setdefault(name, []).append(_typed_text(param.elements, name, value))
        elif param.type == "any":
            found[name] = _json_or_error(name, value)
        else:
            found[name] = _converted(param, _typed_text(param.type, name, value))
    for name, values in items.items():
        found[name] = _converted(returns[name], values)
    return found


def _json_or_error(name: str, text: str) -> object:
    try:
        return parse_host_json(text, name)
    except ValueError as error:
        return error


def _typed_text(kind: str, name: str, text: str) -> object:
    return parse_host_json(text, name) if kind in _JSON_TYPES else text


def _converted(param: TaskParam, value: object) -> object:
    try:
        return convert_param(param, value, typed=not isinstance(value, str))
    except ValueError as error:
        raise ValueError(f"'{param.name}' {error}") from None
