"""Talking to a shell over a channel, as the session does: reading never stops for writing."""

from __future__ import annotations

import time
from dataclasses import dataclass

from orchestrator.remote_shell.channel_protocol import Channel, Connection

PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Said:
    """All that a shell wrote until its end, and how it ended."""

    stdout: bytes
    stderr: bytes
    status: int | None


def talk(channel: Channel, text: bytes, *, eof: bool = True) -> Said:
    """Write ``text``, then EOF, and read to the end."""
    stdout, stderr, rest = [], [], memoryview(text)
    end = time.monotonic() + PATIENCE
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
            return Said(b"".join(stdout), b"".join(stderr), channel.exit_status())
        assert time.monotonic() < end, "the shell does not end"


def ask(connection: Connection, text: str) -> Said:
    """A shell of its own for ``text``."""
    channel = connection.open()
    try:
        return talk(channel, text.encode())
    finally:
        channel.close()


def hear(channel: Channel, wanted: bytes) -> bytes:
    """Read until ``wanted`` was on stdout; what came with it."""
    heard = b""
    end = time.monotonic() + PATIENCE
    while wanted not in heard:
        chunk = channel.read(end - time.monotonic())
        heard += chunk.stdout
        assert not chunk.eof, f"the shell ended after {heard!r}"
        assert time.monotonic() < end, f"only {heard!r} came"
    return heard
