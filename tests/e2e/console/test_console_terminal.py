"""`orch console` on a terminal: prompt, Ctrl-C and Ctrl-D, history, completion."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from tests.projects import OrchProject
from tests.sshd import SshdServer
from tests.support.session_recording import processes_with
from tests.support.tmux_terminal import TmuxTerminal, wait_until

NO_CPR = {"PROMPT_TOOLKIT_NO_CPR": "1"}
"""The test's terminal does not answer requests for the cursor's position."""


class ConsoleTerminal:
    """A console on a terminal."""

    def __init__(self, terminal: TmuxTerminal) -> None:
        self.terminal = terminal
        self.prompts = 0
        self.wait_for_prompt()

    def lines(self) -> list[str]:
        """Return all lines since the start, wrapped ones joined, up to the last that is not empty."""
        screen = self.terminal.screen(joined=True, history=True)
        while screen and not screen[-1]:
            screen.pop()
        return screen

    def wait_for_prompt(self) -> list[str]:
        """Wait for the next prompt; return the lines since the one before, without both."""
        lines: list[str] = []

        def is_waiting() -> bool:
            lines[:] = self.lines()
            prompts = [number for number, line in enumerate(lines) if _is_prompt(line)]
            return (
                len(prompts) > self.prompts
                and prompts[-1] == len(lines) - 1
                and lines[-1][-1] == ">"
            )

        wait_until("the prompt", is_waiting)
        prompts = [number for number, line in enumerate(lines) if _is_prompt(line)]
        self.prompts = len(prompts)
        return lines[prompts[-2] + 1 : -1] if len(prompts) > 1 else lines[:-1]

    def run(self, line: str) -> list[str]:
        """Type a line; return what is printed up to the next prompt."""
        self.terminal.type(line, "Enter")
        return self.wait_for_prompt()

    def wait_for(self, typed: str) -> None:
        """Wait until this is typed at the prompt."""

        def is_typed() -> bool:
            last = [line for line in self.lines() if _is_prompt(line)][-1]
            return last.partition("> ")[2] == typed

        wait_until(repr(typed), is_typed)

    @property
    def prompt(self) -> str:
        return self.lines()[-1]


def _is_prompt(line: str) -> bool:
    return line.startswith("real ") and ">" in line


@pytest.fixture
def console(stage: OrchProject, tmp_path: Path) -> Iterator[ConsoleTerminal]:
    home = stage.root.parent / "home"
    home.mkdir()
    orch = [sys.executable, "-m", "orchestrator", "-C", str(stage.root), "-s", "real", "console"]
    words = ["env", "-u", "SSH_AUTH_SOCK", f"HOME={home}", *orch]
    terminal = TmuxTerminal(tmp_path / "s", 120, 40, words)
    try:
        yield ConsoleTerminal(terminal)
    finally:
        terminal.close()


def test_a_session_of_commands(
    console: ConsoleTerminal, sshd: SshdServer, stage: OrchProject
) -> None:
    assert console.prompt == "real 3 hosts>"
    assert console.run("uname")[0] == "web[1-2],db1: Linux"
    # the connection of a host ends between two commands
    (pid,) = console.run("@web2 ps -o ppid= -p $PPID")[0].split()[1:]
    logins = sshd.log().count("Accepted publickey")
    os.kill(int(pid), signal.SIGKILL)
    assert console.run("cd /usr; pwd")[0] == "web[1-2],db1: /usr"
    assert console.prompt == "real 3 hosts /usr>"
    assert sshd.log().count("Accepted publickey") == logins + 1
    console.run("@web false")
    assert console.prompt == "real 3 hosts (2 failed) /usr>"
    console.run(" echo unkept")
    console.run(":become nobody")
    assert console.prompt == "real 3 hosts /usr as nobody>"
    assert console.run("id -un")[0] == "web[1-2],db1: nobody"
    console.run(":become off")
    console.run(":limit db")
    assert console.prompt == "real db1 /usr>"
    console.terminal.type("echo not run", "C-c")
    console.wait_for_prompt()
    console.terminal.type("", "C-d")
    wait_until("the end", lambda: "THE END 0" in console.lines())
    history = stage.root / ".orch/console_history"
    assert history.stat().st_mode & 0o777 == 0o600
    text = history.read_text()
    assert '"@web false"' in text
    assert "unkept" not in text
    assert "not run" not in text


def test_ctrl_c_ends_the_command_on_all_hosts_and_not_the_console(console: ConsoleTerminal) -> None:
    mark = f"9753.{uuid4().int}"
    console.terminal.type(f"sleep {mark} & sleep {mark}; echo no", "Enter")
    wait_until("the command", lambda: len(processes_with(f"sleep\0{mark}")) == 6)
    console.terminal.type("", "C-c")
    shown = console.wait_for_prompt()
    assert processes_with(mark) == []
    assert shown[-1].startswith("3 hosts: 3 cancelled in ")
    assert console.prompt == "real 3 hosts (3 cancelled)>"
    assert console.run("echo $((6*7))")[0] == "web[1-2],db1: 42"


def test_another_ctrl_c_gives_up_a_host_that_does_not_react(console: ConsoleTerminal) -> None:
    stopped = int(console.run("@web2 ps -o ppid= -p $PPID")[0].split()[1])
    mark = f"9753.{uuid4().int}"
    console.terminal.type(f"sleep {mark}", "Enter")
    wait_until("the command", lambda: len(processes_with(f"sleep\0{mark}")) == 3)
    os.kill(stopped, signal.SIGSTOP)
    try:

        def is_interrupted() -> bool:
            console.terminal.type("", "C-c")
            return any("3 hosts: " in line for line in console.lines())

        wait_until("the result", is_interrupted, 15)
        console.wait_for_prompt()
        (result,) = [line for line in console.lines() if line.startswith("3 hosts: ")]
        assert result.startswith("3 hosts: 2 cancelled, 1 lost in "), result
        assert "(1 lost, 2 cancelled)" in console.prompt
        # The last Ctrl-C may have come to the prompt, which is printed again then.
        console.terminal.type("echo rest")
        console.wait_for("echo rest")
        console.prompts = len([line for line in console.lines() if _is_prompt(line)])
        console.terminal.type("", "Enter")
        assert console.wait_for_prompt()[0] == "web1,db1: rest"
    finally:
        os.kill(stopped, signal.SIGKILL)
    wait_until("the end of the command", lambda: not processes_with(mark))


def test_the_output_of_a_single_host_is_shown_as_it_comes(
    console: ConsoleTerminal, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "gate")
    console.run(f"cd {tmp_path}")
    console.terminal.type("@db echo first; echo bad >&2; cat gate; echo last", "Enter")
    wait_until("the first line", lambda: "  first" in console.lines())
    (tmp_path / "gate").write_text("between\n")
    assert [line for line in console.wait_for_prompt() if "host" not in line] == [
        "── db1 ──",
        "  first",
        "! bad",
        "  between",
        "  last",
    ]


def test_tab_completes_paths_hosts_and_the_consoles_own_commands(
    console: ConsoleTerminal, tmp_path: Path
) -> None:
    (tmp_path / "it's a folder" / "in it").mkdir(parents=True)
    (tmp_path / "it's a folder" / "in it" / "file one").touch()
    console.run(f"cd {tmp_path}")
    console.terminal.type("cat it", "Tab")
    console.wait_for("cat 'it'\"'\"'s a folder/'")
    console.terminal.type("", "Tab")
    console.wait_for("cat 'it'\"'\"'s a folder/in it/'")
    console.terminal.type("", "Tab")
    console.wait_for("cat 'it'\"'\"'s a folder/in it/file one'")
    assert console.run("")[-1].startswith("3 hosts: 3 ok")
    console.terminal.type("ls -d /us", "Tab")
    console.wait_for("ls -d /usr/")
    console.terminal.type("", "C-c")
    console.wait_for_prompt()
    for typed, completed in (
        (":reco", ":reconnect"),
        ("@fa", "@failed"),
        (":limit d", ":limit db"),
    ):
        console.terminal.type(typed, "Tab")
        console.wait_for(completed)
        console.terminal.type("", "C-c")
        console.wait_for_prompt()


def test_a_signal_to_end_closes_the_console(console: ConsoleTerminal, stage: OrchProject) -> None:
    (pid,) = processes_with(f"orchestrator\0-C\0{stage.root}\0")
    os.kill(pid, signal.SIGTERM)
    wait_until("the end", lambda: "THE END 130" in console.lines())


@pytest.mark.parametrize("streams", ["stdout", "stderr", ""])
def test_prompts_are_on_a_terminal_and_plain_on_a_dumb_one(
    stage: OrchProject, tmp_path: Path, streams: str
) -> None:
    ours, theirs = pty.openpty()
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            stage.command("-s", "real", "console", "-l", "db1"),
            cwd=stage.root,
            env=stage.environ({"TERM": "dumb" if streams == "stdout" else "vt100", **NO_CPR}),
            stdin=theirs,
            stdout=theirs if streams == "stdout" else out,
            stderr=theirs if streams == "stderr" else err,
        )
    os.close(theirs)
    shown = b""
    try:
        os.write(ours, b"echo $((6*7))\n:quit\n")
        with suppress(OSError):  # the process has exited
            while data := os.read(ours, 4096):
                shown += data
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    printed = (tmp_path / "out").read_bytes()
    assert (b"real db1>" in shown) == bool(streams)
    assert b"db1: 42" in (shown if streams == "stdout" else printed)
    assert streams != "stdout" or b"\x1b" not in shown.partition(b"real db1>")[2]
