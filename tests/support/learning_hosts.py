"""A program that connects to new hosts, one after the other.

Arguments: the port, the private key, the known_hosts file, addresses.
"""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.errors import SourcePosition
from orchestrator.model.host import ConnectionOptions, Host
from orchestrator.transports import TransportRegistry


def main(port: str, key: str, known: str, *addresses: str) -> None:
    connector = TransportRegistry(
        system_config=Path("/nonexistent"), home=Path(known).parent, environ={}
    )
    for address in addresses:
        connect = ConnectionOptions(
            address,
            int(port),
            identity=(key,),
            identities_only=True,
            known_hosts=(known,),
            host_keys="accept-new",
        )
        connector.connect(Host(address, connect, (), (), SourcePosition("test")))
    connector.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
