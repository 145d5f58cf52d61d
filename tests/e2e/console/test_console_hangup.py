"""`orch console` ends if its terminal goes, or a signal ends it, whatever its prompt does."""

from __future__ import annotations

import signal
import termios
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.projects import OrchProject
from tests.support.hangup_terminal import MAIN, HangupTerminal, start_on_terminal
from tests.support.session_recording import processes_with
from tests.support.tmux_terminal import wait_until

SIGNAL_IN_THE_LOOP = """
import asyncio, os, signal
from prompt_toolkit.application.current import get_app_or_none

run_handle = asyncio.Handle._run

def run_after_a_hangup(handle):
    # The loop has taken the callback that wakes the prompt from its queue, and is to call it.
    app = get_app_or_none()
    if app is not None and app.future is not None and handle._args == (app.future,):
        os.kill(os.getpid(), signal.SIGHUP)
    run_handle(handle)

asyncio.Handle._run = run_after_a_hangup
"""
"""A hangup at the moment after a Ctrl-C in which no exception may come, which is a few us long."""

COMPLETION_WITHOUT_END = """
import sys, threading
from orchestrator.cli import prompt_input
from orchestrator.commands.remote_paths import RemotePaths

def wait_for_ever(*_):
    open(sys.argv[2] + "/completing", "w").close()
    threading.Event().wait()

RemotePaths.complete = wait_for_ever
prompt_input.END_SECONDS = 0.2
"""


def start_console(
    stage: OrchProject,
    hook: str = "",
    *,
    terminals: int = 1,
    ignored: tuple[signal.Signals, ...] = (),
) -> HangupTerminal:
    words = ["-C", str(stage.root), "-s", "real", "console", "-l", "db1"]
    environ = stage.environ({"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"})
    return start_on_terminal(hook + MAIN, words, environ, terminals=terminals, ignored=ignored)


@pytest.fixture
def consoles() -> Iterator[list[HangupTerminal]]:
    started: list[HangupTerminal] = []
    yield started
    for console in started:
        console.close()


def test_a_hangup_in_the_middle_of_the_prompts_event_loop_ends_the_console(
    stage: OrchProject, consoles: list[HangupTerminal]
) -> None:
    console = start_console(stage, SIGNAL_IN_THE_LOOP)
    consoles.append(console)
    console.wait_for(b"real db1>")
    console.type(b"\x03")
    assert console.exit_code() == 130


def test_a_prompt_that_cannot_end_is_left_with_the_terminal_as_it_was(
    stage: OrchProject, consoles: list[HangupTerminal]
) -> None:
    console = start_console(stage, COMPLETION_WITHOUT_END)
    consoles.append(console)
    console.wait_for(b"real db1>")
    console.type(b"ls /u\t")
    wait_until("the completion", (stage.root / "completing").exists)
    assert not termios.tcgetattr(console.keys)[3] & termios.ECHO
    console.process.send_signal(signal.SIGTERM)
    assert console.exit_code() == 130
    assert termios.tcgetattr(console.keys)[3] & termios.ECHO


def test_the_console_ends_if_only_the_terminal_of_its_output_goes(
    stage: OrchProject, consoles: list[HangupTerminal]
) -> None:
    console = start_console(stage, terminals=2)
    consoles.append(console)
    console.wait_for(b"real db1>")
    console.hang_up()
    console.type(b"x")
    assert console.exit_code() == 130


@pytest.mark.parametrize("ignored", [(), (signal.SIGHUP,)], ids=["", "nohup"])
def test_the_console_ends_if_its_terminal_goes_at_the_prompt(
    stage: OrchProject, consoles: list[HangupTerminal], ignored: tuple[signal.Signals, ...]
) -> None:
    console = start_console(stage, ignored=ignored)
    consoles.append(console)
    console.wait_for(b"real db1>")
    console.type(b"echo half a line")
    console.wait_for(b"half a line")
    console.hang_up()
    assert console.exit_code() == 130


def test_a_command_is_ended_on_its_host_if_the_terminal_goes(
    stage: OrchProject, consoles: list[HangupTerminal]
) -> None:
    mark = f"9753.{uuid4().int}"
    console = start_console(stage)
    consoles.append(console)
    console.wait_for(b"real db1>")
    console.type(f"sleep {mark}\r".encode())
    wait_until("the command", lambda: len(processes_with(f"sleep\0{mark}")) == 1)
    console.process.send_signal(signal.SIGTERM)
    console.hang_up()
    assert console.exit_code() == 130
    wait_until("the end of the command", lambda: not processes_with(mark))
