"""The pages in docs/reference/ are what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from orchestrator.modules import MODULES_FOLDER

SCRIPT = Path(__file__).parents[3] / "docs/make_reference.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("make_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_pages_are_up_to_date(script: Any) -> None:
    committed = {
        path.name: path.read_text("utf-8")
        for path in (SCRIPT.parent / "reference").glob("*.md")
        if path.name != "index.md"
    }
    assert committed == script.reference_pages(), "run: .venv/bin/python docs/make_reference.py"


def test_every_module_and_command_has_a_section(script: Any) -> None:
    pages = script.reference_pages()
    for file in MODULES_FOLDER.glob("*.yml"):
        assert f"## {file.stem}\n" in pages["modules.md"]
    for name in ("run", "plan", "doc", "schema"):
        assert f"## orch {name}\n" in pages["commands.md"]


def test_code_with_backticks_and_bars_stays_in_its_cell(script: Any) -> None:
    assert script._code("a `b`") == "`` a `b` ``"
    assert script._cell("a | b") == "a \\| b"
