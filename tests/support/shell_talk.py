"""Talks to a shell over a channel like the session does: it keeps reading while it writes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from orchestrator.remote_shell.channel_protocol import Channel, Connection

WAIT_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class ShellOutput:
    """The whole output of a shell, and its exit status."""

    stdout: bytes
    stderr: bytes
    status: int | None


def talk_to_shell(channel: Channel, text: bytes, *, eof: bool = True) -> ShellOutput:
    """Write ``text``, then EOF, and read to the end."""
    stdout, stderr, rest = [], [], memoryview(text)
    end = time.monotonic() + WAIT_TIMEOUT
    open_stdin = eof
    while True:
        while rest:
            written = channel.write(rest)
            rest = rest[written:]
            if not written:
                break
        if not rest and open_stdin:
            channel.close_stdin()
            open_stdin = False
        chunk = channel.read(end - time.monotonic())
        stdout.append(chunk.stdout)
        stderr.append(chunk.stderr)
        if chunk.eof:
            return ShellOutput(b"".join(stdout), b"".join(stderr), channel.exit_status())
        assert time.monotonic() < end, "the shell does not end"


def ask_shell(connection: Connection, text: str) -> ShellOutput:
    """Run ``text`` in a new shell."""
    channel = connection.open()
    try:
        return talk_to_shell(channel, text.encode())
    finally:
        channel.close()


def read_until(channel: Channel, expected: bytes) -> bytes:
    """Read until ``expected`` appears on stdout; return the output up to then."""
    received = b""
    end = time.monotonic() + WAIT_TIMEOUT
    while expected not in received:
        chunk = channel.read(end - time.monotonic())
        received += chunk.stdout
        assert not chunk.eof, f"the shell ended after {received!r}"
        assert time.monotonic() < end, f"only {received!r} came"
    return received
