"""One SSH channel (RFC 4254 5): its flow control and its end, the same on both sides.

The client's end of a channel: a remote shell as ``session.channel.Channel`` has it.

Agent forwarding: a channel that a host opened to our SSH agent (draft-miller-ssh-agent).
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from itertools import accumulate
from typing import Protocol

from orchestrator.errors import ConnectError
from orchestrator.remote_shell.channel_protocol import Chunk
from orchestrator.transports.ssh.agent_client import (
    LISTING,
    LONGEST,
    SIGN,
    SIGNING,
    Agent,
    AgentError,
    exchange,
)
from orchestrator.transports.ssh.paramiko_compat import Message, codes

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


class Shell(Stream):
    """A channel on which ``command`` runs. Satisfies ``session.channel.Channel``.

    The command goes out with the peer's confirmation, and text to the shell as soon as there is
    a window for it: OpenSSH gives none before the command runs, others may. From the latter a
    refusal of the command can come late; then ``read`` raises it.
    ``forward``: our agent is there for it, if the host allows that. ``environment``: variables
    for it, of which the host takes those that its AcceptEnv names, without a word on the others.
    """

    def __init__(
        self,
        link: Carrier,
        number: int,
        command: bytes,
        forward: bool = False,
        environment: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(link, number, FIRST)
        self._forward, self._environment = forward, environment
        self._command = command
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._status: int | None = None
        self._error: ConnectError | None = None
        self._woken = self._started = False

    def opened(self, timeout: float) -> None:
        """Wait until something can be written to it. Raises ConnectError (phase channel or shell)
        where the host refuses, the connection ends, or ``timeout`` seconds pass.
        """
        with self._changed:
            answered = self._changed.wait_for(lambda: self._window or self._gone, timeout)
            error, confirmed = self._error, self._peer >= 0
        if error:
            raise error
        if not answered:
            self.close()
            what = "start a shell" if confirmed else "open a session"
            raise ConnectError(
                "shell" if confirmed else "channel",
                f"the host does not {what} within {timeout:g} s",
                "`connect: {timeout: …}` allows more",
            )
        if not confirmed:
            raise ConnectError("channel", "the connection ended before the session opened")

    def write(self, data: bytes | memoryview) -> int:
        """As ``Channel.write``."""
        return self.send(data)

    def read(self, timeout: float | None) -> Chunk:
        """As ``Channel.read``. Ends also when the exit status arrives: where a child of the shell
        holds its output open, that is long before EOF. Raises ConnectError (phase shell) where
        the host took the channel and refused the command.
        """
        with self._changed:
            self._waited = self._waited or not self._worth_reading()
            self._changed.wait_for(self._worth_reading, timeout)
            self._woken = self._roomy = False
            if self._error:
                raise self._error
            stdout, stderr = _taken(self._out), _taken(self._err)
            left = sum(map(len, self._out)) + sum(map(len, self._err))
            eof = not left and (self._gone or (self._eof_there and self._status is not None))
        if stdout or stderr:
            self.grant(len(stdout) + len(stderr), left)
        return Chunk(stdout, stderr, eof)

    def wake(self) -> None:
        """As ``Channel.wake``."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def exit_status(self) -> int | None:
        """The shell's exit status; 128 + the signal's number where one ended it."""
        return self._status

    def cause(self) -> str:
        """As ``Channel.cause``. Where the host ended its output, no cut came before that; an exit
        status is no such end: OpenSSH tells it before it has sent all of the output.
        """
        return "" if self._eof_there else self._link.cause()

    def start(self, peer: int) -> None:
        """Ask for the command on the channel that the peer calls so."""
        self._started = True
        if self._forward:
            agent = Message().add_byte(codes.cMSG_CHANNEL_REQUEST).add_int(peer)
            self._link.post(agent.add_string("auth-agent-req@openssh.com").add_boolean(False))
        for name, text in self._environment:
            one = Message().add_byte(codes.cMSG_CHANNEL_REQUEST).add_int(peer).add_string("env")
            one.add_boolean(False).add_string(_bytes(name)).add_string(_bytes(text))
            self._link.post(one)
        ask = Message().add_byte(codes.cMSG_CHANNEL_REQUEST).add_int(peer).add_string("exec")
        self._link.post(ask.add_boolean(True).add_string(self._command))

    def refused(self, error: ConnectError) -> None:
        """The host did not take the channel, or not its command."""
        with self._changed:
            self._error = error
            self._gone = True
            self._changed.notify_all()

    def confirmed(self, peer: int, window: int, largest: int) -> None:
        """The host took the channel: the command goes first, before anyone can write."""
        if not self._started:
            self.start(peer)
        super().confirmed(peer, window, largest)

    def received(self, data: bytes) -> None:
        """Keep it for the next ``read``."""
        self._keep(self._out, data)

    def received_stderr(self, data: bytes) -> None:
        """Keep it for the next ``read``."""
        self._keep(self._err, data)

    def requested(self, message: Message) -> None:
        """How the shell ended (RFC 4254 6.10)."""
        kind, wanted = message.get_text(), message.get_boolean()
        if kind == "exit-status":
            self._ended(message.get_int())
        elif kind == "exit-signal":
            self._ended(128 + _number(message.get_text()))
        else:
            self.answer(wanted, taken=False)

    def request_refused(self, _: Message) -> None:
        """There was one request, for the command."""
        command = self._command.decode("utf-8", "replace")
        self.close()
        self.refused(
            ConnectError(
                "shell",
                f"the host refuses to run `{command}`",
                "orch needs sshd and a POSIX sh; this account may be for file transfer only",
            )
        )

    def _keep(self, parts: list[bytes], data: bytes) -> None:
        with self._changed:
            if not self._closed_here:
                parts.append(data)
                self._changed.notify_all()

    def _ended(self, status: int) -> None:
        with self._changed:
            self._status = status
            self._woken = True
            self._changed.notify_all()

    def _worth_reading(self) -> bool:
        return bool(
            self._out
            or self._err
            or self._gone
            or self._woken
            or self._roomy
            or (self._eof_there and self._status is not None)
        )


