"""Connections that the broker keeps: like new, used in the same way only, and true when they break.

Which connection a session has, its ``SSH_CONNECTION`` tells: the port of the client's end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.model.command import StepCommand
from orchestrator.model.host import ConnectionOptions, Host
from orchestrator.remote_shell import SessionLostError, ShellSession
from orchestrator.transports import TransportRegistry
from orchestrator.transports.broker import broker_client, kept_connection
from tests.sshd import SshdServer, generate_key, serve_sshd, sshd
from tests.support.broker import BrokerOfTests
from tests.support.false_agents import start_ssh_agent
from tests.support.session_recording import (
    WAIT_TIMEOUT,
    PipelineThread,
    processes_with,
    run_pipeline,
    wait_until,
)

__all__ = ["sshd"]

CONNECTION = StepCommand(1, 'echo "$SSH_CONNECTION"')
STATE = "env | grep -v '^_=' | sort; pwd; umask; ulimit -a; trap; jobs; set | grep -i dirt || :"
DIRT = (
    "cd /; umask 000; export DIRT=1; ulimit -n 50; trap 'echo dirt' EXIT TERM; dirt() { :; }",
    "command -v prlimit >/dev/null && prlimit --pid $PPID --nofile=60:60; :",
    "(while sleep .02; do echo dirt; done) & (while sleep .02; do echo dirt >&2; done) &",
    "command -v setsid >/dev/null && setsid sh -c 'while sleep .02; do echo dirt; done' & :",
    "mkdir -p away && cd away && rmdir ../away",
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerOfTests]:
    created = BrokerOfTests(tmp_path)
    yield created
    created.close()


@pytest.fixture
def host(sshd: SshdServer) -> Host:
    return sshd.inventory_host(connect=replace(sshd.connect_options(), persist=600.0))


def connection_of(transports: TransportRegistry, host: Host) -> bytes:
    """Return what identifies the connection that a session on the host has."""
    with closing(session_on(transports, host)) as session:
        return run_pipeline(session, CONNECTION).stdout_of(1)


def session_on(transports: TransportRegistry, host: Host) -> ShellSession:
    return ShellSession(transports.connect(host).open(), ready_timeout=WAIT_TIMEOUT)


def run_command(broker: BrokerOfTests, host: Host, home: Path) -> bytes:
    """Return the connection of a whole command, which ends."""
    with closing(broker.transports(home)) as transports:
        return connection_of(transports, host)


def test_later_command_has_the_connection_of_an_earlier_one(
    broker: BrokerOfTests, host: Host, tmp_path: Path
) -> None:
    first = run_command(broker, host, tmp_path)
    assert run_command(broker, host, tmp_path) == first
    broker.wait_for_shells(host.name, 1)
    assert run_command(broker, host, tmp_path) == first
    assert run_command(broker, off(host), tmp_path) != first
    assert [kept.endpoint for kept in broker.kept(host.name)] == [
        f"{host.connect.user}@{host.connect.address}:{host.connect.port}"
    ]


def off(host: Host) -> Host:
    return replace(host, connect=replace(host.connect, persist=0.0))


def test_nothing_of_an_earlier_command_is_in_a_kept_shell(
    broker: BrokerOfTests, host: Host, tmp_path: Path
) -> None:
    """Environment, folder, umask, limits, traps, functions, jobs and output are a new shell's."""
    state = StepCommand(1, STATE)
    with (
        closing(TransportRegistry(home=tmp_path, environ={})) as cold,
        closing(session_on(cold, host)) as session,
    ):
        expected = run_pipeline(session, state)
    with (
        closing(broker.transports(tmp_path)) as earlier,
        closing(session_on(earlier, host)) as session,
    ):
        run_pipeline(session, *(StepCommand(n, text) for n, text in enumerate(DIRT, 1)))
        dirty = run_pipeline(session, StepCommand(9, "sleep .1")).stdout_of(9)
    assert b"dirt" in dirty  # what is looked for below does come
    broker.wait_for_shells(host.name, 1)
    with closing(broker.transports(tmp_path)) as later, closing(session_on(later, host)) as session:
        found = run_pipeline(session, state, StepCommand(2, "sleep .2; echo clean"))
    assert without_client_port(found.stdout_of(1)) == without_client_port(expected.stdout_of(1))
    assert (found.stdout_of(2), found.stderr_of(2)) == (b"clean\n", b"")
    assert not found.stdout_of(0)


