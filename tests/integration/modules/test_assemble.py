"""``assemble``: one file of the files in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DefinitionError
from tests.support.machine import ODD_NAMES, ShellMachine
from tests.support.module_files import check_refuses, file_mode, odd_names

PARTS = {"10": b"a\n", "2": b"b", "3 x": b"\xff\n\n", ".h": b"hidden\n", "-n": b"", "z.conf": b"z"}


def make_parts(machine: ShellMachine) -> Path:
    folder = machine.home / "it's $x\n"
    (folder / "sub").mkdir(parents=True)
    for name, data in PARTS.items():
        (folder / name).write_bytes(data)
    (folder / "link").symlink_to("10")
    return folder


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, b"hidden\na\nb\n\xff\n\na\nz"),
        ({"hidden": False}, b"a\nb\n\xff\n\na\nz"),
        ({"match": "^[0-9]"}, b"a\nb\n\xff\n\n"),
        ({"match": "[.]conf$", "delimiter": "# --"}, b"z"),
        ({"match": "^[12]", "delimiter": "# \\n 'x'\n"}, b"a\n# \\n 'x'\nb"),
        ({"match": "^(2|z)", "delimiter": "--"}, b"b\n--\nz"),
        ({"match": "nothing"}, b""),
        ({"match": "^[[:digit:][:space:]]+$"}, b"a\nb"),
    ],
)
@pytest.mark.parametrize("source", ["remote_src", "src"])
def test_the_parts_stand_in_the_order_of_their_names(
    machine: ShellMachine, params: dict[str, Any], expected: bytes, source: str
) -> None:
    path = machine.root / "to"
    step = {"assemble": {source: str(make_parts(machine)), "path": str(path), **params}}
    machine.check_then_run(step, "changed")
    assert path.read_bytes() == expected


def test_a_changed_part_changes_the_file(machine: ShellMachine) -> None:
    folder = make_parts(machine)
    path = machine.root / "to"
    step = {"remote_src": str(folder), "path": str(path), "match": "^1", "mode": "0600"}
    machine.check_then_run({"assemble": step}, "changed")
    (folder / "10").write_text("new\n")
    outcome = machine.check_then_run({"assemble": {**step, "backup": True}}, "changed")
    assert "-a\n+new\n" in outcome.diff and file_mode(path) == "0600"
    assert len(list(machine.root.iterdir())) == 2
    for more, message in (
        ({"remote_src": f"{folder}/none"}, "there is no directory"),
        ({"match": "("}, "grep"),
        ({"match": "h", "validate": "grep -q none %s"}, "not valid"),
    ):
        check_refuses(machine, {"assemble": {**step, **more}}, message)
    steps = [
        {"copy": {"path": f"{folder}/11", "content": "more\n"}},
        {"assemble": step},
    ]
    assert machine.run_steps(steps, check=True).statuses == ["would_change", "unknown"]
    assert machine.run_steps(steps).statuses == ["changed", "changed"]
    assert path.read_text() == "new\nmore\n"


def test_any_name_is_written(machine: ShellMachine) -> None:
    folder = str(make_parts(machine))
    for path in odd_names(
        machine, lambda at: {"assemble": {"path": str(at), "remote_src": folder, "match": "^10"}}
    ):
        assert path.read_text() == "a\n" and path.name in ODD_NAMES


@pytest.mark.parametrize("machine", ["dash"], indirect=True)
def test_parts_of_the_project_are_sent_with_a_diff_and_validated(machine: ShellMachine) -> None:
    folder = make_parts(machine)
    path = machine.root / "to"
    step = {"src": str(folder), "path": str(path), "match": "^(10|2)$", "delimiter": "# next"}
    outcome = machine.check_then_run({"assemble": step}, "changed")
    assert "+a\n+# next\n+b" in outcome.diff
    (folder / "10").write_bytes(b"x" * 100_000)
    machine.check_then_run({"assemble": {**step, "validate": "grep -q xxx %s"}}, "changed")
    assert path.stat().st_size == 100_000 + len("\n# next\nb")
    (folder / "10").write_text("a")
    check_refuses(machine, {"assemble": {**step, "validate": "grep -q none %s"}}, "not valid")
    for params, message in (
        ({"src": str(folder / "10")}, "cannot read"),
        ({"src": str(folder / "gone")}, "no such file"),
        ({"remote_src": "/x"}, "needs one of remote_src and src, found 2"),
        ({"match": "("}, "is not a regular expression"),
    ):
        with pytest.raises(DefinitionError) as caught:
            machine.run_step({"assemble": {**step, **params}})
        assert message in str(caught.value)
