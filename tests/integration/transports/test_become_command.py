"""Become with sudo, su and doas without a password: who may become whom, and the errors."""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.errors import ConnectError, SourcePosition
from orchestrator.model.command import StepCommand
from orchestrator.model.host import ConnectionOptions, Host
from orchestrator.remote_shell import ShellSession
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.transports import TransportRegistry
from orchestrator.transports.become import BecomeChannel, BecomeCommand
from orchestrator.transports.local import LocalChannel, LocalConnection
from orchestrator.transports.local_user import login_name
from tests.sshd import SshdServer, serve_sshd
from tests.support.session_recording import WAIT_TIMEOUT, make_tool_folder, run_pipeline
from tests.support.shell_talk import ask_shell, talk_to_shell

OTHER = "daemon"
ROOT = [] if os.getuid() == 0 else ["sudo", "-n"]
BARE = ("sh", "cat", "id")
METHODS = ("sudo", "su", "doas")
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def refused_error(channel: Channel) -> ConnectError:
    """Return the error of a session that cannot be opened."""
    with (
        closing(ShellSession(channel, ready_timeout=WAIT_TIMEOUT)) as session,
        pytest.raises(ConnectError) as caught,
    ):
        run_pipeline(session, StepCommand(1, "echo no"))
    assert caught.value.phase == "become"
    return caught.value


def open_as_other(method: str, user: str) -> Channel:
    """Open ``user``'s shell on a connection of a user who may become nobody."""
    become = BecomeCommand(method, user)
    words = [*ROOT, "su", "-s", "/bin/sh", "-c", become.command_line, OTHER]
    return BecomeChannel(LocalChannel(words, os.environ, "/"), become)


@pytest.mark.parametrize("method", ["sudo", "su"])
def test_user_who_does_not_exist_is_told_as_the_tool_says_it(method: str) -> None:
    become = BecomeCommand(method, "no-such-user")
    error = refused_error(
        BecomeChannel(LocalChannel([*ROOT, *become.argv], os.environ, "/"), become)
    )
    assert f"{method} to no-such-user failed: " in error.reason
    assert f"{method}: " in error.reason
    assert error.hint == "does the host have a user no-such-user?"


@pytest.mark.parametrize(
    ("method", "says", "hint"),
    [
        ("sudo", "password is required", "NOPASSWD"),
        ("su", "Authentication failure", "become_method: sudo | doas"),
    ],
)
def test_password_that_is_wanted_is_an_error_and_the_session_s_text_is_none(
    method: str, says: str, hint: str
) -> None:
    error = refused_error(open_as_other(method, "nobody"))
    assert says in error.reason
    assert hint in error.hint
    assert "nobody" in error.reason


@pytest.mark.parametrize("method", ["sudo", "su"])
def test_tool_that_refuses_has_read_nothing(method: str) -> None:
    become = BecomeCommand(method, "nobody")
    words = [*ROOT, "su", "-s", "/bin/sh", "-c", f"({become.command_line}); cat", OTHER]
    channel = LocalChannel(words, os.environ, "/")
    assert talk_to_shell(channel, b"text\n").stdout == b"text\n"
    channel.close()


def test_doas_refuses_in_its_own_words() -> None:
    error = refused_error(open_as_other("doas", "nobody"))
    assert "doas: " in error.reason
    assert "permit nopass" in error.hint


@pytest.mark.parametrize("method", METHODS)
def test_tool_that_the_host_lacks_is_told(tmp_path: Path, method: str) -> None:
    path = make_tool_folder(tmp_path / "bin", "dash", ("id",))
    environment = {"PATH": str(path), "HOME": str(tmp_path)}
    with closing(LocalConnection("sh", environment, become_method=method)) as connection:
        error = refused_error(connection.open(OTHER))
    assert "not found" in error.reason
    assert f"install {method} on the host" in error.hint


def test_cut_before_there_is_a_shell_is_not_called_a_refusal() -> None:
    become = BecomeCommand("sudo", OTHER)
    inner = LocalChannel(["cat"], os.environ, "/")
    channel = BecomeChannel(inner, become)
    inner.close()
    assert channel.exit_status() is not None
    channel.close()
    assert channel.read(WAIT_TIMEOUT).eof


def test_own_user_needs_no_tool(
    tmp_path: Path, sshd: SshdServer, connector: TransportRegistry
) -> None:
    path = make_tool_folder(tmp_path / "bin", "dash", ("id",))
    me = pwd.getpwuid(os.getuid()).pw_name
    environment = {"PATH": str(path), "HOME": str(tmp_path)}
    with closing(LocalConnection("sh", environment)) as connection:
        assert talk_to_shell(connection.open(me), b"id -un; echo $HOME").stdout.split() == [
            me.encode(),
            str(tmp_path).encode(),
        ]
    assert sshd.connect_options().user == me
    named = connector.connect(
        sshd.inventory_host(connect=sshd.connect_options(shell=f"env PATH={path} sh"))
    )
    assert talk_to_shell(named.open(me), b"id -un").stdout == me.encode() + b"\n"


def test_own_user_of_a_sandbox_is_whoever_runs_it(make_connector: object, tmp_path: Path) -> None:
    assert callable(make_connector)
    connector: TransportRegistry = make_connector(sandbox=tmp_path / "sandbox")
    shell = f"env PATH={make_tool_folder(tmp_path / 'bin', 'dash', ())} sh"
    connect = ConnectionOptions("web1", transport="sandbox", shell=shell, timeout=WAIT_TIMEOUT)
    connection = connector.connect(Host("web1", connect, (), (), SourcePosition("test")))
    output = talk_to_shell(connection.open(login_name()), b"echo $HOME").stdout
    assert output == f"{tmp_path}/sandbox/web1\n".encode()
    assert refused_error(connection.open("web1")).reason  # the name of a sandbox is nobody's


