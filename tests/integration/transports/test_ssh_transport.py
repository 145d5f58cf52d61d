"""The ssh transport against a real OpenSSH server: logins, shells, and refused connections."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.errors import ConnectError, DefinitionError, SourcePosition
from orchestrator.model.host import ConnectionOptions, Host
from orchestrator.transports import TransportRegistry
from orchestrator.transports.sandbox.process import ProcessIoThread
from orchestrator.transports.sandbox.server import SandboxAuth, SandboxConnection
from orchestrator.transports.ssh.byte_stream import SocketStream, WriteFlusher
from orchestrator.transports.ssh.paramiko_compat import Ed25519Key
from tests.sshd import SshdServer, child_processes, generate_key, serve_sshd, wait_until
from tests.support.shell_talk import ask_shell, read_until, talk_to_shell

MANY = 300


def refused_error(connector: TransportRegistry, connect: ConnectionOptions) -> ConnectError:
    """Return the error of a connect that must fail."""
    with pytest.raises(ConnectError) as caught:
        connector.connect(Host("h", connect, (), (), SourcePosition("test")))
    return caught.value


def loopback_addresses(count: int) -> list[str]:
    return [f"127.7.{n // 200}.{n % 200 + 1}" for n in range(count)]


def test_three_hundred_hosts_at_once_each_give_their_own_output(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    def run(address: str) -> bytes:
        connection = connector.connect(sshd.inventory_host(address))
        message = ask_shell(connection, "uname; echo $SSH_CONNECTION")
        connection.close()
        assert message.status == 0
        return message.stdout

    hosts = loopback_addresses(MANY)
    with ThreadPoolExecutor(60) as pool:
        outputs = list(pool.map(run, hosts))
    kernel = os.uname().sysname.encode()
    for address, output in zip(hosts, outputs, strict=True):
        assert output.split()[0] == kernel
        assert address.encode() in output.split()


def test_streams_and_exit_status_are_told_apart(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    connection = connector.connect(sshd.inventory_host())
    message = ask_shell(connection, "echo out; echo err >&2; exit 7")
    assert (message.stdout, message.stderr, message.status) == (b"out\n", b"err\n", 7)
    assert ask_shell(connection, "kill -9 $$").status == 128 + 9


def test_the_shell_is_the_exec_command_and_nothing_else(
    tmp_path: Path, connector: TransportRegistry
) -> None:
    with serve_sshd(
        tmp_path / "sshd", wrapper='#!/bin/sh\necho "[$SSH_ORIGINAL_COMMAND]"\n'
    ) as sshd:
        assert ask_shell(connector.connect(sshd.inventory_host()), "").stdout == b"[exec sh]\n"
        other = sshd.inventory_host(connect=sshd.connect_options(shell="bash --posix"))
        assert ask_shell(connector.connect(other), "").stdout == b"[exec bash --posix]\n"


def test_fifty_megabytes_each_way_at_once_do_not_block(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    size = 50_000_000
    data = bytes(range(256)) * (size // 256)
    echo = sshd.inventory_host(connect=sshd.connect_options(shell="cat"))
    message = talk_to_shell(connector.connect(echo).open(), data)
    assert message.status == 0
    assert message.stdout == data


def test_output_nobody_reads_is_held_back_at_the_host(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    channel = connector.connect(sshd.inventory_host()).open()
    script = b"yes | head -c 30000000; echo done >&2\n"
    assert channel.write(script) == len(script)
    channel.close_stdin()
    quiet = channel.read(10.0)
    held = len(quiet.stdout)
    assert not quiet.stderr
    assert held <= 1 << 22
    total = held
    while not (chunk := channel.read(10.0)).eof:
        total += len(chunk.stdout)
    assert total + len(chunk.stdout) == 30_000_000


def test_a_write_never_waits_for_a_shell_that_does_not_read(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    channel = connector.connect(sshd.inventory_host()).open()
    assert channel.write(b"echo $$; exec sleep 1000\n")
    pid = int(read_until(channel, b"\n"))
    block, written = bytes(1 << 20), 0
    try:
        while taken := channel.write(block):
            written += taken
            assert written < 1 << 25
        assert channel.read(0.0).stdout == b""
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_write_stops_where_the_network_does_and_goes_on_with_it(
    tmp_path: Path, connector: TransportRegistry
) -> None:
    with serve_sshd(tmp_path / "sshd") as sshd:
        connection = connector.connect(
            sshd.inventory_host(connect=sshd.connect_options(shell="cat"))
        )
        channel = connection.open()
        wire = connection._client._stream
        wire._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        stopped = [
            pid for child in sshd.session_processes() for pid in (child, *child_processes(child))
        ]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        data = bytes(1 << 20)  # half of what the channel's window allows
        written = channel.write(data)
        assert written < len(data)
        assert channel.write(data) == 0
        assert len(wire._unsent) < 1 << 16
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        while not channel.write(data[:1]):
            channel.read(20.0)


def test_wake_ends_a_waiting_read_from_another_thread(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    channel = connector.connect(sshd.inventory_host()).open()
    timer = threading.Timer(0.05, channel.wake)
    timer.start()
    chunk = channel.read(None)
    timer.join()
    assert (chunk.stdout, chunk.eof) == (b"", False)
    channel.wake()
    assert not channel.read(None).eof, "a wake before the read counts for it"


def test_the_exit_status_ends_a_read_though_a_child_holds_the_output_open(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    channel = connector.connect(sshd.inventory_host()).open()
    channel.write(b"sleep 1000 & echo $!; exit 3\n")
    child = int(read_until(channel, b"\n"))
    try:
        end = time.monotonic() + 20
        while channel.exit_status() is None and time.monotonic() < end:
            channel.read(end - time.monotonic())
        assert channel.exit_status() == 3
    finally:
        os.kill(child, signal.SIGKILL)


def test_many_channels_share_a_connection(sshd: SshdServer, connector: TransportRegistry) -> None:
    connection = connector.connect(sshd.inventory_host())
    channels = [connection.open() for _ in range(40)]
    for number, channel in enumerate(channels):
        channel.write(f"echo {number}\n".encode())
    for number, channel in enumerate(channels):
        assert read_until(channel, b"\n") == f"{number}\n".encode()
        channel.close()
    assert ask_shell(connection, "echo more").stdout == b"more\n"


def test_a_host_that_allows_no_more_sessions_says_so(
    tmp_path: Path, connector: TransportRegistry
) -> None:
    with serve_sshd(tmp_path / "sshd", ["MaxSessions 1"]) as sshd:
        connection = connector.connect(sshd.inventory_host())
        first = connection.open()
        with pytest.raises(ConnectError) as caught:
            connection.open()
        assert caught.value.phase == "channel"
        assert "MaxSessions" in caught.value.hint
        assert talk_to_shell(first, b"echo fine").stdout == b"fine\n"
        first.close()
        for _ in range(20):  # sshd is slower to let a session go than we to ask for the next
            assert ask_shell(connection, "echo again").stdout == b"again\n"


def test_a_host_that_takes_no_session_says_so(tmp_path: Path, connector: TransportRegistry) -> None:
    with serve_sshd(tmp_path / "sshd", ["MaxSessions 0"]) as sshd:
        connection = connector.connect(sshd.inventory_host())
        with pytest.raises(ConnectError) as caught:
            connection.open()
        assert caught.value.phase == "channel"


def test_a_cut_connection_is_eof_at_once(sshd: SshdServer, connector: TransportRegistry) -> None:
    channel = connector.connect(
        sshd.inventory_host(connect=sshd.connect_options(keepalive=0))
    ).open()
    channel.write(b"echo $PPID; exec cat\n")
    session = int(read_until(channel, b"\n"))
    os.kill(session, signal.SIGKILL)
    chunk = channel.read(20.0)
    while not chunk.eof:
        chunk = channel.read(20.0)
    assert channel.exit_status() is None
    with pytest.raises(OSError):
        channel.write(b"x")


def test_a_peer_that_stops_answering_is_noticed(
    tmp_path: Path, connector: TransportRegistry
) -> None:
    with serve_sshd(tmp_path / "sshd") as sshd:
        channel = connector.connect(
            sshd.inventory_host(connect=sshd.connect_options(keepalive=0.1))
        ).open()
        channel.write(b"echo up\n")
        read_until(channel, b"up")
        stopped = [sshd.pid, *sshd.session_processes()]
        stopped += [pid for child in stopped[1:] for pid in child_processes(child)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        chunk = channel.read(20.0)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        assert chunk.eof


def test_keepalives_are_answered_and_keep_a_quiet_channel_open(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    channel = connector.connect(
        sshd.inventory_host(connect=sshd.connect_options(keepalive=0.02))
    ).open()
    channel.write(b"sleep 0.5; echo still\n")
    assert read_until(channel, b"still")


def test_closing_the_connection_ends_a_read_and_every_channel(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    connection = connector.connect(sshd.inventory_host())
    channels = [connection.open(), connection.open()]
    timer = threading.Timer(0.05, connection.close)
    timer.start()
    assert channels[0].read(20.0).eof
    timer.join()
    assert channels[1].read(20.0).eof
    connection.close()
    with pytest.raises(ConnectError):
        connection.open()


def test_closing_the_connector_ends_what_is_open_and_leaves_no_session(
    tmp_path: Path, make_connector: Callable[..., TransportRegistry]
) -> None:
    with serve_sshd(tmp_path / "sshd") as sshd:
        connector = make_connector()
        channels = [connector.connect(sshd.inventory_host(a)).open() for a in loopback_addresses(5)]
        connector.close()
        assert all(channel.read(20.0).eof for channel in channels)
        wait_until(lambda: not sshd.session_processes(), "the server's sessions to end")


def test_no_thread_is_left_when_close_returns(
    sshd: SshdServer, make_connector: Callable[..., TransportRegistry]
) -> None:
    before = set(threading.enumerate())
    connector = make_connector()
    for address in loopback_addresses(20):
        connector.connect(sshd.inventory_host(address)).open()
    assert len(threading.enumerate()) >= len(before) + 20
    connector.close()
    assert set(threading.enumerate()) == before


def test_nothing_listens(connector: TransportRegistry, sshd: SshdServer) -> None:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))  # taken, so that nobody else listens there
        connect = replace(sshd.connect_options(), port=bound.getsockname()[1])
        error = refused_error(connector, connect)
    assert error.phase == "connect"
    assert error.reason.endswith(f"connection refused (127.0.0.1 port {connect.port})")
    assert "sshd" in error.hint


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a..b", "x" * 70])
def test_a_name_nobody_knows(connector: TransportRegistry, sshd: SshdServer, name: str) -> None:
    error = refused_error(connector, sshd.connect_options(name))
    assert error.phase == "resolve"
    assert name in error.reason


def test_an_address_that_never_answers_runs_into_the_timeout(
    connector: TransportRegistry, sshd: SshdServer
) -> None:
    with closing(socket.socket()) as full, ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # a full backlog drops what knocks
            knock = stack.enter_context(closing(socket.socket()))
            knock.setblocking(False)
            knock.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        error = refused_error(connector, replace(sshd.connect_options(timeout=0.3), port=port))
    assert error.phase == "connect"
    assert "timed out, no answer within 0.3 s" in error.reason


def test_all_addresses_of_a_name_are_tried(sshd: SshdServer, connector: TransportRegistry) -> None:
    connector.connect(
        sshd.inventory_host("localhost")
    )  # whose ::1, where there is one, nobody serves


@contextmanager
def listening_port(answer: bytes | None) -> Iterator[int]:
    """Yield a port that sends ``answer`` and closes; with None it never sends or closes."""
    taken: list[socket.socket] = []

    def serve_all() -> None:
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return
            if answer is not None:
                taken[-1].sendall(answer)
                taken[-1].shutdown(socket.SHUT_WR)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve_all)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for sock in taken:
                sock.close()


def test_a_server_that_says_nothing_runs_into_the_timeout(
    connector: TransportRegistry, sshd: SshdServer
) -> None:
    with listening_port(None) as port:
        began = time.monotonic()
        error = refused_error(connector, replace(sshd.connect_options(timeout=0.3), port=port))
        assert time.monotonic() - began < 10  # of 20 s and more for anything that is not ours
    assert error.phase == "banner"
    assert "0.3 s" in error.reason


def test_a_server_that_stalls_after_its_name_runs_into_the_timeout(
    connector: TransportRegistry, sshd: SshdServer
) -> None:
    with listening_port(b"SSH-2.0-stall\r\n") as port:
        error = refused_error(connector, replace(sshd.connect_options(timeout=0.3), port=port))
    assert error.phase == "kex"


@pytest.mark.parametrize(
    ("answer", "phase", "part"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "banner", "not an SSH server"),
        (b"\x16\x03\x01" + bytes(5000), "banner", "not an SSH server"),
        (b"220 mail ESMTP\r\n" * 200, "banner", "not an SSH server"),
        (b"SSH-1.5-old\r\n", "banner", "unsupported SSH version"),
        (b"Not allowed at this time\r\n", "banner", "earlier failures"),
        (b"", "banner", "before its SSH banner"),
        (b"Exceeded MaxStartups\r\n", "banner", "MaxStartups"),
        (b"SSH-2.0-x\r\n" + b"\0\0\0\x0c\x04garbage", "kex", ""),
        (b"SSH-2.0-x\r\n\xff\xff\xff\xff" + bytes(100), "kex", ""),
    ],
)
def test_what_is_no_ssh_server_is_told_apart(
    connector: TransportRegistry, sshd: SshdServer, answer: bytes, phase: str, part: str
) -> None:
    with listening_port(answer) as port:
        error = refused_error(
            connector, replace(sshd.connect_options(retries=1, timeout=5), port=port)
        )
    assert error.phase == phase
    assert part in error.reason
    assert "Traceback" not in str(error)


def test_no_common_algorithm_lists_both_sides(tmp_path: Path, connector: TransportRegistry) -> None:
    with serve_sshd(
        tmp_path / "sshd", ["KexAlgorithms sntrup761x25519-sha512@openssh.com"]
    ) as sshd:
        error = refused_error(connector, sshd.connect_options())
    assert error.phase == "kex"
    assert "the server offers sntrup761x25519-sha512@openssh.com" in error.reason
    assert "orch supports curve25519-sha256" in error.reason


@pytest.mark.parametrize(
    "line",
    [
        "KexAlgorithms curve25519-sha256",
        "KexAlgorithms diffie-hellman-group-exchange-sha256",
        "Ciphers aes256-ctr\nMACs hmac-sha2-512",
        "Ciphers aes256-gcm@openssh.com",
        "RekeyLimit 100K",
    ],
)
def test_servers_with_other_algorithms(
    tmp_path: Path, connector: TransportRegistry, line: str
) -> None:
    with serve_sshd(tmp_path / "sshd", [line]) as sshd:
        data = b"0123456789abcdef" * 100_000
        echo = sshd.inventory_host(connect=sshd.connect_options(shell="cat"))
        message = talk_to_shell(connector.connect(echo).open(), data)
    assert message.stdout == data


def test_cancel_ends_what_is_pending_and_leaves_what_is_open(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    channel = connector.connect(sshd.inventory_host()).open()
    with listening_port(None) as port, ThreadPoolExecutor(20) as pool:
        stuck = replace(sshd.connect_options(timeout=60), port=port)
        waiting = [pool.submit(refused_error, connector, stuck) for _ in range(20)]
        wait_until(
            lambda: sum(t.name.startswith("Thread-") for t in threading.enumerate()) > 8, "them"
        )
        connector.cancel()
        assert {w.result(20).reason for w in waiting} == {"cancelled"}
    assert talk_to_shell(channel, b"echo alive").stdout == b"alive\n"
    assert refused_error(connector, sshd.connect_options()).reason == "cancelled"


def test_what_is_not_there_yet_says_so(connector: TransportRegistry, sshd: SshdServer) -> None:
    connect = sshd.connect_options()
    with pytest.raises(DefinitionError, match="telnet"):
        connector.connect(sshd.inventory_host(connect=replace(connect, transport="telnet")))


class ForgedHostKey(Ed25519Key):
    """A host key whose public part is another key's."""

    stolen = b""

    def asbytes(self) -> bytes:
        return self.stolen


