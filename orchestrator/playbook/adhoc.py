"""The task that runs one command from the command line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from orchestrator import templating
from orchestrator.errors import SourcePosition
from orchestrator.playbook.model import RunStep, Step, Task

_COMMAND_LINE_MARK = SourcePosition("<command line>")


def adhoc_task(words: Sequence[str], *, readonly: bool, name: str = "exec") -> Task:
    """Return a task that runs the command.

    Several words are quoted and joined with spaces. A single word is shell text, so that a quoted
    pipeline runs as a pipeline. ``name`` is the name of the task and, unless it is ``exec``, of the
    step.
    """
    literal = words[0] if len(words) == 1 else shlex.join(words)
    run = RunStep(text=None, literal=literal, readonly=readonly)
    title = None if name == "exec" else templating.compile_text(name, _COMMAND_LINE_MARK)
    return Task(
        name,
        _COMMAND_LINE_MARK,
        "A command from the command line",
        steps=(Step(run, _COMMAND_LINE_MARK, name=title),),
    )