def test_host_that_allows_one_session_gives_it_to_the_user_asked_for(
    tmp_path: Path, connector: TransportRegistry
) -> None:
    """The shell that was opened in advance must not take the only session."""
    with serve_sshd(tmp_path / "sshd", ["MaxSessions 1"]) as sshd:
        connection = connector.connect(sshd.inventory_host())
        other = connection.open(OTHER)
        assert talk_to_shell(other, b"id -un").stdout == OTHER.encode() + b"\n"
        other.close()
        assert ask_shell(connection, "echo own").stdout == b"own\n"


@pytest.mark.parametrize("name", ["-u", "--", "a\nb", "a\0b", " ", "a'b", "a\x7f", "!x", "\u2028"])
def test_names_that_nobody_has_are_refused(name: str) -> None:
    with closing(LocalConnection()) as connection, pytest.raises(ConnectError) as caught:
        connection.open(name)
    assert caught.value.phase == "become"


@given(name=NAMES)
def test_no_name_is_more_than_a_name(name: str) -> None:
    try:
        become = BecomeCommand("sudo", name, shell="env A='b c' sh")
    except ConnectError:
        return
    assert shlex.split(become.command_line)[1:] == become.argv
    output = subprocess.run(
        ["sh", "-c", become.command_line.replace("exec sudo -n", "printf %s,", 1)],
        check=True,
        capture_output=True,
    ).stdout.decode()
    assert output.startswith(f"-H,-u,{name},--,sh,-c,")
    assert f";echo {become.token};exec env A='b c' sh,sh," in output


def test_su_to_root_names_root_to_the_steps() -> None:
    become = BecomeCommand("su", "root")
    words = [*ROOT, "env", "USER=x", "LOGNAME=x", "HOME=/x", *become.argv]
    channel = BecomeChannel(LocalChannel(words, os.environ, "/"), become)
    output = talk_to_shell(channel, b"echo $HOME $USER $LOGNAME").stdout.decode().split()
    assert output == [pwd.getpwnam("root").pw_dir, "root", "root"]
    channel.close()


@pytest.mark.parametrize("method", ["sudo", "su"])
def test_the_shell_of_a_session_leads_a_process_group(
    sshd: SshdServer, connector: TransportRegistry, method: str
) -> None:
    """Steps that leave nothing behind then need neither a group nor a shell of their own."""
    connect = replace(sshd.connect_options(), become_method=method)
    connection = connector.connect(sshd.inventory_host(connect=connect))
    talk = talk_to_shell(connection.open(OTHER), b"echo $$; cat /proc/$$/stat")
    pid, stat = talk.stdout.decode().splitlines()
    assert stat.split()[4] == pid


def test_the_shell_of_a_command_keeps_the_group_of_its_terminal() -> None:
    assert "setsid" not in BecomeCommand("sudo", OTHER, on_terminal=True).command_line


def test_login_s_noise_is_told_and_the_token_is_not() -> None:
    become = BecomeCommand("sudo", OTHER)
    noise = f"printf 'Hello\\n{become.token[:7]}'; echo Oh >&2; {become.command_line}"
    channel = BecomeChannel(LocalChannel(["sh", "-c", noise], os.environ, "/"), become)
    output = talk_to_shell(channel, b"id -un")
    channel.close()
    assert output.stdout == f"Hello\n{become.token[:7]}{OTHER}\n".encode()
    # where the machine does not know its own name, sudo warns of that
    rows = [row for row in output.stderr.splitlines() if b"unable to resolve host" not in row]
    assert rows == [b"Oh"]


def test_a_machine_that_does_not_know_its_own_name_is_no_reason() -> None:
    become = BecomeCommand("sudo", "no-such-user")
    words = ["unshare", "--uts", "sh", "-c", 'hostname nowhere-at-all; exec "$@"', "sh"]
    error = refused_error(
        BecomeChannel(LocalChannel([*ROOT, *words, *become.argv], os.environ, "/"), become)
    )
    assert "unknown user" in error.reason
    assert "nowhere-at-all" not in error.reason


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (
            b"sudo: unable to resolve host a: x\nsudo: a password is required\n",
            "sudo: a password is required",
        ),
        (b"sudo: a b\nsudo: unable to resolve host a: x\nlast", "sudo: a b / last"),
        (b"sudo: unable to resolve host a: x\n", "sudo: unable to resolve host a: x"),
        (b"cat: unable to resolve host a: x\n", "cat: unable to resolve host a: x"),
        (b"", "exit status 1 without output"),
    ],
)
def test_only_sudo_s_warning_of_the_name_is_left_out(message: bytes, why: str) -> None:
    become = BecomeCommand("sudo", OTHER)
    reported = f"'{why}'" if message else why
    assert become.exit_error(message, 1).reason == f"sudo to {OTHER} failed: {reported}"


def test_token_that_comes_in_pieces_is_found() -> None:
    become = BecomeCommand("sudo", OTHER)
    text = f"printf {become.token[:9]}; sleep .3; echo {become.token[9:]}; exec sh"
    channel = BecomeChannel(LocalChannel(["sh", "-c", text], os.environ, "/"), become)
    assert talk_to_shell(channel, b"echo on").stdout == b"on\n"
    channel.close()
