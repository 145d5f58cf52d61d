"""A transfer whose connection is really broken."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.remote_shell.transfer import TransferError, TransferFailure, receive, send
from orchestrator.transports import TransportRegistry
from tests.sshd import SshdServer, serve_sshd

WAIT_TIMEOUT = 30.0


@pytest.mark.parametrize("left", [0, 100_000])
def test_server_that_dies_is_a_cut(tmp_path: Path, connector: TransportRegistry, left: int) -> None:
    with serve_sshd(tmp_path / "sshd") as sshd:
        channel = connector.connect(sshd.inventory_host()).open()

        def data() -> Iterator[bytes]:
            yield bytes(100_000)
            for child in sshd.session_processes():
                os.kill(child, signal.SIGKILL)
            yield bytes(left)

        script = f"exec cat >{tmp_path}/file"
        with pytest.raises(TransferError) as caught:
            send(channel, script, data(), timeout=WAIT_TIMEOUT, stopping=lambda: False)
        assert caught.value.failure is TransferFailure.CUT


def test_server_that_dies_while_we_listen_is_a_cut(
    tmp_path: Path, connector: TransportRegistry
) -> None:
    with serve_sshd(tmp_path / "sshd") as sshd:
        channel = connector.connect(sshd.inventory_host()).open()

        def take(_: bytes) -> None:
            for child in sshd.session_processes():
                os.kill(child, signal.SIGKILL)

        with pytest.raises(TransferError) as caught:
            receive(
                channel,
                "echo x; sleep 1; echo y",
                take,
                timeout=WAIT_TIMEOUT,
                stopping=lambda: False,
            )
        assert caught.value.failure is TransferFailure.CUT


def test_child_that_is_left_behind_does_not_hang_it(
    sshd: SshdServer, connector: TransportRegistry
) -> None:
    channel = connector.connect(sshd.inventory_host()).open()
    output = send(
        channel, "cat; sleep 1000 & echo $!", [b"x "], timeout=WAIT_TIMEOUT, stopping=lambda: False
    )
    data, pid = output.split()
    os.kill(int(pid), signal.SIGKILL)
    assert data == "x"
