"""What a host does not have is told by a check as well, and then nothing is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import ShellMachine
from tests.support.module_files import check_refuses
from tests.support.web_server import WebAnswer, serve_web


@pytest.fixture
def machine(tmp_path: Path) -> ShellMachine:
    root = tmp_path / "root"
    root.mkdir()
    return ShellMachine("dash", root)


FILES: list[tuple[str, dict[str, Any]]] = [
    ("file", {}),
    ("touch", {}),
    ("directory", {}),
    ("directory", {"recurse": True}),
    ("copy", {"content": "x"}),
    ("template", {"src": "it.j2"}),
    ("line", {"line": "x", "create": True}),
    ("text_block", {"block": "x", "create": True}),
    ("upload", {"src": "it.j2"}),
]


@pytest.mark.parametrize(("module", "params"), FILES)
def test_a_missing_owner_or_group(
    machine: ShellMachine, module: str, params: dict[str, Any]
) -> None:
    new, old = machine.root / "new", machine.root / "old"
    if module == "directory":
        old.mkdir()
    else:
        old.write_text("x\n")
    for path in (new, old):
        step = {"path": str(path), **params}
        files = {"it.j2": "x\n"}
        check_refuses(
            machine, {module: {**step, "owner": "orchnone"}}, "no user orchnone", files=files
        )
        check_refuses(
            machine, {module: {**step, "group": "orchnone"}}, "no group orchnone", files=files
        )
        machine.check_then_run(
            {module: {**step, "owner": 4711, "group": 4712}}, "changed", files=files
        )
        assert (path.stat().st_uid, path.stat().st_gid) == (4711, 4712)


def test_a_missing_owner_of_what_is_fetched(machine: ShellMachine) -> None:
    with serve_web() as web:
        web.pages = {"/it": WebAnswer(b"x")}
        step = {"url": web.url("/it"), "path": str(machine.root / "it"), "owner": "orchnone"}
        check_refuses(machine, {"get_url": step}, "no user orchnone")


def test_a_missing_archive(machine: ShellMachine) -> None:
    (machine.root / "folder").mkdir()
    for name in ("none.tar", "folder"):
        for to in ("new", "folder"):
            step = {"path": str(machine.root / to), "remote_src": str(machine.root / name)}
            check_refuses(
                machine, {"unarchive": step}, f"there is no archive {machine.root / name}"
            )
