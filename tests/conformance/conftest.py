"""The matrix: every transport with every shell.

To add a transport, add a function to TRANSPORTS that takes the shell's name, a folder to be made
and the request, and yields a Connection to this machine, on which `sh` is that shell.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest
from msgspec.structs import replace

from orchestrator.errors import Mark
from orchestrator.model.host import Connect, Host
from orchestrator.remote_shell import Session
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports import Connector
from orchestrator.transports.local import LocalConnection
from tests.session.heard import PATIENCE, SHELLS, Overheard, processes, shell_folder, until
from tests.sshd import Sshd, sshd

__all__ = ["sshd"]  # a fixture: one server for all of these tests

Factory = Callable[[str, Path, pytest.FixtureRequest], AbstractContextManager[Connection]]


@contextmanager
def local(shell: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Connection]:
    folder.mkdir()
    home = folder / "home"
    home.mkdir()
    path = f"{shell_folder(folder / 'bin', shell)}:{os.environ['PATH']}"
    with closing(LocalConnection("sh", {"PATH": path, "HOME": str(home)})) as connection:
        yield connection


@contextmanager
def ssh(shell: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Connection]:
    server: Sshd = request.getfixturevalue("sshd")
    connect = server.connect(shell=remote(shell, folder))
    with closing(Connector(home=folder, environ={})) as connector:
        yield connector.connect(server.host(connect=connect))


@contextmanager
def openssh(shell: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Connection]:
    server: Sshd = request.getfixturevalue("sshd")
    connect = replace(server.connect(shell=remote(shell, folder)), transport="openssh")
    with closing(Connector(home=folder, environ={}, ssh_config=quick(folder))) as connector:
        yield connector.connect(server.host(connect=connect))


@contextmanager
def sandbox(shell: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Connection]:
    connect = Connect("web1", transport="sandbox", shell=remote(shell, folder), timeout=PATIENCE)
    with closing(Connector(home=folder, environ={}, sandbox=folder / "sandbox")) as connector:
        yield connector.connect(Host("web1", connect, (), (), Mark("test")))


def quick(folder: Path) -> str:
    """An ssh_config with a key exchange that costs little; ssh's usual one takes 66 ms of CPU."""
    config = folder / "ssh_config"
    config.write_text("KexAlgorithms curve25519-sha256\n")
    return str(config)


def remote(shell: str, folder: Path) -> str:
    """What runs the shell so that it is `sh` to what it runs, too."""
    folder.mkdir(exist_ok=True)
    return f"env PATH={shell_folder(folder / 'bin', shell)}:{os.environ['PATH']} sh"


TRANSPORTS: dict[str, Factory] = {
    "local": local,
    "ssh": ssh,
    "openssh": openssh,
    "sandbox": sandbox,
}

# ssh has shown by then what shells differ in, and each round takes half a minute
ROUNDS = [(t, s) for t in TRANSPORTS for s in SHELLS if t != "openssh" or s == "dash"]


class Elsewhere(Protocol):
    """What a pytest plugin called "elsewhere" is: hosts to run all of it on in place of these."""

    rounds: Sequence[tuple[str, str]]

    def connection(
        self, case: tuple[str, str], folder: Path
    ) -> AbstractContextManager[Connection]: ...


def elsewhere(config: pytest.Config) -> Elsewhere | None:
    """The plugin, where there is one."""
    plugin: Elsewhere | None = config.pluginmanager.get_plugin("elsewhere")
    return plugin


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module's own ROUNDS win over those of this one."""
    if "connection" in metafunc.fixturenames:
        other = elsewhere(metafunc.config)
        rounds = other.rounds if other else getattr(metafunc.module, "ROUNDS", ROUNDS)
        metafunc.parametrize("connection", rounds, ids="-".join, indirect=True)


@pytest.fixture
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    if other := elsewhere(request.config):
        with other.connection(request.param, tmp_path) as connection:
            yield connection
        return
    transport, shell = request.param
    with TRANSPORTS[transport](shell, tmp_path / "host", request) as connection:
        yield connection


@pytest.fixture
def channel(connection: Connection) -> Iterator[Overheard]:
    with closing(Overheard(connection.open())) as channel:
        yield channel


@pytest.fixture
def session(channel: Overheard) -> Iterator[Session]:
    with closing(Session(channel, ready_timeout=PATIENCE)) as session:
        yield session


@pytest.fixture
def mark() -> Iterator[str]:
    """Seconds to `sleep` that no other process sleeps; nobody may still do when the test ends."""
    mark = f"98765.{uuid4().int}"
    yield mark
    until(lambda: not processes(mark), "the end of all that the test started")
