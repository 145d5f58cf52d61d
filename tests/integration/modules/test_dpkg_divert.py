"""``dpkg_divert``: diversions of the real dpkg, in a copy of this machine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ODD_NAME_CASES, ShellMachine, result_message
from tests.support.private_copy import run_in_copy

FILE = "/etc/apt/of-package"
MAKE = f"printf package >{FILE}; rm -f {FILE}.distrib /etc/apt/else"


def divert(**params: Any) -> dict[str, Any]:
    return {"dpkg_divert": {"path": FILE, **params}}


def diversions(machine: ShellMachine) -> str:
    return run_in_copy(
        machine, f"dpkg-divert --list '{FILE}*'; cd /etc/apt; cat of-package* else || :"
    )


def test_the_file_makes_room_and_comes_back(private: ShellMachine) -> None:
    run_in_copy(private, MAKE)
    outcome = private.check_then_run(divert(), "changed")
    assert [(c.before, c.after) for c in outcome.changes] == [("absent", "present")]
    assert diversions(private) == f"local diversion of {FILE} to {FILE}.distrib\npackage"
    private.check_then_run(divert(), "ok")
    run_in_copy(private, f"printf own >{FILE}")
    failed = private.check_then_run(divert(state="absent"), "failed")
    assert "is in the way of" in failed.stderr.text, result_message(failed)
    private.check_then_run(divert(state="absent", delete=True), "changed")
    assert diversions(private) == "package"
    private.check_then_run(divert(state="absent"), "ok")


def test_only_force_takes_a_diversion_of_others(private: ShellMachine) -> None:
    run_in_copy(private, f"{MAKE}; dpkg-divert --quiet --package other --rename --add {FILE}")
    for step in (divert(), divert(state="absent"), divert(to="/etc/apt/else", holder="other")):
        refused = private.check_then_run(step, "failed")
        assert f"diverted to {FILE}.distrib (holder other)" in refused.stderr.text
    private.check_then_run(divert(holder="other"), "ok")
    private.check_then_run(divert(to="/etc/apt/else", force=True), "changed")
    assert diversions(private) == f"local diversion of {FILE} to /etc/apt/else\npackage"


def test_a_file_that_is_there_is_not_overwritten(private: ShellMachine) -> None:
    run_in_copy(private, f"{MAKE}; printf other >/etc/apt/else")
    outcome = private.check_then_run(divert(to="/etc/apt/else"), "failed")
    assert f"/etc/apt/else is in the way of {FILE}" in outcome.stderr.text
    assert run_in_copy(private, f"cat {FILE} /etc/apt/else") == "packageother"


def test_without_rename_the_files_stay(private: ShellMachine) -> None:
    run_in_copy(private, MAKE)
    private.check_then_run(divert(rename=False, holder="other"), "changed")
    assert diversions(private) == f"diversion of {FILE} to {FILE}.distrib by other\npackage"
    assert run_in_copy(private, f"cat {FILE}") == "package"


@pytest.mark.parametrize("name", ODD_NAME_CASES)
def test_any_name_is_only_a_name(private: ShellMachine, name: str) -> None:
    step = divert(path=f"/etc/apt/{name}", to=f"/etc/apt/to {name}")
    if "\n" in name:
        assert "newline" in private.check_then_run(step, "failed").stderr.text
        return
    private.check_then_run(step, "changed")
    private.check_then_run(step, "ok")
    assert run_in_copy(private, "dpkg-divert --list '/etc/apt/*'") == (
        f"local diversion of /etc/apt/{name} to /etc/apt/to {name}\n"
    )


@pytest.mark.parametrize("params", [{"path": "x"}, {"to": "x"}, {"to": FILE}])
def test_what_cannot_be_diverted_is_refused(private: ShellMachine, params: dict[str, str]) -> None:
    outcome = private.check_then_run(divert(**params), "failed")
    assert "is not absolute" in outcome.stderr.text or "to itself" in outcome.stderr.text
