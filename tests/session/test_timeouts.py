"""Steps ended at every moment, the wrong ones above all."""

from __future__ import annotations

import time

import pytest

from orchestrator.model.command import Command
from orchestrator.remote_shell import Ending, How
from tests.session.conftest import Opened
from tests.session.heard import Heard, processes, run, until


def test_timeouts_that_nearly_hit_hit_nothing_else(open_session: Opened) -> None:
    session, _ = open_session()
    commands = []
    for n in range(1, 61, 2):
        commands.append(Command(n, "exec sleep 0.05", timeout=0.04 + n / 1500, ignore=True))
        commands.append(Command(n + 1, "exec sleep 0.03", timeout=60, ignore=True))
    heard = run(session, *commands)
    assert len(heard.endings) == len(commands)
    assert all(heard.endings[n].how is How.DONE for n in range(2, 61, 2))


def test_cancel_at_any_moment_of_a_step_s_beginning_ends_it(
    open_session: Opened, mark: str
) -> None:
    for n in range(25):
        session, _ = open_session()
        run(session)

        class Cancelling(Heard):
            def started(self, step: int) -> None:
                super().started(step)
                time.sleep(n / 8000)  # noqa: B023 - a moment, not a wait
                session.cancel()  # noqa: B023

        heard = Cancelling()
        session.run([Command(1, f"exec sleep {mark}", ignore=True), Command(2, "echo no")], heard)
        assert heard.endings == {1: Ending(How.ENDED, failed=True)}
        until(lambda: not processes(mark), "its end")


def test_timeout_at_any_moment_of_a_step_s_beginning_ends_it(
    open_session: Opened, mark: str
) -> None:
    session, _ = open_session()
    commands = [
        Command(n, f"exec sleep {mark}", guard=":", timeout=n / 5000, ignore=True)
        for n in range(1, 30)
    ]
    heard = run(session, *commands, Command(99, "echo on"))
    assert {heard.endings[c.step].how for c in commands} == {How.TIMED_OUT}
    assert heard.out(99) == b"on\n"
    until(lambda: not processes(mark), "their end")


@pytest.mark.parametrize("shell", ["dash", "busybox"])  # bash may wait for ever after it
def test_stray_signal_is_not_taken_for_a_timeout(open_session: Opened) -> None:
    session, _ = open_session()
    text = "kill -USR1 $PPID; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo on"
    heard = run(session, *(Command(n, f"{text}; exit {n}", ignore=True) for n in (1, 2)))
    assert [heard.endings[n] for n in (1, 2)] == [Ending(How.DONE, n, failed=True) for n in (1, 2)]
    assert [heard.out(n) for n in (1, 2)] == [b"on\n", b"on\n"]
