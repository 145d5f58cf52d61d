"""``ini_file``: options of sections, wherever and however they are written."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import ShellMachine
from tests.support.module_files import (
    check_refuses,
    file_mode,
    folder_contents,
    odd_names,
    outcome_changes,
)

TEXT = "top = 1\n\n[a]\nx = 1\n# y = 2\n\n; last\n\n[b c]\nx=2\n"
A_X = {"section": "a", "option": "x"}

TABLE: list[tuple[str, dict[str, Any], str | None]] = [
    # already so
    (TEXT, {**A_X, "value": "1"}, None),
    (TEXT, {"section": "b c", "option": "x", "value": " 2 "}, None),
    (TEXT, {"option": "top", "value": "1"}, None),
    (TEXT, {"section": "a"}, None),
    (TEXT, {**A_X, "value": "1", "no_extra_spaces": True}, None),
    (TEXT, {**A_X, "option": "z", "state": "absent"}, None),
    (TEXT, {"section": "z", "state": "absent"}, None),
    # set
    (TEXT, {**A_X, "value": "2"}, TEXT.replace("x = 1", "x = 2")),
    (TEXT, {**A_X, "value": "2", "no_extra_spaces": True}, TEXT.replace("x = 1", "x=2")),
    (TEXT, {**A_X, "option": "y", "value": "3"}, TEXT.replace("# y = 2", "y = 3")),
    (TEXT, {**A_X, "option": "y", "value": "3", "uncomment": False},
     TEXT.replace("; last\n", "; last\ny = 3\n")),
    (TEXT, {**A_X, "option": "z", "value": "3"}, TEXT.replace("; last\n", "; last\nz = 3\n")),
    (TEXT, {**A_X, "value": ""}, TEXT.replace("x = 1", "x =")),
    (TEXT, {"option": "new", "value": "a = b & \\1 \\n 'q' \"d\""},
     TEXT.replace("top = 1\n", "top = 1\nnew = a = b & \\1 \\n 'q' \"d\"\n")),
    ("[a]\n", {"option": "new", "value": "1"}, "new = 1\n[a]\n"),
    ("", {"option": "new", "value": "1"}, "new = 1\n"),
    ("", {**A_X, "value": "1"}, "[a]\nx = 1\n"),
    ("q = 1", {**A_X, "value": "1"}, "q = 1\n\n[a]\nx = 1\n"),
    (TEXT, {"section": "d"}, TEXT + "\n[d]\n"),
    ("[a]\nx = 1\n[b]\n[a]\nx = 2\n", {**A_X, "value": "2"}, "[a]\n[b]\n[a]\nx = 2\n"),
    ("[a]\n[b]\n[a]\ny = 2\n", {**A_X, "value": "2"}, "[a]\nx = 2\n[b]\n[a]\ny = 2\n"),
    ("[a]\n  x=1\n", {**A_X, "value": "3"}, "[a]\nx = 3\n"),
    # options without values
    ("[a]\n#x\n", {**A_X, "allow_no_value": True}, "[a]\nx\n"),
    ("[a]\nx\n", {**A_X, "allow_no_value": True}, None),
    ("[a]\nx = 1\n", {**A_X, "allow_no_value": True}, "[a]\nx\n"),
    ("[a]\nx\n", {**A_X, "value": "1"}, "[a]\nx = 1\n"),
    # several values
    ("[a]\nx = 1\nq = 0\nx = 2\n", {**A_X, "values": ["2", "1"]}, None),
    ("[a]\nx = 1\nx = 1\n", {**A_X, "values": ["1"]}, "[a]\nx = 1\n"),
    ("[a]\nx = 1\nx = 9\n", {**A_X, "values": ["2", "1", "3"]}, "[a]\nx = 1\nx = 2\nx = 3\n"),
    ("[a]\nx = 1\nx = 9\n", {**A_X, "values": ["2"], "exclusive": False},
     "[a]\nx = 1\nx = 9\nx = 2\n"),
    ("[a]\nx = 1\nx = 2\n", {**A_X, "value": "2", "exclusive": False, "state": "absent"},
     "[a]\nx = 1\n"),
    # removed
    (TEXT, {**A_X, "state": "absent"}, TEXT.replace("x = 1\n", "")),
    (TEXT, {**A_X, "value": "7", "state": "absent"}, TEXT.replace("x = 1\n", "")),
    (TEXT, {"section": "a", "state": "absent"}, "top = 1\n\n[b c]\nx=2\n"),
    # CR LF
    ("[a]\r\nx = 1\r\n", {**A_X, "value": "2"}, "[a]\r\nx = 2\r\n"),
    ("[a]\r\nx = 1\r\n", {**A_X, "value": "1"}, None),
    ("[a]\r\nx = 1\r\n", {"section": "b", "option": "y", "value": "1"},
     "[a]\r\nx = 1\r\n\r\n[b]\r\ny = 1\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "params", "expected"), TABLE)
def test_an_option_has_its_value(
    machine: ShellMachine, text: str, params: dict[str, Any], expected: str | None
) -> None:
    path = machine.root / "it"
    path.write_bytes(text.encode())
    step = {"ini_file": {"path": str(path), **params}}
    machine.check_then_run(step, "ok" if expected is None else "changed")
    assert path.read_bytes().decode() == (text if expected is None else expected)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "give a `section`, an `option` or both"),
    ({"option": "x"}, "give a `value`, or `allow_no_value: true`"),
    ({"section": "a", "value": "1"}, "give the `option`"),
    ({"option": "", "value": "1"}, "`option` is empty"),
    ({"option": "x", "value": "1", "values": ["2"]}, "exclude each other"),
    ({"option": "x", "value": "1\n2"}, "a value must be in one line"),
    ({"option": "x", "values": ["1", "2\n"]}, "a value must be in one line"),
    ({"option": "x\ny", "value": "1"}, "must be in one line"),
    ({"option": "x=y", "value": "1"}, "must not contain ="),
    ({"option": "#x", "value": "1"}, "must not contain ="),
    ({"section": "a]", "option": "x", "value": "1"}, "must not contain ]"),
    ({"option": "top", "value": "2", "validate": "grep -q 'top = 1' %s"}, "not valid"),
    ({"option": "x", "value": "2", "create": False, "path": "none"}, "there is no"),
]


@pytest.mark.parametrize(("params", "message"), REFUSED)
def test_what_makes_no_sense_is_refused(
    machine: ShellMachine, params: dict[str, Any], message: str
) -> None:
    (machine.root / "it").write_text(TEXT)
    path = machine.root / params.get("path", "it")
    check_refuses(machine, {"ini_file": {**params, "path": str(path)}}, message)


def test_files_of_any_name_are_made_and_read_by_others(machine: ShellMachine) -> None:
    def make(path: Path) -> dict[str, Any]:
        option = {"section": "it's [1", "option": "ü $x", "value": "%(x)s `id`"}
        return {"ini_file": {"path": str(path), "mode": "0640", **option}}

    for path in odd_names(machine, make):
        assert file_mode(path) == "0640"
        parser = configparser.RawConfigParser()
        parser.read(path)
        assert parser["it's [1"]["ü $x"] == "%(x)s `id`"


def test_the_old_file_and_a_diff_are_kept(machine: ShellMachine) -> None:
    path = machine.root / "it"
    path.write_text(TEXT)
    step = {"path": str(path), **A_X, "value": "2", "backup": True, "mode": "0600"}
    outcome = machine.check_then_run({"ini_file": step}, "changed")
    assert "-x = 1\n+x = 2\n" in outcome.diff
    assert outcome_changes(outcome)["mode"] == ("0644", "0600")
    assert len(folder_contents(machine.root)) == 2
