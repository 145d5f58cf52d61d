"""What modules begin with is there for every step of a session, whatever failed before."""

from __future__ import annotations

from typing import Any

from tests.support.machine import ShellMachine, result_message


def test_a_step_that_fails_leaves_the_next_ones_their_functions(machine: ShellMachine) -> None:
    (machine.root / "b").mkdir()
    steps: list[dict[str, Any]] = [
        {"file": {"path": f"{machine.root}/b", "state": "absent"}, "ignore_errors": True},
        {"file": {"path": f"{machine.root}/a"}},
    ]
    done = machine.run_steps(steps)
    assert done.statuses == ["failed", "changed"], [
        result_message(outcome) for outcome in done.outcomes
    ]
