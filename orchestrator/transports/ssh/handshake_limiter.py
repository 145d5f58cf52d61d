"""How many handshakes go on at once to one address: sshd drops those beyond MaxStartups."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from msgspec import Struct, field

from orchestrator.transports.deadline import CancelledError, Deadline

DEFAULT_CONCURRENT = 8  # sshd's MaxStartups is 10:30:100 where nobody changed it
RECOVERY_STEP = 0.25  # how much more at once a handshake that succeeds is worth
JUMP_HOST_CONCURRENT = 32  # of those that a hop reaches for us: they are many machines
SETTLE_TIME = 0.25  # seconds in which sshd knows that a handshake is over
RECENT_TIME = 5.0  # seconds in which what happens at two addresses may have one cause
LimitKey: TypeAlias = tuple[str, int]
SHARED_KEY: LimitKey = ("", 0)  # of all that turn us away at the same time


class _AddressLimit(Struct):
    maximum: float
    limit: float
    active: int = 0
    queue: deque[threading.Event] = field(default_factory=deque)
    last_deadline: Deadline | None = None
    last_end: float = -math.inf

    def admit_waiting(self) -> None:
        """Give those at the head of the queue their turn, as many as may."""
        while self.queue and self.active < int(self.limit):
            self.active += 1
            self.queue.popleft().set()

    def is_crowded(self, deadline: Deadline) -> bool:
        """Whether somebody else's handshake may still count for the server."""
        if self.active > 1:
            return True
        return self.last_deadline is not deadline and time.monotonic() - self.last_end < SETTLE_TIME


class HandshakeSlot(Struct):
    """One handshake's leave to go on. ``is_alone``: there was no other, neither just before."""

    is_alone: bool
    was_dropped: bool = False


class HandshakeLimiter:
    """Turns for handshakes, counted for each first hop on its own.

    A hop that drops one is given fewer at once, down to one, and then again a little more with
    each that succeeds: the server's limit is found without knowing it. The hosts behind a jump
    host or a proxy are one hop, too; and so are addresses that drop some while others let us in,
    since they may be one server's, or behind one gateway.
    """

    def __init__(self, max_concurrent: int = DEFAULT_CONCURRENT) -> None:
        self._at_once = max_concurrent
        self._lock = threading.Lock()
        self._limits: dict[LimitKey, _AddressLimit] = {}
        self._dropped: dict[LimitKey, float] = {}
        self._last_success = -math.inf

    @contextmanager
    def slot(
        self, address: LimitKey, deadline: Deadline, max_concurrent: int | None = None
    ) -> Iterator[HandshakeSlot]:
        """Wait for a turn, first come first served, and hold it. The wait does not count against
        the deadline: those ahead have their own. Set ``was_dropped`` on it where the hop closed the
        connection unasked. Raises CancelledError.
        """
        with self._lock:
            limit_key = (
                SHARED_KEY
                if address in self._dropped and self._others_were_dropped(address)
                else address
            )
        hop = self._wait_for_slot(limit_key, deadline, max_concurrent or self._at_once)
        with self._lock:
            turn = HandshakeSlot(not hop.is_crowded(deadline))
        try:
            yield turn
        finally:
            with self._lock:
                turn.is_alone = (
                    turn.is_alone and hop.active == 1 and not self._others_were_dropped(address)
                )
                self._record_result(address, turn)
                hop.active -= 1
                hop.last_deadline, hop.last_end = deadline, time.monotonic()
                allowed = hop.limit / 2 if turn.was_dropped else hop.limit + RECOVERY_STEP
                hop.limit = min(max(1.0, allowed), hop.maximum)
                hop.admit_waiting()

    def wake_waiting(self) -> None:
        """Let those who wait see that the run is cancelled."""
        with self._lock:
            for hop in self._limits.values():
                for waiter in hop.queue:
                    waiter.set()

    def _others_were_dropped(self, address: LimitKey) -> bool:
        """Whether other addresses drop handshakes as well, and some do not, or may not."""
        since = time.monotonic() - RECENT_TIME
        if not any(at > since for other, at in self._dropped.items() if other != address):
            return False
        return self._last_success > since or sum(hop.active for hop in self._limits.values()) > 1

    def _record_result(self, address: LimitKey, slot: HandshakeSlot) -> None:
        if slot.was_dropped:
            self._dropped[address] = time.monotonic()
        else:
            self._last_success = time.monotonic()

    def _wait_for_slot(
        self, address: LimitKey, deadline: Deadline, max_concurrent: int
    ) -> _AddressLimit:
        began, waiter = time.monotonic(), threading.Event()
        with self._lock:
            hop = self._limits.setdefault(address, _AddressLimit(max_concurrent, max_concurrent))
            hop.queue.append(waiter)
            hop.admit_waiting()
        if not deadline.stop.is_set():
            waiter.wait()
        if deadline.stop.is_set():
            with self._lock:
                if waiter in hop.queue:
                    hop.queue.remove(waiter)
                else:
                    hop.active -= 1
                    hop.admit_waiting()
            raise CancelledError
        deadline.extend(time.monotonic() - began)
        return hop