def test_a_server_that_shows_a_known_key_but_does_not_have_it(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    forged = ForgedHostKey(filename=str(generate_key(tmp_path / "key")))
    forged.stolen = base64.b64decode(sshd.host_key.split()[1])
    with (
        closing(WriteFlusher()) as flusher,
        closing(socket.create_server(("127.0.0.1", 0))) as listener,
        ThreadPoolExecutor(1) as pool,
    ):
        port = listener.getsockname()[1]
        name, key = f"[127.0.0.1]:{port}", sshd.host_key
        (tmp_path / "known").write_text(f"{name} {key}\n")
        connect = replace(sshd.connect_options(known_hosts=(str(tmp_path / "known"),)), port=port)
        waiting = pool.submit(refused_error, connector, connect)
        server = SandboxConnection(
            SocketStream(listener.accept()[0], flusher),
            SandboxAuth(b"", forged, ""),
            ProcessIoThread(),
        )
        server.serve_client()
        error = waiting.result(20)
        server.join(20)
        server._io_thread.close("")
    assert error.phase == "kex"
    assert "Signature verification" in error.reason


def test_nothing_of_it_reaches_stderr(sshd: SshdServer, tmp_path: Path) -> None:
    """In a process of its own, in which logging is not configured."""
    with listening_port(b"SSH-2.0-x\r\n" + bytes(64)) as nonsense, listening_port(b"") as silent:
        ports = [str(port) for port in (sshd.port, nonsense, silent)]
        command = [sys.executable, "-m", "tests.support.failing_connections", str(sshd.key)]
        message = subprocess.run(
            [*command, str(sshd.known_hosts), *ports],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[3],
        )
    assert message.stdout.split() == ["cut", "auth", "kex", "banner"]
    assert message.stderr == ""
