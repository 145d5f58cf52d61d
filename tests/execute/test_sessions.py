"""The fleet's sessions: one for each host, app and user, all of which end together."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConnectError, Mark
from orchestrator.executor.cancel import Cancel
from orchestrator.executor.connection_pool import Fleet
from orchestrator.model.command import Command
from orchestrator.model.event import Event
from orchestrator.model.host import Connect, Host
from orchestrator.remote_shell import Session
from orchestrator.transports import Connector
from tests.session.heard import PATIENCE, run

OTHER = "daemon"


@pytest.fixture
def fleet() -> Fleet:
    connect = Connect("here", transport="local", timeout=PATIENCE)
    host = Host("here", connect, (), (), Mark("test"))
    events: list[Event] = []
    return Fleet({"here": host}, Connector().connect, events.append, Cancel())


def who(session: Session) -> str:
    return run(session, Command(1, "id -un")).out(1).decode().strip()


def test_each_user_of_a_lane_has_one_session_and_release_ends_them_all(fleet: Fleet) -> None:
    own, other = fleet.session("here", None), fleet.session("here", None, OTHER)
    assert who(other) == OTHER
    assert who(own) != OTHER
    assert fleet.session("here", None, OTHER) is other
    assert fleet.session("here", None) is own
    assert fleet.session("here", "blog", OTHER) is not other
    sessions = [own, other, fleet.session("here", "blog", OTHER)]
    with fleet.delegated("here", None, OTHER) as delegated:
        assert who(delegated) == OTHER
        sessions.append(delegated)
    assert len({*map(id, sessions)}) == 4
    fleet.release("here")
    assert not any(session.alive for session in sessions)


def test_channel_stands_beside_the_sessions(fleet: Fleet) -> None:
    session, channel = fleet.session("here", None, OTHER), fleet.channel("here", OTHER)
    channel.close()
    assert who(session) == OTHER
    fleet.release("here")


def test_user_whom_nobody_may_become_is_an_error_of_the_first_run(fleet: Fleet) -> None:
    session = fleet.session("here", None, "no-such-user")
    for _ in range(2):
        with pytest.raises(ConnectError) as caught:
            who(session)
        assert caught.value.phase == "become"
    fleet.release("here")
