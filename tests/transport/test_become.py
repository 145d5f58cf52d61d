"""Becoming another user: who may not, who need not, and what is said about it."""

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

from orchestrator.errors import ConnectError, Mark
from orchestrator.model.command import Command
from orchestrator.model.host import Connect, Host
from orchestrator.remote_shell import Session
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.transports import Connector
from orchestrator.transports.become import Become, Becoming
from orchestrator.transports.local import LocalChannel, LocalConnection
from orchestrator.transports.local_user import login_name
from tests.session.heard import PATIENCE, run, tool_folder
from tests.sshd import Sshd, serve
from tests.transport.talk import ask, talk

OTHER = "daemon"
ROOT = [] if os.getuid() == 0 else ["sudo", "-n"]
BARE = ("sh", "cat", "id")
METHODS = ("sudo", "su", "doas")
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def refused(channel: Channel) -> ConnectError:
    """The error of a session that nobody gets."""
    with (
        closing(Session(channel, ready_timeout=PATIENCE)) as session,
        pytest.raises(ConnectError) as caught,
    ):
        run(session, Command(1, "echo no"))
    assert caught.value.phase == "become"
    return caught.value


def by_another(method: str, user: str) -> Channel:
    """``user``'s shell, asked for by one who may become nobody."""
    become = Become(method, user)
    words = [*ROOT, "su", "-s", "/bin/sh", "-c", become.command, OTHER]
    return Becoming(LocalChannel(words, os.environ, "/"), become)


@pytest.mark.parametrize("method", ["sudo", "su"])
def test_user_who_does_not_exist_is_told_as_the_tool_says_it(method: str) -> None:
    become = Become(method, "no-such-user")
    error = refused(Becoming(LocalChannel([*ROOT, *become.words], os.environ, "/"), become))
    assert f"{method} gives no shell of no-such-user: " in error.why
    assert f"{method}: " in error.why
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
    error = refused(by_another(method, "nobody"))
    assert says in error.why
    assert hint in error.hint
    assert "nobody" in error.why


@pytest.mark.parametrize("method", ["sudo", "su"])
def test_tool_that_refuses_has_read_nothing(method: str) -> None:
    become = Become(method, "nobody")
    words = [*ROOT, "su", "-s", "/bin/sh", "-c", f"({become.command}); cat", OTHER]
    channel = LocalChannel(words, os.environ, "/")
    assert talk(channel, b"text\n").stdout == b"text\n"
    channel.close()


def test_doas_refuses_in_its_own_words() -> None:
    error = refused(by_another("doas", "nobody"))
    assert "doas: " in error.why
    assert "permit nopass" in error.hint


@pytest.mark.parametrize("method", METHODS)
def test_tool_that_the_host_lacks_is_told(tmp_path: Path, method: str) -> None:
    path = tool_folder(tmp_path / "bin", "dash", ("id",))
    environment = {"PATH": str(path), "HOME": str(tmp_path)}
    with closing(LocalConnection("sh", environment, become_method=method)) as connection:
        error = refused(connection.open(OTHER))
    assert "not found" in error.why
    assert f"install {method} on the host" in error.hint


def test_cut_before_there_is_a_shell_is_not_called_a_refusal() -> None:
    become = Become("sudo", OTHER)
    inner = LocalChannel(["cat"], os.environ, "/")
    channel = Becoming(inner, become)
    inner.close()
    assert channel.exit_status() is not None
    channel.close()
    assert channel.read(PATIENCE).eof


def test_own_user_needs_no_tool(tmp_path: Path, sshd: Sshd, connector: Connector) -> None:
    path = tool_folder(tmp_path / "bin", "dash", ("id",))
    me = pwd.getpwuid(os.getuid()).pw_name
    environment = {"PATH": str(path), "HOME": str(tmp_path)}
    with closing(LocalConnection("sh", environment)) as connection:
        assert talk(connection.open(me), b"id -un; echo $HOME").stdout.split() == [
            me.encode(),
            str(tmp_path).encode(),
        ]
    assert sshd.connect().user == me
    named = connector.connect(sshd.host(connect=sshd.connect(shell=f"env PATH={path} sh")))
    assert talk(named.open(me), b"id -un").stdout == me.encode() + b"\n"


