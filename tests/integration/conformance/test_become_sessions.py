"""Sessions of another user, with every tool that is here and every shell.

They need a user who may become others: root, or one whom sudoers lets do so without a password.
"""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from orchestrator.model.command import StepCommand
from orchestrator.remote_shell import CommandResult, EndReason, ShellSession
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.remote_shell.transfer import send, upload_stage_script
from orchestrator.transports import TransportRegistry
from orchestrator.transports.local import LocalChannel, LocalConnection
from tests.integration.conformance.conftest import (
    conformance_hosts,
    wrapped_shell,
    write_fast_config,
)
from tests.integration.conformance.test_step_endings import SLEEPS, TREES, sleep_step
from tests.sshd import SshdServer
from tests.support.broker import BrokerOfTests
from tests.support.session_recording import (
    SHELLS,
    WAIT_TIMEOUT,
    PipelineThread,
    process_arguments,
    processes_with,
    run_pipeline,
    wait_until,
)

BECOME_CASES = ("local-sudo", "local-su", "ssh-sudo", "openssh-sudo", "warm-sudo")
OTHER = "daemon"
PASSWD = pwd.getpwnam(OTHER)


class RootConnection(LocalConnection):
    """This machine, as root: su lets nobody else become others without a password."""

    def _start_channel(self, words: list[str]) -> LocalChannel:
        return super()._start_channel(words if os.getuid() == 0 else ["sudo", "-n", *words])


@pytest.fixture
def public() -> Iterator[Path]:
    """Create a folder that every user can write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


ROUNDS = [(w, s) for w in BECOME_CASES for s in SHELLS if w != "openssh-sudo" or s == "dash"]


@pytest.fixture
def connection(
    request: pytest.FixtureRequest, public: Path, tmp_path: Path
) -> Iterator[Connection]:
    if other := conformance_hosts(request.config):
        with other.connection(request.param, tmp_path) as connection:
            yield connection
        return
    sshd: SshdServer = request.getfixturevalue("sshd")
    (case, _, method), shell = (
        request.param[0].partition("-"),
        wrapped_shell(request.param[1], public),
    )
    if case == "local":
        kind = RootConnection if method == "su" else LocalConnection
        with closing(kind(shell, become_method=method)) as connection:
            yield connection
        return
    if case == "warm":
        with warm_become_connection(request, shell, tmp_path) as connection:
            yield connection
        return
    connect = replace(sshd.connect_options(shell=shell), become_method=method, transport=case)
    config = write_fast_config(tmp_path)
    with closing(TransportRegistry(home=tmp_path, environ={}, ssh_config=config)) as connector:
        yield connector.connect(sshd.inventory_host(connect=connect))


@contextmanager
def warm_become_connection(
    request: pytest.FixtureRequest, shell: str, home: Path
) -> Iterator[Connection]:
    """Yield a connection on which an earlier command has left a shell of the other user."""
    sshd: SshdServer = request.getfixturevalue("sshd")
    broker: BrokerOfTests = request.getfixturevalue("broker")
    connect = replace(sshd.connect_options(shell=shell), persist=600.0, persist_become=True)
    host = replace(sshd.inventory_host(connect=connect), name=f"warm-{uuid4().hex}")
    with (
        closing(broker.transports(home)) as earlier,
        closing(
            ShellSession(earlier.connect(host).open(OTHER), ready_timeout=WAIT_TIMEOUT)
        ) as session,
    ):
        run_pipeline(session)
    broker.wait_for_shells(host.name, 2)
    with closing(broker.transports(home)) as connector:
        yield connector.connect(host)
    broker.close_host(host.name)


@pytest.fixture
def session(connection: Connection) -> Iterator[ShellSession]:
    with closing(ShellSession(connection.open(OTHER), ready_timeout=WAIT_TIMEOUT)) as session:
        yield session


def test_steps_are_the_user_s_and_begin_in_their_home(session: ShellSession, public: Path) -> None:
    text = "id -un; pwd; echo $HOME $USER $LOGNAME; command -v sh"
    home = PASSWD.pw_dir
    output = run_pipeline(session, StepCommand(1, text)).stdout_of(1).decode().split()
    shell = f"{public}/bin/sh" if list(public.iterdir()) else "/usr/bin/sh"  # or the host's own
    assert output == [OTHER, home, home, OTHER, OTHER, shell]
    assert session.round_trips == 1


def test_users_of_a_connection_have_shells_of_their_own(
    connection: Connection, session: ShellSession
) -> None:
    with closing(ShellSession(connection.open(), ready_timeout=WAIT_TIMEOUT)) as own:
        output = run_pipeline(own, StepCommand(1, "id -u")).stdout_of(1)
        assert run_pipeline(session, StepCommand(1, "id -u")).stdout_of(1) != output
        assert run_pipeline(own, StepCommand(1, "id -u")).stdout_of(1) == output


def test_cancel_ends_all_that_the_user_s_step_started(session: ShellSession, mark: str) -> None:
    tree = "".join(f"({each.format(mark=mark)}) & " for each in TREES) + "wait"
    running = PipelineThread(
        session, StepCommand(1, tree, ignore_failure=True), StepCommand(2, "echo no")
    )
    wait_until(lambda: sleep_step(mark) == SLEEPS, "the step's processes")
    session.cancel()
    assert running.wait().endings == {1: CommandResult(EndReason.TERMINATED, failed=True)}
    wait_until(lambda: not processes_with(mark), "their end")


def test_timeout_ends_all_that_the_user_s_step_started(session: ShellSession, mark: str) -> None:
    tree = "".join(f"({each.format(mark=mark)}) & " for each in TREES) + "wait"
    recording = run_pipeline(
        session, StepCommand(1, tree, timeout=0.3, ignore_failure=True), StepCommand(2, "echo on")
    )
    assert (recording.endings[1].end_reason, recording.stdout_of(2)) == (
        EndReason.TIMED_OUT,
        b"on\n",
    )
    wait_until(lambda: not processes_with(mark), "their end")


def test_end_of_the_connection_ends_the_user_s_step_and_shell(
    connection: Connection, session: ShellSession, mark: str
) -> None:
    pid = int(run_pipeline(session, StepCommand(1, "echo $PPID")).stdout_of(1))
    running = PipelineThread(session, StepCommand(2, f"sleep {mark} & wait"))
    wait_until(lambda: processes_with(mark), "the step")
    connection.close()
    wait_until(lambda: not processes_with(mark), "the step's end")
    wait_until(lambda: not dict(process_arguments()).get(pid), "the shell's end")
    with pytest.raises(Exception, match=r"closed|lost"):
        running.wait()


def test_files_that_are_sent_are_the_user_s(connection: Connection, public: Path) -> None:
    data, file = os.urandom(300_000), public / "file"
    script = upload_stage_script(str(file), len(data))
    send(connection.open(OTHER), script, [data], timeout=WAIT_TIMEOUT, stopping=lambda: False)
    assert file.stat().st_uid == PASSWD.pw_uid
    assert file.stat().st_size == len(data)
