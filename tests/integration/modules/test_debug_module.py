"""``debug``: what is shown."""

from __future__ import annotations

import pytest

from tests.support.machine import ODD_NAMES, ShellMachine, result_message


@pytest.mark.parametrize("text", ODD_NAMES)
def test_a_message_is_shown_as_it_is(machine: ShellMachine, text: str) -> None:
    outcome = machine.run_step({"debug": {"msg": text}})
    assert outcome.status == "ok", result_message(outcome)
    assert outcome.stdout.text == text.rstrip("\n")
    assert machine.run_step({"debug": {"msg": text}}, check=True).stdout.text == text.rstrip("\n")


def test_other_values_are_shown_too(machine: ShellMachine) -> None:
    assert "b" in machine.run_step({"debug": {"msg": ["a", "b"]}}).stdout.text
    assert "1" in machine.run_step({"debug": {"msg": 1}}).stdout.text
