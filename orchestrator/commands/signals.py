"""Handles termination signals: groups them into requests, and decides what each request does.

A request to stop often arrives as several signals: GNU timeout sends TERM to orch and then to its
group, npm forwards a Ctrl-C that the terminal has already sent, a terminal that is closed sends
HUP, and so does its shell. Signals that arrive together are one request, and what a request starts
(ending steps, rolling back) is not aborted by the next one.
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
from typing import Any, NoReturn, TypeAlias

from orchestrator.errors import ExitCode

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_REQUEST_SECONDS = 1.0
"""Signals within this many seconds are one request."""

_QUIT_TIMEOUT = 2.0  # seconds for the final output before the process exits
_END_MARKER = 0  # not the number of a signal

Clock: TypeAlias = Callable[[], float]
"""Returns monotonic seconds."""

_Handler: TypeAlias = Any  # what signal.signal takes and returns


class SignalAction(Enum):
    """What a signal requests."""

    BEGIN = "begin to stop"
    NOTHING = "already requested"
    AGAIN = "already requested, a second or more ago"
    QUIT = "exit immediately"


class StopRequests:
    """Classifies each signal.

    The first request begins to stop. A Ctrl-C at least a second after the first Ctrl-C quits, and
    so does a third request of any kind, each at least a second after the previous one.
    """

    def __init__(self) -> None:
        """Start without requests."""
        self._count = 0
        self._since: float | None = None  # time of the last request
        self._first_ctrl_c: float | None = None  # time of the first Ctrl-C

    def classify_signal(self, number: int, received_at: float) -> SignalAction:
        """Return what a signal received at this time requests."""
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
        """Return True if there was a request."""
        return self._count > 0

    def next_change(self, now: float) -> float | None:
        """Return the time from which a signal would have another meaning than now, or None."""
        ends = (
            at + SAME_REQUEST_SECONDS for at in (self._since, self._first_ctrl_c) if at is not None
        )
        return min((end for end in ends if end > now), default=None)


def read_signals(
    read: Callable[[float | None], bytes], requests: StopRequests, clock: Clock
) -> Iterator[tuple[int, SignalAction]]:
    """Yield each signal with its meaning, until the end marker is read.

    ``read`` returns the numbers of the signals received, at most so many seconds later (None: no
    limit). The earliest possible time counts as the time of a signal: if a busy machine delivers
    two of them together, the time between them is unknown.
    """
    quiet_until = clock()  # no signal arrived before this time
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
def watch_signals(
    on_signal: Callable[[int, SignalAction], None],
    clock: Clock = time.monotonic,
    *,
    requests: StopRequests | None = None,
    handler_after: Callable[[_Handler], _Handler] = lambda handler: handler,
) -> Iterator[None]:
    """Call ``on_signal`` with each termination signal and its meaning while inside the context.

    Signals that were ignored (nohup) stay ignored. Afterwards each signal gets the handler that
    ``handler_after`` returns for its previous one; by default, that one.

    The function is called from a separate thread, which receives signals through Python's wakeup
    descriptor: a handler would run in the middle of what the main thread does, and only after that
    thread wakes up, which a signal delivered to another thread does not cause.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal_actions = read_signals(
        partial(_read_wakeup_bytes, reader), requests or StopRequests(), clock
    )

    def listen() -> None:
        for number, act in signal_actions:
            on_signal(number, act)

    listener_thread = threading.Thread(target=listen, daemon=True)
    descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    previous_handlers = {
        number: signal.signal(number, _ignore_signal) for number in _handled_signals()
    }
    listener_thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        os.write(writer, bytes((_END_MARKER,)))
        listener_thread.join()
        for number, handler in previous_handlers.items():
            signal.signal(number, handler_after(handler))
        os.close(reader)
        os.close(writer)


@contextmanager
def handle_interrupts(
    on_first: Callable[[], None],
    on_repeat: Callable[[str], None],
    on_quit: Callable[[], None],
    clock: Clock = time.monotonic,
) -> Iterator[None]:
    """Handle termination signals while inside the context.

    The first request calls ``on_first``, the next one ``on_repeat`` with the signal's name, and one
    that quits calls ``on_quit`` and then exits with 130. Afterwards the previous handlers are
    restored if no signal arrived; otherwise signals do nothing, except for one that quits. All
    functions are called from threads (see ``watch_signals``).
    """
    requests = StopRequests()
    actions: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
    action_thread = threading.Thread(target=_run_actions, args=(actions,), daemon=True)

    def on_signal(number: int, act: SignalAction) -> None:
        if act is SignalAction.BEGIN:
            actions.put(on_first)
        elif act is SignalAction.AGAIN:
            actions.put(partial(on_repeat, signal.Signals(number).name))
        elif act is SignalAction.QUIT:
            _quit(on_quit)

    def handler_after(handler: _Handler) -> _Handler:
        return partial(_handle_late_signal, requests, clock) if requests.has_any else handler

    with watch_signals(on_signal, clock, requests=requests, handler_after=handler_after):
        action_thread.start()
        try:
            yield
        finally:
            actions.put(None)
            action_thread.join()  # until then a signal may still quit


class IdleSignalHandler:
    """Handles termination signals while no run is active.

    The first request raises KeyboardInterrupt in the main thread, or exits with 130 if
    ``is_finished`` is set.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Install the handlers."""
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


def _quit(on_quit: Callable[[], None]) -> NoReturn:
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
    """Do nothing; the wakeup descriptor reports the signal."""


def _handle_late_signal(
    requests: StopRequests, clock: Clock, number: int, _frame: FrameType | None
) -> None:
    if requests.classify_signal(number, clock()) is SignalAction.QUIT:
        os._exit(ExitCode.INTERRUPTED)
