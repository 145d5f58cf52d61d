"""Steps that run in the session's own shell: nobody can tell, and nothing is left of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.model.command import Command
from orchestrator.remote_shell import How, Session, module_protocol
from orchestrator.remote_shell.encoder import body_stays, guard_stays, plain, segment
from tests.session.conftest import Opened
from tests.session.heard import Heard, Running, processes, run, until

PRELUDE = Path(segment.__code__.co_filename).with_name("prelude.sh")

PLAIN = [
    "uname -r",
    "cat REVISION 2>/dev/null || echo none",
    "ls -1dt releases/* | tail -n +6",
    "if [ -e /etc/passwd ]; then echo 'it is'; else exit 3; fi",
    "cd /\nexport A='b c'\ntest -d tmp && env | grep -c ^A=",
    "for x in a b; do echo x; done",
    "echo *; echo ~ | tr / -",
    "false; echo no",
    "exit 7",
    "cat; echo read",
    "set -e\n(exit 4)\necho no",
    "umask 027; umask",
    "command -v date; ! true",
    "exec uname -s",
    "echo 'a' \"b\" >&2; nosuchcommand",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_does_here_what_it_does_in_a_shell_of_its_own(
    open_session: Opened, text: str
) -> None:
    assert plain(text)
    session, _ = open_session()
    _same(session, text)


_words = st.sampled_from(
    "echo true false test [ ] -n -z = a b 'c 'd' \"e\" ( ) { } | || && ; ! >/dev/null * ~ / "
    "if then else fi exit 3 cd for x in do done while case esac a) ;;".split(" ")
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(st.lists(_words, min_size=1, max_size=9).map(" ".join), min_size=8))
def test_no_plain_text_tells_where_it_runs(open_session: Opened, texts: list[str]) -> None:
    session, _ = open_session()
    for text in texts:
        # what loops for ever says nothing here
        if "while" not in text and plain(text):
            _same(session, text)
    session.close()


def _same(session: Session, text: str) -> None:
    session.begin_task()
    step = Command(1, text, ignore=True, contained=True)
    assert body_stays(step)
    here = run(session, step, Command(2, text, ignore=True))
    assert here.out(1) == here.out(2)
    assert bool(here.err(1)) == bool(here.err(2))
    first, second = here.endings[1], here.endings[2]
    # a text that no shell understands fails in this way or that
    said = here.err(2)
    broken = any(word in said for word in (b"yntax", b"unexpected", b"nterminated"))
    assert first.failed == second.failed
    assert broken or first.exit_status == second.exit_status, (text, said, here.err(1))


@pytest.mark.parametrize(
    "text",
    [
        "echo $$",
        "echo `id`",
        "echo a\\ b",
        "sleep 60 &",
        "sleep 60 & true",
        "kill 0",
        "k'il'l 0",
        'wa"it"',
        "pkill -g 0 sleep",
        "wait; echo waited",
        "trap",
        "set",
        "set -u",
        "export -p",
        ". ./environment",
        "jobs; times",
        "say hello",
        "watch date",
        "kind get clusters",
        "echo finish",
        "o_module",
        "echo é",
        "echo \t\r",
    ],
)
def test_text_that_could_tell_gets_a_shell_of_its_own(text: str) -> None:
    assert not plain(text)
    assert not body_stays(Command(1, text, contained=True))
    assert not guard_stays(Command(1, "true", guard=text))


@pytest.mark.parametrize(
    "command",
    [
        Command(1, "true"),
        Command(1, "true", contained=True, shell="bash"),
        Command(1, "cat", contained=True, stdin="a"),
        Command(1, "true", contained=True, timeout=60),
    ],
)
def test_step_that_may_go_on_or_be_timed_out_gets_a_group_of_its_own(command: Command) -> None:
    assert not body_stays(command)


def test_shell_s_functions_and_modules_have_different_names() -> None:
    assert not module_protocol.defined(PRELUDE.read_text()) & module_protocol.names()


def test_nothing_is_left_in_the_shell(open_session: Opened) -> None:
    session, _ = open_session()
    before = run(session, Command(1, "pwd; umask; echo \"$A\"; set | grep -c '^A='", ignore=True))
    run(
        session,
        Command(2, "cd /; umask 0; export A=1; exec 2>/dev/null", contained=True),
        Command(3, "exit 0", contained=True),
    )
    after = run(session, Command(4, "pwd; umask; echo \"$A\"; set | grep -c '^A='", ignore=True))
    assert after.out(4) == before.out(1)


def test_guard_runs_here_too(open_session: Opened, home: Path) -> None:
    session, _ = open_session()
    no = Command(1, f"touch {home}/no", guard="set +e\n(set -e\ntest -d /nowhere\n)\nexit 1")
    yes = Command(2, f"touch {home}/yes", guard="cd /; umask 0; test -d tmp")
    assert guard_stays(yes)
    heard = run(session, no, yes, Command(3, "pwd"))
    assert heard.endings[1].how is How.SKIPPED
    assert (home / "yes").exists()
    assert not (home / "no").exists()
    assert heard.out(3) == f"{home}\n".encode()


def test_cancel_ends_it_and_nothing_that_steps_before_it_left(
    open_session: Opened, mark: str
) -> None:
    session, _ = open_session()
    left, here = f"{mark}1", f"{mark}2"
    run(session, Command(1, f"sleep {left} >/dev/null 2>&1 &"))
    step = Command(2, f"(sleep {here}; echo no) | cat", contained=True, ignore=True)
    assert body_stays(step)
    running = Running(session, step, Command(3, "echo no"))
    until(lambda: processes(here), "the step")
    session.cancel()
    heard = running.over()
    assert heard.endings[2].how is How.ENDED
    assert 3 not in heard.endings
    until(lambda: not processes(here), "its end")
    assert processes(left)
    for pid in processes(left):
        os.kill(pid, signal.SIGKILL)


def test_it_has_a_group_of_its_own_where_the_shell_leads_none(
    open_session: Opened, home: Path, mark: str
) -> None:
    session, _ = open_session(command=f"sh -c 'sh; touch {home}/outer'")
    running = Running(session, Command(1, f"sleep {mark}", contained=True))
    until(lambda: processes(mark), "the step")
    session.cancel()
    assert running.over().endings[1].how is How.ENDED
    until(lambda: not processes(mark), "its end")
    until((home / "outer").exists, "the outer shell, which was not to be hit")


def test_lost_client_s_step_ends(open_session: Opened, mark: str) -> None:
    session, channel = open_session()
    heard = Heard()
    running = Running(session, Command(1, f"sleep {mark}", contained=True))
    until(lambda: processes(mark), "the step")
    channel.close_stdin()
    with pytest.raises(Exception, match="told to end"):
        running.over()
    until(lambda: not processes(mark), "its end")
    assert not heard.endings
