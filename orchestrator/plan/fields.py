"""The fields of the objects that templates see: which there are, before a host is asked."""

from __future__ import annotations

from collections.abc import Container, Iterable

from orchestrator.errors import DefinitionError, Problem, nearest
from orchestrator.model import ansible
from orchestrator.model.facts import FACTS, NUMBERS
from orchestrator.plan.views import AppView, Named, RunView
from orchestrator.templating.scope import FieldUse

RESULT = (
    *("status", "stdout", "stderr", "exit_status", "changed", "failed", "skipped", "succeeded"),
    *("item", "items"),
)
_CLOSED: dict[str, tuple[str, ...]] = {
    "facts": (*FACTS, *NUMBERS),
    "result": RESULT,
    "run": RunView.__struct_fields__,
    "stage": Named.__struct_fields__,
    "task": Named.__struct_fields__,
    "app": (*(name for name in AppView.__struct_fields__ if name[0] != "_"), "lock"),
}


def check_fields(uses: Iterable[FieldUse], results: Container[str] = ()) -> None:
    """Raise DefinitionError for each field that its object does not have. ``results`` are the
    names that steps register."""
    problems = []
    for use in uses:
        known = _CLOSED.get(use.name) or (RESULT if use.name in results else None)
        if known is None or use.field in known:
            continue
        words = ansible.RESULTS if known is RESULT else ansible.FACTS if use.name == "facts" else {}
        hint = words.get(use.field, "").replace("NAME", use.name)
        hint = hint or nearest(use.field, known) or f"there is: {', '.join(known)}"
        problems.append(Problem(f"'{use.name}.{use.field}' is undefined", use.mark, hint))
    if problems:
        raise DefinitionError(*problems)
