"""`orch console` ends if its terminal goes, or a signal ends it, whatever its prompt does."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

import pytest

from tests.projects import OrchProject
from tests.support.session_recording import processes_with
from tests.support.tmux_terminal import wait_until

START = """
import fcntl, signal, termios

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
for number in {ignored}:
    signal.signal(number, signal.SIG_IGN)
{hook}
from orchestrator.cli.main import main

main()
"""

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


@dataclass
class HangupConsole:
    """A console whose stdin is its controlling terminal; stdout may be another one."""

    process: subprocess.Popen[bytes]
    keys: int
    """The side of the terminal at which keys are typed."""
    shown: int
    """The side of the terminal at which output is read; the same one, if there is only one."""

    def type(self, keys: bytes) -> None:
        os.write(self.keys, keys)

    def wait_for(self, text: bytes) -> None:
        """Read the output until this text is shown."""
        output, until = b"", time.monotonic() + 30
        while text not in output:
            assert select.select([self.shown], [], [], until - time.monotonic())[0], output
            output += os.read(self.shown, 4096)

    def hang_up(self) -> None:
        """Close the terminal at which output is shown."""
        os.close(self.shown)

    def exit_code(self) -> int:
        return self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for descriptor in {self.keys, self.shown}:
            with suppress(OSError):
                os.close(descriptor)


def start_console(
    stage: OrchProject, hook: str = "", *, terminals: int = 1, ignored: tuple[int, ...] = ()
) -> HangupConsole:
    pairs = [pty.openpty() for _ in range(terminals)]
    (keys, stdin), (shown, stdout) = pairs[0], pairs[-1]

    words = ["-C", str(stage.root), "-s", "real", "console", "-l", "db1"]
    script = START.format(ignored=[int(number) for number in ignored], hook=hook)
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        env=stage.environ({"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}),
        stdin=stdin,
        stdout=stdout,
        stderr=stdin,
        start_new_session=True,
    )
    for _, theirs in pairs:
        os.close(theirs)
    return HangupConsole(process, keys, shown)


@pytest.fixture
def consoles() -> Iterator[list[HangupConsole]]:
    started: list[HangupConsole] = []
    yield started
    for console in started:
        console.close()


def test_a_hangup_in_the_middle_of_the_prompts_event_loop_ends_the_console(
    stage: OrchProject, consoles: list[HangupConsole]
) -> None:
    console = start_console(stage, SIGNAL_IN_THE_LOOP)
    consoles.append(console)
    console.wait_for(b"real db1>")
    console.type(b"\x03")
    assert console.exit_code() == 130


def test_a_prompt_that_cannot_end_is_left_with_the_terminal_as_it_was(
    stage: OrchProject, consoles: list[HangupConsole]
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
    stage: OrchProject, consoles: list[HangupConsole]
) -> None:
    console = start_console(stage, terminals=2)
    consoles.append(console)
    console.wait_for(b"real db1>")
    console.hang_up()
    console.type(b"x")
    assert console.exit_code() == 130


@pytest.mark.parametrize("ignored", [(), (signal.SIGHUP,)], ids=["", "nohup"])
def test_the_console_ends_if_its_terminal_goes_at_the_prompt(
    stage: OrchProject, consoles: list[HangupConsole], ignored: tuple[int, ...]
) -> None:
    console = start_console(stage, ignored=ignored)
    consoles.append(console)
    console.wait_for(b"real db1>")
    console.type(b"echo half a line")
    console.wait_for(b"half a line")
    console.hang_up()
    assert console.exit_code() == 130


def test_a_command_is_ended_on_its_host_if_the_terminal_goes(
    stage: OrchProject, consoles: list[HangupConsole]
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
