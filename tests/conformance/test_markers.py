"""Markers are found wherever they stand, and nothing else is taken for one."""

from __future__ import annotations

import re

import pytest

from orchestrator.model.command import Command
from orchestrator.remote_shell import How, Lost, Session
from tests.session.heard import (
    Heard,
    Overheard,
    Running,
    cmdlines,
    environments,
    processes,
    run,
    until,
)


def spoken(channel: Overheard) -> str:
    """The session's nonce."""
    found = re.search(rb"o_nonce=([0-9a-f]{16})''([0-9a-f]{16});", channel.written)
    assert found
    return (found[1] + found[2]).decode()


def test_marker_follows_a_partial_line_and_adds_nothing(session: Session) -> None:
    heard = run(session, *(Command(n, "printf x; printf y >&2") for n in range(1, 9)))
    assert {heard.out(n) for n in range(1, 9)} == {b"x"}
    assert {heard.err(n) for n in range(1, 9)} == {b"y"}


def test_markers_stand_inside_a_background_child_s_output(session: Session, mark: str) -> None:
    flood = "(while :; do printf 'noise without an end '; printf 'and more ' >&2; done) & echo $!"
    heard = run(session, Command(1, flood))
    number = re.search(rb"\d+\n", heard.out(1))
    assert number
    pid = int(number[0])
    heard = run(
        session, *(Command(n, f"echo {n}.") for n in range(2, 10)), Command(99, f"kill {pid}")
    )
    assert [heard.endings[n].how for n in range(2, 10)] == [How.DONE] * 8
    for n in range(2, 10):
        assert b"%d." % n in heard.out(n)
    everything = b"".join(heard.data.values())
    left = re.sub(rb"noise without an end |and more |\d\.\n", b"", everything)
    assert len(left) < 100  # partial words at the ends of pieces, no marker


def test_lookalikes_are_output(session: Session, channel: Overheard) -> None:
    run(session)
    nonce = spoken(channel)
    fakes = [f"{nonce[:-1]} E 1 done 0 0 1", f"{'0' * 32} E 1 done 0 0 1", f"{nonce[::-1]} S"]
    half = nonce[:20]
    text = (
        "".join(f"echo '{fake}'; echo '{fake}' >&2;" for fake in fakes) + f"printf {half}; exit 5"
    )
    heard = run(session, Command(1, text))
    assert heard.endings[1].exit_status == 5
    shown = "".join(f"{fake}\n" for fake in fakes)
    assert heard.out(1).decode() == shown + half
    assert heard.err(1).decode() == shown


def test_nonce_and_text_are_in_no_argv_and_no_environment(
    session: Session, channel: Overheard, mark: str
) -> None:
    secret = "hunter" + mark[6:]
    text = f": {secret}\nsleep {mark} | cat; :"
    running = Running(session, Command(1, text, stdin=secret, guard=f": {secret}", timeout=600))
    until(lambda: processes(mark), "the step")
    nonce = spoken(channel).encode()
    pages = [page for _, page in [*cmdlines(), *environments()]]
    assert not [page for page in pages if nonce in page or secret.encode() in page]
    session.cancel()
    running.over()


@pytest.mark.parametrize("forged", ["X 1", "S", "E 2 done 0 0 1", "E 1 done 0 0 1", "R"])
def test_forged_marker_is_a_loss_and_never_a_success(
    session: Session, channel: Overheard, mark: str, forged: str
) -> None:
    run(session)
    nonce = spoken(channel)  # which no step can know
    heard = Heard()
    forge = f"printf '{nonce} {forged}\\n'; sleep {mark}"
    with pytest.raises(Lost) as lost:
        session.run([Command(1, forge, timeout=0.8, ignore=True), Command(2, "echo no")], heard)
    assert lost.value.step in (1, None)
    assert not [e for e in heard.endings.values() if e.how is How.DONE]
    until(lambda: not processes(mark), "the step's end")
