"""The text that starts a user's command, with every sh and below every login shell."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.errors import ConnectError
from orchestrator.remote_shell.channel_protocol import Channel, Terminal, TerminalSize
from orchestrator.remote_shell.start_script import FIND_LOGIN_SHELL, StartScript
from orchestrator.transports.local import LocalConnection
from tests.support.session_recording import WAIT_TIMEOUT, make_shell_folder

ODD = 'it\'s "$HOME" `id` \\ ! ü\n$(id)'


def read_all(channel: Channel) -> bytes:
    output, chunk = b"", channel.read(WAIT_TIMEOUT)
    while not chunk.eof:
        output, chunk = output + chunk.stdout, channel.read(WAIT_TIMEOUT)
    return output + chunk.stdout


@pytest.fixture(params=["dash", "bash", "busybox"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> LocalConnection:
    """Return a connection to this machine on which `sh` is one of the shells."""
    path = f"{make_shell_folder(tmp_path / 'bin', request.param)}:{os.environ['PATH']}"
    (tmp_path / "home").mkdir()
    return LocalConnection("sh", {"PATH": path, "HOME": str(tmp_path / "home"), "ODD": ODD})


@pytest.mark.every_shell
def test_the_text_runs_at_home_and_leaves_the_rest_of_the_input_to_the_command(
    connection: LocalConnection, tmp_path: Path
) -> None:
    script = StartScript('export A="$ODD"\nexec sh -c \'pwd; printf %s "$A"; cat\'')
    with closing(connection):
        channel = connection.start_command(script.command)
        started = script.send(channel, WAIT_TIMEOUT)
        data = os.urandom(5000)
        rest = memoryview(data)
        while rest:
            rest = rest[channel.write(rest) :]
        channel.close_stdin()
        output = started.output.stdout + read_all(channel)
        assert output == f"{tmp_path}/home\n{ODD}".encode() + data
        assert Path(f"/proc/{started.pid}").exists() is False
        assert channel.exit_status() == 0


@pytest.mark.every_shell
def test_on_a_terminal_nothing_of_the_text_is_shown_and_the_modes_are_those_it_had(
    connection: LocalConnection,
) -> None:
    script = StartScript("secret='kk'\nexec sh -c 'stty -a; stty size'", on_terminal=True)
    with closing(connection):
        terminal = Terminal("vt100", TerminalSize(77, 11))
        channel = connection.start_command(script.command, terminal)
        output = script.send(channel, WAIT_TIMEOUT).output.stdout + read_all(channel)
    shown = output.decode()
    assert "kk" not in shown
    assert "\r\n" in shown
    assert shown.endswith("11 77\r\n")
    assert {"icanon", "echo", "isig", "icrnl", "onlcr"} <= {*shown.replace(";", " ").split()}


@pytest.mark.every_shell
def test_a_text_that_fails_ends_there(connection: LocalConnection) -> None:
    script = StartScript("cd /no/such\necho no")
    with closing(connection):
        channel = connection.start_command(script.command)
        output = script.send(channel, WAIT_TIMEOUT).output.stdout + read_all(channel)
        assert (output, channel.exit_status() in (1, 2)) == (b"", True)


@pytest.mark.parametrize("login_shell", ["dash", "bash", "zsh", "fish", "tcsh"])
def test_every_login_shell_starts_it(login_shell: str, tmp_path: Path) -> None:
    script = StartScript("")
    text = 'printf %s "it\'s "; cat'
    done = subprocess.run(
        [login_shell, "-c", f"exec {script.command}"],
        input=f"{100_000_000 + len(text)}{text}the rest",
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        check=True,
    )
    head, _, output = done.stdout.partition("\n")
    assert head.split()[0] == script.token
    assert output == "it's the rest"


def test_a_shell_that_ends_or_is_silent_is_an_error_with_its_output(tmp_path: Path) -> None:
    with closing(
        LocalConnection("sh", {"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    ) as here:
        ending = here.start_command("sh -c 'echo no entry; exit 1'")
        with pytest.raises(ConnectError, match="before the shell started; output: 'no entry'"):
            StartScript("true").send(ending, WAIT_TIMEOUT)
        silent = here.start_command("sh -c 'echo wait; exec cat'")
        with pytest.raises(ConnectError, match=r"no shell within 0\.1 s; output: 'wait'"):
            StartScript("true").send(silent, 0.1)


@pytest.mark.every_shell
@pytest.mark.parametrize(
    ("entry", "expected"),
    [("/bin/zsh", "/bin/zsh"), ("/usr/sbin/nologin", "/bin/sh"), ("", "/bin/own")],
)
def test_the_login_shell_is_that_of_the_account(
    connection: LocalConnection, tmp_path: Path, entry: str, expected: str
) -> None:
    getent = tmp_path / "bin/getent"
    getent.write_text(f"#!/bin/sh\necho 'user:x:1:1::/home:{entry}'\n")
    getent.chmod(0o755)
    script = StartScript(f'SHELL=/bin/own\n{FIND_LOGIN_SHELL}printf %s "$SHELL"')
    with closing(connection):
        channel = connection.start_command(script.command)
        output = script.send(channel, WAIT_TIMEOUT).output.stdout + read_all(channel)
    assert output.decode() == expected
