"""How steps end that do not end by themselves, and what the shell's death means."""

from __future__ import annotations

import secrets

import pytest

from orchestrator.model.command import Command
from orchestrator.model.condition import Always
from orchestrator.remote_shell import Ending, How, Lost, Session
from tests.session.heard import Heard, Running, children, cmdlines, processes, run, until

TREES = (
    "sleep {mark}",
    "sh -c 'sleep {mark} & (sleep {mark}; :) & sleep {mark} | cat; :'",
    'x=$(sleep {mark}; echo); echo "$x"',
    "trap '' TERM; while :; do sleep {mark} || :; done",
)
SLEEPS = 6


def sleeping(mark: str) -> int:
    return sum(words == b"sleep\0" + mark.encode() + b"\0" for _, words in cmdlines())


@pytest.fixture
def tree(mark: str) -> str:
    """A step with processes of all kinds, most of which ignore nothing, and no end."""
    return "".join(f"({tree.format(mark=mark)}) & " for tree in TREES) + "wait"


def test_timeout_ends_everything_the_step_started(session: Session, tree: str, mark: str) -> None:
    heard = run(
        session,
        Command(1, f"echo a; echo b >&2; {tree}", timeout=0.8, fails=Always(False), ignore=True),
        Command(2, "echo on", timeout=60),
    )
    assert heard.endings[1] == Ending(How.TIMED_OUT, failed=True)
    assert (heard.out(1), heard.err(1)) == (b"a\n", b"b\n")
    assert heard.out(2) == b"on\n"
    until(lambda: not processes(mark), "their end")
    assert run(session, Command(3, "echo further")).out(3) == b"further\n"


def test_step_has_time_to_clean_up(session: Session, mark: str) -> None:
    clean = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; echo cleaned; exit"
    heard = run(session, Command(1, f"trap '{clean}' TERM; sleep {mark} & wait", timeout=0.2))
    assert heard.endings[1].how is How.TIMED_OUT
    assert heard.out(1) == b"cleaned\n"


def test_timed_out_step_ends_the_segment(session: Session, mark: str) -> None:
    heard = run(session, Command(1, f"sleep {mark}", timeout=0.1), Command(2, "echo no"))
    assert list(heard.endings) == [1]


def test_guard_counts_in_the_timeout(session: Session, mark: str) -> None:
    heard = run(session, Command(1, "echo no", guard=f"sleep {mark}", timeout=0.1, ignore=True))
    assert heard.endings[1].how is How.TIMED_OUT
    until(lambda: not processes(mark), "their end")


def test_cancel_ends_everything_the_step_started(session: Session, tree: str, mark: str) -> None:
    running = Running(session, Command(1, tree, ignore=True), Command(2, "echo no"))
    until(lambda: sleeping(mark) == SLEEPS, "the step's processes")
    session.cancel()
    heard = running.over()
    assert heard.endings == {1: Ending(How.ENDED, failed=True)}
    assert heard.order == [("started", 1), ("ended", 1)]
    until(lambda: not processes(mark), "their end")
    assert not session.alive


def test_cancel_ends_a_guard(session: Session, mark: str) -> None:
    running = Running(session, Command(1, "echo no", guard=f"sleep {mark}"), Command(2, "echo no"))
    until(lambda: processes(mark), "the guard")
    session.cancel()
    assert running.over().endings[1].how is How.ENDED
    until(lambda: not processes(mark), "their end")


def test_cancel_during_a_timeout_s_grace_lets_nothing_follow(session: Session, mark: str) -> None:
    text = f"trap 'echo term; trap : TERM' TERM; while :; do sleep {mark} || :; done"
    running = Running(session, Command(1, text, timeout=0.2, ignore=True), Command(2, "echo no"))
    until(lambda: running.heard.out(1), "the timeout")
    session.cancel()
    heard = running.over()
    assert heard.order == [("started", 1), ("ended", 1)]
    assert heard.endings[1].how is How.ENDED


