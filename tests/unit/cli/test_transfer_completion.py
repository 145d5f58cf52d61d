"""The local paths of ``upload`` and ``download`` are completed by the shell."""

from __future__ import annotations

import pytest
from click.shell_completion import BashComplete

from orchestrator.cli.root_command import orch


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (["upload"], ["file"]),
        (["upload", "--delete", "-s", "dev"], ["file"]),
        (["download", "/etc"], ["dir"]),
        (["download"], []),
    ],
)
def test_local_paths_are_completed_as_paths(words: list[str], kinds: list[str]) -> None:
    items = BashComplete(orch, {}, "orch", "_ORCH_COMPLETE").get_completions(words, "si")
    assert [item.type for item in items] == kinds
