"""Sessions of another user, with every tool that is here and every shell.

They need a user who may become others: root, or one whom sudoers lets do so without a password.
"""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.model.command import Command
from orchestrator.remote_shell import Ending, How, Session
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.remote_shell.transfer import send, staging
from orchestrator.transports import Connector
from orchestrator.transports.local import LocalChannel, LocalConnection
from tests.conformance.conftest import elsewhere, quick, remote
from tests.conformance.test_endings import SLEEPS, TREES, sleeping
from tests.session.heard import PATIENCE, SHELLS, Running, cmdlines, processes, run, until
from tests.sshd import Sshd

WAYS = ("local-sudo", "local-su", "ssh-sudo", "openssh-sudo")
OTHER = "daemon"
PASSWD = pwd.getpwnam(OTHER)


class RootsOwn(LocalConnection):
    """This machine, as root: su lets nobody else become others without a password."""

    def _run(self, words: list[str]) -> LocalChannel:
        return super()._run(words if os.getuid() == 0 else ["sudo", "-n", *words])


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody can use."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


ROUNDS = [(w, s) for w in WAYS for s in SHELLS if w != "openssh-sudo" or s == "dash"]


@pytest.fixture
def connection(
    request: pytest.FixtureRequest, public: Path, tmp_path: Path
) -> Iterator[Connection]:
    if other := elsewhere(request.config):
        with other.connection(request.param, tmp_path) as connection:
            yield connection
        return
    sshd: Sshd = request.getfixturevalue("sshd")
    (way, _, method), shell = request.param[0].partition("-"), remote(request.param[1], public)
    if way == "local":
        kind = RootsOwn if method == "su" else LocalConnection
        with closing(kind(shell, become_method=method)) as connection:
            yield connection
        return
    connect = replace(sshd.connect(shell=shell), become_method=method, transport=way)
    config = quick(tmp_path)
    with closing(Connector(home=tmp_path, environ={}, ssh_config=config)) as connector:
        yield connector.connect(sshd.host(connect=connect))


@pytest.fixture
def session(connection: Connection) -> Iterator[Session]:
    with closing(Session(connection.open(OTHER), ready_timeout=PATIENCE)) as session:
        yield session


def test_steps_are_the_user_s_and_begin_in_their_home(session: Session, public: Path) -> None:
    text = "id -un; pwd; echo $HOME $USER $LOGNAME; command -v sh"
    home = PASSWD.pw_dir
    said = run(session, Command(1, text)).out(1).decode().split()
    shell = f"{public}/bin/sh" if list(public.iterdir()) else "/usr/bin/sh"  # or the host's own
    assert said == [OTHER, home, home, OTHER, OTHER, shell]
    assert session.round_trips == 1


def test_users_of_a_connection_have_shells_of_their_own(
    connection: Connection, session: Session
) -> None:
    with closing(Session(connection.open(), ready_timeout=PATIENCE)) as own:
        said = run(own, Command(1, "id -u")).out(1)
        assert run(session, Command(1, "id -u")).out(1) != said
        assert run(own, Command(1, "id -u")).out(1) == said


def test_cancel_ends_all_that_the_user_s_step_started(session: Session, mark: str) -> None:
    tree = "".join(f"({each.format(mark=mark)}) & " for each in TREES) + "wait"
    running = Running(session, Command(1, tree, ignore=True), Command(2, "echo no"))
    until(lambda: sleeping(mark) == SLEEPS, "the step's processes")
    session.cancel()
    assert running.over().endings == {1: Ending(How.ENDED, failed=True)}
    until(lambda: not processes(mark), "their end")


def test_timeout_ends_all_that_the_user_s_step_started(session: Session, mark: str) -> None:
    tree = "".join(f"({each.format(mark=mark)}) & " for each in TREES) + "wait"
    heard = run(session, Command(1, tree, timeout=0.3, ignore=True), Command(2, "echo on"))
    assert (heard.endings[1].how, heard.out(2)) == (How.TIMED_OUT, b"on\n")
    until(lambda: not processes(mark), "their end")


def test_end_of_the_connection_ends_the_user_s_step_and_shell(
    connection: Connection, session: Session, mark: str
) -> None:
    pid = int(run(session, Command(1, "echo $PPID")).out(1))
    running = Running(session, Command(2, f"sleep {mark} & wait"))
    until(lambda: processes(mark), "the step")
    connection.close()
    until(lambda: not processes(mark), "the step's end")
    until(lambda: not dict(cmdlines()).get(pid), "the shell's end")
    with pytest.raises(Exception, match=r"closed|broke off"):
        running.over()


def test_files_that_are_sent_are_the_user_s(connection: Connection, public: Path) -> None:
    data, file = os.urandom(300_000), public / "file"
    script = staging(str(file), len(data))
    send(connection.open(OTHER), script, [data], timeout=PATIENCE, stopping=lambda: False)
    assert file.stat().st_uid == PASSWD.pw_uid
    assert file.stat().st_size == len(data)
