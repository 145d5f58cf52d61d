"""Timers that ring at the wrong moment."""

from __future__ import annotations

from orchestrator.model.command import Command
from orchestrator.session import How
from tests.session.conftest import Opened
from tests.session.heard import run


def test_timeouts_that_nearly_hit_hit_nothing_else(open_session: Opened) -> None:
    session, _ = open_session()
    commands = []
    for n in range(1, 61, 2):
        commands.append(Command(n, "exec sleep 0.05", timeout=0.04 + n / 1500, ignore=True))
        commands.append(Command(n + 1, "exec sleep 0.03", timeout=60, ignore=True))
    heard = run(session, *commands)
    assert len(heard.endings) == len(commands)
    assert all(heard.endings[n].how is How.DONE for n in range(2, 61, 2))
