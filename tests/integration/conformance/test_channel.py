"""The Channel protocol, which sessions build on and every transport implements."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest

from orchestrator.remote_shell.channel_protocol import Channel, Connection, ReadChunk
from tests.support.session_recording import WAIT_TIMEOUT, RecordingChannel

_Any = TypeVar("_Any", bound=Channel)


@pytest.fixture
def channel(channel: RecordingChannel) -> RecordingChannel:
    """Open a channel and skip what a login shell prints first."""
    return _skip_banner(channel)


def _skip_banner(channel: _Any) -> _Any:
    token = uuid4().hex.encode()
    stdout = stderr = b""
    _write_all(channel, b"echo %s; echo %s >&2\n" % (token, token))
    while not (token + b"\n" in stdout and token + b"\n" in stderr):
        chunk = channel.read(WAIT_TIMEOUT)
        assert not chunk.eof
        stdout, stderr = stdout + chunk.stdout, stderr + chunk.stderr
    return channel


def _read_all(channel: Channel) -> tuple[bytes, bytes]:
    """Read to the end."""
    stdout, stderr = b"", b""
    while True:
        chunk = channel.read(WAIT_TIMEOUT)
        stdout, stderr = stdout + chunk.stdout, stderr + chunk.stderr
        if chunk.eof:
            return stdout, stderr


def _write_all(channel: Channel, data: bytes) -> None:
    while data:
        count = channel.write(data)
        data = data[count:]
        if not count:
            channel.read(WAIT_TIMEOUT)


def _in_thread(action: Callable[[], object]) -> Callable[[], None]:
    """Call a function in a thread; return a function that waits for its end."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()

    def ended() -> None:
        thread.join(WAIT_TIMEOUT)
        assert not thread.is_alive()

    return ended


def test_shell_runs_what_is_written_and_tells_its_exit_status(channel: RecordingChannel) -> None:
    _write_all(channel, b"echo out; echo err >&2; exit 7\n")
    assert _read_all(channel) == (b"out\n", b"err\n")
    assert channel.exit_status() == 7


def test_stdin_s_end_comes_behind_what_was_written(channel: RecordingChannel) -> None:
    _write_all(channel, b"# " + b"x" * 3_000_000 + b"\necho end\n")
    channel.close_stdin()
    assert _read_all(channel) == (b"end\n", b"")
    assert channel.exit_status() == 0


def test_write_never_waits_and_read_tells_when_there_is_room(
    channel: RecordingChannel, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    waits = f"until [ -e {go} ]; do sleep .05; done; sed '/^end$/q' >/dev/null; echo read; exit\n"
    _write_all(channel, waits.encode())
    room = 0
    while count := channel.write(b"x" * 65535 + b"\n"):
        room += count
        assert room < 64 << 20, "it takes everything"
    go.touch()
    _write_all(channel, b"\nend\n\n")  # busybox's sed has to see what follows a line
    assert _read_all(channel) == (b"read\n", b"")


def test_wake_ends_a_waiting_read(channel: RecordingChannel) -> None:
    chunks: list[ReadChunk] = []
    ended = _in_thread(lambda: chunks.append(channel.read(None)))
    channel.wake()
    ended()
    assert chunks == [ReadChunk()]


def test_wake_before_a_read_ends_that_one(channel: RecordingChannel) -> None:
    channel.wake()
    assert channel.read(WAIT_TIMEOUT * 10) == ReadChunk()


def test_read_ends_after_its_timeout(channel: RecordingChannel) -> None:
    assert channel.read(0) == ReadChunk()
    assert channel.read(0.01) == ReadChunk()


def test_closed_channel_takes_and_gives_nothing(channel: RecordingChannel) -> None:
    channel.close()
    channel.close()
    channel.wake()
    assert channel.read(WAIT_TIMEOUT).eof
    with pytest.raises(OSError):
        channel.write(b"x")


def test_closing_the_connection_ends_its_channels(connection: Connection) -> None:
    channel, other = _skip_banner(connection.open()), _skip_banner(connection.open())
    chunks: list[ReadChunk] = []
    ended = _in_thread(lambda: chunks.append(channel.read(None)))
    connection.close()
    ended()
    assert chunks[-1].eof
    assert other.read(WAIT_TIMEOUT).eof
    connection.close()


def test_channels_of_a_connection_are_apart(connection: Connection) -> None:
    first, second = _skip_banner(connection.open()), _skip_banner(connection.open())
    _write_all(first, b"x=1; exit 3\n")
    _write_all(second, b"echo ${x-none}; exit 4\n")
    assert _read_all(second)[0] == b"none\n"
    assert _read_all(first)[0] == b""
    assert (first.exit_status(), second.exit_status()) == (3, 4)
    first.close()
    second.close()