def test_own_user_of_a_sandbox_is_whoever_runs_it(make_connector: object, tmp_path: Path) -> None:
    assert callable(make_connector)
    connector: Connector = make_connector(sandbox=tmp_path / "sandbox")
    shell = f"env PATH={tool_folder(tmp_path / 'bin', 'dash', ())} sh"
    connect = Connect("web1", transport="sandbox", shell=shell, timeout=PATIENCE)
    connection = connector.connect(Host("web1", connect, (), (), Mark("test")))
    said = talk(connection.open(login_name()), b"echo $HOME").stdout
    assert said == f"{tmp_path}/sandbox/web1\n".encode()
    assert refused(connection.open("web1")).why  # the name of a sandbox is nobody's


def test_host_that_allows_one_session_gives_it_to_the_user_asked_for(
    tmp_path: Path, connector: Connector
) -> None:
    """The shell opened ahead must not stand in the way."""
    with serve(tmp_path / "sshd", ["MaxSessions 1"]) as sshd:
        connection = connector.connect(sshd.host())
        other = connection.open(OTHER)
        assert talk(other, b"id -un").stdout == OTHER.encode() + b"\n"
        other.close()
        assert ask(connection, "echo own").stdout == b"own\n"


@pytest.mark.parametrize("name", ["-u", "--", "a\nb", "a\0b", " ", "a'b", "a\x7f", "!x", "\u2028"])
def test_names_that_nobody_has_are_refused(name: str) -> None:
    with closing(LocalConnection()) as connection, pytest.raises(ConnectError) as caught:
        connection.open(name)
    assert caught.value.phase == "become"


@given(name=NAMES)
def test_no_name_is_more_than_a_name(name: str) -> None:
    try:
        become = Become("sudo", name, shell="env A='b c' sh")
    except ConnectError:
        return
    assert shlex.split(become.command)[1:] == become.words
    said = subprocess.run(
        ["sh", "-c", become.command.replace("exec sudo -n", "printf %s,", 1)],
        check=True,
        capture_output=True,
    ).stdout.decode()
    assert said.startswith(f"-H,-u,{name},--,sh,-c,")
    assert f";echo {become.token};exec env A='b c' sh,sh," in said


def test_su_to_root_names_root_to_the_steps() -> None:
    become = Become("su", "root")
    words = [*ROOT, "env", "USER=x", "LOGNAME=x", "HOME=/x", *become.words]
    channel = Becoming(LocalChannel(words, os.environ, "/"), become)
    said = talk(channel, b"echo $HOME $USER $LOGNAME").stdout.decode().split()
    assert said == [pwd.getpwnam("root").pw_dir, "root", "root"]
    channel.close()


def test_login_s_noise_is_told_and_the_token_is_not() -> None:
    become = Become("sudo", OTHER)
    noise = f"printf 'Hello\\n{become.token[:7]}'; echo Oh >&2; {become.command}"
    channel = Becoming(LocalChannel(["sh", "-c", noise], os.environ, "/"), become)
    said = talk(channel, b"id -un")
    channel.close()
    assert said.stdout == f"Hello\n{become.token[:7]}{OTHER}\n".encode()
    # where the machine does not know its own name, sudo warns of that
    rows = [row for row in said.stderr.splitlines() if b"unable to resolve host" not in row]
    assert rows == [b"Oh"]


def test_a_machine_that_does_not_know_its_own_name_is_no_reason() -> None:
    become = Become("sudo", "no-such-user")
    words = ["unshare", "--uts", "sh", "-c", 'hostname nowhere-at-all; exec "$@"', "sh"]
    error = refused(Becoming(LocalChannel([*ROOT, *words, *become.words], os.environ, "/"), become))
    assert "unknown user" in error.why
    assert "nowhere-at-all" not in error.why


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            b"sudo: unable to resolve host a: x\nsudo: a password is required\n",
            "sudo: a password is required",
        ),
        (b"sudo: a b\nsudo: unable to resolve host a: x\nlast", "sudo: a b / last"),
        (b"sudo: unable to resolve host a: x\n", "sudo: unable to resolve host a: x"),
        (b"cat: unable to resolve host a: x\n", "cat: unable to resolve host a: x"),
        (b"", "it ended with 1 and said nothing"),
    ],
)
def test_only_sudo_s_warning_of_the_name_is_left_out(said: bytes, why: str) -> None:
    become = Become("sudo", OTHER)
    told = f"'{why}'" if said else why
    assert become.refused(said, 1).why == f"sudo gives no shell of {OTHER}: {told}"


def test_token_that_comes_in_pieces_is_found() -> None:
    become = Become("sudo", OTHER)
    text = f"printf {become.token[:9]}; sleep .3; echo {become.token[9:]}; exec sh"
    channel = Becoming(LocalChannel(["sh", "-c", text], os.environ, "/"), become)
    assert talk(channel, b"echo on").stdout == b"on\n"
    channel.close()
