"""A question whose terminal is closed counts as not answered, also if SIGHUP is ignored (nohup)."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

from tests.projects import OrchProject
from tests.support.hangup_terminal import MAIN, start_on_terminal

HIDDEN_PROMPT = """
import sys, threading
from orchestrator.cli.tty_prompt import TtyPrompter
from orchestrator.output.terminal_lock import TerminalLock

answer = TtyPrompter(TerminalLock()).ask("Password:", False, threading.Event())
sys.exit(2 if answer is None else 1)
"""

STDIN_LINE = """
import sys
from orchestrator.cli.tty_prompt import StdinLines

sys.exit(2 if StdinLines().next_line(lambda: False) is None else 1)
"""


@pytest.mark.parametrize(
    ("script", "words", "question"),
    [
        (MAIN, ("vault", "encrypt", "hosts.yml"), b"assword"),
        (MAIN, ("-s", "prod", "run", "asks"), b"Secret"),
        (HIDDEN_PROMPT, (), b"Password:"),
    ],
    ids=["vault", "secret", "password"],
)
def test_a_terminal_that_is_closed_during_a_question_is_no_answer(
    project: OrchProject, script: str, words: tuple[str, ...], question: bytes
) -> None:
    stage = "connect: {transport: sandbox}\nvars: {s: !secret {prompt: Secret}}\n"
    project.add_sandbox_stage("web1", stage="prod").write(
        {
            "tasks/asks.yml": "steps:\n- run: echo {{ s }}\n",
            "inventories/prod/stage.yml": stage,
            "hosts.yml": "a: 1\n",
        }
    )
    terminal = start_on_terminal(
        script, words, project.environ({}), ignored=(signal.SIGHUP,), cwd=str(project.root)
    )
    try:
        terminal.wait_for(question)
        terminal.hang_up()
        assert terminal.exit_code() == 2
    finally:
        terminal.close()


@pytest.mark.parametrize(
    "words",
    [("-c", STDIN_LINE), ("-m", "orchestrator", "-s", "prod", "run", "t")],
    ids=["in a run", "before a run"],
)
def test_an_error_of_the_input_is_no_answer(project: OrchProject, words: tuple[str, ...]) -> None:
    stage = "connect: {transport: sandbox}\nprotected: true\n"
    project.add_sandbox_stage("web1", stage="prod").write(
        {"tasks/t.yml": "steps:\n- run: 'true'\n", "inventories/prod/stage.yml": stage}
    )
    ours, theirs = pty.openpty()
    os.close(theirs)  # from now on, reading the other side is an error
    try:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=project.root,
            stdin=ours,
            env=project.environ({}),
            check=False,
            timeout=60,
        )
    finally:
        os.close(ours)
    assert done.returncode == 2
