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
from orchestrator.remote_shell.channel_protocol import ReadChunk
from orchestrator.transports.ssh.agent_client import (
    LIST_TIMEOUT,
    MAX_MESSAGE_BYTES,
    SIGN_REQUEST,
    SIGN_TIMEOUT,
    AgentClient,
    AgentError,
    exchange,
)
from orchestrator.transports.ssh.paramiko_compat import Message, codes

MAX_WINDOW = 1 << 21  # the most that the peer may send before we have read it
INITIAL_WINDOW = 1 << 17  # the same, where it is not known yet whether we read as fast as it sends
MAX_DATA_BYTES = 1 << 15
GRANT_BYTES = (
    MAX_WINDOW // 8
)  # what was read is allowed again in portions of this, or of half a window
STDERR_TYPE = 1  # the only type of extended data there is


class ChannelOwner(Protocol):
    """The connection below a stream."""

    def send_message(self, message: Message) -> None:
        """Send now or soon, never waiting. Raises BrokenPipeError where it is over."""

    def send_if_room(self, message: Message) -> bool:
        """Send if there is room. Raises BrokenPipeError where it is over."""

    def unregister_channel(self, channel: SshChannel) -> None:
        """The stream is closed on both sides."""

    def cause(self) -> str:
        """Why it is over; '' where it is not, or where we ended it."""


