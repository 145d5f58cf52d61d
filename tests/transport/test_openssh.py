"""The system's ssh: its options, its masters, what its failures are told as, and what it leaves."""

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

from orchestrator.errors import ConnectError, Mark
from orchestrator.model.host import Connect, Host
from orchestrator.transports import Connector
from orchestrator.transports.openssh.command_line import Effective, Tool
from tests.session.heard import processes
from tests.sshd import PATIENCE, Sshd, free_port, keygen, serve, until
from tests.transport.agents import real
from tests.transport.talk import ask, hear, talk

QUICK = "KexAlgorithms curve25519-sha256\n"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where the transport has its sockets: nothing of them may stay. It is not in ``tmp_path``,
    whose own path is too long for that.
    """
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)
        assert not list(Path(name).iterdir())


Make = Callable[..., Connector]


@pytest.fixture
def make(tmp_path: Path, folder: Path) -> Iterator[Make]:
    """Makes connectors with an ssh_config of their own, and closes them."""
    made: list[Connector] = []
    home = tmp_path / "home"
    home.mkdir()

    def make(
        config: str = "",
        *,
        record: bool = True,
        hosts: dict[str, Host] | None = None,
        environ: dict[str, str] | None = None,
    ) -> Connector:
        file = home / f"config{len(made)}"
        file.write_text(QUICK + config)
        connector = Connector(
            home=home,
            environ=environ or {},
            ssh_config=str(file),
            record=record,
            hosts=hosts,
        )
        made.append(connector)
        return connector

    yield make
    for one in made:
        one.close()


def host(connect: Connect, name: str = "h") -> Host:
    return Host(name, replace(connect, transport="openssh"), (), (), Mark("test"))


def refused(connector: Connector, connect: Connect) -> ConnectError:
    """The error of a connect that must fail: one line that names the place."""
    with pytest.raises(ConnectError) as caught:
        connector.connect(host(connect))
    assert "\n" not in caught.value.why
    return caught.value


# ------------------------------------------------------------------------------------ options


def effective(words: list[str]) -> dict[str, str]:
    """What ssh makes of a command line."""
    log = words.index("-E")
    words = [words[0], "-G", *words[1:log], *words[log + 2 :]]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    rows = (line.partition(" ") for line in reversed(done.stdout.splitlines()))
    return {name: text for name, _, text in rows}


def told(connect: Connect, config: Path, *, learn: Path | None = None) -> dict[str, str]:
    tool = Tool.find(Path("/h o"), os.environ, str(config))
    said = tool.effective(connect)
    return effective(tool.master(said, Path("/tmp/c"), Path("/tmp/l"), learn=learn, proxy=""))


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
    said = told(Connect("a"), config)
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
    }.items() <= said.items()


def test_the_inventory_wins_over_ssh_config(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(CONFIG)
    key = keygen(tmp_path / "key one")
    connect = Connect(
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
        given=frozenset({"jump", "host_keys", "timeout", "keepalive", "forward_agent"}),
    )
    said = told(connect, config)
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
    }.items() <= said.items()
    assert said.get("proxyjump", "none") == "none"


def test_under_check_keys_are_learnt_where_they_do_not_stay(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(CONFIG)
    said = told(Connect("a"), config, learn=Path("/private"))
    assert said["userknownhostsfile"] == "/private /known1 /known2"
    assert said["updatehostkeys"] == "false"


def test_a_user_or_a_host_may_be_called_none() -> None:
    said = Effective(Connect("none"), {"hostname": ["none"], "user": ["none"], "port": ["22"]})
    assert said.place == "none@none:22"


def test_set_env_and_send_env_reach_the_shell(make: Make, tmp_path: Path) -> None:
    with serve(tmp_path / "sshd", ["AcceptEnv FOO BAR LC_ALL"]) as sshd:
        connector = make("SetEnv FOO=one\nSendEnv B*\n", environ={"BAR": "two", "LC_ALL": "x"})
        said = ask(connector.connect(host(sshd.connect())), "echo $FOO $BAR $LC_ALL")
        assert said.stdout == b"one two\n"
        connector.close()


def test_a_configuration_for_terminals_does_no_harm(make: Make, sshd: Sshd) -> None:
    config = f"RequestTTY force\nRemoteCommand top\nLocalForward {free_port()} localhost:9\n"
    said = ask(make(config).connect(host(sshd.connect())), "tty; echo on")
    assert said.stdout == b"not a tty\non\n"


def test_the_agent_is_forwarded_only_where_that_is_asked_for(
    make: Make, sshd: Sshd, folder: Path
) -> None:
    path = folder / "agent"
    with real(path):
        connector = make(environ={"SSH_AUTH_SOCK": str(path)})
        for forward in (False, True):
            connect = replace(sshd.connect(), forward_agent=forward)
            said = ask(connector.connect(host(connect)), "echo ${SSH_AUTH_SOCK:-none}")
            assert (said.stdout != b"none\n") is forward
        connector.close()


# ------------------------------------------------------------------------------------ masters


def test_channels_of_a_host_share_a_connection_that_ends_with_it(
    make: Make, tmp_path: Path
) -> None:
    with serve(tmp_path / "sshd") as sshd:
        connection = make().connect(host(sshd.connect()))
        channels = [connection.open() for _ in range(5)]
        for channel in channels:
            assert talk(channel, b"echo on").stdout == b"on\n"
        assert len(sshd.children()) == 1
        connection.close()
        until(lambda: not sshd.children(), "the connection's end")
        with pytest.raises(ConnectError, match="closed"):
            connection.open()


def test_a_master_that_the_user_has_is_used_and_left_alone(
    make: Make, tmp_path: Path, folder: Path
) -> None:
    config = f"ControlPath {folder}/own-%p\n"
    with serve(tmp_path / "sshd") as sshd, closing(make(config)) as connector:
        command = ["ssh", "-F", str(tmp_path / "home/config0"), "-MNf", "-i", str(sshd.key)]
        command += ["-o", f"UserKnownHostsFile={sshd.known_hosts}", "-p", str(sshd.port)]
        command += ["-o", "LogLevel=ERROR", "-l", sshd.user, "127.0.0.1"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)
        own = sshd.children()
        try:
            # with this key nobody would get in
            connect = sshd.connect(identity=(str(sshd.folder / "host_key"),))
            connection = connector.connect(host(connect))
            assert ask(connection, "echo on").stdout == b"on\n"
            connection.close()
            connector.close()
            assert sshd.children() == own
        finally:
            subprocess.run(
                [*command[:3], "-O", "exit", *command[4:]], check=True, capture_output=True
            )
        until(lambda: not sshd.children(), "the user's master's end")


def test_a_control_path_where_no_master_is_any_more_is_not_used(
    make: Make, sshd: Sshd, folder: Path
) -> None:
    left = folder / "left"
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(left))
    connection = make(f"ControlMaster auto\nControlPath {left}\n").connect(host(sshd.connect()))
    assert ask(connection, "echo on").stdout == b"on\n"
    left.unlink()


def test_hosts_behind_a_jump_host_share_its_connection(make: Make, tmp_path: Path) -> None:
    with serve(tmp_path / "bastion") as bastion, serve(tmp_path / "sshd") as sshd:
        via = host(bastion.connect("127.0.9.9"), "bastion")
        connector = make(hosts={"bastion": via})
        addresses = [f"127.0.9.{n}" for n in range(10, 16)]

        def run(address: str) -> bytes:
            connect = replace(sshd.connect(address), jump="bastion")
            return ask(connector.connect(host(connect, address)), "echo $SSH_CONNECTION").stdout

        with ThreadPoolExecutor(6) as pool:
            outputs = list(pool.map(run, addresses))
        for address, output in zip(addresses, outputs, strict=True):
            assert output.split()[2].decode() == address
        assert len(bastion.children()) == 1
        connector.close()
        until(lambda: not bastion.children() and not sshd.children(), "the connections' end")


def test_a_jump_host_s_failure_names_it(make: Make, sshd: Sshd) -> None:
    port = free_port()
    error = refused(make(), replace(sshd.connect(), jump=f"bob@127.0.9.9:{port}"))
    assert error.phase == "connect"
    assert f"jump host 127.0.9.9 (bob@127.0.9.9:{port}): " in error.why
    assert "Connection refused" in error.why


def test_where_a_host_allows_one_session_another_follows_it(make: Make, tmp_path: Path) -> None:
    with serve(tmp_path / "sshd", ["MaxSessions 1"]) as sshd:
        connection = make().connect(host(sshd.connect()))
        for _ in range(2):
            first = connection.open()
            hear_on(first)
            with pytest.raises(ConnectError, match="opens no session") as caught:
                connection.open()
            assert caught.value.phase == "channel"
            first.write(b"sleep 0.3\n")  # the host counts it until this is over
            first.close()
        assert len(sshd.children()) == 1
        connection.close()


def hear_on(channel: object) -> None:
    channel.write(b"echo on\n")  # type: ignore[attr-defined]
    hear(channel, b"on\n")  # type: ignore[arg-type]


def test_a_server_that_drops_handshakes_gets_them_again(make: Make, tmp_path: Path) -> None:
    with serve(tmp_path / "sshd", ["MaxStartups 2:50:4"]) as sshd:
        connector = make()

        def run(number: int) -> bytes:
            connection = connector.connect(host(sshd.connect(), f"h{number}"))
            return ask(connection, "echo on").stdout

        with ThreadPoolExecutor(12) as pool:
            # one account at one address is one host to orch: so they are one host's connections
            assert set(pool.map(lambda _: run(0), range(16))) == {b"on\n"}
        connector.close()


# ------------------------------------------------------------------------------------ failures


def test_a_port_where_nothing_listens(make: Make, sshd: Sshd) -> None:
    port = free_port()
    error = refused(make(), replace(sshd.connect(), port=port))
    assert error.phase == "connect"
    assert error.why.startswith(f"{sshd.user}@127.0.0.1:{port}: ")
    assert "Connection refused" in error.why
    assert "sshd" in error.hint


def test_a_name_that_is_none(make: Make, sshd: Sshd) -> None:
    error = refused(make(), sshd.connect("no-such-host.invalid"))
    assert error.phase == "resolve"
    assert "no-such-host.invalid" in error.why


def test_a_login_that_is_refused_says_with_which_keys(
    make: Make, sshd: Sshd, tmp_path: Path
) -> None:
    key = keygen(tmp_path / "other")
    error = refused(make(), sshd.connect(identity=(str(key),)))
    assert error.phase == "auth"
    assert "Permission denied (publickey)" in error.why
    assert f"tried {key}" in error.why


def test_a_key_that_is_not_there_is_named(make: Make, sshd: Sshd, tmp_path: Path) -> None:
    error = refused(make(), sshd.connect(identity=(str(tmp_path / "nope"),)))
    assert error.phase == "auth"
    assert f"{tmp_path / 'nope'} not accessible" in error.why


def test_a_changed_host_key_shows_the_place_and_both_fingerprints(
    make: Make, sshd: Sshd, tmp_path: Path
) -> None:
    other = keygen(tmp_path / "other")
    known = tmp_path / "known"
    kind, key = other.with_suffix(".pub").read_text().split()[:2]
    known.write_text(f"# first\n[127.0.0.1]:{sshd.port} {kind} {key}\n")
    for how in ("strict", "accept-new"):
        before = known.read_bytes()
        error = refused(make(), sshd.connect(known_hosts=(str(known),), host_keys=how))
        assert error.phase == "host key"
        assert f"{known}:2 has {fingerprint(other)}" in error.why
        assert fingerprint(sshd.folder / "host_key") in error.why
        assert f"ssh-keygen -f {known} -R '[127.0.0.1]:{sshd.port}'" in error.hint
        assert known.read_bytes() == before


def fingerprint(key: Path) -> str:
    told = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], capture_output=True, check=True)
    return told.stdout.split()[1].decode()


def test_an_unknown_host_key_is_refused_and_shown(make: Make, sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known"
    error = refused(make(), sshd.connect(known_hosts=(str(known),)))
    assert error.phase == "host key"
    assert f"[127.0.0.1]:{sshd.port} is not known" in error.why
    assert fingerprint(sshd.folder / "host_key") in error.why
    assert "accept-new" in error.hint
    assert not known.exists()


def test_accept_new_writes_the_key_unless_under_check(
    make: Make, sshd: Sshd, tmp_path: Path
) -> None:
    known = tmp_path / "known hosts"
    known.touch()
    connect = sshd.connect(known_hosts=(str(known),), host_keys="accept-new")
    checking = make(record=False)
    assert ask(checking.connect(host(connect)), "echo on").stdout == b"on\n"
    checking.close()
    assert known.read_bytes() == b""
    assert ask(make().connect(host(connect)), "echo on").stdout == b"on\n"
    assert sshd.host_key in known.read_text()


def test_a_revoked_host_key_says_so(make: Make, sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text(f"@revoked * {sshd.host_key}\n" + sshd.known_hosts.read_text())
    error = refused(make(), sshd.connect(known_hosts=(str(known),), host_keys="accept-new"))
    assert error.phase == "host key"
    assert "revoked" in error.why


def test_a_server_that_never_speaks_is_given_up(make: Make, sshd: Sshd) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        error = refused(make(), replace(sshd.connect(timeout=0.5), port=port))
    assert error.phase == "banner"
    assert "timed out after 0.5 s" in error.why


def test_a_proxy_command_s_last_words_are_told(make: Make, sshd: Sshd) -> None:
    config = "ProxyCommand sh -c 'echo no way >&2; sleep 0.2'\n"
    error = refused(make(config), sshd.connect(retries=0))
    assert "no way" in error.why


def test_a_shell_that_is_none_ends_at_once(make: Make, sshd: Sshd) -> None:
    channel = make().connect(host(sshd.connect(shell="no-such-shell"))).open()
    said = talk(channel, b"")
    assert said.status == 127
    assert b"no-such-shell" in said.stderr


def test_settings_that_ssh_does_not_take_are_told(make: Make, sshd: Sshd) -> None:
    error = refused(make("NoSuchKeyword yes\n"), sshd.connect())
    assert error.phase == "ssh_config"
    assert "nosuchkeyword" in error.why.lower()


def test_a_machine_without_ssh(make: Make, sshd: Sshd, tmp_path: Path) -> None:
    error = refused(make(environ={"PATH": str(tmp_path)}), sshd.connect())
    assert "`ssh`" in error.why
    assert "OpenSSH" in error.hint


def test_a_cut_is_an_end_without_a_status(make: Make, tmp_path: Path) -> None:
    with serve(tmp_path / "sshd") as sshd:
        connection = make().connect(host(sshd.connect()))
        channel = connection.open()
        hear_on(channel)
        for pid in sshd.children():
            os.kill(pid, signal.SIGKILL)
        while not channel.read(PATIENCE).eof:
            pass
        assert channel.exit_status() is None
        with pytest.raises(ConnectError) as caught:
            connection.open()
        assert caught.value.phase == "channel"


# ------------------------------------------------------------------------------- what is left


def test_cancel_ends_logins_and_leaves_what_is_open(make: Make, sshd: Sshd) -> None:
    connector = make()
    channel = connector.connect(host(sshd.connect())).open()
    with closing(socket.create_server(("127.0.0.1", 0))) as silent, ThreadPoolExecutor(1) as pool:
        connect = replace(sshd.connect(), port=silent.getsockname()[1])
        waiting = pool.submit(refused, connector, connect)
        peer, _ = silent.accept()
        connector.cancel()
        assert waiting.result(PATIENCE).why == "cancelled"
        with closing(peer):
            peer.settimeout(PATIENCE)
            while peer.recv(4096):  # until ssh is gone
                pass
    assert talk(channel, b"echo alive").stdout == b"alive\n"
    assert refused(connector, sshd.connect()).why == "cancelled"


def test_closing_ends_all_that_ssh_runs(make: Make, tmp_path: Path) -> None:
    mark = f"98765.{uuid4().int}"
    with serve(tmp_path / "sshd") as sshd:
        connector = make()
        channels = [connector.connect(host(sshd.connect())).open() for _ in range(3)]
        channels[0].write(f"exec sleep {mark}\n".encode())
        until(lambda: processes(mark), "the process on the host")
        connector.close()
        until(lambda: not sshd.children(), "the connections' end")
    assert not [each for each in threading.enumerate() if each.name.startswith("orch")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_when_orch_dies_its_masters_and_steps_end(
    sshd: Sshd, tmp_path: Path, number: signal.Signals, folder: Path
) -> None:
    mark = f"98765.{uuid4().int}"
    config = tmp_path / "config"
    config.write_text(QUICK)
    with serve(tmp_path / "sshd") as server:
        words = [str(server.port), str(server.key), str(server.known_hosts), str(config), mark]
        command = [sys.executable, "-m", "tests.transport.holding", *words]
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
        until(lambda: not processes(mark), "the step's end")
        until(lambda: not server.children(), "the master's end")
    left = [file for each in folder.iterdir() for file in each.iterdir()]
    assert not left
    for each in folder.iterdir():
        each.rmdir()
