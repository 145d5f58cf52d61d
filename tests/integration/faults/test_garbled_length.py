"""A packet with a corrupt length from a peer that continues to send.

All bytes that follow are taken for the rest of the packet.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.transports import TransportRegistry
from tests.sshd import START_TIMEOUT, SshdServer
from tests.support.fault_proxy import FaultProxy
from tests.support.shell_talk import read_until

QUIET, TALKS = b"echo up\n", b"echo up; while sleep .02; do echo on; done\n"


@pytest.mark.parametrize(
    ("script", "byte", "cause"),
    [
        (TALKS, 0, "packet too long: "),
        (QUIET, 2, "no reply to keepalives"),
        (TALKS, 2, "no complete packet received"),
    ],
    ids=["longer than any", "only keepalives", "output"],
)
def test_a_garbled_length_is_not_waited_for(
    sshd: SshdServer, tmp_path: Path, script: bytes, byte: int, cause: str
) -> None:
    known = tmp_path / "known_hosts"
    with (
        closing(FaultProxy(sshd.port)) as proxy,
        closing(
            TransportRegistry(home=tmp_path, environ={}, system_config=tmp_path / "none")
        ) as connector,
    ):
        known.write_text(f"[*]:{proxy.port} {sshd.host_key}\n")
        connect = sshd.connect_options(known_hosts=(str(known),), keepalive=0.3)
        channel = connector.connect(
            sshd.inventory_host(connect=replace(connect, port=proxy.port))
        ).open()
        channel.write(script)
        read_until(channel, b"up")
        proxy.corrupt_byte(byte, 0x7F)
        end = time.monotonic() + START_TIMEOUT
        while not (chunk := channel.read(end - time.monotonic())).eof:
            assert time.monotonic() < end, "it is waited for"
        assert chunk.eof
        assert cause in channel.cause()
