"""Data that is sent while the peer closes a channel must not end the other channels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from orchestrator.transports import TransportRegistry
from tests.sshd import SshdServer
from tests.support.shell_talk import read_until


@pytest.fixture
def fast_thread_switching() -> Iterator[None]:
    """Switch threads as often as possible, so that all interleavings occur."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_data_that_meets_the_end_of_its_channel_leaves_the_connection_alone(
    sshd: SshdServer, tmp_path: Path, fast_thread_switching: None
) -> None:
    with closing(
        TransportRegistry(home=tmp_path, environ={}, system_config=tmp_path / "none")
    ) as connector:
        connection = connector.connect(sshd.inventory_host())
        other = connection.open()
        for _ in range(80):
            with closing(connection.open()) as channel, suppress(BrokenPipeError):
                channel.write(b"exit\n")
                while True:
                    channel.write(b"#")
        other.write(b"echo still\n")
        assert read_until(other, b"still")
