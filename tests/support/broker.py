"""A broker for tests: its sockets are in a folder of the tests' own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.transports import TransportRegistry
from orchestrator.transports.broker.broker_client import end_broker, query_status
from orchestrator.transports.broker.messages import KeptConnectionStatus
from tests.support.session_recording import wait_until


class BrokerOfTests:
    """The broker of a project; it starts when a command needs it."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.project.mkdir()
        # not in the folder: the path of a socket has about 100 bytes
        runtime = Path(tempfile.mkdtemp(prefix="orch-broker-"))
        self.environ: dict[str, str] = {
            "PATH": os.environ["PATH"],
            "XDG_RUNTIME_DIR": str(runtime),
        }

    def transports(self, home: Path, **options: Any) -> TransportRegistry:
        """Return the transports of a command that keeps its connections."""
        environ: Mapping[str, str] = {**self.environ, **options.pop("environ", {})}
        return TransportRegistry(home=home, environ=environ, project=self.project, **options)

    @property
    def pid(self) -> int:
        """The broker's process ID; 0 if it does not run."""
        status = query_status(self.project, self.environ)
        return status.pid if status else 0

    def kept(self, host: str) -> list[KeptConnectionStatus]:
        """Return the kept connections of a host."""
        status = query_status(self.project, self.environ)
        return [kept for kept in status.hosts if kept.host == host] if status else []

    def wait_for_shells(self, host: str, count: int) -> None:
        """Wait until this number of shells is prepared for the host."""
        wait_until(lambda: sum(kept.shells for kept in self.kept(host)) >= count, "prepared shells")

    def close_host(self, host: str) -> None:
        """Close the kept connections of a host."""
        end_broker(self.project, self.environ, [host])

    def end(self) -> None:
        """End the broker, and wait until it has ended."""
        pid = self.pid
        end_broker(self.project, self.environ)
        if pid:
            wait_until(lambda: not Path(f"/proc/{pid}/fd").exists(), "the broker's end")
        for log in Path(self.environ["XDG_RUNTIME_DIR"]).glob("orch/*.log"):
            assert not log.read_text(), log.read_text()

    def close(self) -> None:
        """End the broker, and remove the folder of its socket."""
        self.end()
        shutil.rmtree(self.environ["XDG_RUNTIME_DIR"])


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerOfTests]:
    """Yield a broker that all tests can use."""
    created = BrokerOfTests(tmp_path_factory.mktemp("broker"))
    yield created
    created.close()
