"""How many handshakes go on at once to one address: sshd drops those beyond MaxStartups."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from orchestrator.transport.deadline import Deadline

AT_ONCE = 8  # sshd's MaxStartups is 10:30:100 where nobody changed it
NOTICED = 0.25  # seconds in which sshd knows that a handshake is over
Address: TypeAlias = tuple[str, int]


@dataclass(slots=True)
class _Hop:
    allowed: float
    busy: int = 0
    queue: deque[object] = field(default_factory=deque)
    last: Deadline | None = None
    ended: float = 0.0
    changed: threading.Condition = field(default_factory=threading.Condition)


@dataclass(slots=True)
class Turn:
    """One handshake's leave to go on. ``alone``: there was no other, neither just before."""

    alone: bool
    dropped: bool = False


class Pacing:
    """Turns for handshakes, counted for each first hop on its own.

    A hop that drops one is given fewer at once, down to one, and then again a little more with
    each that succeeds: the server's limit is found without knowing it.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._hops: dict[Address, _Hop] = {}

    @contextmanager
    def turn(self, address: Address, deadline: Deadline) -> Iterator[Turn]:
        """Wait for a turn, first come first served, and hold it. The wait does not count against
        the deadline: those ahead have their own. Set ``dropped`` on it where the hop closed the
        connection unasked. Raises CancelledError.
        """
        with self._lock:
            hop = self._hops.setdefault(address, _Hop(float(self._at_once)))
        self._enter(hop, deadline)
        turn = Turn(alone=hop.busy == 1 and not _crowded(hop, deadline))
        try:
            yield turn
        finally:
            with hop.changed:
                turn.alone = turn.alone and hop.busy == 1
                hop.busy -= 1
                hop.last, hop.ended = deadline, time.monotonic()
                factor = hop.allowed / 2 if turn.dropped else hop.allowed + 0.25
                hop.allowed = min(max(1.0, factor), float(self._at_once))
                hop.changed.notify_all()

    def wake(self) -> None:
        """Let those who wait see that the run is cancelled."""
        with self._lock:
            hops = list(self._hops.values())
        for hop in hops:
            with hop.changed:
                hop.changed.notify_all()

    def _enter(self, hop: _Hop, deadline: Deadline) -> None:
        began = time.monotonic()
        place = object()
        with hop.changed:
            hop.queue.append(place)
            try:
                while hop.queue[0] is not place or hop.busy >= int(hop.allowed):
                    deadline.left()
                    hop.changed.wait()
            finally:
                hop.queue.remove(place)
                hop.changed.notify_all()
            hop.busy += 1
        deadline.extend(time.monotonic() - began)


def _crowded(hop: _Hop, deadline: Deadline) -> bool:
    """Whether somebody else's handshake may still count for the server."""
    return hop.last is not deadline and time.monotonic() - hop.ended < NOTICED
