"""Conditions as shell tests.

What earlier segments brought is known on this side and becomes ``true`` or ``false``. A step of
the segment at hand is judged on the host, by variables that the segment itself sets:
``o_sN`` (exit status), ``o_cN`` (changed), ``o_fN`` (failed), ``o_kN`` (skipped), ``o_wN``
(withheld), each empty where it is not so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from orchestrator.model.condition import All, Always, Any, Condition, Exit, Is, Not

VARIABLES = {"changed": "o_c", "failed": "o_f", "skipped": "o_k", "withheld": "o_w"}
_OPERATORS = {"==": "-eq", "!=": "-ne", "<": "-lt", "<=": "-le", ">": "-gt", ">=": "-ge"}


class Known(Struct, frozen=True):
    """What this side knows of a step that is over."""

    exit_status: int | None = None
    changed: bool = False
    failed: bool = False
    skipped: bool = False
    withheld: bool = False


def shell_test(condition: Condition, known: Mapping[int, Known], here: Collection[int]) -> str:
    """A shell command that exits with 0 exactly where the condition holds.

    ``here`` are the steps of this segment so far, and win over ``known``. A step in neither
    did not run: nothing is so of it, and it has no exit status.
    """
    match condition:
        case Always(value):
            return _constant(value)
        case Is(step, what) if step in here:
            return f'[ "${VARIABLES[what]}{step}" ]'
        case Is(step, what):
            return _constant(_told(known.get(step, Known()), what))
        case Exit(step, op, status) if step in here:
            compare = f'[ "$o_s{step}" {_OPERATORS[op]} {_within(status)} ]'
            absent = _constant(op == "!=")
            return f'{{ if [ "$o_s{step}" ]; then {compare}; else {absent}; fi; }}'
        case Exit(step, op, status):
            return _constant(_compare(known.get(step, Known()).exit_status, op, status))
        case Not(of):
            return f"{{ ! {shell_test(of, known, here)}; }}"
        case All(of):
            return _joined(" && ", of, known, here)
        case Any(of):
            return _joined(" || ", of, known, here)


def _joined(
    by: str, of: tuple[Condition, ...], known: Mapping[int, Known], here: Collection[int]
) -> str:
    tests = [shell_test(each, known, here) for each in of]
    return f"{{ {by.join(tests)}; }}" if tests else _constant(by == " && ")


def _constant(value: bool) -> str:
    return "true" if value else "false"


def _told(known: Known, what: str) -> bool:
    told: bool = getattr(known, what)
    return told


def _compare(found: int | None, op: str, status: int) -> bool:
    if found is None:
        return op == "!="
    return {
        "==": found == status,
        "!=": found != status,
        "<": found < status,
        "<=": found <= status,
        ">": found > status,
        ">=": found >= status,
    }[op]


def _within(status: int) -> int:
    """A number that shells can read and that compares with any exit status as this one does."""
    return min(max(status, -1), 256)
