"""Ctrl-C once, and twice."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.errors import Exit

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupts(first: Callable[[], None], second: Callable[[], None]) -> Iterator[None]:
    """While inside, the first signal to stop calls ``first``, the next ``second`` and then
    ends the process with 130 at once.

    Both are called from a thread of their own: a handler runs in the middle of whatever the
    main thread does, and must not take locks.
    """
    seen: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def handle(number: int, _frame: FrameType | None) -> None:
        seen.put(number)

    def serve() -> None:
        if seen.get() is None:
            return
        first()
        if seen.get() is None:
            return
        second()
        os._exit(Exit.INTERRUPTED)

    heard = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]  # as under nohup
    before = {number: signal.signal(number, handle) for number in heard}
    thread = threading.Thread(target=serve, name="interrupts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        seen.put(None)
        thread.join()
