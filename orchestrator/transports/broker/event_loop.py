"""The broker's event loop, and sockets that carry frames."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from orchestrator.transports.broker.messages import FrameReader, InvalidFrameError

READABLE, WRITABLE = select.POLLIN, select.POLLOUT
_READ_BYTES = 1 << 18
_ENDED = select.POLLHUP | select.POLLERR

Call: TypeAlias = Callable[[], object]


def call_safely(call: Call) -> None:
    """Call it. An exception is a bug; it is written to the broker's log, and the broker goes on."""
    try:
        call()
    except Exception:
        traceback.print_exc()


class Timer:
    """A call at a later time."""

    def __init__(self, call: Call) -> None:
        """Store the call."""
        self.call: Call | None = call

    def cancel(self) -> None:
        """Never call it."""
        self.call = None


class EventLoop:
    """Waits for sockets and timers, in the thread that calls ``run``.

    Other threads may only call ``call_soon``. Not on ``selectors``: a socket that is not read for a
    while must still tell that its peer has gone.
    """

    def __init__(self) -> None:
        """Make a loop without sockets."""
        self._uses_epoll = hasattr(select, "epoll")
        self._poller: Any = select.epoll() if self._uses_epoll else select.poll()
        self._watched: dict[int, Callable[[int], object]] = {}
        self._calls: deque[Call] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._woken, self._waker = os.pipe()
        for fd in (self._woken, self._waker):
            os.set_blocking(fd, False)
        self.watch(self._woken, READABLE, self._on_woken)
        self._is_waiting = False
        self._is_running = True

    def call_soon(self, call: Call) -> None:
        """Call it in the loop's thread. Thread-safe."""
        self._calls.append(call)
        if self._is_waiting:
            self._is_waiting = False
            with contextlib.suppress(BlockingIOError):
                os.write(self._waker, b".")

    def call_later(self, seconds: float, call: Call) -> Timer:
        """Call it after some time."""
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), timer))
        return timer

    def watch(self, fd: int, events: int, call: Callable[[int], object]) -> None:
        """Call it with the events whenever one of them, or the peer's end, has come."""
        if fd in self._watched:
            self._poller.modify(fd, events)
        else:
            self._poller.register(fd, events)
        self._watched[fd] = call

    def forget(self, fd: int) -> None:
        """Watch it no more. Safe to call twice."""
        if self._watched.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def stop(self) -> None:
        """End ``run``."""
        self._is_running = False

    def run(self) -> None:
        """Wait and call until ``stop`` is called."""
        while self._is_running:
            self._is_waiting = True  # before the look at the calls, so that none is missed
            ready = self._poll(self._seconds_to_wait())
            self._is_waiting = False
            for fd, events in ready:
                call = self._watched.get(fd)
                if call is not None:
                    call_safely(partial(call, events))
            for _ in range(len(self._calls)):
                call_safely(self._calls.popleft())
            self._call_timers()

    def _poll(self, seconds: float | None) -> list[tuple[int, int]]:
        if seconds is None:
            found = self._poller.poll()
        else:
            found = self._poller.poll(seconds if self._uses_epoll else seconds * 1000)
        ready: list[tuple[int, int]] = found
        return ready

    def _on_woken(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)

    def _seconds_to_wait(self) -> float | None:
        if self._calls:
            return 0.0
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _call_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                call_safely(timer.call)


class FrameSocket:
    """A Unix socket that carries frames. Frames may be sent by any thread.

    ``on_frame`` is called with the kind and the data of each frame, ``on_closed`` once when the
    peer has gone, or sends what is no frame. What the peer has no room for waits here.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: EventLoop,
        on_frame: Callable[[bytes, bytes], object],
        on_closed: Call,
    ) -> None:
        """Begin to read."""
        self._sock, self._loop = sock, loop
        self.on_frame, self.on_closed = on_frame, on_closed
        self._frames = FrameReader()
        self._lock = threading.Lock()
        self._unsent: deque[tuple[memoryview, Call | None]] = deque()
        self._is_closed = self._is_paused = False
        self._events = -1  # that are watched
        sock.setblocking(False)
        self._watch()

    def send(self, frame: bytes, done: Call | None = None) -> None:
        """Send a frame now, or when there is room; ``done`` is called when it has been sent."""
        with self._lock:
            if self._is_closed:
                return
            if self._unsent:
                self._unsent.append((memoryview(frame), done))
                return
            sent = self._send_some(frame)
            if sent < len(frame):
                self._unsent.append((memoryview(frame)[sent:], done))
                self._loop.call_soon(self._watch)
                return
        if done is not None:
            done()

    def pause(self, is_paused: bool) -> None:
        """Stop or continue to read."""
        if self._is_paused != is_paused:
            self._is_paused = is_paused
            self._watch()

    def close(self) -> None:
        """Close the socket; ``on_closed`` is not called any more."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._unsent.clear()
        self._loop.forget(self._sock.fileno())
        self._sock.close()

    def _watch(self) -> None:
        if self._is_closed:
            return
        events = (0 if self._is_paused else READABLE) | (WRITABLE if self._unsent else 0)
        if events != self._events:
            self._events = events
            self._loop.watch(self._sock.fileno(), events, self._on_ready)

    def _send_some(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # nobody reads it; the next read tells

    def _on_ready(self, events: int) -> None:
        if events & _ENDED and self._is_paused:
            self._end()
            return
        if events & WRITABLE:
            self._flush()
        if events & ~WRITABLE and not self._is_closed:
            self._read()

    def _flush(self) -> None:
        sent: list[Call] = []
        with self._lock:
            while self._unsent:
                data, done = self._unsent[0]
                size = self._send_some(data)
                if size < len(data):
                    self._unsent[0] = (data[size:], done)
                    break
                self._unsent.popleft()
                if done is not None:
                    sent.append(done)
        for call in sent:
            call()
        self._watch()

    def _read(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            for kind, content in self._frames.feed(data):
                if self._is_closed:
                    return
                self.on_frame(kind, content)
        except InvalidFrameError:
            data = b""
        if not data and not self._is_closed:
            self._end()

    def _end(self) -> None:
        self.close()
        self.on_closed()
