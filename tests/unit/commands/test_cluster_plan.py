"""The unit of systemd that runs a host's part of a cluster."""

from __future__ import annotations

import pytest

from orchestrator.commands.cluster_plan import _unit_text


@pytest.mark.parametrize(
    ("python", "folder", "command"),
    [
        (
            "~/.orch/c/venv/bin/python",
            "~/.orch/c",
            '"%h/.orch/c/venv/bin/python" -m orchestrator.commands.cluster_node "%h/.orch/c"',
        ),
        (
            "python3",
            "/srv/a b",
            '"python3" -m orchestrator.commands.cluster_node "/srv/a b"',
        ),
        # specifiers, variables and quotes of systemd.service(5) are the characters themselves
        (
            "/100%/python",
            '/$HOME/"x\\y',
            '"/100%%/python" -m orchestrator.commands.cluster_node "/$$HOME/\\"x\\\\y"',
        ),
    ],
)
def test_paths_are_words_of_the_command(python: str, folder: str, command: str) -> None:
    lines = _unit_text(python, folder).splitlines()
    assert f"ExecStart={command}" in lines
    assert "Restart=always" in lines
