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

from orchestrator.errors import ExitCode

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_REQUEST_SECONDS = 1.0
"""Seconds within which signals are one request."""

_QUIT_TIMEOUT = 2.0  # seconds that they may take, before the process ends: nobody may be reading
_END_MARKER = 0  # no signal has this number

Clock: TypeAlias = Callable[[], float]
"""Seconds; it does not go back."""


class SignalAction(Enum):
    """What a signal asks for."""

    BEGIN = "begin to stop"
    NOTHING = "what is asked for already"
    AGAIN = "what is asked for already, a second or more later"
    QUIT = "leave at once"


class StopRequests:
    """Tells what each signal asks for.

    The first request begins to stop. A Ctrl-C at least a second after the first Ctrl-C quits, and
    so does a third request of any kind, each a second or more after the one before.
    """

    def __init__(self) -> None:
        self._count = 0
        self._since: float | None = None  # when the last request came
        self._first_ctrl_c: float | None = None  # when Ctrl-C did for the first time

    def classify_signal(self, number: int, received_at: float) -> SignalAction:
        """Return what this signal asks for, which came at this time."""
        if number == signal.SIGINT:
            if (
                self._first_ctrl_c is not None
                and received_at - self._first_ctrl_c >= SAME_REQUEST_SECONDS
            ):
                return SignalAction.QUIT
            self._first_ctrl_c = received_at if self._first_ctrl_c is None else self._first_ctrl_c
        if self._since is not None and received_at - self._since < SAME_REQUEST_SECONDS:
            return SignalAction.NOTHING
        self._count, self._since = self._count + 1, received_at
        return {1: SignalAction.BEGIN, 2: SignalAction.AGAIN}.get(self._count, SignalAction.QUIT)

    @property
    def has_any(self) -> bool:
        """Whether there was a request."""
        return self._count > 0

    def next_change(self, now: float) -> float | None:
        """Return from when on a signal would ask for something else than now, or None."""
        ends = (
            at + SAME_REQUEST_SECONDS for at in (self._since, self._first_ctrl_c) if at is not None
        )
        return min((end for end in ends if end > now), default=None)


def read_signals(
    read: Callable[[float | None], bytes], requests: StopRequests, clock: Clock
) -> Iterator[tuple[int, SignalAction]]:
    """Yield each signal with what it asks for, until there are no more.

    ``read`` returns the numbers of those that came, after so many seconds (None: however long it
    takes) at the latest. A signal counts as having come as early as it may have: on a machine that
    is so busy that we hear of two together, nothing is known of the time between them.
    """
    quiet_until = clock()  # until then there was none
    while True:
        due = requests.next_change(quiet_until)
        numbers = read(None if due is None else max(0.0, due - clock()))
        now = clock()
        at = quiet_until if due is not None and now >= due else now
        quiet_until = now
        for number in numbers:
            if number == _END_MARKER:
                return
            if number in SIGNALS:
                yield number, requests.classify_signal(number, at)


@contextmanager
def handle_interrupts(
    on_first: Callable[[], None],
    on_repeat: Callable[[str], None],
    on_quit: Callable[[], None],
    clock: Clock = time.monotonic,
) -> Iterator[None]:
    """While inside, the first request to stop calls ``on_first``, the next one ``on_repeat`` with the
    signal's name, and one that quits calls ``on_quit`` and then ends the process with 130.

    Signals that were ignored (nohup) stay so. Behind it they are as before if none came; else they
    do nothing more, except for one that quits.

    All are called from threads of their own, which hear of signals through Python's wakeup
    descriptor: a handler would run in the middle of whatever the main thread does, and only
    once that thread wakes up, which a signal delivered to another thread does not make it do.
    """
    requests = StopRequests()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    actions: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
    signal_actions = read_signals(partial(_read_wakeup_bytes, reader), requests, clock)
    listener_thread = threading.Thread(
        target=_dispatch_signals,
        args=(signal_actions, on_first, on_repeat, on_quit, actions),
        daemon=True,
    )
    action_thread = threading.Thread(target=_run_actions, args=(actions,), daemon=True)
    descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    previous_handlers = {
        number: signal.signal(number, _ignore_signal) for number in _handled_signals()
    }
    listener_thread.start()
    action_thread.start()
    try:
        yield
    finally:
        actions.put(None)
        action_thread.join()  # meanwhile a signal may still quit
        signal.set_wakeup_fd(descriptor)
        os.write(writer, bytes((_END_MARKER,)))
        listener_thread.join()
        for number, handler in previous_handlers.items():
            signal.signal(
                number,
                partial(_handle_late_signal, requests, clock) if requests.has_any else handler,
            )
        os.close(reader)
        os.close(writer)


class IdleSignalHandler:
    """What signals to stop do while no run is under way: the first request raises
    KeyboardInterrupt in the main thread. Once ``is_finished`` is set, it ends the process with 130.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._requests, self._clock = StopRequests(), clock
        self.is_finished = False
        for number in _handled_signals():
            signal.signal(number, self._handle_signal)

    def _handle_signal(self, number: int, _frame: FrameType | None) -> None:
        act = self._requests.classify_signal(number, self._clock())
        if act is SignalAction.QUIT or (act is SignalAction.BEGIN and self.is_finished):
            os._exit(ExitCode.INTERRUPTED)
        if act is SignalAction.BEGIN:
            raise KeyboardInterrupt


def _dispatch_signals(
    signal_actions: Iterator[tuple[int, SignalAction]],
    on_first: Callable[[], None],
    on_repeat: Callable[[str], None],
    on_quit: Callable[[], None],
    actions: queue.SimpleQueue[Callable[[], None] | None],
) -> None:
    for number, act in signal_actions:
        if act is SignalAction.BEGIN:
            actions.put(on_first)
        elif act is SignalAction.AGAIN:
            actions.put(partial(on_repeat, signal.Signals(number).name))
        elif act is SignalAction.QUIT:
            quit_thread = threading.Thread(target=on_quit, daemon=True)
            quit_thread.start()
            quit_thread.join(_QUIT_TIMEOUT)
            os._exit(ExitCode.INTERRUPTED)


def _run_actions(actions: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (action := actions.get()) is not None:
        action()


def _read_wakeup_bytes(descriptor: int, timeout: float | None) -> bytes:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    ready = poll.poll(None if timeout is None else timeout * 1000)
    return os.read(descriptor, 4096) if ready else b""


def _handled_signals() -> list[signal.Signals]:
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def _ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """The wakeup descriptor tells of the signal."""


def _handle_late_signal(
    requests: StopRequests, clock: Clock, number: int, _frame: FrameType | None
) -> None:
    if requests.classify_signal(number, clock()) is SignalAction.QUIT:
        os._exit(ExitCode.INTERRUPTED)