def without_client_port(state: bytes) -> list[bytes]:
    return [line for line in state.splitlines() if not line.startswith((b"SSH_C", b"PPID"))]


@pytest.mark.parametrize(
    "change",
    [
        lambda connect, _: replace(connect, address="127.0.0.2"),
        lambda connect, _: replace(connect, shell="/bin/sh"),
        lambda connect, _: replace(connect, keepalive=7.0),
        lambda connect, home: replace(connect, known_hosts=(*connect.known_hosts, str(home))),
        lambda connect, _: replace(connect, ssh_options=("SetEnv=LC_TEST=1",)),
        lambda connect, _: replace(connect, ssh_options=("ProxyCommand=nc %h %p",)),
    ],
    ids=["address", "shell", "keepalive", "known_hosts", "ssh_config", "proxy"],
)
def test_connection_is_used_only_for_the_same_way(
    broker: BrokerOfTests,
    host: Host,
    tmp_path: Path,
    change: Callable[[ConnectionOptions, Path], ConnectionOptions],
) -> None:
    first = run_command(broker, host, tmp_path)
    (tmp_path / "empty").touch()
    other = replace(host, connect=change(host.connect, tmp_path / "empty"))
    assert run_command(broker, other, tmp_path) != first
    assert run_command(broker, host, tmp_path) == first


