"""Ctrl-C once, and twice."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.errors import Exit

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupts(first: Callable[[], None], second: Callable[[], None]) -> Iterator[None]:
    """While inside, the first signal to stop calls ``first``, the next ``second`` and then
    ends the process with 130 at once. Signals that were ignored (nohup) stay so.

    Both are called from a thread of their own, which hears of signals through Python's wakeup
    descriptor: a handler would run in the middle of whatever the main thread does, and only
    once that thread wakes up, which a signal delivered to another thread does not make it do.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def serve() -> None:
        for do in (first, second):
            while (heard := os.read(reader, 1)[0]) not in SIGNALS:
                if heard == 0:
                    return
            do()
        os._exit(Exit.INTERRUPTED)

    ours = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: None) for number in ours}
    descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=serve, name="interrupts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writer, b"\0")
        thread.join()
        os.close(reader)
        os.close(writer)
