"""Signals to stop: which of them are one request, and what each request does.

Who wants orch to stop often says so more than once: GNU timeout sends TERM to orch and then to its
group, npm passes on a Ctrl-C that the terminal has sent already, a terminal that is closed sends
HUP, and so does its shell. Signals that arrive together are one request, and what a request begins
(steps are ended, what was begun is rolled back) is not cut short by the next one.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import partial
from types import FrameType
from typing import TypeAlias

from orchestrator.errors import Exit

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TOGETHER = 1.0
"""Seconds within which signals are one request."""

_LAST_WORDS = 2.0  # seconds that they may take, before the process ends: nobody may be reading
_OVER = 0  # no signal has this number

Clock: TypeAlias = Callable[[], float]
"""Seconds; it does not go back."""


class Act(Enum):
    """What a signal asks for."""

    BEGIN = "begin to stop"
    NOTHING = "what is asked for already"
    AGAIN = "what is asked for already, a second or more later"
    QUIT = "leave at once"


class Requests:
    """Tells what each signal asks for.

    The first request begins to stop. A Ctrl-C at least a second after the first Ctrl-C quits, and
    so does a third request of any kind, each a second or more after the one before.
    """

    def __init__(self) -> None:
        self._count = 0
        self._since: float | None = None  # when the last request came
        self._typed: float | None = None  # when Ctrl-C did for the first time

    def take(self, number: int, at: float) -> Act:
        """Return what this signal asks for, which came at this time."""
        if number == signal.SIGINT:
            if self._typed is not None and at - self._typed >= TOGETHER:
                return Act.QUIT
            self._typed = at if self._typed is None else self._typed
        if self._since is not None and at - self._since < TOGETHER:
            return Act.NOTHING
        self._count, self._since = self._count + 1, at
        return {1: Act.BEGIN, 2: Act.AGAIN}.get(self._count, Act.QUIT)

    @property
    def came(self) -> bool:
        """Whether there was a request."""
        return self._count > 0

    def due(self, now: float) -> float | None:
        """Return from when on a signal would ask for something else than now, or None."""
        ends = (at + TOGETHER for at in (self._since, self._typed) if at is not None)
        return min((end for end in ends if end > now), default=None)


def heard(
    read: Callable[[float | None], bytes], requests: Requests, clock: Clock
) -> Iterator[tuple[int, Act]]:
    """Yield each signal with what it asks for, until there are no more.

    ``read`` returns the numbers of those that came, after so many seconds (None: however long it
    takes) at the latest. A signal counts as having come as early as it may have: on a machine that
    is so busy that we hear of two together, nothing is known of the time between them.
    """
    quiet = clock()  # until then there was none
    while True:
        due = requests.due(quiet)
        numbers = read(None if due is None else max(0.0, due - clock()))
        now = clock()
        at = quiet if due is not None and now >= due else now
        quiet = now
        for number in numbers:
            if number == _OVER:
                return
            if number in SIGNALS:
                yield number, requests.take(number, at)


@contextmanager
def interrupts(
    first: Callable[[], None],
    again: Callable[[str], None],
    last: Callable[[], None],
    clock: Clock = time.monotonic,
) -> Iterator[None]:
    """While inside, the first request to stop calls ``first``, the next one ``again`` with the
    signal's name, and one that quits calls ``last`` and then ends the process with 130.

    Signals that were ignored (nohup) stay so. Behind it they are as before if none came; else they
    do nothing more, except for one that quits.

    All are called from threads of their own, which hear of signals through Python's wakeup
    descriptor: a handler would run in the middle of whatever the main thread does, and only
    once that thread wakes up, which a signal delivered to another thread does not make it do.
    """
    requests = Requests()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
    acts = heard(partial(_read, reader), requests, clock)
    listening = threading.Thread(target=_listen, args=(acts, first, again, last, todo), daemon=True)
    doing = threading.Thread(target=_do, args=(todo,), daemon=True)
    descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, _nothing) for number in _not_ignored()}
    listening.start()
    doing.start()
    try:
        yield
    finally:
        todo.put(None)
        doing.join()  # meanwhile a signal may still quit
        signal.set_wakeup_fd(descriptor)
        os.write(writer, bytes((_OVER,)))
        listening.join()
        for number, handler in before.items():
            signal.signal(number, partial(_later, requests, clock) if requests.came else handler)
        os.close(reader)
        os.close(writer)


class Unattended:
    """What signals to stop do while no run is under way: the first request raises
    KeyboardInterrupt in the main thread. Once ``over`` is set, it ends the process with 130.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._requests, self._clock = Requests(), clock
        self.over = False
        for number in _not_ignored():
            signal.signal(number, self._take)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        act = self._requests.take(number, self._clock())
        if act is Act.QUIT or (act is Act.BEGIN and self.over):
            os._exit(Exit.INTERRUPTED)
        if act is Act.BEGIN:
            raise KeyboardInterrupt


def _listen(
    acts: Iterator[tuple[int, Act]],
    first: Callable[[], None],
    again: Callable[[str], None],
    last: Callable[[], None],
    todo: queue.SimpleQueue[Callable[[], None] | None],
) -> None:
    for number, act in acts:
        if act is Act.BEGIN:
            todo.put(first)
        elif act is Act.AGAIN:
            todo.put(partial(again, signal.Signals(number).name))
        elif act is Act.QUIT:
            words = threading.Thread(target=last, daemon=True)
            words.start()
            words.join(_LAST_WORDS)
            os._exit(Exit.INTERRUPTED)


def _do(todo: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (do := todo.get()) is not None:
        do()


def _read(descriptor: int, timeout: float | None) -> bytes:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    ready = poll.poll(None if timeout is None else timeout * 1000)
    return os.read(descriptor, 4096) if ready else b""


def _not_ignored() -> list[signal.Signals]:
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """The wakeup descriptor tells of the signal."""


def _later(requests: Requests, clock: Clock, number: int, _frame: FrameType | None) -> None:
    if requests.take(number, clock()) is Act.QUIT:
        os._exit(Exit.INTERRUPTED)
