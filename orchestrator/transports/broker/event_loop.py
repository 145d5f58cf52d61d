"""The broker's event loop, and sockets that carry frames."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from orchestrator.transports.broker.messages import FrameReader, InvalidFrameError

_READ_BYTES = 1 << 18

Call: TypeAlias = Callable[[], object]


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

    Other threads may only call ``call_soon``.
    """

    def __init__(self) -> None:
        """Make a loop without sockets."""
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Call] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._woken, self._waker = os.pipe()
        for fd in (self._woken, self._waker):
            os.set_blocking(fd, False)
        self._selector.register(self._woken, selectors.EVENT_READ)
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

    def watch(self, sock: socket.socket, events: int, call: Callable[[int], object]) -> None:
        """Call it with the events whenever the socket is ready; 0 events: do not watch it."""
        known = sock.fileno() in self._selector.get_map()
        if events and known:
            self._selector.modify(sock, events, call)
        elif events:
            self._selector.register(sock, events, call)
        elif known:
            self._selector.unregister(sock)

    def stop(self) -> None:
        """End ``run``."""
        self._is_running = False

    def run(self) -> None:
        """Wait and call until ``stop`` is called."""
        while self._is_running:
            self._is_waiting = True  # before the look at the calls, so that none is missed
            ready = self._selector.select(self._seconds_to_wait())
            self._is_waiting = False
            for key, events in ready:
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, 4096)
                elif self._selector.get_map().get(key.fd) is key:
                    key.data(events)
            for _ in range(len(self._calls)):
                self._calls.popleft()()
            self._call_timers()

    def close(self) -> None:
        """Release the loop's own files."""
        self._selector.close()
        os.close(self._woken)
        os.close(self._waker)

    def _seconds_to_wait(self) -> float | None:
        if self._calls:
            return 0.0
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _call_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                timer.call()


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
        self._loop.watch(self._sock, 0, self._on_ready)
        self._sock.close()

    def _watch(self) -> None:
        if self._is_closed:
            return
        events = 0 if self._is_paused else selectors.EVENT_READ
        if self._unsent:
            events |= selectors.EVENT_WRITE
        self._loop.watch(self._sock, events, self._on_ready)

    def _send_some(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # nobody reads it; the next read tells

    def _on_ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ and not self._is_closed:
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
            self.close()
            self.on_closed()
