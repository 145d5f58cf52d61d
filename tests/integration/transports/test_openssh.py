"""The openssh transport: options, masters, errors, and what remains after it is closed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from orchestrator.errors import ConnectError, SourcePosition
from orchestrator.model.host import ConnectionOptions, Host
from orchestrator.transports import TransportRegistry
from orchestrator.transports.openssh.command_line import EffectiveSettings, SshBinary
from tests.sshd import START_TIMEOUT, SshdServer, free_port, generate_key, serve_sshd, wait_until
from tests.support.false_agents import start_ssh_agent
from tests.support.session_recording import processes_with
from tests.support.shell_talk import ask_shell, read_until, talk_to_shell

QUICK = "KexAlgorithms curve25519-sha256\n"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Return the folder for the transport's sockets, and check that nothing remains in it.

    It is not in ``tmp_path``, whose path is too long for a socket.
    """
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)
        assert not list(Path(name).iterdir())


ConnectorMaker = Callable[..., TransportRegistry]


@pytest.fixture
def make(tmp_path: Path, folder: Path) -> Iterator[ConnectorMaker]:
    """Yield a function that makes registries with an ssh_config; close them afterwards."""
    created: list[TransportRegistry] = []
    home = tmp_path / "home"
    home.mkdir()

    def make(
        config: str = "",
        *,
        record: bool = True,
        hosts: dict[str, Host] | None = None,
        environ: dict[str, str] | None = None,
    ) -> TransportRegistry:
        file = home / f"config{len(created)}"
        file.write_text(QUICK + config)
        connector = TransportRegistry(
            home=home,
            environ=environ or {},
            ssh_config=str(file),
            record_host_keys=record,
            hosts=hosts,
        )
        created.append(connector)
        return connector

    yield make
    for one in created:
        one.close()


def make_host(connect: ConnectionOptions, name: str = "h") -> Host:
    return Host(name, replace(connect, transport="openssh"), (), (), SourcePosition("test"))


def refused_error(connector: TransportRegistry, connect: ConnectionOptions) -> ConnectError:
    """Return the error of a connect that must fail: one line that names the endpoint."""
    with pytest.raises(ConnectError) as caught:
        connector.connect(make_host(connect))
    assert "\n" not in caught.value.reason
    return caught.value


# ------------------------------------------------------------------------------------ options


def effective_settings(words: list[str]) -> dict[str, str]:
    """Return the settings that ssh derives from a command line."""
    log = words.index("-E")
    words = [words[0], "-G", *words[1:log], *words[log + 2 :]]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    rows = (line.partition(" ") for line in reversed(done.stdout.splitlines()))
    return {name: text for name, _, text in rows}


def master_settings(
    connect: ConnectionOptions, config: Path, *, learn: Path | None = None
) -> dict[str, str]:
    tool = SshBinary.find(Path("/h o"), os.environ, str(config))
    message = tool.effective_settings(connect)
    return effective_settings(
        tool.master_command(
            message, Path("/tmp/c"), Path("/tmp/l"), learned_keys_file=learn, proxy=""
        )
    )


CONFIG = """Host a
  HostName b.example
  Port 2200
  User bob
  IdentityFile /mine
  StrictHostKeyChecking no
  ConnectTimeout 33
  ServerAliveInterval 44
  UserKnownHostsFile /known1 /known2
  ForwardAgent yes
  ProxyJump jump.example
  LocalForward 9999 localhost:9
  LocalCommand touch /tmp/no
  PermitLocalCommand yes
  ForwardX11 yes
  BatchMode no
  Compression yes
"""


