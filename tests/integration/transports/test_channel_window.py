"""The receive window of a channel: small at first, larger if the reader waits for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import pytest

from orchestrator.transports import TransportRegistry
from orchestrator.transports.ssh.channels import INITIAL_WINDOW, MAX_WINDOW, ShellChannel
from tests.sshd import START_TIMEOUT, SshdServer, wait_until

MANY = 20_000_000


@pytest.fixture
def flooding_shell(sshd: SshdServer, connector: TransportRegistry) -> Iterator[ShellChannel]:
    """Yield a shell that prints without end."""
    shell = cast(ShellChannel, connector.connect(sshd.inventory_host()).open())
    shell.write(b"exec cat /dev/zero\n")
    yield shell
    shell.close()


def unread_bytes(shell: ShellChannel) -> int:
    """Return the number of bytes that have arrived and were not read."""
    return sum(map(len, shell._out))


def test_flood_that_nobody_reads_stops_at_the_first_window(flooding_shell: ShellChannel) -> None:
    wait_until(lambda: unread_bytes(flooding_shell) >= INITIAL_WINDOW, "the window to be used up")
    assert len(flooding_shell.read(START_TIMEOUT).stdout) == INITIAL_WINDOW


def test_window_grows_where_reading_waits_and_shrinks_where_data_lies_about(
    flooding_shell: ShellChannel,
) -> None:
    end = time.monotonic() + START_TIMEOUT
    while flooding_shell.granted_window < MAX_WINDOW and time.monotonic() < end:
        flooding_shell.read(START_TIMEOUT)
    assert flooding_shell.granted_window == MAX_WINDOW

    def shrunk() -> bool:
        most = flooding_shell.granted_window
        wait_until(lambda: unread_bytes(flooding_shell) >= most // 2, "data to lie about")
        flooding_shell.read(START_TIMEOUT)
        return flooding_shell.granted_window == INITIAL_WINDOW

    wait_until(shrunk, "the window to shrink")
    wait_until(lambda: unread_bytes(flooding_shell) >= INITIAL_WINDOW, "the window to be used up")
    assert len(flooding_shell.read(START_TIMEOUT).stdout) == INITIAL_WINDOW


def test_all_of_it_arrives_however_the_window_moves(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    shell = cast(ShellChannel, connector.connect(sshd.inventory_host()).open())
    shell.write(b"exec head -c %d /dev/zero\n" % MANY)
    count, eof, reads = 0, False, 0
    while not eof:
        chunk = shell.read(START_TIMEOUT)
        count, eof, reads = count + len(chunk.stdout), chunk.eof, reads + 1
        if not eof and not reads % 16:
            wait_until(
                lambda: unread_bytes(shell) >= INITIAL_WINDOW // 2 or shell.exit_status() == 0,
                "data",
            )
    assert count == MANY
