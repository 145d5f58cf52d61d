"""``replace``, and ``line`` with groups of its match: all matches in a text, once for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import (
    check_refuses,
    file_mode,
    folder_contents,
    odd_names,
    outcome_changes,
)

TEXT = "deb http://a\n# b & c\nx http://y http://z\nend\n"

TABLE: list[tuple[str, dict[str, Any], str | None]] = [
    (TEXT, {"match": "http://", "text": "https://"}, TEXT.replace("http:", "https:")),
    (TEXT, {"match": "nowhere", "text": "x"}, None),
    ("", {"match": "a", "text": "x"}, None),
    (TEXT, {"match": " http:.*$"}, "deb\n# b & c\nx\nend\n"),
    (
        TEXT,
        {"match": "^(#) (b) & (c)$", "text": r"\3&\2\\\1\0"},
        TEXT.replace("# b & c", r"c&b\## b & c"),
    ),
    ("ab\nb", {"match": "^b", "text": r"x\ny\tz"}, "ab\nx\ny\tz"),
    ("ab\nb", {"match": "^b", "text": "x\ny"}, "ab\nx\ny"),
    ("a/b|c\n", {"match": "/b[|]", "text": "|/"}, "a|/c\n"),
    ("a.b axb\n", {"search": "a.b", "text": r"\1&"}, "\\1& axb\n"),
    (r"^$*+?{}()[]|\ end" + "\n", {"search": r"^$*+?{}()[]|\ ", "text": ""}, "end\n"),
    (
        "x\ny\nx\nz\nx\n",
        {"match": "x", "text": "w", "after": "^y", "before": "z"},
        "x\ny\nw\nz\nx\n",
    ),
    ("x\ny\nx\ny\nx\n", {"match": "x", "text": "w", "after": "^y"}, "x\ny\nw\ny\nw\n"),
    ("x\ny\nx\n", {"match": "x", "text": "w", "before": "^y"}, "w\ny\nx\n"),
    ("x\ny\nx\n", {"match": "x", "text": "w", "before": "^nowhere"}, None),
    ("x\ny\nx\n", {"match": "x", "text": "w", "after": "^nowhere"}, None),
    ("y\n", {"match": "y", "text": "w", "after": "^y"}, None),
    ("a b\r\nc b\r\n", {"match": "b$", "text": r"d\ne"}, "a d\r\ne\r\nc d\r\ne\r\n"),
    ("ü\udcff b\n", {"match": "b", "text": "é"}, "ü\udcff é\n"),
    ("a\na b\n", {"match": "a ?b?", "text": "c"}, "c\nc\n"),
]


@pytest.mark.parametrize(("text", "params", "expected"), TABLE)
def test_it_replaces_every_match(
    machine: ShellMachine, text: str, params: dict[str, Any], expected: str | None
) -> None:
    path = machine.root / "it"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    step = {"replace": {"path": str(path), **params}}
    machine.check_then_run(step, "ok" if expected is None else "changed")
    written = path.read_bytes().decode("utf-8", "surrogateescape")
    assert written == (text if expected is None else expected)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"match": "end", "text": "end end"}, "matches again"),
    ({"match": "x*", "text": "y"}, "matches again"),
    ({"match": "(end", "text": ""}, "sed: "),
    ({"match": "end", "text": r"\1"}, r"no group for \1"),
    ({"match": r"\(e[(](n)", "text": r"\2"}, r"no group for \2"),
    ({"match": "end", "text": r"\d"}, r"'\d' in the new text is not"),
    ({"match": "end", "text": "\\"}, "in the new text is not"),
    ({"match": "a\nb", "text": "c"}, "the pattern contains a newline"),
    ({"match": "end", "text": "\1"}, "the new text contains a control character"),
    ({"match": "end", "text": "x", "validate": "grep -q end %s"}, "not valid: grep -q end %s"),
]


@pytest.mark.parametrize(("params", "message"), REFUSED)
def test_what_makes_no_sense_is_refused(
    machine: ShellMachine, params: dict[str, Any], message: str
) -> None:
    (machine.root / "it").write_text(TEXT)
    check_refuses(machine, {"replace": {"path": str(machine.root / "it"), **params}}, message)


def test_files_of_any_name_keep_their_attributes(machine: ShellMachine) -> None:
    def make(path: Path) -> dict[str, Any]:
        path.write_text("a 1\n")
        path.chmod(0o640)
        return {"replace": {"path": str(path), "match": "1", "text": "2"}}

    for path in odd_names(machine, make):
        assert path.read_text() == "a 2\n" and file_mode(path) == "0640"
    check_refuses(machine, {"replace": {"path": f"{machine.root}/no", "match": "a"}}, "there is no")


def test_the_old_file_and_a_diff_are_kept(machine: ShellMachine) -> None:
    path = machine.root / "it"
    path.write_text("a 1\nb\n")
    step = {"path": str(path), "match": "1", "text": "2", "backup": True, "mode": "0600"}
    outcome = machine.check_then_run({"replace": step}, "changed")
    assert "-a 1\n+a 2\n" in outcome.diff
    assert outcome_changes(outcome)["mode"] == ("0644", "0600")
    names = folder_contents(machine.root)
    assert len(names) == 2 and (machine.root / names[1]).read_text() == "a 1\nb\n"


LINES: list[tuple[str, dict[str, Any], str | None]] = [
    (
        "PATH=/bin\nx\n",
        {"match": "^PATH=(.*[^x])$", "line": r"PATH=\1:/x", "backrefs": True},
        "PATH=/bin:/x\nx\n",
    ),
    (
        "a b c\n",
        {"match": "(b) (c)$", "line": r"\2 \1 \\ & \0", "backrefs": True},
        "c b \\ & b c\n",
    ),
    ("a\n", {"match": "^b(.)", "line": r"\1", "backrefs": True}, None),
    ("", {"match": "^b(.)", "line": r"\1", "backrefs": True}, None),
    ("k 1\nx\nk 2", {"match": "^k ([0-9])$", "line": r"k=\1", "backrefs": True}, "k=1\nx\nk=2"),
    ("k 1\r\nx\r\n", {"match": "^k ([0-9])$", "line": r"k=\1", "backrefs": True}, "k=1\r\nx\r\n"),
    ("a.c 1\nabc\n", {"search": "a.c", "line": "new"}, "new\nabc\n"),
    ("a+c\nb\n", {"search": "+", "state": "absent"}, "b\n"),
    ("a\nx\na\n", {"match": "^a", "line": "b", "first": True}, "b\nx\n"),
    ("a\nx\na\n", {"line": "b", "after": "^a", "first": True}, "a\nb\nx\na\n"),
    ("a\nx\na\n", {"line": "b", "before": "^a", "first": True}, "b\na\nx\na\n"),
    ("a 1\nb\na 2\na 3\n", {"match": "^a", "line": "b", "first": True}, "b\n"),
]


@pytest.mark.parametrize(("text", "params", "expected"), LINES)
def test_a_line_can_have_groups_of_its_match(
    machine: ShellMachine, text: str, params: dict[str, Any], expected: str | None
) -> None:
    path = machine.root / "it"
    path.write_bytes(text.encode())
    step = {"line": {"path": str(path), **params}}
    machine.check_then_run(step, "ok" if expected is None else "changed")
    assert path.read_bytes().decode() == (text if expected is None else expected)


def test_lines_that_make_no_sense_are_refused(machine: ShellMachine) -> None:
    (machine.root / "it").write_text("a\n")
    for params, message in (
        ({"backrefs": True, "line": "x"}, "`backrefs` requires `match`"),
        ({"backrefs": True, "match": "a", "state": "absent"}, "is for `match` and `line` alone"),
        ({"backrefs": True, "match": "a", "line": "x", "after": "b"}, "is for `match` and `line`"),
        ({"backrefs": True, "match": "(a.*)", "line": r"\1\1"}, "matches again"),
        ({"match": "a", "search": "a", "line": "x"}, "exclude each other"),
    ):
        check_refuses(machine, {"line": {"path": str(machine.root / "it"), **params}}, message)
    step = {"line": {"path": f"{machine.root}/n", "match": "a", "line": "b", "backrefs": True}}
    check_refuses(machine, step, "there is no")
    created = machine.run_step({"line": {**step["line"], "create": True}})
    assert created.status == "ok", result_message(created)
