"""What the transports' tests share: the OpenSSH server, connectors that end, and leak checks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.transports import Connector
from tests.sshd import until


@pytest.fixture
def make_connector(tmp_path: Path) -> Iterator[Callable[..., Connector]]:
    """Makes connectors whose home is empty, and closes them."""
    home = tmp_path / "home"
    made: list[Connector] = []

    def make(
        environ: dict[str, str] | None = None, *, record: bool = True, sandbox: Path | None = None
    ) -> Connector:
        made.append(
            Connector(
                record=record,
                sandbox=sandbox,
                home=home,
                environ=environ or {},
                system=home / "no-ssh_config",
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def connector(make_connector: Callable[..., Connector]) -> Connector:
    """One of these."""
    return make_connector()


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No thread and no descriptor stays behind after any test, once its connectors are closed."""
    if "sshd" in request.fixturenames:
        request.getfixturevalue("sshd")  # the session's server and its files come first
    threads, files = set(threading.enumerate()), descriptors()
    yield
    until(lambda: set(threading.enumerate()) <= threads, "the threads to end")
    until(lambda: descriptors() <= files, "the descriptors to be closed")


def descriptors() -> int:
    """How many are open."""
    return sum(1 for _ in Path("/dev/fd").iterdir())