def test_what_the_inventory_leaves_open_is_ssh_config_s(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(CONFIG)
    message = master_settings(ConnectionOptions("a"), config)
    assert {
        "hostname": "b.example",
        "port": "2200",
        "user": "bob",
        "identityfile": "/mine",
        "stricthostkeychecking": "accept-new",
        "connecttimeout": "33",
        "serveraliveinterval": "44",
        "userknownhostsfile": "/known1 /known2",
        "forwardagent": "yes",
        "proxyjump": "jump.example",
        "compression": "yes",
        "batchmode": "yes",
        "clearallforwardings": "yes",
        "permitlocalcommand": "no",
        "forwardx11": "no",
        "controlmaster": "true",
        "controlpath": "/tmp/c",
        "controlpersist": "5",
    }.items() <= message.items()


def test_the_inventory_wins_over_ssh_config(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(CONFIG)
    key = generate_key(tmp_path / "key one")
    connect = ConnectionOptions(
        "a",
        22,
        user="eve",
        identity=(str(key),),
        identities_only=True,
        jump=None,
        known_hosts=("~/known one", "/two"),
        host_keys="strict",
        timeout=7.5,
        keepalive=3.0,
        forward_agent=False,
        set_fields=frozenset({"jump", "host_keys", "timeout", "keepalive", "forward_agent"}),
    )
    message = master_settings(connect, config)
    assert {
        "port": "22",
        "user": "eve",
        "identityfile": str(key),
        "identitiesonly": "yes",
        "stricthostkeychecking": "true",
        "connecttimeout": "8",
        "serveraliveinterval": "3",
        "userknownhostsfile": "/h o/known one /two",
        "globalknownhostsfile": "/dev/null",
        "forwardagent": "no",
    }.items() <= message.items()
    assert message.get("proxyjump", "none") == "none"


def test_under_check_keys_are_learnt_where_they_do_not_stay(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(CONFIG)
    message = master_settings(ConnectionOptions("a"), config, learn=Path("/private"))
    assert message["userknownhostsfile"] == "/private /known1 /known2"
    assert message["updatehostkeys"] == "false"


def test_a_user_or_a_host_may_be_called_none() -> None:
    message = EffectiveSettings(
        ConnectionOptions("none"), {"hostname": ["none"], "user": ["none"], "port": ["22"]}
    )
    assert message.endpoint == "none@none:22"


def test_set_env_and_send_env_reach_the_shell(make: ConnectorMaker, tmp_path: Path) -> None:
    with serve_sshd(tmp_path / "sshd", ["AcceptEnv FOO BAR LC_ALL"]) as sshd:
        connector = make("SetEnv FOO=one\nSendEnv B*\n", environ={"BAR": "two", "LC_ALL": "x"})
        message = ask_shell(
            connector.connect(make_host(sshd.connect_options())), "echo $FOO $BAR $LC_ALL"
        )
        assert message.stdout == b"one two\n"
        connector.close()


def test_a_configuration_for_terminals_does_no_harm(make: ConnectorMaker, sshd: SshdServer) -> None:
    config = f"RequestTTY force\nRemoteCommand top\nLocalForward {free_port()} localhost:9\n"
    message = ask_shell(make(config).connect(make_host(sshd.connect_options())), "tty; echo on")
    assert message.stdout == b"not a tty\non\n"


def test_the_agent_is_forwarded_only_where_that_is_asked_for(
    make: ConnectorMaker, sshd: SshdServer, folder: Path
) -> None:
    path = folder / "agent"
    with start_ssh_agent(path):
        connector = make(environ={"SSH_AUTH_SOCK": str(path)})
        for forward in (False, True):
            connect = replace(sshd.connect_options(), forward_agent=forward)
            message = ask_shell(
                connector.connect(make_host(connect)), "echo ${SSH_AUTH_SOCK:-none}"
            )
            assert (message.stdout != b"none\n") is forward
        connector.close()


# ------------------------------------------------------------------------------------ masters


def test_channels_of_a_host_share_a_connection_that_ends_with_it(
    make: ConnectorMaker, tmp_path: Path
) -> None:
    with serve_sshd(tmp_path / "sshd") as sshd:
        connection = make().connect(make_host(sshd.connect_options()))
        channels = [connection.open() for _ in range(5)]
        for channel in channels:
            assert talk_to_shell(channel, b"echo on").stdout == b"on\n"
        assert len(sshd.session_processes()) == 1
        connection.close()
        wait_until(lambda: not sshd.session_processes(), "the connection's end")
        with pytest.raises(ConnectError, match="closed"):
            connection.open()


def test_a_master_that_the_user_has_is_used_and_left_alone(
    make: ConnectorMaker, tmp_path: Path, folder: Path
) -> None:
    config = f"ControlPath {folder}/own-%p\n"
    with serve_sshd(tmp_path / "sshd") as sshd, closing(make(config)) as connector:
        command = ["ssh", "-F", str(tmp_path / "home/config0"), "-MNf", "-i", str(sshd.key)]
        command += ["-o", f"UserKnownHostsFile={sshd.known_hosts}", "-p", str(sshd.port)]
        command += ["-o", "LogLevel=ERROR", "-l", sshd.user, "127.0.0.1"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=START_TIMEOUT)
        own = sshd.session_processes()
        try:
            # with this key nobody would get in
            connect = sshd.connect_options(identity=(str(sshd.folder / "host_key"),))
            connection = connector.connect(make_host(connect))
            assert ask_shell(connection, "echo on").stdout == b"on\n"
            connection.close()
            connector.close()
            assert sshd.session_processes() == own
        finally:
            subprocess.run(
                [*command[:3], "-O", "exit", *command[4:]], check=True, capture_output=True
            )
        wait_until(lambda: not sshd.session_processes(), "the user's master's end")


def test_a_control_path_where_no_master_is_any_more_is_not_used(
    make: ConnectorMaker, sshd: SshdServer, folder: Path
) -> None:
    left = folder / "left"
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(left))
    connection = make(f"ControlMaster auto\nControlPath {left}\n").connect(
        make_host(sshd.connect_options())
    )
    assert ask_shell(connection, "echo on").stdout == b"on\n"
    left.unlink()


def test_hosts_behind_a_jump_host_share_its_connection(
    make: ConnectorMaker, tmp_path: Path
) -> None:
    with serve_sshd(tmp_path / "bastion") as bastion, serve_sshd(tmp_path / "sshd") as sshd:
        via = make_host(bastion.connect_options("127.0.9.9"), "bastion")
        connector = make(hosts={"bastion": via})
        addresses = [f"127.0.9.{n}" for n in range(10, 16)]

        def run(address: str) -> bytes:
            connect = replace(sshd.connect_options(address), jump="bastion")
            return ask_shell(
                connector.connect(make_host(connect, address)), "echo $SSH_CONNECTION"
            ).stdout

        with ThreadPoolExecutor(6) as pool:
            outputs = list(pool.map(run, addresses))
        for address, output in zip(addresses, outputs, strict=True):
            assert output.split()[2].decode() == address
        assert len(bastion.session_processes()) == 1
        connector.close()
        wait_until(
            lambda: not bastion.session_processes() and not sshd.session_processes(),
            "the connections' end",
        )


def test_a_jump_host_s_failure_names_it(make: ConnectorMaker, sshd: SshdServer) -> None:
    port = free_port()
    error = refused_error(make(), replace(sshd.connect_options(), jump=f"bob@127.0.9.9:{port}"))
    assert error.phase == "connect"
    assert f"jump host 127.0.9.9 (bob@127.0.9.9:{port}): " in error.reason
    assert "Connection refused" in error.reason


def test_where_a_host_allows_one_session_another_follows_it(
    make: ConnectorMaker, tmp_path: Path
) -> None:
    with serve_sshd(tmp_path / "sshd", ["MaxSessions 1"]) as sshd:
        connection = make().connect(make_host(sshd.connect_options()))
        for _ in range(2):
            first = connection.open()
            start_listener(first)
            with pytest.raises(ConnectError, match="refused a session") as caught:
                connection.open()
            assert caught.value.phase == "channel"
            first.write(b"sleep 0.3\n")  # the host counts it until this is over
            first.close()
        assert len(sshd.session_processes()) == 1
        connection.close()


def start_listener(channel: object) -> None:
    channel.write(b"echo on\n")  # type: ignore[attr-defined]
    read_until(channel, b"on\n")  # type: ignore[arg-type]


def test_a_server_that_drops_handshakes_gets_them_again(
    make: ConnectorMaker, tmp_path: Path
) -> None:
    with serve_sshd(tmp_path / "sshd", ["MaxStartups 2:50:4"]) as sshd:
        connector = make()

        def run(number: int) -> bytes:
            connection = connector.connect(make_host(sshd.connect_options(), f"h{number}"))
            return ask_shell(connection, "echo on").stdout

        with ThreadPoolExecutor(12) as pool:
            # one account at one address is one host to orch: so they are one host's connections
            assert set(pool.map(lambda _: run(0), range(16))) == {b"on\n"}
        connector.close()


# ------------------------------------------------------------------------------------ failures


def test_a_port_where_nothing_listens(make: ConnectorMaker, sshd: SshdServer) -> None:
    port = free_port()
    error = refused_error(make(), replace(sshd.connect_options(), port=port))
    assert error.phase == "connect"
    assert error.reason.startswith(f"{sshd.user}@127.0.0.1:{port}: ")
    assert "Connection refused" in error.reason
    assert "sshd" in error.hint


def test_a_name_that_is_none(make: ConnectorMaker, sshd: SshdServer) -> None:
    error = refused_error(make(), sshd.connect_options("no-such-host.invalid"))
    assert error.phase == "resolve"
    assert "no-such-host.invalid" in error.reason


def test_a_login_that_is_refused_says_with_which_keys(
    make: ConnectorMaker, sshd: SshdServer, tmp_path: Path
) -> None:
    key = generate_key(tmp_path / "other")
    error = refused_error(make(), sshd.connect_options(identity=(str(key),)))
    assert error.phase == "auth"
    assert "Permission denied (publickey)" in error.reason
    assert f"tried {key}" in error.reason


def test_a_key_that_is_not_there_is_named(
    make: ConnectorMaker, sshd: SshdServer, tmp_path: Path
) -> None:
    error = refused_error(make(), sshd.connect_options(identity=(str(tmp_path / "nope"),)))
    assert error.phase == "auth"
    assert f"{tmp_path / 'nope'} not accessible" in error.reason


def test_a_changed_host_key_shows_the_place_and_both_fingerprints(
    make: ConnectorMaker, sshd: SshdServer, tmp_path: Path
) -> None:
    other = generate_key(tmp_path / "other")
    known = tmp_path / "known"
    kind, key = other.with_suffix(".pub").read_text().split()[:2]
    known.write_text(f"# first\n[127.0.0.1]:{sshd.port} {kind} {key}\n")
    for how in ("strict", "accept-new"):
        before = known.read_bytes()
        error = refused_error(
            make(), sshd.connect_options(known_hosts=(str(known),), host_keys=how)
        )
        assert error.phase == "host key"
        assert f"{known}:2 has {fingerprint(other)}" in error.reason
        assert fingerprint(sshd.folder / "host_key") in error.reason
        assert f"ssh-keygen -f {known} -R '[127.0.0.1]:{sshd.port}'" in error.hint
        assert known.read_bytes() == before


def fingerprint(key: Path) -> str:
    message = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], capture_output=True, check=True)
    return message.stdout.split()[1].decode()


