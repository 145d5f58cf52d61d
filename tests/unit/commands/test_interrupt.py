"""Grouping of signals into requests; no real time passes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from orchestrator.commands.signals import (
    SIGNALS,
    SignalAction,
    StopRequests,
    handle_interrupts,
    read_signals,
)

INT, TERM, HUP = SIGNALS
NAMES = {"int": INT, "term": TERM, "hup": HUP}
ACTS = {
    "b": SignalAction.BEGIN,
    "-": SignalAction.NOTHING,
    "a": SignalAction.AGAIN,
    "q": SignalAction.QUIT,
}


@pytest.mark.parametrize(
    ("signals", "acts"),
    [
        ("int 0, int 0.2", "b-"),
        ("term 0, term 0", "b-"),  # GNU timeout
        ("hup 0, hup 0.01, hup 0.02", "b--"),  # a terminal that is closed
        ("int 0, term 0.1", "b-"),  # npm
        ("term 0, int 0.999", "b-"),
        ("int 0, int 0.2, int 0.4, int 0.6, int 0.8, int 1", "b----q"),  # a key held down
        ("int 0, int 1", "bq"),
        ("int 0, int 0.9, int 60", "b-q"),
        ("int 0, term 7.5", "ba"),  # a cancelled job of GitHub
        ("term 0, hup 3", "ba"),
        ("hup 0, hup 5, hup 5.9, hup 6", "ba-q"),
        ("term 0, term 2, term 3", "baq"),
        ("term 0, term 2, term 2.5, int 2.9, hup 2.99", "ba---"),
        ("term 0, int 2", "ba"),  # the first Ctrl-C does not count as a second one
        ("term 0, int 2, int 2.5, int 3", "ba-q"),
        ("int 0, term 1, int 1.1", "baq"),  # a second Ctrl-C, whatever came before it
        ("term 0, int 0.9, int 1.2, int 1.9", "b-aq"),  # two Ctrl-Cs 0.3 s apart
    ],
)
def test_what_each_signal_asks_for(signals: str, acts: str) -> None:
    requests = StopRequests()
    for each, act in zip(signals.split(", "), acts, strict=True):
        name, at = each.split()
        assert requests.classify_signal(NAMES[name], 100 + float(at)) is ACTS[act], each


class ScriptedSignals:
    """A scripted pipe and clock: which bytes are read, and at what time.

    There is nothing to read at the times at which it is asked to wake up.
    """

    def __init__(self, *script: tuple[float, bytes]) -> None:
        self.now = 50.0
        self._script = [(50 + at, data) for at, data in script]

    def clock(self) -> float:
        return self.now

    def read(self, timeout: float | None) -> bytes:
        if not self._script:
            return b"\0"
        at, data = self._script[0]
        if timeout is not None and self.now + timeout < at:
            self.now += timeout
            return b""
        self.now = max(self.now, at)
        del self._script[0]
        return data

    def run_actions(self) -> list[SignalAction]:
        return [act for _, act in read_signals(self.read, StopRequests(), self.clock)]


def test_signals_that_are_read_in_time_are_told_apart_by_when_they_came() -> None:
    assert ScriptedSignals((3, b"\2"), (3.2, b"\2"), (4.5, b"\2")).run_actions() == [
        SignalAction.BEGIN,
        SignalAction.NOTHING,
        SignalAction.QUIT,
    ]
    assert ScriptedSignals((3, b"\x0f"), (5, b"\x0f"), (7, b"\x0f")).run_actions() == [
        SignalAction.BEGIN,
        SignalAction.AGAIN,
        SignalAction.QUIT,
    ]


def test_signals_that_came_while_the_machine_stood_still_are_one_request() -> None:
    class StillSignals(ScriptedSignals):
        """A pipe that wakes up only when there is something to read, as late as possible."""

        def read(self, timeout: float | None) -> bytes:
            return super().read(None)

    assert StillSignals((3, b"\2"), (9, b"\2")).run_actions() == [
        SignalAction.BEGIN,
        SignalAction.NOTHING,
    ]
    assert StillSignals((3, b"\2\2"), (9, b"\x0f\x01"), (9.1, b"")).run_actions() == [
        SignalAction.BEGIN,
        *[SignalAction.NOTHING] * 3,
    ]


def test_of_what_else_has_a_handler_nothing_is_heard() -> None:
    assert ScriptedSignals((1, bytes([signal.SIGCHLD, signal.SIGUSR1]))).run_actions() == []


@pytest.fixture
def deliver() -> Iterator[object]:
    """Ignore the signals during the test, apart from what it tests."""
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    yield None
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("deliver")
@pytest.mark.parametrize("numbers", [(INT, INT), (TERM, TERM), (HUP, HUP), (INT, TERM), (HUP, INT)])
def test_real_signals_at_one_time_begin_to_stop_once_and_nothing_else(
    numbers: tuple[signal.Signals, ...],
) -> None:
    output: list[str] = []
    began, go_on = threading.Event(), threading.Event()

    def first() -> None:
        output.append("first")
        began.set()
        go_on.wait(60)

    with handle_interrupts(first, output.append, lambda: output.append("last"), clock=lambda: 7.0):
        for number in numbers:
            os.kill(os.getpid(), number)
            assert began.wait(60)  # so that the next signal is not part of the same delivery
        go_on.set()
    for number in numbers:  # also after it
        os.kill(os.getpid(), number)
    assert output == ["first"]


@pytest.mark.usefixtures("deliver")
def test_without_a_request_signals_are_as_they_were_before() -> None:
    came: list[int] = []
    signal.signal(INT, lambda number, _: came.append(number))
    with handle_interrupts(lambda: came.append(-1), lambda _: None, lambda: None):
        pass
    os.kill(os.getpid(), INT)
    assert came == [INT]


@pytest.mark.usefixtures("deliver")
def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(HUP, signal.SIG_IGN)
    came: list[str] = []
    with handle_interrupts(lambda: came.append("first"), came.append, lambda: None):
        assert signal.getsignal(HUP) is signal.SIG_IGN
        os.kill(os.getpid(), HUP)
    assert signal.getsignal(HUP) is signal.SIG_IGN
    assert came == []
