"""Sessions of the connection pool: one for each host, app and user, closed together."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConnectError, SourcePosition
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.connection_pool import ConnectionPool
from orchestrator.model.command import StepCommand
from orchestrator.model.event import RunEvent
from orchestrator.model.host import ConnectionOptions, Host
from orchestrator.remote_shell import ShellSession
from orchestrator.transports import TransportRegistry
from tests.support.session_recording import WAIT_TIMEOUT, run_pipeline

OTHER = "daemon"


@pytest.fixture
def fleet() -> ConnectionPool:
    connect = ConnectionOptions("here", transport="local", timeout=WAIT_TIMEOUT)
    host = Host("here", connect, (), (), SourcePosition("test"))
    events: list[RunEvent] = []
    return ConnectionPool({"here": host}, TransportRegistry().connect, events.append, CancelToken())


def session_user(session: ShellSession) -> str:
    return run_pipeline(session, StepCommand(1, "id -un")).stdout_of(1).decode().strip()


def test_each_user_of_a_lane_has_one_session_and_release_ends_them_all(
    fleet: ConnectionPool,
) -> None:
    own, other = fleet.session("here", None), fleet.session("here", None, OTHER)
    assert session_user(other) == OTHER
    assert session_user(own) != OTHER
    assert fleet.session("here", None, OTHER) is other
    assert fleet.session("here", None) is own
    assert fleet.session("here", "blog", OTHER) is not other
    sessions = [own, other, fleet.session("here", "blog", OTHER)]
    with fleet.delegated_session("here", None, OTHER) as delegated:
        assert session_user(delegated) == OTHER
        sessions.append(delegated)
    assert len({*map(id, sessions)}) == 4
    fleet.release("here")
    assert not any(session.is_alive for session in sessions)


def test_channel_stands_beside_the_sessions(fleet: ConnectionPool) -> None:
    session, channel = fleet.session("here", None, OTHER), fleet.open_channel("here", OTHER)
    channel.close()
    assert session_user(session) == OTHER
    fleet.release("here")


def test_user_whom_nobody_may_become_is_an_error_of_the_first_run(fleet: ConnectionPool) -> None:
    session = fleet.session("here", None, "no-such-user")
    for _ in range(2):
        with pytest.raises(ConnectError) as caught:
            session_user(session)
        assert caught.value.phase == "become"
    fleet.release("here")
