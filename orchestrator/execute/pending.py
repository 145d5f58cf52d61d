"""Handlers that were called for and did not run to their end, and what runs them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from orchestrator.execute.recorder import Recorder
from orchestrator.plan.model import HostPlan, Wave


def pending(plan: HostPlan, recorder: Recorder) -> Iterator[str]:
    """Their names, in the order in which they are defined."""
    ran = {step.handler for step in plan.steps if step.number in recorder.finished}
    ran -= {step.handler for step in plan.steps if step.number in recorder.broken}
    for name in dict.fromkeys(step.handler for step in plan.steps if step.handler):
        if name in recorder.notified and name not in ran:
            yield name


def command(stage: str, wave: Wave, plan: HostPlan, name: str, given: Iterable[str]) -> str:
    """What runs one of them on its host, as a shell takes it; ``given`` are more of its words."""
    # the item may have a name of its own, or be in place: its file can be run
    which = (wave.within or (wave.task,))[-1]
    what = ("run", which, *plan.args, *given, "--handler", name, "-l", plan.host)
    return shlex.join(("orch", "-s", stage, *what))
