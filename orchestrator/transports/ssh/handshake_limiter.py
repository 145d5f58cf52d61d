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

AT_ONCE = 8  # sshd's MaxStartups is 10:30:100 where nobody changed it
RECOVERY = 0.25  # how much more at once a handshake that succeeds is worth
BEHIND = 32  # of those that a hop reaches for us: they are many machines
NOTICED = 0.25  # seconds in which sshd knows that a handshake is over
LATELY = 5.0  # seconds in which what happens at two addresses may have one cause
Address: TypeAlias = tuple[str, int]
FRONT: Address = ("", 0)  # of all that turn us away at the same time


class _Hop(Struct):
    most: float
    allowed: float
    busy: int = 0
    queue: deque[threading.Event] = field(default_factory=deque)
    last: Deadline | None = None
    ended: float = -math.inf

    def admit(self) -> None:
        """Give those at the head of the queue their turn, as many as may."""
        while self.queue and self.busy < int(self.allowed):
            self.busy += 1
            self.queue.popleft().set()

    def crowded(self, deadline: Deadline) -> bool:
        """Whether somebody else's handshake may still count for the server."""
        if self.busy > 1:
            return True
        return self.last is not deadline and time.monotonic() - self.ended < NOTICED


class Turn(Struct):
    """One handshake's leave to go on. ``alone``: there was no other, neither just before."""

    alone: bool
    dropped: bool = False


class Pacing:
    """Turns for handshakes, counted for each first hop on its own.

    A hop that drops one is given fewer at once, down to one, and then again a little more with
    each that succeeds: the server's limit is found without knowing it. The hosts behind a jump
    host or a proxy are one hop, too; and so are addresses that drop some while others let us in,
    since they may be one server's, or behind one gateway.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._hops: dict[Address, _Hop] = {}
        self._dropped: dict[Address, float] = {}
        self._went_on = -math.inf

    @contextmanager
    def turn(
        self, address: Address, deadline: Deadline, at_once: int | None = None
    ) -> Iterator[Turn]:
        """Wait for a turn, first come first served, and hold it. The wait does not count against
        the deadline: those ahead have their own. Set ``dropped`` on it where the hop closed the
        connection unasked. Raises CancelledError.
        """
        with self._lock:
            place = FRONT if address in self._dropped and self._others_too(address) else address
        hop = self._enter(place, deadline, at_once or self._at_once)
        with self._lock:
            turn = Turn(not hop.crowded(deadline))
        try:
            yield turn
        finally:
            with self._lock:
                turn.alone = turn.alone and hop.busy == 1 and not self._others_too(address)
                self._note(address, turn)
                hop.busy -= 1
                hop.last, hop.ended = deadline, time.monotonic()
                allowed = hop.allowed / 2 if turn.dropped else hop.allowed + RECOVERY
                hop.allowed = min(max(1.0, allowed), hop.most)
                hop.admit()

    def wake(self) -> None:
        """Let those who wait see that the run is cancelled."""
        with self._lock:
            for hop in self._hops.values():
                for place in hop.queue:
                    place.set()

    def _others_too(self, address: Address) -> bool:
        """Whether other addresses drop handshakes as well, and some do not, or may not."""
        since = time.monotonic() - LATELY
        if not any(at > since for other, at in self._dropped.items() if other != address):
            return False
        return self._went_on > since or sum(hop.busy for hop in self._hops.values()) > 1

    def _note(self, address: Address, turn: Turn) -> None:
        if turn.dropped:
            self._dropped[address] = time.monotonic()
        else:
            self._went_on = time.monotonic()

    def _enter(self, address: Address, deadline: Deadline, at_once: int) -> _Hop:
        began, place = time.monotonic(), threading.Event()
        with self._lock:
            hop = self._hops.setdefault(address, _Hop(at_once, at_once))
            hop.queue.append(place)
            hop.admit()
        if not deadline.stop.is_set():
            place.wait()
        if deadline.stop.is_set():
            with self._lock:
                if place in hop.queue:
                    hop.queue.remove(place)
                else:
                    hop.busy -= 1
                    hop.admit()
            raise CancelledError
        deadline.extend(time.monotonic() - began)
        return hop
