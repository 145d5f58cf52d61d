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
from zlib import crc32

import pytest
from msgspec.structs import replace

from orchestrator.errors import SourcePosition
from orchestrator.model.host import ConnectionOptions, Host
from orchestrator.remote_shell import ShellSession
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports import TransportRegistry
from orchestrator.transports.local import LocalConnection
from tests.sshd import SshdServer, sshd
from tests.support.broker import BrokerOfTests, broker
from tests.support.session_recording import (
    SHELLS,
    WAIT_TIMEOUT,
    RecordingChannel,
    make_shell_folder,
    processes_with,
    wait_until,
)

__all__ = ["broker", "sshd"]  # fixtures: one of each for all of these tests

ConnectionFactory = Callable[[str, Path, pytest.FixtureRequest], AbstractContextManager[Connection]]


@contextmanager
def local_connection(
    shell: str, folder: Path, request: pytest.FixtureRequest
) -> Iterator[Connection]:
    folder.mkdir()
    home = folder / "home"
    home.mkdir()
    path = f"{make_shell_folder(folder / 'bin', shell)}:{os.environ['PATH']}"
    with closing(LocalConnection("sh", {"PATH": path, "HOME": str(home)})) as connection:
        yield connection


@contextmanager
def ssh_connection(
    shell: str, folder: Path, request: pytest.FixtureRequest
) -> Iterator[Connection]:
    server: SshdServer = request.getfixturevalue("sshd")
    connect = server.connect_options(shell=wrapped_shell(shell, folder))
    with closing(TransportRegistry(home=folder, environ={})) as connector:
        yield connector.connect(server.inventory_host(connect=connect))


@contextmanager
def openssh_connection(
    shell: str, folder: Path, request: pytest.FixtureRequest
) -> Iterator[Connection]:
    server: SshdServer = request.getfixturevalue("sshd")
    connect = replace(
        server.connect_options(shell=wrapped_shell(shell, folder)), transport="openssh"
    )
    with closing(
        TransportRegistry(home=folder, environ={}, ssh_config=write_fast_config(folder))
    ) as connector:
        yield connector.connect(server.inventory_host(connect=connect))


@contextmanager
def sandbox_connection(
    shell: str, folder: Path, request: pytest.FixtureRequest
) -> Iterator[Connection]:
    connect = ConnectionOptions(
        "web1", transport="sandbox", shell=wrapped_shell(shell, folder), timeout=WAIT_TIMEOUT
    )
    with closing(
        TransportRegistry(home=folder, environ={}, sandbox_folder=folder / "sandbox")
    ) as connector:
        yield connector.connect(Host("web1", connect, (), (), SourcePosition("test")))


@contextmanager
def warm_connection(
    shell: str, folder: Path, request: pytest.FixtureRequest
) -> Iterator[Connection]:
    """Yield what an earlier command has left with the broker, with a prepared shell."""
    server: SshdServer = request.getfixturevalue("sshd")
    broker: BrokerOfTests = request.getfixturevalue("broker")
    connect = replace(server.connect_options(shell=wrapped_shell(shell, folder)), persist=600.0)
    host = replace(server.inventory_host(connect=connect), name=f"warm-{uuid4().hex}")
    with closing(broker.transports(folder)) as earlier:
        earlier.connect(host).close()
    broker.wait_for_shells(host.name, 1)
    with closing(broker.transports(folder)) as connector:
        yield connector.connect(host)
    broker.close_host(host.name)


def write_fast_config(folder: Path) -> str:
    """Write an ssh_config with a cheap key exchange (ssh's default takes 66 ms of CPU)."""
    config = folder / "ssh_config"
    config.write_text("KexAlgorithms curve25519-sha256\n")
    return str(config)


def wrapped_shell(shell: str, folder: Path) -> str:
    """Return a command that runs the shell so that `sh` is that shell for its children too."""
    folder.mkdir(exist_ok=True)
    return f"env PATH={make_shell_folder(folder / 'bin', shell)}:{os.environ['PATH']} sh"


TRANSPORTS: dict[str, ConnectionFactory] = {
    "local": local_connection,
    "ssh": ssh_connection,
    "openssh": openssh_connection,
    "sandbox": sandbox_connection,
    "warm": warm_connection,
}

# ssh has shown by then what shells differ in, and each round takes half a minute
ROUNDS = [(t, s) for t in TRANSPORTS for s in SHELLS if t != "openssh" or s == "dash"]


class ConformanceHosts(Protocol):
    """What a pytest plugin called "elsewhere" is: hosts to run all of it on in place of these."""

    rounds: Sequence[tuple[str, str]]

    def connection(
        self, case: tuple[str, str], folder: Path
    ) -> AbstractContextManager[Connection]: ...


def conformance_hosts(config: pytest.Config) -> ConformanceHosts | None:
    """Return the plugin that brings its own hosts, or None."""
    plugin: ConformanceHosts | None = config.pluginmanager.get_plugin("elsewhere")
    return plugin


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize ``connection``; a test module's own ROUNDS override those here."""
    if "connection" in metafunc.fixturenames:
        other = conformance_hosts(metafunc.config)
        rounds = other.rounds if other else getattr(metafunc.module, "ROUNDS", ROUNDS)
        marked = rounds if other else [*marked_rounds(rounds, metafunc.function.__name__)]
        metafunc.parametrize("connection", marked, ids="-".join, indirect=True)


def marked_rounds(rounds: Sequence[tuple[str, str]], test: str) -> Iterator[object]:
    """Yield the rounds; of the transports after the first, those of all shells but one are long.

    What shells differ in, they do over the first one (local) as well. Which shell is kept differs
    by test and transport.
    """
    first = rounds[0][0]
    for transport, shell in rounds:
        shells = [other for name, other in rounds if name == transport]
        kept = shells[crc32(f"{test} {transport}".encode()) % len(shells)]
        is_long = transport != first and shell != kept
        yield pytest.param((transport, shell), marks=[pytest.mark.long] if is_long else [])


@pytest.fixture
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    if other := conformance_hosts(request.config):
        with other.connection(request.param, tmp_path) as connection:
            yield connection
        return
    transport, shell = request.param
    with TRANSPORTS[transport](shell, tmp_path / "host", request) as connection:
        yield connection


@pytest.fixture
def channel(connection: Connection) -> Iterator[RecordingChannel]:
    with closing(RecordingChannel(connection.open())) as channel:
        yield channel


@pytest.fixture
def session(channel: RecordingChannel) -> Iterator[ShellSession]:
    with closing(ShellSession(channel, ready_timeout=WAIT_TIMEOUT)) as session:
        yield session


@pytest.fixture
def mark() -> Iterator[str]:
    """Seconds to `sleep` that no other process sleeps; nobody may still do when the test ends."""
    mark = f"98765.{uuid4().int}"
    yield mark
    wait_until(lambda: not processes_with(mark), "the end of all that the test started")
