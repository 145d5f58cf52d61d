"""Byte streams over sockets and their flusher: sending never blocks, and nothing is lost."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from orchestrator.transports.ssh.byte_stream import SocketStream, WriteFlusher
from tests.sshd import wait_until

SIZE = 1 << 24  # more than the kernel keeps for two sockets on loopback


@pytest.fixture
def flusher() -> Iterator[WriteFlusher]:
    with closing(WriteFlusher()) as flusher:
        yield flusher


@pytest.fixture
def stream_and_socket(flusher: WriteFlusher) -> Iterator[tuple[SocketStream, socket.socket]]:
    """Yield a stream and the socket at its other end."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        near = socket.create_connection(listener.getsockname())
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        far, _ = listener.accept()
    stream = SocketStream(near, flusher)
    with far:
        yield stream, far
    stream.release()


def make_pattern(size: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4))


def test_what_finds_no_room_is_sent_later_and_in_order(
    stream_and_socket: tuple[SocketStream, socket.socket],
) -> None:
    stream, far = stream_and_socket
    room = threading.Event()
    stream.on_writable = room.set
    data = make_pattern(SIZE)
    for start in range(0, SIZE, 1 << 20):
        assert stream.send(data[start : start + (1 << 20)]) == 1 << 20
    assert stream.is_congested
    taken = bytearray()
    while len(taken) < SIZE:
        taken += far.recv(1 << 20)
    assert taken == data
    assert room.wait(20)
    assert not stream.is_congested
    stream.send(b"more")
    assert far.recv(10) == b"more"


def test_a_backlog_ends_with_its_connection(
    stream_and_socket: tuple[SocketStream, socket.socket],
) -> None:
    stream, far = stream_and_socket
    stream.send(bytes(SIZE))
    assert stream.is_congested
    far.close()

    def broken() -> bool:
        try:
            stream.send(b"x")
        except OSError:
            return True
        return False

    wait_until(broken, "the stream to notice")


def test_one_flusher_serves_many(flusher: WriteFlusher) -> None:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as listener:
        nears = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        fars = [listener.accept()[0] for _ in nears]
    wires = [SocketStream(near, flusher) for near in nears]
    for stream in wires:
        stream.send(bytes(SIZE))
    before = threading.active_count()
    for far in reversed(fars):
        left = SIZE
        while left:
            left -= len(far.recv(1 << 20))
        far.close()
    for stream in wires:
        stream.release()
    assert threading.active_count() == before


def test_each_silence_is_told_and_what_ends_it(
    stream_and_socket: tuple[SocketStream, socket.socket],
) -> None:
    stream, far = stream_and_socket
    stream.idle_timeout = 0.01
    message: list[str] = []

    def idle() -> None:
        message.append("idle")
        if len(message) == 3:
            far.sendall(b"x")

    stream.on_idle, stream.on_data = idle, lambda: message.append("data")
    assert stream.recv(10) == b"x"
    assert message == ["idle"] * 3 + ["data"]


def test_close_from_another_thread_ends_a_read(
    stream_and_socket: tuple[SocketStream, socket.socket],
) -> None:
    stream, _ = stream_and_socket
    timer = threading.Timer(0.05, stream.close)
    timer.start()
    assert stream.recv(1) == b""
    timer.join()
    with pytest.raises(BrokenPipeError):
        stream.send(b"x")
    assert stream.fileno() >= 0, "the reader gives the descriptor back, nobody else"


def test_a_line_is_cut_at_its_limit_and_the_rest_stays(
    stream_and_socket: tuple[SocketStream, socket.socket],
) -> None:
    stream, far = stream_and_socket
    far.sendall(b"SSH-2.0-x\r\nnext" + bytes(300))
    assert stream.read_line(100) == b"SSH-2.0-x\r\n"
    assert stream.recv(4) == b"next"
    assert stream.read_line(100) == bytes(100)
    far.close()
    assert stream.read_line(1000) == bytes(200)
    assert stream.read_line(1000) == b""
