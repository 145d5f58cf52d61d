"""Counts the bytes of a transfer, and reports them from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

_REPORT_INTERVAL = 0.5  # seconds


class TransferMeter:
    """A count of bytes that is reported twice a second, if the transfer takes that long.

    ``report`` is called with the bytes that were transferred, their ``total`` and the seconds since
    the start. Used by one thread.
    """

    def __init__(
        self, report: Callable[[int, int, float], None], interval: float = _REPORT_INTERVAL
    ) -> None:
        """Start the clock; at least ``interval`` seconds pass between two reports."""
        self.total = 0
        self._report, self._interval, self._done = report, interval, 0
        self._started_at = self._reported_at = time.monotonic()
        self._has_reported = False

    @property
    def done(self) -> int:
        """Return the number of bytes so far."""
        return self._done

    def count(self, size: int) -> None:
        """Add to the number of bytes."""
        self._done += size
        now = time.monotonic()
        if now - self._reported_at >= self._interval:
            self._reported_at, self._has_reported = now, True
            # a file can have grown; only the last report has all
            done = min(self._done, self.total - 1) if self.total else self._done
            self._report(done, self.total, now - self._started_at)

    def count_pieces(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the pieces; each is counted when the next one is needed."""
        for piece in pieces:
            yield piece
            self.count(len(piece))

    def finish(self) -> None:
        """Report the end of the transfer, if anything was reported before."""
        if self._has_reported:
            total = max(self._done, 1)
            self._report(total, total, time.monotonic() - self._started_at)
