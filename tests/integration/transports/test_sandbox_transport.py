"""The sandbox: hosts without preparation, over real SSH."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.errors import ConnectError, SourcePosition
from orchestrator.model.host import ConnectionOptions, Host
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports import TransportRegistry
from orchestrator.transports.local_user import login_name
from tests.sshd import generate_key, wait_until
from tests.support.shell_talk import ask_shell, read_until, talk_to_shell

ConnectorMaker = Callable[..., TransportRegistry]
WAIT_TIMEOUT = 20.0


def sandbox_host(name: str, shell: str = "sh", keepalive: float = 15.0) -> Host:
    connect = ConnectionOptions(
        name, transport="sandbox", timeout=WAIT_TIMEOUT, shell=shell, keepalive=keepalive
    )
    return Host(name, connect, (), (), SourcePosition("test"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".orch" / "sandbox" / "dev"


@pytest.fixture
def sandbox(make_connector: ConnectorMaker, folder: Path) -> TransportRegistry:
    return make_connector(sandbox=folder)


def test_hosts_have_homes_of_their_own_that_nobody_else_may_enter(
    sandbox: TransportRegistry, folder: Path
) -> None:
    for name in ("web1", "web2"):
        message = ask_shell(
            sandbox.connect(sandbox_host(name)), "pwd; cd; pwd; ls -A; echo $HOME > mine; exit 3"
        )
        assert message.stdout.decode().splitlines() == [str(folder / name)] * 2
        assert message.status == 3
        assert (folder / name / "mine").read_text() == f"{folder / name}\n"
        assert (folder / name).stat().st_mode & 0o777 == 0o700


def test_files_stay_for_the_next_run(make_connector: ConnectorMaker, folder: Path) -> None:
    first = make_connector(sandbox=folder)
    ask_shell(first.connect(sandbox_host("web1")), "echo kept > file")
    first.close()
    second = make_connector(sandbox=folder)
    assert ask_shell(second.connect(sandbox_host("web1")), "cat file").stdout == b"kept\n"


def test_the_environment_is_small_and_the_runs_own_is_not_in_it(
    make_connector: ConnectorMaker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    message = ask_shell(
        make_connector(sandbox=folder).connect(sandbox_host("web1")), "env"
    ).stdout.decode()
    found = dict(row.split("=", 1) for row in message.splitlines())
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


def test_streams_and_endings(sandbox: TransportRegistry) -> None:
    connection = sandbox.connect(sandbox_host("web1"))
    message = ask_shell(connection, "echo out; echo err >&2; exit 7")
    assert (message.stdout, message.stderr, message.status) == (b"out\n", b"err\n", 7)
    assert ask_shell(connection, "kill -9 $$").status == 128 + 9
    assert ask_shell(connection, "exec 0<&-; echo deaf; exit 2").stdout == b"deaf\n"


def test_fifty_megabytes_each_way_at_once_do_not_block(sandbox: TransportRegistry) -> None:
    data = bytes(range(256)) * 200_000
    message = talk_to_shell(sandbox.connect(sandbox_host("web1", shell="cat")).open(), data)
    assert message.status == 0
    assert message.stdout == data


def test_output_nobody_reads_is_held_back_at_the_process(sandbox: TransportRegistry) -> None:
    channel = sandbox.connect(sandbox_host("web1")).open()
    channel.write(b"yes | head -c 30000000; echo done >&2\n")
    channel.close_stdin()
    assert sandbox._connectors._sandbox
    pump = sandbox._connectors._sandbox._io_thread
    wait_until(lambda: pump._processes, "the process to start")
    (process,) = pump._processes
    wait_until(lambda: process._unsent, "the client's window to be full")
    assert [process.watched_events()[output] for output in process._unsent] == [0], (
        "it is not polled"
    )
    chunk = channel.read(WAIT_TIMEOUT)
    total = len(chunk.stdout)
    assert not chunk.stderr
    while not chunk.eof:
        chunk = channel.read(WAIT_TIMEOUT)
        total += len(chunk.stdout)
    assert total == 30_000_000


def test_a_process_that_does_not_read_is_not_sent_everything(sandbox: TransportRegistry) -> None:
    channel = sandbox.connect(sandbox_host("web1", shell="sleep 1000")).open()
    written, block = 0, bytes(1 << 20)
    while taken := channel.write(block):
        written += taken
        assert written < 1 << 24
    channel.close()


def test_a_hundred_hosts_at_once(sandbox: TransportRegistry) -> None:
    def run(number: int) -> bytes:
        connection = sandbox.connect(sandbox_host(f"web{number}"))
        return ask_shell(connection, "basename $HOME").stdout

    with ThreadPoolExecutor(50) as pool:
        outputs = list(pool.map(run, range(100)))
    assert outputs == [f"web{number}\n".encode() for number in range(100)]


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/etc", "", "a\0b", "x" * 300])
def test_names_that_are_no_folder_names_are_refused(
    sandbox: TransportRegistry, tmp_path: Path, name: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConnectError, match="invalid sandbox name"):
        sandbox.connect(sandbox_host(name))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_home_that_leads_elsewhere_is_refused(
    sandbox: TransportRegistry, folder: Path, tmp_path: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "web1").symlink_to(tmp_path)
    with pytest.raises(ConnectError, match="link"):
        sandbox.connect(sandbox_host("web1"))


def port_of(connection: Connection, connector: TransportRegistry) -> int:
    assert connector._connectors._sandbox
    return connector._connectors._sandbox.port


def test_other_keys_users_and_methods_are_turned_away(
    sandbox: TransportRegistry, tmp_path: Path
) -> None:
    port = port_of(sandbox.connect(sandbox_host("web1")), sandbox)
    key = generate_key(tmp_path / "key")
    command = ["ssh", "-F", "/dev/null", "-i", key, "-o", "BatchMode=yes", "-p", str(port)]
    command += ["-o", f"UserKnownHostsFile={tmp_path}/known", "-o", "StrictHostKeyChecking=no"]
    for user in ("web1", "root"):
        message = subprocess.run(
            [*command, f"{user}@127.0.0.1", "id"],
            check=False,
            capture_output=True,
            text=True,
            timeout=WAIT_TIMEOUT,
        )
        assert message.returncode == 255
        assert message.stdout == ""
        assert "Permission denied (publickey)" in message.stderr


def test_it_listens_on_loopback_alone(sandbox: TransportRegistry) -> None:
    port = port_of(sandbox.connect(sandbox_host("web1")), sandbox)
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), WAIT_TIMEOUT):
        pass


def is_running(pid: int) -> bool:
    """Return True if the process exists and is not a zombie."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    message = subprocess.run(command, check=False, capture_output=True, text=True)
    return bool(message.stdout.strip()) and not message.stdout.startswith("Z")


