"""Prompts on the terminal during a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.projects import OrchProject
from tests.sshd import SshdServer, generate_key, sshd
from tests.support.tmux_terminal import TmuxTerminal, wait_until

__all__ = ["sshd"]

SECRET = "open sesame"
HOSTS = """
a1: {address: 127.0.0.11}
a2: {address: 127.0.0.12}
a3: {address: 127.0.0.13, connect: {jump: a1}}
"""
QUESTION = "Passphrase of"


@pytest.fixture
def locked_stage(tmp_path: Path, sshd: SshdServer) -> OrchProject:
    """Create three hosts, each the jump host of the next, that require an encrypted key."""
    key = generate_key(tmp_path / "key", passphrase=SECRET)
    with (sshd.folder / "authorized_keys").open("a") as keys:
        keys.write(Path(f"{key}.pub").read_text())
    project = OrchProject(tmp_path / "project").add_sshd_stage(sshd, {})
    settings = json.loads((project.root / "inventories/real/stage.yml").read_text())
    settings["connect"]["identity"] = str(key)
    return project.write(
        {
            "inventories/real/stage.yml": json.dumps(settings),
            "inventories/real/hosts.yml": HOSTS,
            "tasks/t.yml": "steps: [{run: echo here}]\n",
        }
    )


@contextmanager
def at_terminal(project: OrchProject, folder: Path) -> Iterator[TmuxTerminal]:
    """Run `orch run t` on a terminal up to its first prompt."""
    orch = [sys.executable, "-m", "orchestrator", "-s", "real", "run", "t", "-F", "none"]
    own = ["-u", "SSH_AUTH_SOCK", f"HOME={folder}"]
    command = ["env", *own, *orch, "-C", str(project.root)]
    terminal = TmuxTerminal(folder / "s", 80, 24, command)
    try:
        wait_until("the question", lambda: any(QUESTION in line for line in terminal.screen()))
        yield terminal
    finally:
        terminal.close()


def wait_for_exit(terminal: TmuxTerminal, code: int) -> str:
    """Wait until orch exits with this status; return what the terminal shows."""
    wait_until("the end", lambda: any("THE END" in line for line in terminal.screen()))
    screen = "\n".join(terminal.screen(history=True))
    assert f"THE END {code}" in screen, screen
    return screen


def kept_files(project: OrchProject) -> str:
    """Return all files that are kept of the runs."""
    files = (project.root / ".orch").rglob("*")
    return "".join(path.read_text() for path in files if path.is_file())


def test_a_passphrase_is_asked_for_once_hidden_and_again_only_where_it_is_wrong(
    locked_stage: OrchProject, tmp_path: Path
) -> None:
    with at_terminal(locked_stage, tmp_path) as terminal:
        terminal.type("wrong", "Enter")
        wait_until("another", lambda: any("Wrong passphrase" in line for line in terminal.screen()))
        terminal.type(SECRET, "Enter")
        screen = wait_for_exit(terminal, 0)
        assert screen.count(QUESTION) == 2
        assert "a[1-3]: here" in screen
        assert "3 ok" in screen or "3 changed" in screen
    assert SECRET not in screen
    assert SECRET not in kept_files(locked_stage)


def test_ctrl_c_in_a_question_ends_the_run_and_gives_the_terminal_back(
    locked_stage: OrchProject, tmp_path: Path
) -> None:
    with at_terminal(locked_stage, tmp_path) as terminal:
        assert not terminal.is_echoing()
        terminal.type("", "C-c")
        assert "3 cancelled" in wait_for_exit(terminal, 130)
        assert terminal.is_echoing()


def test_where_there_is_no_terminal_nothing_hangs_and_the_row_says_what_is_missing(
    locked_stage: OrchProject,
) -> None:
    done = locked_stage.orch("-s", "real", "run", "t", "-F", "none", "--json")
    assert done.code == 4
    reasons = [row["reason"] for row in done.host_rows.values()]
    assert any("no passphrase was entered at a terminal" in reason for reason in reasons)
