"""One SSH channel (RFC 4254 5): its flow control and its end, the same on both sides."""

from __future__ import annotations

import threading
from typing import Protocol

from orchestrator.transport.library import Message, codes

WINDOW = 1 << 21  # the most that the peer may send before we have read it
FIRST = 1 << 17  # the same, where it is not known yet whether we read as fast as it sends
PACKET = 1 << 15
GRANT = WINDOW // 8  # what was read is allowed again in portions of this, or of half a window
STDERR = 1  # the only type of extended data there is


class Carrier(Protocol):
    """The connection below a stream."""

    def post(self, message: Message) -> None:
        """Send now or soon, never waiting. Raises BrokenPipeError where it is over."""

    def offer(self, message: Message) -> bool:
        """Send if there is room. Raises BrokenPipeError where it is over."""

    def forget(self, stream: Stream) -> None:
        """The stream is closed on both sides."""

    def cause(self) -> str:
        """Why it is over; '' where it is not, or where we ended it."""


class Stream:
    """One channel. The methods below the line are called by the connection's reader, with the
    messages that arrive; the others by any thread.

    ``number`` is our name for it. Nothing can be written until the peer gave it a number too.
    ``allowed`` is the window, which may move between what it is at first and WINDOW.
    """

    def __init__(self, link: Carrier, number: int, allowed: int = WINDOW) -> None:
        self.number = number
        self.allowed = self._least = allowed
        self._waited = False  # for data, since some was last allowed
        self._link = link
        self._peer = -1
        self._window = self._largest = 0
        self._ungranted = 0
        self._short = self._roomy = False
        self._eof_here = self._eof_there = self._closed_here = self._gone = False
        self._changed = threading.Condition(threading.Lock())
        self._left = False  # CHANNEL_CLOSE is out
        self._sending = threading.Lock()  # held while a message goes out, before _changed

    @property
    def closing(self) -> bool:
        """Whether we closed it, which the peer may still have to do."""
        return self._closed_here

    def send(self, data: bytes | memoryview, *, stderr: bool = False) -> int:
        """Send what the peer's window and the socket have room for; return how much it was.

        Raises BrokenPipeError once closed on either side.
        """
        rest = memoryview(data)
        while rest and (size := self._send(rest, stderr)):
            rest = rest[size:]
        return len(data) - len(rest)

    def close_stdin(self) -> None:
        """Send EOF behind what was written."""
        with self._changed:
            if self._eof_here or self._gone or self._peer < 0:
                return
            self._eof_here = True
        self._tell(codes.cMSG_CHANNEL_EOF)

    def close(self) -> None:
        """Let go: what still arrives is dropped. Safe to call twice."""
        with self._changed:
            told = self._closed_here or self._gone or self._peer < 0
            self._closed_here = self._eof_here = self._gone = True
            self._changed.notify_all()
        if not told:
            self._tell(codes.cMSG_CHANNEL_CLOSE)

    def grant(self, size: int, left: int = 0) -> None:
        """``size`` more bytes of what arrived are dealt with, and ``left`` are not: let the peer
        send as many."""
        with self._changed:
            self._ungranted += size
            if self._ungranted < min(GRANT, self.allowed // 2) or self._gone or self._eof_there:
                return
            self._move(size + left)
            size = max(self._ungranted, 0)  # below 0 where the window shrank by more
            self._ungranted -= size
        if size:
            self._tell(codes.cMSG_CHANNEL_WINDOW_ADJUST, size)

    def _move(self, there: int) -> None:
        """Twice the window for who has to wait for data, up to WINDOW: a long way needs it. Half
        of it again where data lies about: a thousand hosts must not fill the memory with what
        nobody has got round to reading."""
        before = self.allowed
        if self._waited:
            self.allowed = min(2 * before, WINDOW)
        elif there >= before // 2:
            self.allowed = max(before // 2, self._least)
        self._waited = False
        self._ungranted += self.allowed - before

    # ------------------------------------------------------------------ what the reader calls

    def confirmed(self, peer: int, window: int, largest: int) -> None:
        """The peer took the channel."""
        with self._changed:
            self._peer, self._window, self._largest = peer, window, min(largest, PACKET)
            abandoned = self._closed_here
            self._changed.notify_all()
        if abandoned:
            self._tell(codes.cMSG_CHANNEL_CLOSE)

    def received(self, data: bytes) -> None:
        """The peer sent data. Dropped here."""
        self.grant(len(data))

    def received_stderr(self, data: bytes) -> None:
        """The peer sent data of the other kind. Dropped here."""
        self.grant(len(data))

    def requested(self, message: Message) -> None:
        """CHANNEL_REQUEST. Refused here, as RFC 4254 5.4 has it for those we do not know."""
        message.get_text()
        self.answer(message.get_boolean(), taken=False)

    def data(self, message: Message) -> None:
        """CHANNEL_DATA."""
        self.received(message.get_binary())

    def extended_data(self, message: Message) -> None:
        """CHANNEL_EXTENDED_DATA."""
        if message.get_int() == STDERR:
            self.received_stderr(message.get_binary())

    def window_adjusted(self, message: Message) -> None:
        """CHANNEL_WINDOW_ADJUST."""
        with self._changed:
            self._window += message.get_int()
            self._changed.notify_all()
        self.nudge()

    def ended(self, _: Message) -> None:
        """CHANNEL_EOF."""
        with self._changed:
            self._eof_there = True
            self._changed.notify_all()

    def closed_there(self, _: Message) -> None:
        """CHANNEL_CLOSE."""
        with self._changed:
            told, self._closed_here = self._closed_here, True
        if not told:
            self._tell(codes.cMSG_CHANNEL_CLOSE)
        self._link.forget(self)
        self.lost()

    def request_taken(self, _: Message) -> None:
        """CHANNEL_SUCCESS. Nobody waits for it."""

    def request_refused(self, _: Message) -> None:
        """CHANNEL_FAILURE."""
        self.close()

    def lost(self) -> None:
        """Nothing more will come or go."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def nudge(self) -> None:
        """There may be room to write again."""
        with self._changed:
            if self._short:
                self._short, self._roomy = False, True
                self._changed.notify_all()

    def _unlink(self) -> None:
        """What paramiko calls when the connection ends: before it is known why."""

    def answer(self, wanted: bool, *, taken: bool) -> None:
        """Answer the peer's request, if it wants an answer."""
        if wanted:
            self._tell(codes.cMSG_CHANNEL_SUCCESS if taken else codes.cMSG_CHANNEL_FAILURE)

    def _send(self, rest: memoryview, stderr: bool) -> int:
        with self._sending:
            size = self._reserve(len(rest))
            if size and not self._link.offer(self._data(rest[:size], stderr)):
                self._unreserve(size)
                return 0
            return size

    def _reserve(self, wanted: int) -> int:
        with self._changed:
            if self._gone or self._eof_here or self._left:
                raise BrokenPipeError("the channel is closed")
            size = min(wanted, self._window, self._largest)
            self._window -= size
            self._short = not size
            return size

    def _unreserve(self, size: int) -> None:
        with self._changed:
            self._window += size
            self._short = True

    def _data(self, data: memoryview, stderr: bool) -> Message:
        if stderr:
            message = Message().add_byte(codes.cMSG_CHANNEL_EXTENDED_DATA)
            message.add_int(self._peer).add_int(STDERR)
        else:
            message = Message().add_byte(codes.cMSG_CHANNEL_DATA).add_int(self._peer)
        return message.add_string(bytes(data))

    def _tell(self, kind: bytes, number: int | None = None) -> None:
        """Nothing follows CHANNEL_CLOSE, whoever else is about to send something: OpenSSH ends
        the connection, with all that goes over it, where data comes for a channel that is closed.
        """
        message = Message().add_byte(kind).add_int(self._peer)
        if number is not None:
            message.add_int(number)
        try:
            with self._sending:
                if not self._left:
                    self._left = kind == codes.cMSG_CHANNEL_CLOSE
                    self._link.post(message)
        except BrokenPipeError:
            self.lost()
