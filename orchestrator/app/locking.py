"""Locks, for people: who has them, and letting go of those that nobody has any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from orchestrator import templating
from orchestrator.app.prepare import Parts, There, plan_task
from orchestrator.errors import Mark
from orchestrator.library import FOLDER
from orchestrator.model.value import Value
from orchestrator.plan.model import Plan
from orchestrator.tasks.model import Modifiers, Run, Step, Task

_PLACE = Mark("<command line>")


def plan_lock(
    there: There,
    act: str,
    apps: Sequence[str],
    environ: Mapping[str, str],
    *,
    force: bool = False,
    become: str = "",
) -> Plan:
    """The plan that tells of, or releases, the locks of these apps; ``become``: as this user.
    Raises DefinitionError."""
    functions = (FOLDER / "lock.sh").read_text("utf-8")
    given = f"lock={{{{ app.lock }}}} force={'1' if force else ''}"
    text = f"set +e\n{given}\n{functions}\n{'tell' if act == 'status' else 'release'}\n"
    run = Run(templating.shell(text, _PLACE), readonly=act == "status")
    user = templating.value(Value(become, _PLACE, literal=True)) if become else None
    step = Step(run, _PLACE, name=templating.text(act, _PLACE), mods=Modifiers(become=user))
    task = Task(f"lock {act}", _PLACE, steps=(step,))
    plan = plan_task(there, task, Parts(apps=tuple(apps)), environ)
    return replace(plan, lanes=tuple(replace(lane, locks={}) for lane in plan.lanes))
