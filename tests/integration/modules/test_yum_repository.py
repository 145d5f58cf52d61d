"""``yum_repository``: sections of the files in /etc/yum.repos.d."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import ODD_NAMES, ShellMachine, result_message
from tests.support.module_files import outcome_changes
from tests.support.private_copy import run_in_copy

AT = "/etc/yum.repos.d/it.repo"


def repository_step(**params: Any) -> dict[str, Any]:
    given = {"name": "it", "description": "It's $it", "baseurl": "file:/srv/$basearch"}
    return {"yum_repository": {**given, **params}}


def test_a_repository_comes_changes_and_goes(private: ShellMachine) -> None:
    more = {"gpgcheck": True, "enabled": False, "gpgkey": ["a", "b"], "options": {"cost": 5}}
    outcome = private.check_then_run(repository_step(**more), "changed")
    assert outcome_changes(outcome) == {"section": (None, "as given")}
    assert run_in_copy(private, f"cat {AT}") == (
        "[it]\nname=It's $it\nbaseurl=file:/srv/$basearch\nenabled=0\ngpgcheck=1\ngpgkey=a b\ncost=5\n"
    )
    run_in_copy(private, f"printf '[other]\\nname=x\\n' >>{AT}; sed -i '2i# it\\n' {AT}")
    private.check_then_run(repository_step(**more), "ok")
    private.check_then_run(repository_step(), "changed")
    own = "[it]\nname=It's $it\nbaseurl=file:/srv/$basearch\n"
    assert run_in_copy(private, f"cat {AT}") == f"{own}\n[other]\nname=x\n"
    private.check_then_run(repository_step(name="new", file="it"), "changed")
    assert run_in_copy(private, f"cat {AT}") == f"{own}\n[other]\nname=x\n\n" + own.replace(
        "[it]", "[new]"
    )
    for name in ("it", "new"):
        gone = {"yum_repository": {"name": name, "file": "it", "state": "absent"}}
        private.check_then_run(gone, "changed")
    assert "[other]\nname=x" in run_in_copy(private, f"cat {AT}")
    gone = {"yum_repository": {"name": "other", "file": "it", "state": "absent"}}
    private.check_then_run(gone, "changed")
    assert run_in_copy(private, "ls /etc/yum.repos.d") == ""


def test_what_cannot_be_is_refused(private: ShellMachine) -> None:
    for params, message in (
        ({"description": None}, "`description` is missing"),
        ({"baseurl": None}, "give one of `baseurl`"),
        ({"mirrorlist": "x"}, "give one of `baseurl`"),
        ({"options": {"a": "b\nc"}}, "a value contains a newline"),
        ({"description": "a\nb"}, "a value contains a newline"),
        *(({"name": name}, "`name` may contain") for name in ("a b", "$(id)", "a]", "*")),
    ):
        step = {
            k: v for k, v in repository_step(**params)["yum_repository"].items() if v is not None
        }
        outcome = private.check_then_run({"yum_repository": step}, "failed")
        assert message in outcome.stderr.text, result_message(outcome)


@pytest.mark.long
def test_odd_descriptions_are_written_as_they_are(private: ShellMachine) -> None:
    for text in ODD_NAMES:
        if "\n" in text:
            continue
        private.check_then_run(repository_step(description=text), "changed")
        assert f"name={text}\n" in run_in_copy(private, f"cat {AT}")
