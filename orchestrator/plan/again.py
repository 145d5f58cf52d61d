"""The words that give a scheduled task the arguments that it had, when it is named by itself."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from orchestrator.errors import OrchError
from orchestrator.plan.frame import Frame
from orchestrator.templating import Waits


def arguments(frame: Frame, takes: Collection[str]) -> tuple[str, ...]:
    """``key=value`` for each argument from the command line or a playbook, of those that the
    task ``takes``. Left out is what only a result gives, and what the command line cannot say:
    mappings, and none."""
    words = []
    given = frame.given or {}
    for name in dict.fromkeys((*map(str, frame.written), *given)):
        text = given.get(name) if name not in frame.written else None
        param = frame.task.params.get(name)
        if param is not None and param.secret and isinstance(text, str):
            frame.secrets.masks.add(name, text)  # also where no template names it
        if name in takes and not isinstance(text, str):
            text = _text(_value(frame, name))
        if name in takes and text is not None:
            words.append(f"{name}={text}")
    return tuple(words)


def _value(frame: Frame, name: str) -> object:
    try:
        if name in frame.task.params:
            return frame.resolve(name)
        given = frame.handed_on()[name]
        return given if isinstance(given, str) else given[0].render(given[1])
    except (Waits, OrchError):
        return None


def _text(value: Any) -> str | None:
    """As the command line has it: a list in brackets, since commas may stand in its entries."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return str(value) if isinstance(value, str | int | float) else None
