"""What a step wrote, within bounds."""

from __future__ import annotations

from orchestrator.model.outcome import Captured

HEAD = TAIL = 64 * 1024
"""Bytes kept of the beginning and of the end of each stream of a step."""


class Capture:
    """Takes one stream of one step; keeps its head and its tail."""

    __slots__ = ("_head", "_size", "_tail")

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._size += len(data)
        room = HEAD - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data[-TAIL:]
            if len(self._tail) > 2 * TAIL:  # cut now and then, not on every chunk
                del self._tail[:-TAIL]

    def done(self) -> Captured:
        """All that was kept."""
        tail = bytes(self._tail[-TAIL:])
        return Captured(bytes(self._head), tail, self._size - len(self._head) - len(tail))
