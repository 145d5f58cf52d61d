"""Fixtures for the transports: the OpenSSH server, connectors that are closed, leak checks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.transports import TransportRegistry
from tests.sshd import wait_until
from tests.support.forked_orch import start_fork_server


@pytest.fixture
def make_connector(tmp_path: Path) -> Iterator[Callable[..., TransportRegistry]]:
    """Yield a function that makes registries with an empty home; close them afterwards."""
    home = tmp_path / "home"
    created: list[TransportRegistry] = []

    def make(
        environ: dict[str, str] | None = None, *, record: bool = True, sandbox: Path | None = None
    ) -> TransportRegistry:
        created.append(
            TransportRegistry(
                record_host_keys=record,
                sandbox_folder=sandbox,
                home=home,
                environ=environ or {},
                system_config=home / "no-ssh_config",
            )
        )
        return created[-1]

    yield make
    for one in created:
        one.close()


@pytest.fixture
def connector(make_connector: Callable[..., TransportRegistry]) -> TransportRegistry:
    """Return a registry with an empty home."""
    return make_connector()


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a file descriptor after its connectors are closed."""
    if "sshd" in request.fixturenames:
        request.getfixturevalue("sshd")  # the session's server and its files come first
    if "project" in request.fixturenames:
        start_fork_server()  # so does what the project's runs are forked from
    threads, files = set(threading.enumerate()), open_descriptors()
    yield
    wait_until(lambda: set(threading.enumerate()) <= threads, "the threads to end")
    wait_until(lambda: open_descriptors() <= files, "the descriptors to be closed")


def open_descriptors() -> int:
    """Return the number of open file descriptors."""
    return sum(1 for _ in Path("/dev/fd").iterdir())