def _taken(parts: list[bytes]) -> bytes:
    """The first of ``parts``, together FIRST bytes at most, which are gone from it afterwards:
    whoever takes output apart copies it, and need not have all of a window more than once."""
    if not parts:
        return b""
    ends = accumulate(map(len, parts))
    count = max(1, sum(end <= FIRST for end in ends))
    whole = parts[0] if count == 1 else b"".join(parts[:count])
    del parts[:count]
    return whole


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _number(name: str) -> int:
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        return 0


class Relay(Stream):
    """Hands what a host asks the agent to it, and the answers back. A thread does that: an
    agent may take its time, and the connection's reader has other channels to serve.

    An agent that does not answer in time is asked no more by any host of the run.
    """

    def __init__(self, link: Carrier, number: int, agent: Agent) -> None:
        super().__init__(link, number)
        self._agent = agent
        self._asked = bytearray()
        self._socket: socket.socket | None = None

    def reaches(self) -> bool:
        """Call the agent. Return False where it is not there, or did not answer others."""
        if self._agent.trouble:
            return False
        try:
            self._socket = self._agent.call(lambda: 0.0)
        except OSError:
            return False
        return True

    def confirmed(self, peer: int, window: int, largest: int) -> None:
        """The channel is open: begin."""
        super().confirmed(peer, window, largest)
        threading.Thread(target=self._serve, name="orch-agent", daemon=True).start()

    def received(self, data: bytes) -> None:
        """Keep it for the thread."""
        with self._changed:
            self._asked += data
            self._changed.notify_all()

    def lost(self) -> None:
        """Nothing more will come or go."""
        super().lost()
        with contextlib.suppress(OSError):  # the thread has closed it
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        assert self._socket is not None
        try:
            while request := self._request():
                answer = self._answer(self._socket, request)
                self._reply(len(answer).to_bytes(4, "big") + answer)
        except (OSError, AgentError):
            pass  # either end went away, or the agent was silent: closing says so to the other
        finally:
            self._socket.close()
            self.close()

    def _answer(self, agent: socket.socket, request: bytes) -> bytes:
        """Ask the agent. Raises OSError, and AgentError where it does not answer in time."""
        signs = request[4:5] == bytes([SIGN])
        patience = SIGNING if signs else LISTING
        end = time.monotonic() + patience
        try:
            return exchange(agent, request, lambda: max(0.0, end - time.monotonic()))
        except TimeoutError:
            did = "sign" if signs else "answer"
            raise self._agent.fail(f"{self._agent} did not {did} within {patience:g} s") from None

    def _request(self) -> bytes:
        """The next whole message, b'' where none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._size() or self._gone or self._eof_there)
            size = self._size()
            request = bytes(self._asked[:size])
            del self._asked[:size]
        if size > LONGEST:
            raise ConnectionAbortedError("no agent takes a message as long as that")
        self.grant(len(request))
        return request

    def _size(self) -> int:
        """How long the message is that came whole, with its head; 0 where none is."""
        size = 4 + int.from_bytes(self._asked[:4], "big")
        return size if len(self._asked) >= min(size, LONGEST + 1) and len(self._asked) > 4 else 0

    def _reply(self, answer: bytes) -> None:
        rest = memoryview(answer)
        while rest:
            rest = rest[self.send(rest) :]
            with self._changed:
                if rest:
                    self._changed.wait_for(lambda: self._roomy or self._gone)
                    self._roomy = False
