"""``line``: one line of a text file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import playbook
from tests.sshd import make_separation_folder
from tests.support.machine import ODD_NAMES, ShellMachine, result_message
from tests.support.module_files import (
    WITHOUT_POWERS,
    check_nothing_left,
    check_refuses,
    file_mode,
    folder_contents,
    odd_names,
    outcome_changes,
)

TEXT = "a 1\nb 2\n# c\na 3\n\nend\n"

TABLE: list[tuple[str, dict[str, str], str | None]] = [
    # already so
    (TEXT, {"line": "b 2"}, None),
    (TEXT, {"line": "a 3", "match": "^a 3"}, None),
    (TEXT, {"line": ""}, None),
    ("x\ny", {"line": "y"}, None),
    ("b\na\nb\n", {"line": "b", "match": "^b"}, None),
    (TEXT, {"line": "b 2", "match": "^nowhere"}, None),
    (TEXT, {"line": "a 1", "after": "end"}, None),  # wherever it is
    # put in
    (TEXT, {"line": "x"}, TEXT + "x\n"),
    ("", {"line": "x"}, "x\n"),
    ("x", {"line": "y"}, "x\ny\n"),
    ("x", {"line": "x "}, "x\nx \n"),
    ("10\n", {"line": "1e1"}, "10\n1e1\n"),
    (TEXT, {"line": "x", "after": "EOF"}, TEXT + "x\n"),
    (TEXT, {"line": "x", "before": "BOF"}, "x\n" + TEXT),
    ("a", {"line": "x", "before": "BOF"}, "x\na"),
    ("", {"line": "x", "before": "BOF"}, "x\n"),
    (TEXT, {"line": "x", "after": "^a"}, "a 1\nb 2\n# c\na 3\nx\n\nend\n"),
    (TEXT, {"line": "x", "before": "^a"}, "a 1\nb 2\n# c\nx\na 3\n\nend\n"),
    (TEXT, {"line": "x", "after": "^nowhere"}, TEXT + "x\n"),
    (TEXT, {"line": "x", "before": "^nowhere"}, TEXT + "x\n"),
    (TEXT, {"line": "x", "match": "^nowhere", "before": "^b"}, "a 1\nx\n" + TEXT[4:]),
    ("a\nb", {"line": "x", "after": "a"}, "a\nx\nb"),
    ("a\nb", {"line": "x", "after": "b"}, "a\nb\nx\n"),
    # put in the place of the last that matches; the others go
    (TEXT, {"line": "a 4", "match": "^a"}, "b 2\n# c\na 4\n\nend\n"),
    (TEXT, {"line": "c", "match": "^#? *c", "after": "end"}, "a 1\nb 2\nc\na 3\n\nend\n"),
    (TEXT, {"line": "x", "match": "(1|2)$"}, "x\n# c\na 3\n\nend\n"),
    ("a\na\na", {"line": "b", "match": "a"}, "b\n"),
    ("x\na 1\na 2\na 3\ny", {"line": "a", "match": "^a "}, "x\na\ny"),
    # it is there already, elsewhere or as one that matches: all others that match go
    (TEXT, {"line": "a 1", "match": "^a"}, "a 1\nb 2\n# c\n\nend\n"),
    (TEXT, {"line": "a 3", "match": "^a"}, "b 2\n# c\na 3\n\nend\n"),
    (TEXT, {"line": "b 2", "match": "^#"}, "a 1\nb 2\na 3\n\nend\n"),
    ("b\na 1\nb\na 2", {"line": "b", "match": "^[ab]"}, "b\nb\n"),
    ("\nx\n", {"line": "x", "match": "^$"}, "x\n"),
    ("a", {"line": "b", "match": "a"}, "b\n"),
    ("a\nb", {"line": "x", "match": "a"}, "x\nb"),
    ("x{2}\nxx\n", {"line": "y", "match": "^x{2}$"}, "x{2}\ny\n"),
    ("über\n\udcff\n", {"line": "ü", "match": "^ü"}, "ü\n\udcff\n"),
    # where lines end in CR LF, it is about what stands before that
    ("a\r\nb\r\n", {"line": "c\r", "match": "^a"}, "c\r\nb\r\n"),
    ("a\r\nb\r\n", {"line": "b"}, None),
    ("a\r\nb\r\n", {"line": "c"}, "a\r\nb\r\nc\r\n"),
    ("a\r\nb", {"line": "c"}, "a\r\nb\r\nc\r\n"),
    ("a\r\nb", {"line": "b"}, None),
    ("a 1\r\na 2\r\nb\r\n", {"line": "a 3", "match": "^a .$"}, "a 3\r\nb\r\n"),
    ("a 1\r\na 2\r\nb\r\n", {"line": "b", "match": "^a .$"}, "b\r\n"),
    ("a\r\nb\r\n", {"line": "x", "after": "^a$"}, "a\r\nx\r\nb\r\n"),
    ("a\r\nb\r\n", {"line": "x", "before": "^b$"}, "a\r\nx\r\nb\r\n"),
    ("a\r\nb\r\n", {"line": "b", "state": "absent"}, "a\r\n"),
    ("a\r\nb\r\n", {"match": "^.$", "state": "absent"}, ""),
    ("a\nb\r\nc\n", {"line": "b"}, "a\nb\r\nc\nb\n"),  # one such line is somebody's error
    # taken out
    (TEXT, {"line": "b 2", "state": "absent"}, "a 1\n# c\na 3\n\nend\n"),
    (TEXT, {"match": "^a", "state": "absent"}, "b 2\n# c\n\nend\n"),
    (TEXT, {"line": "b 2", "match": "^a", "state": "absent"}, "b 2\n# c\n\nend\n"),
    (TEXT, {"line": "", "state": "absent"}, "a 1\nb 2\n# c\na 3\nend\n"),
    ("a\na\n", {"line": "a", "state": "absent"}, ""),
    (TEXT, {"line": "b", "state": "absent"}, None),
    (TEXT, {"match": "^b$", "state": "absent"}, None),
    ("", {"line": "b", "state": "absent"}, None),
]


def test_texts_before_and_after(machine: ShellMachine) -> None:
    steps = []
    for n, (start, arguments, _) in enumerate(TABLE):
        path = machine.root / f"{n}"
        path.write_bytes(start.encode("utf-8", "surrogateescape"))
        path.chmod(0o604)
        steps.append({"line": {"path": str(path), **arguments}})
    asked, done = machine.run_steps(steps, check=True), machine.run_steps(steps)
    again = machine.run_steps(steps)
    for n, (start, arguments, after) in enumerate(TABLE):
        path = machine.root / f"{n}"
        about = f"{start!r} {arguments} {result_message(done.outcomes[n])}"
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        assert text == (start if after is None else after), about
        assert done.statuses[n] == ("ok" if after is None else "changed"), about
        assert asked.statuses[n] == done.statuses[n].replace("changed", "would_change"), about
        assert asked.outcomes[n].changes == done.outcomes[n].changes, about
        assert again.statuses[n] == "ok", about
        assert file_mode(path) == "0604"
    assert len(folder_contents(machine.root)) == len(TABLE)


ODD_TEXTS = [
    *(t for t in ODD_NAMES if "\n" not in t),
    "/a/&/b/",
    "\\1 \\n \\",
    "a;b|c",
    "[",
    "$",
    "é\\",
]


@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_line_is_any_text(machine: ShellMachine, state: str) -> None:
    path = machine.root / "it"
    path.write_text("" if state == "present" else "".join(f"{t}\n" for t in ODD_TEXTS))
    steps = [{"line": {"path": str(path), "line": t, "state": state}} for t in ODD_TEXTS]
    assert set(machine.run_steps(steps).statuses) == {"changed"}
    assert set(machine.run_steps(steps).statuses) == {"ok"}
    expected = "".join(f"{t}\n" for t in ODD_TEXTS) if state == "present" else ""
    assert path.read_text() == expected


def test_files_of_any_name_are_made_if_told_to(machine: ShellMachine) -> None:
    more = {"create": True, "line": "x", "mode": "0600"}
    for path in odd_names(machine, lambda p: {"line": {"path": str(p), **more}}):
        assert (path.read_text(), file_mode(path)) == ("x\n", "0600")
    step = {"path": str(machine.root / "it"), "line": "x"}
    check_refuses(machine, {"line": step}, "`create: true` makes it")
    machine.check_then_run({"line": {**step, "state": "absent", "mode": "0600"}}, "ok")


def test_the_line_in_its_place_and_the_whole_text_are_told(machine: ShellMachine) -> None:
    path = machine.root / "it"
    path.write_text("a 1\nb")
    step = {"path": str(path), "line": "a 2", "match": "^a", "mode": "0600"}
    outcome = machine.check_then_run({"line": step}, "changed")
    assert outcome_changes(outcome) == {"line": ("a 1", "a 2"), "mode": ("0644", "0600")}
    assert outcome.diff.splitlines()[3:] == ["-a 1", "+a 2", " b", "\\ No newline at end of file"]
    outcome = machine.check_then_run(
        {"line": {"path": str(path), "line": "b", "state": "absent"}}, "changed"
    )
    assert outcome_changes(outcome) == {"state": ("present", "absent")}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "give `line`"),
        ({"match": "a"}, "give `line`"),
        ({"state": "absent"}, "give `line`"),
        ({"line": "a\nb"}, "use text_block"),
        ({"line": "x", "after": "a", "before": "b"}, "exclude each other"),
        ({"line": "x", "match": "("}, "grep"),
        ({"line": "x", "match": "[a"}, "grep"),
        ({"line": "x", "after": "("}, "grep"),
        ({"state": "absent", "match": "("}, "grep"),
    ],
)
def test_what_makes_no_sense_is_refused(
    machine: ShellMachine, params: dict[str, str], message: str
) -> None:
    (machine.root / "it").write_text(TEXT)
    check_refuses(machine, {"line": {"path": str(machine.root / "it"), **params}}, message)


def test_what_is_no_text_is_left_alone(machine: ShellMachine) -> None:
    (machine.root / "it").write_bytes(b"a\0b\n")
    check_refuses(
        machine, {"line": {"path": str(machine.root / "it"), "line": "x"}}, "contains NUL bytes"
    )
    check_refuses(machine, {"line": {"path": str(machine.root), "line": "x"}}, "is a directory")
    machine.wrapper = WITHOUT_POWERS
    (machine.root / "it").chmod(0)
    check_refuses(machine, {"line": {"path": str(machine.root / "it"), "line": "x"}}, "it")


def test_the_new_text_is_tried_and_the_old_one_kept(machine: ShellMachine) -> None:
    path = machine.root / "it"
    path.write_text("a\n")
    os.chown(path, 7, 8)
    step = {"path": str(path), "line": "b", "backup": True}
    with check_nothing_left(machine.root.parent / "tmp", machine):
        bad = {"line": {**step, "validate": "! grep -q b %s"}}
        check_refuses(machine, bad, "not valid: ! grep -q b %s (exit status 1)")
        machine.check_then_run({"line": {**step, "validate": "grep -q b %s"}}, "changed")
    kept = next(p for p in machine.root.iterdir() if p != path)
    assert (path.read_text(), kept.read_text()) == ("a\nb\n", "a\n")
    assert (path.stat().st_uid, path.stat().st_gid) == (7, 8)


SSHD = "Port 22\n#PasswordAuthentication yes\nHostKey KEY\n"


@pytest.fixture
def sshd_config(machine: ShellMachine) -> Path:
    """Return a configuration that sshd accepts."""
    make_separation_folder()
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(machine.root / "key")]
    subprocess.run(words, check=True)
    path = machine.root / "sshd_config"
    path.write_text(SSHD.replace("KEY", str(machine.root / "key")))
    return path


def test_sshd_tries_its_new_configuration(machine: ShellMachine, sshd_config: Path) -> None:
    before = sshd_config.read_text()
    step = {"path": str(sshd_config), "match": "^#?PasswordAuthentication"}
    validate = f"{shutil.which('sshd', path='/usr/sbin:/sbin')} -t -f %s"
    bad = {**step, "line": "PasswordAuthentication perhaps", "validate": validate}
    check_refuses(machine, {"line": bad}, 'unsupported option "perhaps"')
    good = {**step, "line": "PasswordAuthentication no", "validate": validate}
    machine.check_then_run({"line": good}, "changed")
    after = before.replace("#PasswordAuthentication yes", "PasswordAuthentication no")
    assert sshd_config.read_text() == after


def test_the_documented_example_works(machine: ShellMachine, sshd_config: Path) -> None:
    """With the path of a file of ours, that is all."""
    (step,) = yaml.safe_load(playbook.load_tasks(machine.root, ["line"]).by_name["line"].example)
    step["line"]["path"] = str(sshd_config)
    machine.check_then_run(step, "changed")
    assert "\nPasswordAuthentication no\n" in sshd_config.read_text()
    step["line"]["line"] = "PasswordAuthentication"
    check_refuses(machine, step, "not valid: sshd -tf %s")


WHOLE: list[tuple[str, dict[str, Any], str]] = [
    ("a\nb\n", {"line": "c", "match": "^b"}, "a\nc\n"),
    ("a\nb\n", {"line": "c", "after": "^a"}, "a\nc\nb\n"),
    ("a\nb\n", {"line": "c", "before": "BOF"}, "c\na\nb\n"),
    ("a\nb\n", {"line": "a", "state": "absent"}, "b\n"),
    ("a\nb", {"line": "c"}, "a\nb\nc\n"),
]


@pytest.mark.parametrize(("start", "params", "after"), WHOLE)
def test_what_is_tried_is_the_new_text_as_a_whole(
    machine: ShellMachine, start: str, params: dict[str, Any], after: str
) -> None:
    path, desired = machine.root / "it", machine.root / "wanted"
    path.write_text(start)
    desired.write_text(after)
    step = {"path": str(path), **params}
    check_refuses(
        machine, {"line": {**step, "validate": "! cmp -s %s " + str(desired)}}, "not valid"
    )
    machine.check_then_run({"line": {**step, "validate": "cmp %s " + str(desired)}}, "changed")
    assert path.read_text() == after
