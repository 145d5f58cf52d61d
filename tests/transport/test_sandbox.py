"""The sandbox: hosts without anything, over real SSH."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.errors import ConnectError, Mark
from orchestrator.model.host import Connect, Host
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports import Connector
from orchestrator.transports.local_user import login_name
from tests.sshd import keygen, until
from tests.transport.talk import ask, hear, talk

Make = Callable[..., Connector]
PATIENCE = 20.0


def at(name: str, shell: str = "sh", keepalive: float = 15.0) -> Host:
    connect = Connect(name, transport="sandbox", timeout=PATIENCE, shell=shell, keepalive=keepalive)
    return Host(name, connect, (), (), Mark("test"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".orch" / "sandbox" / "dev"


@pytest.fixture
def sandbox(make_connector: Make, folder: Path) -> Connector:
    return make_connector(sandbox=folder)


def test_hosts_have_homes_of_their_own_that_nobody_else_may_enter(
    sandbox: Connector, folder: Path
) -> None:
    for name in ("web1", "web2"):
        said = ask(sandbox.connect(at(name)), "pwd; cd; pwd; ls -A; echo $HOME > mine; exit 3")
        assert said.stdout.decode().splitlines() == [str(folder / name)] * 2
        assert said.status == 3
        assert (folder / name / "mine").read_text() == f"{folder / name}\n"
        assert (folder / name).stat().st_mode & 0o777 == 0o700


def test_files_stay_for_the_next_run(make_connector: Make, folder: Path) -> None:
    first = make_connector(sandbox=folder)
    ask(first.connect(at("web1")), "echo kept > file")
    first.close()
    second = make_connector(sandbox=folder)
    assert ask(second.connect(at("web1")), "cat file").stdout == b"kept\n"


def test_the_environment_is_small_and_the_runs_own_is_not_in_it(
    make_connector: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    said = ask(make_connector(sandbox=folder).connect(at("web1")), "env").stdout.decode()
    found = dict(row.split("=", 1) for row in said.splitlines())
    del found["ORCH_SANDBOX"]
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder / "web1"),
        "PWD": str(folder / "web1"),
        "USER": login_name(),
        "LOGNAME": login_name(),
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
    }


def test_streams_and_endings(sandbox: Connector) -> None:
    connection = sandbox.connect(at("web1"))
    said = ask(connection, "echo out; echo err >&2; exit 7")
    assert (said.stdout, said.stderr, said.status) == (b"out\n", b"err\n", 7)
    assert ask(connection, "kill -9 $$").status == 128 + 9
    assert ask(connection, "exec 0<&-; echo deaf; exit 2").stdout == b"deaf\n"


def test_fifty_megabytes_each_way_at_once_do_not_block(sandbox: Connector) -> None:
    data = bytes(range(256)) * 200_000
    said = talk(sandbox.connect(at("web1", shell="cat")).open(), data)
    assert said.status == 0
    assert said.stdout == data


def test_output_nobody_reads_is_held_back_at_the_process(sandbox: Connector) -> None:
    channel = sandbox.connect(at("web1")).open()
    channel.write(b"yes | head -c 30000000; echo done >&2\n")
    channel.close_stdin()
    assert sandbox._sandbox
    pump = sandbox._sandbox._pump
    until(lambda: pump._processes, "the process to start")
    (process,) = pump._processes
    until(lambda: process._unsent, "the client's window to be full")
    assert [process.wanted()[output] for output in process._unsent] == [0], "it is not polled"
    chunk = channel.read(PATIENCE)
    total = len(chunk.stdout)
    assert not chunk.stderr
    while not chunk.eof:
        chunk = channel.read(PATIENCE)
        total += len(chunk.stdout)
    assert total == 30_000_000


def test_a_process_that_does_not_read_is_not_sent_everything(sandbox: Connector) -> None:
    channel = sandbox.connect(at("web1", shell="sleep 1000")).open()
    written, block = 0, bytes(1 << 20)
    while taken := channel.write(block):
        written += taken
        assert written < 1 << 24
    channel.close()


def test_a_hundred_hosts_at_once(sandbox: Connector) -> None:
    def run(number: int) -> bytes:
        connection = sandbox.connect(at(f"web{number}"))
        return ask(connection, "basename $HOME").stdout

    with ThreadPoolExecutor(50) as pool:
        outputs = list(pool.map(run, range(100)))
    assert outputs == [f"web{number}\n".encode() for number in range(100)]


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/etc", "", "a\0b", "x" * 300])
def test_names_that_are_no_folder_names_are_refused(
    sandbox: Connector, tmp_path: Path, name: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConnectError, match="no sandbox"):
        sandbox.connect(at(name))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_home_that_leads_elsewhere_is_refused(
    sandbox: Connector, folder: Path, tmp_path: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "web1").symlink_to(tmp_path)
    with pytest.raises(ConnectError, match="link"):
        sandbox.connect(at("web1"))


def port_of(connection: Connection, connector: Connector) -> int:
    assert connector._sandbox
    return connector._sandbox.port


def test_other_keys_users_and_methods_are_turned_away(sandbox: Connector, tmp_path: Path) -> None:
    port = port_of(sandbox.connect(at("web1")), sandbox)
    key = keygen(tmp_path / "key")
    command = ["ssh", "-F", "/dev/null", "-i", key, "-o", "BatchMode=yes", "-p", str(port)]
    command += ["-o", f"UserKnownHostsFile={tmp_path}/known", "-o", "StrictHostKeyChecking=no"]
    for user in ("web1", "root"):
        said = subprocess.run(
            [*command, f"{user}@127.0.0.1", "id"],
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert said.returncode == 255
        assert said.stdout == ""
        assert "Permission denied (publickey)" in said.stderr


def test_it_listens_on_loopback_alone(sandbox: Connector) -> None:
    port = port_of(sandbox.connect(at("web1")), sandbox)
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), PATIENCE):
        pass


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    return bool(said.stdout.strip()) and not said.stdout.startswith("Z")


def test_no_process_is_left_when_it_ends(make_connector: Make, folder: Path) -> None:
    connector = make_connector(sandbox=folder)
    channel = connector.connect(at("web1")).open()
    channel.write(b"trap '' HUP TERM; setsid sleep 1001 & echo $! $$; while :; do sleep 9; done\n")
    pids = [int(word) for word in hear(channel, b"\n").split()]
    assert all(running(pid) for pid in pids)
    connector.close()
    until(lambda: not any(running(pid) for pid in pids), "the processes to end")


def test_a_client_that_leaves_closes_the_shells_stdin_and_outputs(sandbox: Connector) -> None:
    connection = sandbox.connect(at("web1"))
    channel = connection.open()
    channel.write(b"echo $$; cat > file; echo over >> file\n")
    pid = int(hear(channel, b"\n"))
    connection.close()
    until(lambda: not running(pid), "the shell to see the end of its stdin")


def test_the_exit_status_comes_before_the_end_of_a_child_that_holds_the_output(
    sandbox: Connector,
) -> None:
    channel = sandbox.connect(at("web1")).open()
    channel.write(b"sleep 1000 & echo $!; exit 3\n")
    child = int(hear(channel, b"\n"))
    try:
        while channel.exit_status() is None:
            assert not channel.read(PATIENCE).eof
        assert channel.exit_status() == 3
    finally:
        os.kill(child, signal.SIGKILL)
    while not channel.read(PATIENCE).eof:
        pass


def test_keepalives_are_answered(sandbox: Connector) -> None:
    channel = sandbox.connect(at("web1", keepalive=0.02)).open()
    channel.write(b"sleep 0.5; echo still\n")
    assert hear(channel, b"still")


def test_strangers_can_talk_nonsense_to_it(sandbox: Connector) -> None:
    connection = sandbox.connect(at("web1"))
    port = port_of(connection, sandbox)
    for nonsense in (b"GET / HTTP/1.0\r\n\r\n", bytes(1000), b"SSH-2.0-x\r\n" + b"\xff" * 100):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as stranger:
            stranger.sendall(nonsense)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(4096):
                pass
    assert ask(connection, "echo fine").stdout == b"fine\n"


def test_without_a_folder_it_says_so(connector: Connector) -> None:
    with pytest.raises(ConnectError, match="no folder"):
        connector.connect(at("web1"))