def test_cancel_in_the_middle_of_many_steps(session: Session) -> None:
    running = Running(session, *(Command(n, f"echo {n}") for n in range(1, 3000)))
    until(lambda: len(running.heard.endings) > 20, "some steps")
    session.cancel()
    heard = running.over()
    done = [n for n, e in heard.endings.items() if e.how is How.DONE]
    assert done == list(range(1, len(done) + 1))
    assert len(done) < 2999
    assert set(heard.endings) - set(done) <= {len(done) + 1}
    assert [n for what, n in heard.order if what == "started"] == list(heard.endings)


def test_cancel_before_a_run_lets_nothing_begin(session: Session) -> None:
    session.cancel()
    assert run(session, Command(1, "echo no")).order == []


def test_step_s_own_shell_killed_is_a_failure(session: Session) -> None:
    heard = run(session, Command(1, "kill -9 $$; echo no", ignore=True), Command(2, "echo on"))
    assert heard.endings[1] == Ending(How.DONE, 137, failed=True)
    assert (heard.out(1), heard.err(1), heard.out(2)) == (b"", b"", b"on\n")


@pytest.mark.parametrize("signal", ["KILL", "TERM", "HUP"])
def test_session_s_own_shell_killed_is_a_loss(session: Session, mark: str, signal: str) -> None:
    heard = Heard()
    text = f"kill -{signal} $PPID; while kill -0 $PPID 2>/dev/null; do sleep .05; done"
    with pytest.raises(Lost) as lost:
        session.run([Command(1, text, ignore=True), Command(2, "echo no")], heard)
    assert lost.value.step == 1
    assert heard.order == [("started", 1)]
    with pytest.raises(Lost):
        run(session, Command(3, "echo no"))


def test_shell_killed_while_a_cancelled_step_ends_is_a_loss(session: Session, mark: str) -> None:
    text = f"trap 'kill -9 $PPID; exit' TERM; sleep {mark} & wait"
    running = Running(session, Command(1, text, ignore=True))
    until(lambda: processes(mark), "the step")
    session.cancel()
    with pytest.raises(Lost) as lost:
        running.over()
    assert lost.value.step == 1
    assert not running.heard.endings


def test_idle_shell_killed_is_a_loss(session: Session) -> None:
    pid = int(run(session, Command(1, "echo $PPID")).out(1))
    heard = run(session, Command(2, f"(sleep .1; kill -9 {pid}) >/dev/null 2>&1 &"))
    assert heard.endings[2].how is How.DONE
    until(lambda: not dict(cmdlines()).get(pid), "the shell's end")
    with pytest.raises(Lost) as lost:
        run(session, Command(3, "echo no"))
    assert lost.value.step is None


def test_background_child_does_not_hang_the_run(session: Session, mark: str) -> None:
    heard = run(session, Command(1, f"sleep {mark} & echo $!"), Command(2, "echo on"))
    assert heard.out(2) == b"on\n"
    left = int(heard.out(1))
    until(lambda: processes(mark) == [left], "the child")  # what a step leaves is left alone
    heard = run(session, Command(3, f"kill {left}"))
    assert heard.endings[3].exit_status == 0
    until(lambda: not processes(mark), "the child's end")


def test_big_text_whose_step_leaves_a_child_does_not_hang(session: Session, mark: str) -> None:
    rest = "".join(f": line {n}\n" for n in range(20_000))
    text = f"(while :; do sleep {mark}; done) & echo $!\nexit 0\n" + rest
    heard = run(session, Command(1, text), Command(2, "echo on"))
    assert heard.out(2) == b"on\n"
    run(session, Command(3, f"kill {int(heard.out(1))}"))
    run(session, Command(4, f"kill {' '.join(map(str, processes(mark)))} || :"))
    until(lambda: not processes(mark), "the child's end")


def test_nothing_of_the_session_stays_behind(session: Session) -> None:
    seconds = 10_000 + secrets.randbelow(10**9)  # that nobody else sleeps
    pid = int(run(session, Command(1, "echo $PPID", timeout=seconds)).out(1))
    until(lambda: not children(pid), "the helpers' end")
    sleep = b"sleep\0%d\0" % seconds
    until(lambda: sleep not in dict(cmdlines()).values(), "the end of what they started")
