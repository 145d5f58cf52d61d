"""A program that holds a connection by the system's ssh, with a process running on the host.

Arguments: the port, the private key, the known_hosts file, the ssh_config, seconds to sleep there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from orchestrator.errors import SourcePosition
from orchestrator.model.command import StepCommand
from orchestrator.model.host import ConnectionOptions, Host
from orchestrator.remote_shell import ShellSession
from orchestrator.transports import TransportRegistry
from tests.support.session_recording import WAIT_TIMEOUT, PipelineThread


def main(port: str, key: str, known: str, config: str, seconds: str) -> None:
    connector = TransportRegistry(home=Path(known).parent, environ={}, ssh_config=config)
    connect = ConnectionOptions(
        "127.0.0.1",
        int(port),
        identity=(key,),
        known_hosts=(known,),
        transport="openssh",
    )
    connection = connector.connect(Host("h", connect, (), (), SourcePosition("test")))
    running = PipelineThread(
        ShellSession(connection.open(), ready_timeout=WAIT_TIMEOUT),
        StepCommand(1, f"sleep {seconds}"),
    )
    running.recording.began.wait()
    print("begun", flush=True)
    time.sleep(1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
