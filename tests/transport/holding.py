"""Run as a program: hold a connection by the system's ssh, with a process at work on the host.

Arguments: the port, the private key, the known_hosts file, the ssh_config, seconds to sleep there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from orchestrator.errors import Mark
from orchestrator.model.command import Command
from orchestrator.model.host import Connect, Host
from orchestrator.remote_shell import Session
from orchestrator.transports import Connector
from tests.session.heard import PATIENCE, Running


def main(port: str, key: str, known: str, config: str, seconds: str) -> None:
    connector = Connector(home=Path(known).parent, environ={}, ssh_config=config)
    connect = Connect(
        "127.0.0.1",
        int(port),
        identity=(key,),
        known_hosts=(known,),
        transport="openssh",
    )
    connection = connector.connect(Host("h", connect, (), (), Mark("test")))
    running = Running(
        Session(connection.open(), ready_timeout=PATIENCE), Command(1, f"sleep {seconds}")
    )
    running.heard.began.wait()
    print("begun", flush=True)
    time.sleep(1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
