"""Connections and sessions that are kept from one run to the next, over a real sshd."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import ConnectError
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.connection_pool import ConnectionPool
from orchestrator.executor.kept_connections import KeptConnections
from orchestrator.executor.remote_query import run_remote_query
from orchestrator.model.host import Host
from orchestrator.remote_shell import SessionLostError, ShellSession
from orchestrator.transports import TransportRegistry
from tests.sshd import SshdServer


class Runs:
    """Runs on one host, each with its own pool, over the same kept connections."""

    def __init__(self, host: Host, transports: TransportRegistry) -> None:
        self.host, self.transports = host, transports
        self.kept = KeptConnections()
        self.connects = 0

    def connect(self, host: Host) -> object:
        self.connects += 1
        return self.transports.connect(host)

    def pool(self, run: str = "") -> ConnectionPool:
        return ConnectionPool(
            {self.host.name: self.host},
            self.connect,  # type: ignore[arg-type]
            lambda _event: None,
            CancelToken(),
            run,
            self.kept,
        )

    def ask(self, script: str, user: str = "", run: str = "") -> str:
        """Run a script in a run of its own, and return its output."""
        pool = self.pool(run)
        try:
            return run_remote_query(pool.session(self.host.name, None, user), script).stdout
        finally:
            pool.release(self.host.name)

    def session(self) -> ShellSession:
        """Return the idle session of the login user."""
        return self.kept._idle[self.host.name].sessions[""]


@pytest.fixture
def runs(sshd: SshdServer, tmp_path: Path) -> Iterator[Runs]:
    transports = TransportRegistry(home=tmp_path, environ={})
    runs = Runs(sshd.inventory_host("127.0.0.31"), transports)
    yield runs
    runs.kept.close()
    transports.close()


def test_the_next_run_gets_the_same_shell_with_its_own_id(runs: Runs) -> None:
    first = runs.ask("echo $PPID $ORCH_RUN", run="1")
    assert runs.ask("echo $PPID $ORCH_RUN", run="2") == first.replace(" 1", " 2")
    assert runs.ask("echo $PPID ${ORCH_RUN-none}") == first.replace(" 1", " none")
    assert runs.connects == 1


def test_each_user_has_a_session_that_is_kept(runs: Runs) -> None:
    first = runs.ask("id -un; echo $PPID", "nobody")
    assert first.startswith("nobody\n")
    assert runs.ask("id -un; echo $PPID") not in first
    assert runs.ask("id -un; echo $PPID", "nobody") == first
    assert runs.connects == 1


def test_a_shell_that_is_gone_is_replaced_on_the_same_connection(runs: Runs) -> None:
    first = runs.ask("echo $PPID")
    os.kill(int(first), signal.SIGKILL)
    second = runs.ask("echo $PPID")
    assert second.strip().isdigit()
    assert second != first
    assert runs.connects == 1


def test_a_session_that_was_cancelled_is_not_handed_out_again(runs: Runs, tmp_path: Path) -> None:
    runs.ask("true")
    os.mkfifo(tmp_path / "gate")
    pool = runs.pool()
    session = pool.session(runs.host.name, None)
    running = threading.Thread(target=run_remote_query, args=(session, f": >{tmp_path}/gate"))
    running.start()
    (tmp_path / "gate").read_bytes()
    session.cancel()
    running.join()
    pool.release(runs.host.name)
    assert runs.ask("echo here") == "here"
    assert runs.connects == 1


def test_a_host_whose_connection_is_gone_is_connected_anew(runs: Runs) -> None:
    parent = runs.ask("ps -o ppid= -p $PPID")
    os.kill(int(parent), signal.SIGKILL)
    assert runs.ask("echo here") == "here"
    assert runs.connects == 2


def test_a_host_that_does_not_answer_is_connected_anew(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.executor.kept_connections._ANSWER_TIMEOUT", 0.2)
    stopped = int(runs.ask("ps -o ppid= -p $PPID"))
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert runs.ask("echo here") == "here"
    finally:
        os.kill(stopped, signal.SIGKILL)
    assert runs.connects == 2


def test_disconnect_loses_the_hosts_in_use_only(runs: Runs) -> None:
    runs.ask("true")
    runs.kept.disconnect()
    pool = runs.pool()
    session = pool.session(runs.host.name, None)
    assert runs.connects == 1
    runs.kept.disconnect()
    with pytest.raises((SessionLostError, ConnectError)):
        run_remote_query(session, "echo here")
    pool.release(runs.host.name)
    assert runs.ask("echo here") == "here"
    assert runs.connects == 2


def test_a_session_beside_the_kept_ones_needs_a_connection(runs: Runs) -> None:
    with pytest.raises(ConnectError, match="is not connected"):
        runs.kept.open_session(runs.host)
    first = runs.ask("echo $PPID")
    beside = runs.kept.open_session(runs.host)
    assert run_remote_query(beside, "echo $PPID").stdout not in first
    beside.close()
    assert runs.ask("echo $PPID") == first
