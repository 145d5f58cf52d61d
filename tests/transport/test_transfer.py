"""A transfer whose connection really breaks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.remote_shell.transfer import Failure, TransferError, receive, send
from orchestrator.transports import Connector
from tests.sshd import Sshd, serve

PATIENCE = 30.0


@pytest.mark.parametrize("left", [0, 100_000])
def test_server_that_dies_is_a_cut(tmp_path: Path, connector: Connector, left: int) -> None:
    with serve(tmp_path / "sshd") as sshd:
        channel = connector.connect(sshd.host()).open()

        def data() -> Iterator[bytes]:
            yield bytes(100_000)
            for child in sshd.children():
                os.kill(child, signal.SIGKILL)
            yield bytes(left)

        script = f"exec cat >{tmp_path}/file"
        with pytest.raises(TransferError) as caught:
            send(channel, script, data(), timeout=PATIENCE, stopping=lambda: False)
        assert caught.value.how is Failure.CUT


def test_server_that_dies_while_we_listen_is_a_cut(tmp_path: Path, connector: Connector) -> None:
    with serve(tmp_path / "sshd") as sshd:
        channel = connector.connect(sshd.host()).open()

        def take(_: bytes) -> None:
            for child in sshd.children():
                os.kill(child, signal.SIGKILL)

        with pytest.raises(TransferError) as caught:
            receive(
                channel, "echo x; sleep 1; echo y", take, timeout=PATIENCE, stopping=lambda: False
            )
        assert caught.value.how is Failure.CUT


def test_child_that_is_left_behind_does_not_hang_it(sshd: Sshd, connector: Connector) -> None:
    channel = connector.connect(sshd.host()).open()
    said = send(
        channel, "cat; sleep 1000 & echo $!", [b"x "], timeout=PATIENCE, stopping=lambda: False
    )
    data, pid = said.split()
    os.kill(int(pid), signal.SIGKILL)
    assert data == "x"
