"""``debug``, ``pause`` and the facts: what is shown, waited for, and asked of the host."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.support.machine import ODD_NAMES, ShellMachine, result_message

FACTS = "os arch distro release hostname packager init user cpus memory".split()


@pytest.mark.parametrize("text", ODD_NAMES)
def test_a_message_is_shown_as_it_is(machine: ShellMachine, text: str) -> None:
    outcome = machine.run_step({"debug": {"msg": text}})
    assert outcome.status == "ok", result_message(outcome)
    assert outcome.stdout.text == text.rstrip("\n")
    assert machine.run_step({"debug": {"msg": text}}, check=True).stdout.text == text.rstrip("\n")


def test_other_values_are_shown_too(machine: ShellMachine) -> None:
    assert "b" in machine.run_step({"debug": {"msg": ["a", "b"]}}).stdout.text
    assert "1" in machine.run_step({"debug": {"msg": 1}}).stdout.text


def test_a_pause_is_no_change_and_a_check_does_not_wait(machine: ShellMachine) -> None:
    assert machine.run_step({"pause": {"seconds": 0}}).status == "ok"
    assert machine.run_step({"pause": {"seconds": 3600}}, check=True).status == "ok"


def test_every_fact_is_known(machine: ShellMachine) -> None:
    shown = " ".join(f"{name}={{{{ facts.{name} }}}}" for name in FACTS)
    outcome = machine.run_step({"run": f"echo {shown}", "readonly": True})
    found = dict(word.split("=", 1) for word in outcome.stdout.text.split(" "))
    assert (found["os"], found["arch"]) == ("linux", platform.machine())
    release = Path("/etc/os-release").read_text()
    assert f"ID={found['distro']}\n" in release
    assert (found["hostname"], found["packager"]) == (platform.node(), "apt")
    assert int(found["cpus"]) >= 1
    assert int(found["memory"]) > 100
    assert all(found[name] for name in FACTS)