class SshChannel:
    """One channel. The methods below the line are called by the connection's reader, with the
    messages that arrive; the others by any thread.

    ``number`` is our name for it. Nothing can be written until the peer gave it a number too.
    ``allowed`` is the window, which may move between what it is at first and WINDOW.
    """

    def __init__(self, owner: ChannelOwner, number: int, window: int = MAX_WINDOW) -> None:
        self.number = number
        self.granted_window = self._least = window
        self._waited = False  # for data, since some was last allowed
        self._owner = owner
        self._peer_number = -1
        self._window = self._largest = 0
        self._ungranted = 0
        self._wants_room = self._roomy = False
        self._eof_sent = self._eof_received = self._is_closing = self._gone = False
        self._changed = threading.Condition(threading.Lock())
        self._close_sent = False  # CHANNEL_CLOSE is out
        self._sending = threading.Lock()  # held while a message goes out, before _changed

    @property
    def is_closing(self) -> bool:
        """Whether we closed it, which the peer may still have to do."""
        return self._is_closing

    def send(self, data: bytes | memoryview, *, stderr: bool = False) -> int:
        """Send what the peer's window and the socket have room for; return how much it was.

        Raises BrokenPipeError once closed on either side.
        """
        rest = memoryview(data)
        while rest and (size := self._send_part(rest, stderr)):
            rest = rest[size:]
        return len(data) - len(rest)

    def close_stdin(self) -> None:
        """Send EOF behind what was written."""
        with self._changed:
            if self._eof_sent or self._gone or self._peer_number < 0:
                return
            self._eof_sent = True
        self._send_control(codes.cMSG_CHANNEL_EOF)

    def close(self) -> None:
        """Let go: what still arrives is dropped. Safe to call twice."""
        with self._changed:
            already_closed = self._is_closing or self._gone or self._peer_number < 0
            self._is_closing = self._eof_sent = self._gone = True
            self._changed.notify_all()
        if not already_closed:
            self._send_control(codes.cMSG_CHANNEL_CLOSE)

    def grant_window(self, size: int, unread: int = 0) -> None:
        """``size`` more bytes of what arrived are dealt with, and ``unread`` are not: let the peer
        send as many."""
        with self._changed:
            self._ungranted += size
            if (
                self._ungranted < min(GRANT_BYTES, self.granted_window // 2)
                or self._gone
                or self._eof_received
            ):
                return
            self._resize_window(size + unread)
            size = max(self._ungranted, 0)  # below 0 where the window shrank by more
            self._ungranted -= size
        if size:
            self._send_control(codes.cMSG_CHANNEL_WINDOW_ADJUST, size)

    def _resize_window(self, unread: int) -> None:
        """Twice the window for who has to wait for data, up to WINDOW: a long way needs it. Half
        of it again where data lies about: a thousand hosts must not fill the memory with what
        nobody has got round to reading."""
        before = self.granted_window
        if self._waited:
            self.granted_window = min(2 * before, MAX_WINDOW)
        elif unread >= before // 2:
            self.granted_window = max(before // 2, self._least)
        self._waited = False
        self._ungranted += self.granted_window - before

    # ------------------------------------------------------------------ what the reader calls

    def on_confirmed(self, peer: int, window: int, largest: int) -> None:
        """The peer took the channel."""
        with self._changed:
            self._peer_number, self._window, self._largest = (
                peer,
                window,
                min(largest, MAX_DATA_BYTES),
            )
            abandoned = self._is_closing
            self._changed.notify_all()
        if abandoned:
            self._send_control(codes.cMSG_CHANNEL_CLOSE)

    def on_data(self, data: bytes) -> None:
        """The peer sent data. Dropped here."""
        self.grant_window(len(data))

    def on_stderr(self, data: bytes) -> None:
        """The peer sent data of the other kind. Dropped here."""
        self.grant_window(len(data))

    def on_request(self, message: Message) -> None:
        """CHANNEL_REQUEST. Refused here, as RFC 4254 5.4 has it for those we do not know."""
        message.get_text()
        self.reply(message.get_boolean(), success=False)

    def on_data_message(self, message: Message) -> None:
        """CHANNEL_DATA."""
        self.on_data(message.get_binary())

    def on_extended_data_message(self, message: Message) -> None:
        """CHANNEL_EXTENDED_DATA."""
        if message.get_int() == STDERR_TYPE:
            self.on_stderr(message.get_binary())

    def on_window_adjust(self, message: Message) -> None:
        """CHANNEL_WINDOW_ADJUST."""
        with self._changed:
            self._window += message.get_int()
            self._changed.notify_all()
        self.on_writable()

    def on_eof(self, _: Message) -> None:
        """CHANNEL_EOF."""
        with self._changed:
            self._eof_received = True
            self._changed.notify_all()

    def on_close(self, _: Message) -> None:
        """CHANNEL_CLOSE."""
        with self._changed:
            already_closed, self._is_closing = self._is_closing, True
        if not already_closed:
            self._send_control(codes.cMSG_CHANNEL_CLOSE)
        self._owner.unregister_channel(self)
        self.on_connection_lost()

    def on_request_success(self, _: Message) -> None:
        """CHANNEL_SUCCESS. Nobody waits for it."""

    def on_request_failure(self, _: Message) -> None:
        """CHANNEL_FAILURE."""
        self.close()

    def on_connection_lost(self) -> None:
        """Nothing more will come or go."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def on_writable(self) -> None:
        """There may be room to write again."""
        with self._changed:
            if self._wants_room:
                self._wants_room, self._roomy = False, True
                self._changed.notify_all()

    def _unlink(self) -> None:
        """What paramiko calls when the connection ends: before it is known why."""

    def reply(self, wants_reply: bool, *, success: bool) -> None:
        """Answer the peer's request, if it wants an answer."""
        if wants_reply:
            self._send_control(
                codes.cMSG_CHANNEL_SUCCESS if success else codes.cMSG_CHANNEL_FAILURE
            )

    def _send_part(self, rest: memoryview, stderr: bool) -> int:
        with self._sending:
            size = self._reserve_window(len(rest))
            if size and not self._owner.send_if_room(self._data_message(rest[:size], stderr)):
                self._release_window(size)
                return 0
            return size

    def _reserve_window(self, requested: int) -> int:
        with self._changed:
            if self._gone or self._eof_sent or self._close_sent:
                raise BrokenPipeError("the channel is closed")
            size = min(requested, self._window, self._largest)
            self._window -= size
            self._wants_room = not size
            return size

    def _release_window(self, size: int) -> None:
        with self._changed:
            self._window += size
            self._wants_room = True

    def _data_message(self, data: memoryview, stderr: bool) -> Message:
        if stderr:
            message = Message().add_byte(codes.cMSG_CHANNEL_EXTENDED_DATA)
            message.add_int(self._peer_number).add_int(STDERR_TYPE)
        else:
            message = Message().add_byte(codes.cMSG_CHANNEL_DATA).add_int(self._peer_number)
        return message.add_string(bytes(data))

    def _send_control(self, kind: bytes, number: int | None = None) -> None:
        """Nothing follows CHANNEL_CLOSE, whoever else is about to send something: OpenSSH ends
        the connection, with all that goes over it, where data comes for a channel that is closed.
        """
        message = Message().add_byte(kind).add_int(self._peer_number)
        if number is not None:
            message.add_int(number)
        try:
            with self._sending:
                if not self._close_sent:
                    self._close_sent = kind == codes.cMSG_CHANNEL_CLOSE
                    self._owner.send_message(message)
        except BrokenPipeError:
            self.on_connection_lost()


class ShellChannel(SshChannel):
    """A channel on which ``command`` runs. Satisfies ``session.channel.Channel``.

    The command goes out with the peer's confirmation, and text to the shell as soon as there is
    a window for it: OpenSSH gives none before the command runs, others may. From the latter a
    refusal of the command can come late; then ``read`` raises it.
    ``forward_agent``: our agent is there for it, if the host allows that. ``environment``: variables
    for it, of which the host takes those that its AcceptEnv names, without a word on the others.
    """

    def __init__(
        self,
        owner: ChannelOwner,
        number: int,
        command: bytes,
        forward_agent: bool = False,
        environment: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(owner, number, INITIAL_WINDOW)
        self._forward_agent, self._environment = forward_agent, environment
        self._command = command
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._status: int | None = None
        self._error: ConnectError | None = None
        self._woken = self._started = False

    def wait_open(self, timeout: float) -> None:
        """Wait until something can be written to it. Raises ConnectError (phase channel or shell)
        where the host refuses, the connection ends, or ``timeout`` seconds pass.
        """
        with self._changed:
            answered = self._changed.wait_for(lambda: self._window or self._gone, timeout)
            error, confirmed = self._error, self._peer_number >= 0
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

    def read(self, timeout: float | None) -> ReadChunk:
        """As ``Channel.read``. Ends also when the exit status arrives: where a child of the shell
        holds its output open, that is long before EOF. Raises ConnectError (phase shell) where
        the host took the channel and refused the command.
        """
        with self._changed:
            self._waited = self._waited or not self._is_readable()
            self._changed.wait_for(self._is_readable, timeout)
            self._woken = self._roomy = False
            if self._error:
                raise self._error
            stdout, stderr = _take_output(self._out), _take_output(self._err)
            left = sum(map(len, self._out)) + sum(map(len, self._err))
            eof = not left and (self._gone or (self._eof_received and self._status is not None))
        if stdout or stderr:
            self.grant_window(len(stdout) + len(stderr), left)
        return ReadChunk(stdout, stderr, eof)

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
        return "" if self._eof_received else self._owner.cause()

    def send_command(self, peer_number: int) -> None:
        """Ask for the command on the channel that the peer calls so."""
        self._started = True
        if self._forward_agent:
            agent = Message().add_byte(codes.cMSG_CHANNEL_REQUEST).add_int(peer_number)
            self._owner.send_message(
                agent.add_string("auth-agent-req@openssh.com").add_boolean(False)
            )
        for name, text in self._environment:
            one = (
                Message()
                .add_byte(codes.cMSG_CHANNEL_REQUEST)
                .add_int(peer_number)
                .add_string("env")
            )
            one.add_boolean(False).add_string(_encode_text(name)).add_string(_encode_text(text))
            self._owner.send_message(one)
        ask = Message().add_byte(codes.cMSG_CHANNEL_REQUEST).add_int(peer_number).add_string("exec")
        self._owner.send_message(ask.add_boolean(True).add_string(self._command))

    def open_refused(self, error: ConnectError) -> None:
        """The host did not take the channel, or not its command."""
        with self._changed:
            self._error = error
            self._gone = True
            self._changed.notify_all()

    def on_confirmed(self, peer: int, window: int, largest: int) -> None:
        """The host took the channel: the command goes first, before anyone can write."""
        if not self._started:
            self.send_command(peer)
        super().on_confirmed(peer, window, largest)

    def on_data(self, data: bytes) -> None:
        """Keep it for the next ``read``."""
        self._store_output(self._out, data)

    def on_stderr(self, data: bytes) -> None:
        """Keep it for the next ``read``."""
        self._store_output(self._err, data)

    def on_request(self, message: Message) -> None:
        """How the shell ended (RFC 4254 6.10)."""
        kind, wants_reply = message.get_text(), message.get_boolean()
        if kind == "exit-status":
            self._set_exit_status(message.get_int())
        elif kind == "exit-signal":
            self._set_exit_status(128 + _signal_number(message.get_text()))
        else:
            self.reply(wants_reply, success=False)

    def on_request_failure(self, _: Message) -> None:
        """There was one request, for the command."""
        command = self._command.decode("utf-8", "replace")
        self.close()
        self.open_refused(
            ConnectError(
                "shell",
                f"the host refuses to run `{command}`",
                "orch needs sshd and a POSIX sh; this account may be for file transfer only",
            )
        )

    def _store_output(self, parts: list[bytes], data: bytes) -> None:
        with self._changed:
            if not self._is_closing:
                parts.append(data)
                self._changed.notify_all()

    def _set_exit_status(self, status: int) -> None:
        with self._changed:
            self._status = status
            self._woken = True
            self._changed.notify_all()

    def _is_readable(self) -> bool:
        return bool(
            self._out
            or self._err
            or self._gone
            or self._woken
            or self._roomy
            or (self._eof_received and self._status is not None)
        )


def _take_output(parts: list[bytes]) -> bytes:
    """The first of ``parts``, together FIRST bytes at most, which are gone from it afterwards:
    whoever takes output apart copies it, and need not have all of a window more than once."""
    if not parts:
        return b""
    ends = accumulate(map(len, parts))
    count = max(1, sum(end <= INITIAL_WINDOW for end in ends))
    whole = parts[0] if count == 1 else b"".join(parts[:count])
    del parts[:count]
    return whole


def _encode_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _signal_number(name: str) -> int:
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        return 0


class AgentForwardChannel(SshChannel):
    """Hands what a host asks the agent to it, and the answers back. A thread does that: an
    agent may take its time, and the connection's reader has other channels to serve.

    An agent that does not answer in time is asked no more by any host of the run.
    """

    def __init__(self, owner: ChannelOwner, number: int, agent: AgentClient) -> None:
        super().__init__(owner, number)
        self._agent = agent
        self._request_bytes = bytearray()
        self._socket: socket.socket | None = None

    def connect_agent(self) -> bool:
        """Call the agent. Return False where it is not there, or did not answer others."""
        if self._agent.error:
            return False
        try:
            self._socket = self._agent.connect(lambda: 0.0)
        except OSError:
            return False
        return True

    def on_confirmed(self, peer: int, window: int, largest: int) -> None:
        """The channel is open: begin."""
        super().on_confirmed(peer, window, largest)
        threading.Thread(target=self._serve_requests, name="orch-agent", daemon=True).start()

    def on_data(self, data: bytes) -> None:
        """Keep it for the thread."""
        with self._changed:
            self._request_bytes += data
            self._changed.notify_all()

    def on_connection_lost(self) -> None:
        """Nothing more will come or go."""
        super().on_connection_lost()
        with contextlib.suppress(OSError):  # the thread has closed it
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def _serve_requests(self) -> None:
        assert self._socket is not None
        try:
            while request := self._next_request():
                answer = self._ask_agent(self._socket, request)
                self._send_reply(len(answer).to_bytes(4, "big") + answer)
        except (OSError, AgentError):
            pass  # either end went away, or the agent was silent: closing says so to the other
        finally:
            self._socket.close()
            self.close()

    def _ask_agent(self, agent: socket.socket, request: bytes) -> bytes:
        """Ask the agent. Raises OSError, and AgentError where it does not answer in time."""
        signs = request[4:5] == bytes([SIGN_REQUEST])
        patience = SIGN_TIMEOUT if signs else LIST_TIMEOUT
        end = time.monotonic() + patience
        try:
            return exchange(agent, request, lambda: max(0.0, end - time.monotonic()))
        except TimeoutError:
            did = "sign" if signs else "answer"
            raise self._agent.mark_failed(
                f"{self._agent} did not {did} within {patience:g} s"
            ) from None

    def _next_request(self) -> bytes:
        """The next whole message, b'' where none will come."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._complete_size() or self._gone or self._eof_received
            )
            size = self._complete_size()
            request = bytes(self._request_bytes[:size])
            del self._request_bytes[:size]
        if size > MAX_MESSAGE_BYTES:
            raise ConnectionAbortedError("no agent takes a message as long as that")
        self.grant_window(len(request))
        return request

    def _complete_size(self) -> int:
        """How long the message is that came whole, with its head; 0 where none is."""
        size = 4 + int.from_bytes(self._request_bytes[:4], "big")
        return (
            size
            if len(self._request_bytes) >= min(size, MAX_MESSAGE_BYTES + 1)
            and len(self._request_bytes) > 4
            else 0
        )

    def _send_reply(self, answer: bytes) -> None:
        rest = memoryview(answer)
        while rest:
            rest = rest[self.send(rest) :]
            with self._changed:
                if rest:
                    self._changed.wait_for(lambda: self._roomy or self._gone)
                    self._roomy = False