def test_an_unknown_host_key_is_refused_and_shown(
    make: ConnectorMaker, sshd: SshdServer, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    error = refused_error(make(), sshd.connect_options(known_hosts=(str(known),)))
    assert error.phase == "host key"
    assert f"[127.0.0.1]:{sshd.port} is not in known_hosts" in error.reason
    assert fingerprint(sshd.folder / "host_key") in error.reason
    assert "accept-new" in error.hint
    assert not known.exists()


def test_accept_new_writes_the_key_unless_under_check(
    make: ConnectorMaker, sshd: SshdServer, tmp_path: Path
) -> None:
    known = tmp_path / "known hosts"
    known.touch()
    connect = sshd.connect_options(known_hosts=(str(known),), host_keys="accept-new")
    checking = make(record=False)
    assert ask_shell(checking.connect(make_host(connect)), "echo on").stdout == b"on\n"
    checking.close()
    assert known.read_bytes() == b""
    assert ask_shell(make().connect(make_host(connect)), "echo on").stdout == b"on\n"
    assert sshd.host_key in known.read_text()


def test_a_revoked_host_key_says_so(make: ConnectorMaker, sshd: SshdServer, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text(f"@revoked * {sshd.host_key}\n" + sshd.known_hosts.read_text())
    error = refused_error(
        make(), sshd.connect_options(known_hosts=(str(known),), host_keys="accept-new")
    )
    assert error.phase == "host key"
    assert "revoked" in error.reason


def test_a_server_that_never_speaks_is_given_up(make: ConnectorMaker, sshd: SshdServer) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        error = refused_error(make(), replace(sshd.connect_options(timeout=0.5), port=port))
    assert error.phase == "banner"
    assert "timed out after 0.5 s" in error.reason


def test_a_proxy_command_s_last_words_are_told(make: ConnectorMaker, sshd: SshdServer) -> None:
    config = "ProxyCommand sh -c 'echo no way >&2; sleep 0.2'\n"
    error = refused_error(make(config), sshd.connect_options(retries=0))
    assert "no way" in error.reason


def test_a_shell_that_is_none_ends_at_once(make: ConnectorMaker, sshd: SshdServer) -> None:
    channel = make().connect(make_host(sshd.connect_options(shell="no-such-shell"))).open()
    message = talk_to_shell(channel, b"")
    assert message.status == 127
    assert b"no-such-shell" in message.stderr


def test_settings_that_ssh_does_not_take_are_told(make: ConnectorMaker, sshd: SshdServer) -> None:
    error = refused_error(make("NoSuchKeyword yes\n"), sshd.connect_options())
    assert error.phase == "ssh_config"
    assert "nosuchkeyword" in error.reason.lower()


def test_a_machine_without_ssh(make: ConnectorMaker, sshd: SshdServer, tmp_path: Path) -> None:
    error = refused_error(make(environ={"PATH": str(tmp_path)}), sshd.connect_options())
    assert "`ssh`" in error.reason
    assert "OpenSSH" in error.hint


def test_a_cut_is_an_end_without_a_status(make: ConnectorMaker, tmp_path: Path) -> None:
    with serve_sshd(tmp_path / "sshd") as sshd:
        connection = make().connect(make_host(sshd.connect_options()))
        channel = connection.open()
        start_listener(channel)
        for pid in sshd.session_processes():
            os.kill(pid, signal.SIGKILL)
        while not channel.read(START_TIMEOUT).eof:
            pass
        assert channel.exit_status() is None
        with pytest.raises(ConnectError) as caught:
            connection.open()
        assert caught.value.phase == "channel"


# ------------------------------------------------------------------------------- what is left


def test_cancel_ends_logins_and_leaves_what_is_open(make: ConnectorMaker, sshd: SshdServer) -> None:
    connector = make()
    channel = connector.connect(make_host(sshd.connect_options())).open()
    with closing(socket.create_server(("127.0.0.1", 0))) as silent, ThreadPoolExecutor(1) as pool:
        connect = replace(sshd.connect_options(), port=silent.getsockname()[1])
        waiting = pool.submit(refused_error, connector, connect)
        peer, _ = silent.accept()
        connector.cancel()
        assert waiting.result(START_TIMEOUT).reason == "cancelled"
        with closing(peer):
            peer.settimeout(START_TIMEOUT)
            while peer.recv(4096):  # until ssh is gone
                pass
    assert talk_to_shell(channel, b"echo alive").stdout == b"alive\n"
    assert refused_error(connector, sshd.connect_options()).reason == "cancelled"


def test_closing_ends_all_that_ssh_runs(make: ConnectorMaker, tmp_path: Path) -> None:
    mark = f"98765.{uuid4().int}"
    with serve_sshd(tmp_path / "sshd") as sshd:
        connector = make()
        channels = [connector.connect(make_host(sshd.connect_options())).open() for _ in range(3)]
        channels[0].write(f"exec sleep {mark}\n".encode())
        wait_until(lambda: processes_with(mark), "the process on the host")
        connector.close()
        wait_until(lambda: not sshd.session_processes(), "the connections' end")
    for process in processes_with(mark):  # without a terminal, a command outlives its connection
        os.kill(process, signal.SIGKILL)
    assert not [each for each in threading.enumerate() if each.name.startswith("orch")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_when_orch_dies_its_masters_and_steps_end(
    sshd: SshdServer, tmp_path: Path, number: signal.Signals, folder: Path
) -> None:
    mark = f"98765.{uuid4().int}"
    config = tmp_path / "config"
    config.write_text(QUICK)
    with serve_sshd(tmp_path / "sshd") as server:
        words = [str(server.port), str(server.key), str(server.known_hosts), str(config), mark]
        command = [sys.executable, "-m", "tests.support.held_connection", *words]
        environment = {**os.environ, "TMPDIR": str(folder)}
        holding = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        assert holding.stdout
        try:
            assert holding.stdout.readline() == b"begun\n"
            os.killpg(holding.pid, number)  # as Ctrl-C does: all that is in the group hears it
            holding.wait()
        finally:
            holding.kill()
            holding.stdout.close()
        wait_until(lambda: not processes_with(mark), "the step's end")
        wait_until(lambda: not server.session_processes(), "the master's end")
    left = [file for each in folder.iterdir() for file in each.iterdir()]
    assert not left
    for each in folder.iterdir():
        each.rmdir()