def test_replaced_key_file_connects_anew(
    broker: BrokerOfTests, sshd: SshdServer, host: Host, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_bytes(sshd.key.read_bytes())
    key.chmod(0o600)
    host = replace(host, connect=replace(host.connect, identity=(str(key),)))
    first = run_command(broker, host, tmp_path)
    assert run_command(broker, host, tmp_path) == first
    key.unlink()
    generate_key(key)  # the host does not accept it
    with pytest.raises(ConnectError, match="auth"):
        run_command(broker, host, tmp_path)


def test_revoked_host_key_ends_the_connection(
    broker: BrokerOfTests, sshd: SshdServer, host: Host, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.write_bytes(sshd.known_hosts.read_bytes())
    host = replace(host, connect=replace(host.connect, known_hosts=(str(known),)))
    first = run_command(broker, host, tmp_path)
    known.write_text(f"# a line more\n{known.read_text()}")
    assert run_command(broker, host, tmp_path) == first
    known.write_text(f"@revoked * {sshd.host_key}\n{known.read_text()}")
    with pytest.raises(ConnectError, match="revoked"):
        run_command(broker, host, tmp_path)
    assert not broker.kept(host.name)


def test_key_that_left_the_agent_ends_the_connection(
    broker: BrokerOfTests, sshd: SshdServer, host: Host, tmp_path: Path
) -> None:
    sock = tmp_path / "agent"
    connect = replace(host.connect, identity=(), identities_only=None)
    host = replace(host, connect=connect)
    environ = {"SSH_AUTH_SOCK": str(sock)}
    with start_ssh_agent(sock, sshd.key):

        def run() -> bytes:
            with closing(broker.transports(tmp_path, environ=environ)) as transports:
                return connection_of(transports, host)

        first = run()
        assert run() == first
        subprocess.run(["ssh-add", "-qD"], env={**os.environ, **environ}, check=True)
        with pytest.raises(ConnectError, match="auth"):
            run()


def test_forwarded_agent_is_never_kept(broker: BrokerOfTests, host: Host, tmp_path: Path) -> None:
    host = replace(host, connect=replace(host.connect, forward_agent=True))
    run_command(broker, host, tmp_path)
    assert not broker.pid


@pytest.mark.parametrize("keeps", [True, False])
def test_shells_of_other_users_are_kept_only_if_wanted(
    broker: BrokerOfTests, host: Host, tmp_path: Path, keeps: bool
) -> None:
    host = replace(host, connect=replace(host.connect, persist_become=keeps))
    for number in range(2):
        with closing(broker.transports(tmp_path)) as transports:
            channel = transports.connect(host).open("daemon")
            assert (channel.prepared_shell() is not None) == (keeps and number == 1)
            with closing(ShellSession(channel, ready_timeout=WAIT_TIMEOUT)) as session:
                told = run_pipeline(session, StepCommand(1, "id -un; echo $HOME"))
                assert told.stdout_of(1).startswith(b"daemon\n/")
        broker.wait_for_shells(host.name, 2 if keeps else 1)


@pytest.mark.parametrize("harm", ["link", "open", "file"])
def test_folder_that_others_could_use_is_refused(
    broker: BrokerOfTests, host: Host, tmp_path: Path, harm: str
) -> None:
    folder = Path(broker.environ["XDG_RUNTIME_DIR"]) / "orch"
    if harm == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif harm == "open":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        folder.touch()
    warnings: list[str] = []
    with closing(broker.transports(tmp_path, warn=warnings.append)) as transports:
        assert connection_of(transports, host)
    assert len(warnings) == 1 and str(folder) in warnings[0]
    if harm != "open":
        folder.unlink()
    else:
        folder.rmdir()


def test_killed_broker_loses_a_step_and_nothing_is_sent_again(
    broker: BrokerOfTests, host: Host, tmp_path: Path
) -> None:
    """Before something was sent, the host is connected to without the broker."""
    log = tmp_path / "log"
    log.touch()
    with closing(broker.transports(tmp_path)) as transports:
        connection = transports.connect(host)
        with closing(ShellSession(connection.open(), ready_timeout=WAIT_TIMEOUT)) as session:
            running = PipelineThread(session, StepCommand(1, f"echo x >>{log}; sleep 4711.4711"))
            wait_until(log.read_text, "the step to begin")
            os.kill(broker.pid, signal.SIGKILL)
            with pytest.raises(SessionLostError, match="the broker that keeps connections"):
                running.wait()
        wait_until(lambda: not processes_with("4711.4711"), "the step's end on the host")
        with closing(ShellSession(connection.open(), ready_timeout=WAIT_TIMEOUT)) as session:
            assert run_pipeline(session, CONNECTION).stdout_of(1)
    assert log.read_text() == "x\n"
    assert run_command(broker, host, tmp_path)


def test_prepared_shell_knows_its_run_and_leaves_the_note_of_its_session(
    broker: BrokerOfTests, sshd: SshdServer, host: Host, tmp_path: Path
) -> None:
    run_command(broker, host, tmp_path)
    broker.wait_for_shells(host.name, 1)
    with closing(broker.transports(tmp_path)) as transports:
        channel = transports.connect(host).open()
        prepared = channel.prepared_shell()
        assert prepared is not None
        with closing(
            ShellSession(channel, ready_timeout=WAIT_TIMEOUT, run="RUN", session_id="5e5510")
        ) as session:
            told = run_pipeline(session, StepCommand(1, "echo $ORCH_RUN $PPID"))
            assert told.stdout_of(1).split()[0] == b"RUN"
            assert session.shell_pid == prepared.pid
            running = PipelineThread(
                session, StepCommand(2, "echo $PPID"), StepCommand(3, "sleep 4714.4714")
            )
            wait_until(lambda: processes_with("4714.4714"), "the step to begin")
            os.kill(broker.pid, signal.SIGKILL)
            with pytest.raises(SessionLostError):
                running.wait()
    note = sshd.home / ".orch/ended/5e5510"
    wait_until(note.exists, "the note")
    assert note.read_text() == "3 2\n"
    note.unlink()


def test_closed_connection_ends_a_running_step(
    broker: BrokerOfTests, host: Host, tmp_path: Path
) -> None:
    """Also of a command that was killed: its sockets are closed by the system."""
    transports = broker.transports(tmp_path)
    session = session_on(transports, host)
    running = PipelineThread(session, StepCommand(1, "sleep 4712.4712"))
    wait_until(lambda: processes_with("4712.4712"), "the step to begin")
    transports.connect(host)
    transports.close()
    wait_until(lambda: not processes_with("4712.4712"), "the step's end on the host")
    with pytest.raises(SessionLostError):
        running.wait()
    session.close()


def test_host_that_does_not_answer_is_connected_to_anew(
    broker: BrokerOfTests, tmp_path: Path
) -> None:
    with serve_sshd(tmp_path / "sshd") as server:
        host = server.inventory_host(connect=replace(server.connect_options(), persist=600.0))
        first = run_command(broker, host, tmp_path)
        broker.wait_for_shells(host.name, 1)
        frozen = server.session_processes()
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        assert run_command(broker, host, tmp_path) != first
        assert time.monotonic() - began < host.connect.timeout / 2
        for pid in frozen:
            os.kill(pid, signal.SIGKILL)
        broker.end()


def test_connection_that_has_ended_is_replaced(broker: BrokerOfTests, tmp_path: Path) -> None:
    with serve_sshd(tmp_path / "sshd") as server:
        host = server.inventory_host(connect=replace(server.connect_options(), persist=600.0))
        first = run_command(broker, host, tmp_path)
        for pid in server.session_processes():
            os.kill(pid, signal.SIGKILL)
        assert run_command(broker, host, tmp_path) != first
        broker.end()


def test_broker_that_does_not_answer_is_done_without(
    broker: BrokerOfTests, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_command(broker, host, tmp_path)
    pid = broker.pid
    monkeypatch.setattr(broker_client, "_ANSWER_TIMEOUT", 0.2)
    os.kill(pid, signal.SIGSTOP)
    try:
        warnings: list[str] = []
        with closing(broker.transports(tmp_path, warn=warnings.append)) as transports:
            assert connection_of(transports, host) != first
        assert len(warnings) == 1 and "does not answer" in warnings[0]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_two_commands_share_a_connection_at_once(
    broker: BrokerOfTests, host: Host, tmp_path: Path
) -> None:
    with (
        closing(broker.transports(tmp_path)) as one,
        closing(session_on(one, host)) as session,
    ):
        assert run_command(broker, host, tmp_path) == run_pipeline(session, CONNECTION).stdout_of(1)


def test_connection_is_closed_when_it_was_unused_for_long(
    broker: BrokerOfTests, host: Host, tmp_path: Path
) -> None:
    host = replace(host, connect=replace(host.connect, persist=0.05))
    run_command(broker, host, tmp_path)
    wait_until(lambda: not broker.kept(host.name), "the connection to be closed")


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/fd").exists()


def start_with(monkeypatch: pytest.MonkeyPatch, *changes: str) -> None:
    """Let brokers start with other limits, or with another clock."""
    names = "import os, time\nfrom orchestrator.transports.broker import broker_process as broker\n"
    names += "from orchestrator.transports.broker import kept_connection as kept\n"
    program = "\n".join((names, *changes, "broker.main()"))
    monkeypatch.setattr(broker_client, "_BROKER_PROGRAM", ("-c", program))


def test_connection_is_closed_when_it_is_old_however_often_it_is_used(
    broker: BrokerOfTests, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_with(monkeypatch, "broker.LIFETIME = 0.5")
    first = run_command(broker, host, tmp_path)
    wait_until(lambda: not broker.kept(host.name), "the connection to be closed")
    assert run_command(broker, host, tmp_path) != first


@pytest.mark.parametrize("limit", ["broker.MAX_CONNECTIONS = 1", "broker.MAX_MEMORY = 1"])
def test_too_many_connections_are_closed_the_longest_unused_first(
    broker: BrokerOfTests,
    sshd: SshdServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
) -> None:
    start_with(monkeypatch, limit)
    one, other = (
        sshd.inventory_host(name, connect=replace(sshd.connect_options(), persist=600.0))
        for name in ("one", "other")
    )
    with (
        closing(broker.transports(tmp_path)) as transports,
        closing(session_on(transports, one)),
    ):
        run_command(broker, other, tmp_path)
        assert broker.kept("one")
    wait_until(lambda: not broker.kept("other"), "the connection to be closed")
    assert broker.kept("one")


def test_sleep_of_the_machine_counts_as_time(
    broker: BrokerOfTests, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection kept for ten minutes must not be there after a night."""
    assert getattr(time, "CLOCK_BOOTTIME", None) == kept_connection._CLOCK  # Linux
    woken = tmp_path / "woken"
    start_with(
        monkeypatch,
        "clock = kept.read_clock",
        f"kept.read_clock = lambda: clock() + 601 * os.path.exists({str(woken)!r})",
        "broker.read_clock = lambda: kept.read_clock()",
    )
    run_command(broker, host, tmp_path)
    assert broker.kept(host.name)
    woken.touch()
    wait_until(lambda: not broker.kept(host.name), "the connection to be closed")


def test_broker_ends_when_its_folder_is_removed(
    broker: BrokerOfTests, host: Host, tmp_path: Path
) -> None:
    """Nobody can reach it any more: a logout removes the user's runtime folder."""
    run_command(broker, host, tmp_path)
    pid = broker.pid
    folder = Path(broker.environ["XDG_RUNTIME_DIR"], "orch")
    shutil.rmtree(folder)
    wait_until(lambda: not Path(f"/proc/{pid}/fd").exists(), "the broker's end")


def test_connection_outlives_the_server_that_listens(broker: BrokerOfTests, tmp_path: Path) -> None:
    """A restart of sshd leaves the sessions that are there alone."""
    with serve_sshd(tmp_path / "sshd") as server:
        host = server.inventory_host(connect=replace(server.connect_options(), persist=600.0))
        first = run_command(broker, host, tmp_path)
        sessions = server.session_processes()
        os.kill(server.pid, signal.SIGKILL)
        try:
            assert run_command(broker, host, tmp_path) == first
            broker.end()
            wait_until(lambda: not any(map(is_alive, sessions)), "the sessions' end")
        finally:
            for pid in filter(is_alive, sessions):
                os.kill(pid, signal.SIGKILL)


def test_broker_of_other_code_is_replaced(
    broker: BrokerOfTests, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_command(broker, host, tmp_path)
    pid = broker.pid
    monkeypatch.setattr(broker_client, "code_identity", lambda: "another version")
    with closing(broker.transports(tmp_path)) as transports:
        assert connection_of(transports, host) != first  # without a broker: this one never fits
    wait_until(lambda: broker.pid != pid, "the old broker's end")


@pytest.mark.parametrize("count", [30, pytest.param(1000, marks=pytest.mark.long)])
def test_commands_leave_no_thread_and_no_file_in_the_broker(
    broker: BrokerOfTests, host: Host, tmp_path: Path, count: int
) -> None:
    run_command(broker, host, tmp_path)
    broker.wait_for_shells(host.name, 1)

    def size() -> tuple[int, int]:
        folder = Path(f"/proc/{broker.pid}")
        return len(list((folder / "task").iterdir())), len(list((folder / "fd").iterdir()))

    before = size()
    for _ in range(count):
        run_command(broker, host, tmp_path)
    broker.wait_for_shells(host.name, 1)
    wait_until(lambda: size() <= (before[0] + 3, before[1] + 3), "threads and files to end")