def test_no_process_is_left_when_it_ends(make_connector: ConnectorMaker, folder: Path) -> None:
    connector = make_connector(sandbox=folder)
    channel = connector.connect(sandbox_host("web1")).open()
    channel.write(b"trap '' HUP TERM; setsid sleep 1001 & echo $! $$; while :; do sleep 9; done\n")
    pids = [int(word) for word in read_until(channel, b"\n").split()]
    assert all(is_running(pid) for pid in pids)
    connector.close()
    wait_until(lambda: not any(is_running(pid) for pid in pids), "the processes to end")


def test_a_client_that_leaves_closes_the_shells_stdin_and_outputs(
    sandbox: TransportRegistry,
) -> None:
    connection = sandbox.connect(sandbox_host("web1"))
    channel = connection.open()
    channel.write(b"echo $$; cat > file; echo over >> file\n")
    pid = int(read_until(channel, b"\n"))
    connection.close()
    wait_until(lambda: not is_running(pid), "the shell to see the end of its stdin")


def test_the_exit_status_comes_before_the_end_of_a_child_that_holds_the_output(
    sandbox: TransportRegistry,
) -> None:
    channel = sandbox.connect(sandbox_host("web1")).open()
    channel.write(b"sleep 1000 & echo $!; exit 3\n")
    child = int(read_until(channel, b"\n"))
    try:
        while channel.exit_status() is None:
            assert not channel.read(WAIT_TIMEOUT).eof
        assert channel.exit_status() == 3
    finally:
        os.kill(child, signal.SIGKILL)
    while not channel.read(WAIT_TIMEOUT).eof:
        pass


def test_keepalives_are_answered(sandbox: TransportRegistry) -> None:
    channel = sandbox.connect(sandbox_host("web1", keepalive=0.02)).open()
    channel.write(b"sleep 0.5; echo still\n")
    assert read_until(channel, b"still")


def test_strangers_can_talk_nonsense_to_it(sandbox: TransportRegistry) -> None:
    connection = sandbox.connect(sandbox_host("web1"))
    port = port_of(connection, sandbox)
    for nonsense in (b"GET / HTTP/1.0\r\n\r\n", bytes(1000), b"SSH-2.0-x\r\n" + b"\xff" * 100):
        with socket.create_connection(("127.0.0.1", port), WAIT_TIMEOUT) as stranger:
            stranger.sendall(nonsense)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(4096):
                pass
    assert ask_shell(connection, "echo fine").stdout == b"fine\n"


def test_without_a_folder_it_says_so(connector: TransportRegistry) -> None:
    with pytest.raises(ConnectError, match="no folder"):
        connector.connect(sandbox_host("web1"))
