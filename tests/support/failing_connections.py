"""A program that opens connections which fail in many ways, and prints only how.

Arguments: the private key, the known_hosts file, the port of a server and two unused ports.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from msgspec.structs import replace

from orchestrator.errors import ConnectError, SourcePosition
from orchestrator.model.host import ConnectionOptions, Host
from orchestrator.transports import TransportRegistry
from tests.support.shell_talk import read_until


def main(key: str, known: str, *ports: str) -> None:
    connector = TransportRegistry(home=Path(known).parent, environ={})
    good = ConnectionOptions(
        "127.0.0.1",
        int(ports[0]),
        identity=(key,),
        identities_only=True,
        known_hosts=(known, known),
    )
    channel = connector.connect(make_host(good)).open()
    channel.write(b"echo $PPID; exec cat\n")
    os.kill(int(read_until(channel, b"\n")), signal.SIGKILL)
    while not channel.read(20.0).eof:
        pass
    print("cut")
    bad = [replace(good, user="nobody-at-all")]
    bad += [replace(good, port=int(port), retries=1) for port in ports[1:]]
    for connect in bad:
        try:
            connector.connect(make_host(connect))
        except ConnectError as error:
            print(error.phase)
    connector.close()


def make_host(connect: ConnectionOptions) -> Host:
    return Host("h", connect, (), (), SourcePosition("test"))


if __name__ == "__main__":
    main(*sys.argv[1:])
