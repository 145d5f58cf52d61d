"""Locks, for people: who has them, and letting go of those that nobody has any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from orchestrator import templating
from orchestrator.app.prepare import Parts, There, plan_task
from orchestrator.errors import Mark
from orchestrator.library import FOLDER
from orchestrator.plan.model import Plan
from orchestrator.tasks.model import Run, Step, Task

_PLACE = Mark("<command line>")


def plan_lock(
    there: There, act: str, apps: Sequence[str], environ: Mapping[str, str], *, force: bool
) -> Plan:
    """The plan that tells of, or releases, the locks of these apps. Raises DefinitionError."""
    functions = (FOLDER / "lock.sh").read_text("utf-8")
    given = f"lock={{{{ app.lock }}}} run=release.$$ force={'1' if force else ''}"
    text = f"set +e\n{given}\n{functions}\n{'tell' if act == 'status' else 'release'}\n"
    readonly = act == "status"
    run = Run(templating.shell(text, _PLACE), readonly=readonly)
    name = templating.text(act, _PLACE)
    task = Task(f"lock {act}", _PLACE, steps=(Step(run, _PLACE, name=name),))
    plan = plan_task(there, task, Parts(apps=tuple(apps)), environ)
    return replace(plan, lanes=tuple(replace(lane, locks={}) for lane in plan.lanes))
