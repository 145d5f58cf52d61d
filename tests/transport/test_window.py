"""How much a host may send before it is read: little at first, more where reading waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import pytest

from orchestrator.transports import Connector
from orchestrator.transports.ssh.channels import FIRST, WINDOW, Shell
from tests.sshd import PATIENCE, Sshd, until

MANY = 20_000_000


@pytest.fixture
def flood(sshd: Sshd, connector: Connector) -> Iterator[Shell]:
    """A shell that prints without an end."""
    shell = cast(Shell, connector.connect(sshd.host()).open())
    shell.write(b"exec cat /dev/zero\n")
    yield shell
    shell.close()


def lies(shell: Shell) -> int:
    """Bytes that came and were not read."""
    return sum(map(len, shell._out))


def test_flood_that_nobody_reads_stops_at_the_first_window(flood: Shell) -> None:
    until(lambda: lies(flood) >= FIRST, "the window to be used up")
    assert len(flood.read(PATIENCE).stdout) == FIRST


def test_window_grows_where_reading_waits_and_shrinks_where_data_lies_about(flood: Shell) -> None:
    end = time.monotonic() + PATIENCE
    while flood.allowed < WINDOW and time.monotonic() < end:
        flood.read(PATIENCE)
    assert flood.allowed == WINDOW

    def shrunk() -> bool:
        most = flood.allowed
        until(lambda: lies(flood) >= most // 2, "data to lie about")
        flood.read(PATIENCE)
        return flood.allowed == FIRST

    until(shrunk, "the window to shrink")
    until(lambda: lies(flood) >= FIRST, "the window to be used up")
    assert len(flood.read(PATIENCE).stdout) == FIRST


def test_all_of_it_arrives_however_the_window_moves(sshd: Sshd, connector: Connector) -> None:
    shell = cast(Shell, connector.connect(sshd.host()).open())
    shell.write(b"exec head -c %d /dev/zero\n" % MANY)
    count, eof, reads = 0, False, 0
    while not eof:
        chunk = shell.read(PATIENCE)
        count, eof, reads = count + len(chunk.stdout), chunk.eof, reads + 1
        if not eof and not reads % 16:
            until(lambda: lies(shell) >= FIRST // 2 or shell.exit_status() == 0, "data")
    assert count == MANY
