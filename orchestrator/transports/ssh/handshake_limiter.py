"""Limits on concurrent handshakes with one server, because sshd refuses more than MaxStartups."""

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

DEFAULT_CONCURRENT = 8  # sshd's default for MaxStartups is 10:30:100
RECOVERY_STEP = 0.25  # by how much the limit grows with each handshake that succeeds
JUMP_HOST_CONCURRENT = 32  # through one jump host, since the hosts behind it are many servers
SETTLE_TIME = 0.25  # seconds until sshd knows that a handshake is over
RECENT_TIME = 5.0  # seconds within which failures at two addresses may have one cause
LimitKey: TypeAlias = tuple[str, int]
SHARED_KEY: LimitKey = ("", 0)  # for all addresses that drop handshakes at the same time


class _AddressLimit(Struct):
    maximum: float
    limit: float
    active: int = 0
    queue: deque[threading.Event] = field(default_factory=deque)
    last_deadline: Deadline | None = None
    last_end: float = -math.inf

    def admit_waiting(self) -> None:
        """Give free slots to the first handshakes in the queue."""
        while self.queue and self.active < int(self.limit):
            self.active += 1
            self.queue.popleft().set()

    def is_crowded(self, deadline: Deadline) -> bool:
        """Return True if the server may still count another login's handshake."""
        if self.active > 1:
            return True
        return self.last_deadline is not deadline and time.monotonic() - self.last_end < SETTLE_TIME


class HandshakeSlot(Struct):
    """A permission for one handshake. ``is_alone``: there was no other, not even just before."""

    is_alone: bool
    was_dropped: bool = False


class HandshakeLimiter:
    """Slots for handshakes, limited separately for each address.

    If an address drops a handshake, its limit is halved, down to one; each handshake that succeeds
    raises it a little. So the server's limit is found without knowing it. The hosts behind a jump
    host or a proxy share one limit. So do addresses that drop handshakes while others succeed,
    because they may be those of one server or behind one gateway.
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
        """Wait for a slot, in order of arrival, and hold it for the handshake.

        The wait does not count against the deadline, because the handshakes ahead have their own.
        The caller sets ``was_dropped`` on the slot if the server closed the connection early.
        Raises CancelledError.
        """
        with self._lock:
            limit_key = (
                SHARED_KEY
                if address in self._dropped and self._others_were_dropped(address)
                else address
            )
        address_limit = self._wait_for_slot(limit_key, deadline, max_concurrent or self._at_once)
        with self._lock:
            slot = HandshakeSlot(not address_limit.is_crowded(deadline))
        try:
            yield slot
        finally:
            with self._lock:
                slot.is_alone = (
                    slot.is_alone
                    and address_limit.active == 1
                    and not self._others_were_dropped(address)
                )
                self._record_result(address, slot)
                address_limit.active -= 1
                address_limit.last_deadline, address_limit.last_end = deadline, time.monotonic()
                allowed = (
                    address_limit.limit / 2
                    if slot.was_dropped
                    else address_limit.limit + RECOVERY_STEP
                )
                address_limit.limit = min(max(1.0, allowed), address_limit.maximum)
                address_limit.admit_waiting()

    def wake_waiting(self) -> None:
        """Wake all waiting handshakes, so that they see the cancellation."""
        with self._lock:
            for address_limit in self._limits.values():
                for waiter in address_limit.queue:
                    waiter.set()

    def _others_were_dropped(self, address: LimitKey) -> bool:
        """Return True if other addresses drop handshakes too while some succeed or may succeed."""
        since = time.monotonic() - RECENT_TIME
        if not any(at > since for other, at in self._dropped.items() if other != address):
            return False
        return (
            self._last_success > since
            or sum(address_limit.active for address_limit in self._limits.values()) > 1
        )

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
            address_limit = self._limits.setdefault(
                address, _AddressLimit(max_concurrent, max_concurrent)
            )
            address_limit.queue.append(waiter)
            address_limit.admit_waiting()
        if not deadline.stop.is_set():
            waiter.wait()
        if deadline.stop.is_set():
            with self._lock:
                if waiter in address_limit.queue:
                    address_limit.queue.remove(waiter)
                else:
                    address_limit.active -= 1
                    address_limit.admit_waiting()
            raise CancelledError
        deadline.extend(time.monotonic() - began)
        return address_limit
