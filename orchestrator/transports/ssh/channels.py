"""SSH channels (RFC 4254 5): flow control, remote shells and agent forwarding."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from itertools import accumulate
from typing import Protocol

from orchestrator.errors import ConnectError
from orchestrator.remote_shell.channel_protocol import (
    PreparedShell,
    ReadChunk,
    Terminal,
    TerminalSize,
)
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
from orchestrator.transports.ssh.terminal_modes import encode_modes

MAX_WINDOW = 1 << 21  # bytes: the largest receive window
INITIAL_WINDOW = 1 << 17  # bytes: a shell's receive window until its reader proves to be fast
MAX_DATA_BYTES = 1 << 15
GRANT_BYTES = MAX_WINDOW // 8  # the window is adjusted in steps of this, or of half a window
STDERR_TYPE = 1  # the only type of extended data (RFC 4254 5.2)


class ChannelOwner(Protocol):
    """The connection of a channel."""

    def send_message(self, message: Message) -> None:
        """Send now or later, without waiting. Raises BrokenPipeError if the connection is over."""

    def send_if_room(self, message: Message) -> bool:
        """Send if there is room. Raises BrokenPipeError if the connection is over."""

    def unregister_channel(self, channel: SshChannel) -> None:
        """Forget a channel that is closed on both sides."""

    def cause(self) -> str:
        """Return why the connection ended; '' if it has not ended or was closed here."""


class SshChannel:
    """A channel of either side, with flow control.

    The reader thread calls the ``on_`` methods with the messages that arrive; any thread may call
    the others. ``number`` is our channel number. Nothing can be written until the peer has
    confirmed the channel with its own number. ``granted_window`` is the receive window, which may
    change between its first size and ``MAX_WINDOW``.
    """

    def __init__(self, owner: ChannelOwner, number: int, window: int = MAX_WINDOW) -> None:
        self.number = number
        self.granted_window = self._least = window
        self._waited = False  # the reader had to wait for data since the last window adjustment
        self._owner = owner
        self._peer_number = -1
        self._window = self._largest = 0
        self._ungranted = 0
        self._wants_room = self._roomy = False
        self._eof_sent = self._eof_received = self._is_closing = self._gone = False
        self._changed = threading.Condition(threading.Lock())
        self._close_sent = False  # CHANNEL_CLOSE was sent
        self._sending = threading.Lock()  # held while a message is sent; acquire before _changed

    @property
    def is_closing(self) -> bool:
        """Whether it is closed on our side."""
        return self._is_closing

    def send(self, data: bytes | memoryview, *, stderr: bool = False) -> int:
        """Send what the peer's window and the socket have room for; return the number of bytes.

        Raises BrokenPipeError if the channel is closed on either side.
        """
        rest = memoryview(data)
        while rest and (size := self._send_part(rest, stderr)):
            rest = rest[size:]
        return len(data) - len(rest)

    def close_stdin(self) -> None:
        """Send EOF after what was written."""
        with self._changed:
            if self._eof_sent or self._gone or self._peer_number < 0:
                return
            self._eof_sent = True
        self._send_control(codes.cMSG_CHANNEL_EOF)

    def close(self) -> None:
        """Close the channel and drop what still arrives. Safe to call twice."""
        with self._changed:
            already_closed = self._is_closing or self._gone or self._peer_number < 0
            self._is_closing = self._eof_sent = self._gone = True
            self._changed.notify_all()
        if not already_closed:
            self._send_control(codes.cMSG_CHANNEL_CLOSE)

    def grant_window(self, size: int, unread: int = 0) -> None:
        """Let the peer send as many more bytes as were processed.

        ``size`` is the number of bytes processed now; ``unread`` bytes have arrived and are not.
        """
        with self._changed:
            self._ungranted += size
            if (
                self._ungranted < min(GRANT_BYTES, self.granted_window // 2)
                or self._gone
                or self._eof_received
            ):
                return
            self._resize_window(size + unread)
            size = max(self._ungranted, 0)  # negative if the window shrank by more
            self._ungranted -= size
        if size:
            self._send_control(codes.cMSG_CHANNEL_WINDOW_ADJUST, size)

    def _resize_window(self, unread: int) -> None:
        """Adapt the receive window.

        Double it, up to ``MAX_WINDOW``, if the reader had to wait for data, as on a link with a
        high latency. Halve it if half of it is unread, so that output of a thousand hosts that
        nobody reads does not fill the memory.
        """
        before = self.granted_window
        if self._waited:
            self.granted_window = min(2 * before, MAX_WINDOW)
        elif unread >= before // 2:
            self.granted_window = max(before // 2, self._least)
        self._waited = False
        self._ungranted += self.granted_window - before

    # Called by the reader thread.

    def on_confirmed(self, peer: int, window: int, largest: int) -> None:
        """Handle CHANNEL_OPEN_CONFIRMATION."""
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
        """Handle data from the peer: drop it, unless a subclass does more."""
        self.grant_window(len(data))

    def on_stderr(self, data: bytes) -> None:
        """Handle stderr data from the peer: drop it, unless a subclass does more."""
        self.grant_window(len(data))

    def on_request(self, message: Message) -> None:
        """Handle CHANNEL_REQUEST: refuse it, as RFC 4254 5.4 requires for unknown requests."""
        message.get_text()
        self.reply(message.get_boolean(), success=False)

    def on_data_message(self, message: Message) -> None:
        """Handle CHANNEL_DATA."""
        self.on_data(message.get_binary())

    def on_extended_data_message(self, message: Message) -> None:
        """Handle CHANNEL_EXTENDED_DATA."""
        if message.get_int() == STDERR_TYPE:
            self.on_stderr(message.get_binary())

    def on_window_adjust(self, message: Message) -> None:
        """Handle CHANNEL_WINDOW_ADJUST."""
        with self._changed:
            self._window += message.get_int()
            self._changed.notify_all()
        self.on_writable()

    def on_eof(self, _: Message) -> None:
        """Handle CHANNEL_EOF."""
        with self._changed:
            self._eof_received = True
            self._changed.notify_all()

    def on_close(self, _: Message) -> None:
        """Handle CHANNEL_CLOSE."""
        with self._changed:
            already_closed, self._is_closing = self._is_closing, True
        if not already_closed:
            self._send_control(codes.cMSG_CHANNEL_CLOSE)
        self._owner.unregister_channel(self)
        self.on_connection_lost()

    def on_request_success(self, _: Message) -> None:
        """Handle CHANNEL_SUCCESS, which nothing waits for."""

    def on_request_failure(self, _: Message) -> None:
        """Handle CHANNEL_FAILURE."""
        self.close()

    def on_connection_lost(self) -> None:
        """Record that nothing more can be sent or received."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def on_writable(self) -> None:
        """Wake a writer, because there may be room again."""
        with self._changed:
            if self._wants_room:
                self._wants_room, self._roomy = False, True
                self._changed.notify_all()

    def _unlink(self) -> None:
        """Do nothing. paramiko calls it when the connection ends, before the reason is known."""

    def reply(self, wants_reply: bool, *, success: bool) -> None:
        """Answer a channel request if the peer wants a reply."""
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
        """Send a message without data, unless CHANNEL_CLOSE was sent.

        OpenSSH ends the whole connection if data arrives for a closed channel, so nothing may
        follow CHANNEL_CLOSE.
        """
        message = Message().add_byte(kind).add_int(self._peer_number)
        if number is not None:
            message.add_int(number)
        self._send_unless_closed(message, closes=kind == codes.cMSG_CHANNEL_CLOSE)

    def _send_unless_closed(self, message: Message, *, closes: bool = False) -> None:
        try:
            with self._sending:
                if not self._close_sent:
                    self._close_sent = closes
                    self._owner.send_message(message)
        except BrokenPipeError:
            self.on_connection_lost()


class ShellChannel(SshChannel):
    """A channel that runs ``command``, or the login shell if it is empty.

    Satisfies ``CommandChannel``.

    The command is sent when the peer confirms the channel, and input as soon as the peer grants a
    window. OpenSSH grants none before the command runs; other servers may, and then a refusal of
    the command can arrive late and ``read`` raises it.
    ``forward_agent`` requests agent forwarding, which the host may refuse. ``environment`` are
    variables to send; the host silently ignores those that AcceptEnv does not allow. ``terminal``
    is the terminal that the command gets.
    """

    def __init__(
        self,
        owner: ChannelOwner,
        number: int,
        command: bytes,
        forward_agent: bool = False,
        environment: tuple[tuple[str, str], ...] = (),
        terminal: Terminal | None = None,
    ) -> None:
        super().__init__(owner, number, INITIAL_WINDOW)
        self._terminal, self._awaits_terminal = terminal, terminal is not None
        self._forward_agent, self._environment = forward_agent, environment
        self._command = command
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._status: int | None = None
        self._error: ConnectError | None = None
        self._woken = self._started = False

    def wait_open(self, timeout: float) -> None:
        """Wait until input can be written.

        Raises ConnectError (phase channel or shell) if the host refuses, the connection ends, or
        ``timeout`` seconds pass.
        """
        with self._changed:
            answered = self._changed.wait_for(lambda: self._window or self._gone, timeout)
            error, confirmed = self._error, self._peer_number >= 0
        if error:
            raise error
        if not answered:
            self.close()
            action = "start a shell" if confirmed else "open a session"
            raise ConnectError(
                "shell" if confirmed else "channel",
                f"the host did not {action} within {timeout:g} s",
                "`connect: {timeout: …}` allows more",
            )
        if not confirmed:
            raise ConnectError("channel", "the connection ended before the session opened")

    def write(self, data: bytes | memoryview) -> int:
        """Implement ``Channel.write``."""
        return self.send(data)

    def read(self, timeout: float | None) -> ReadChunk:
        """Implement ``Channel.read``.

        It also ends when the exit status has arrived: EOF may come much later if a child of the
        shell holds its output open. Raises ConnectError (phase shell) if the host accepted the
        channel but refused the command.
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
        """Implement ``Channel.wake``."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def exit_status(self) -> int | None:
        """Return the exit status, 128 + the number of a signal that ended the shell, or None."""
        return self._status

    def cause(self) -> str:
        """Return why the connection broke, or '' if the host had sent EOF before.

        An exit status is no proof of complete output: OpenSSH sends it before the last output.
        """
        return "" if self._eof_received else self._owner.cause()

    def prepared_shell(self) -> PreparedShell | None:
        """Implement ``Channel.prepared_shell``."""
        return None

    def resize(self, size: TerminalSize) -> None:
        """Implement ``CommandChannel.resize``."""
        message = self._request(self._peer_number, "window-change", wants_reply=False)
        self._send_unless_closed(_add_size(message, size))

    def send_command(self, peer_number: int) -> None:
        """Request the command on the channel with this number of the peer's."""
        self._started = True
        if self._terminal:
            request = self._request(peer_number, "pty-req", wants_reply=True)
            request = _add_size(
                request.add_string(_encode_text(self._terminal.kind)), self._terminal.size
            )
            self._owner.send_message(request.add_string(encode_modes(self._terminal.attributes)))
        if self._forward_agent:
            self._owner.send_message(
                self._request(peer_number, "auth-agent-req@openssh.com", wants_reply=False)
            )
        for name, text in self._environment:
            variable = self._request(peer_number, "env", wants_reply=False)
            self._owner.send_message(
                variable.add_string(_encode_text(name)).add_string(_encode_text(text))
            )
        if self._command:
            request = self._request(peer_number, "exec", wants_reply=True)
            self._owner.send_message(request.add_string(self._command))
        else:
            self._owner.send_message(self._request(peer_number, "shell", wants_reply=True))

    def _request(self, peer_number: int, kind: str, *, wants_reply: bool) -> Message:
        message = Message().add_byte(codes.cMSG_CHANNEL_REQUEST).add_int(peer_number)
        return message.add_string(kind).add_boolean(wants_reply)

    def open_refused(self, error: ConnectError) -> None:
        """Record that the host refused the channel or its command."""
        with self._changed:
            self._error = error
            self._gone = True
            self._changed.notify_all()

    def on_confirmed(self, peer: int, window: int, largest: int) -> None:
        """Handle the confirmation: send the command first, before anything can be written."""
        if not self._started:
            self.send_command(peer)
        super().on_confirmed(peer, window, largest)

    def on_data(self, data: bytes) -> None:
        """Keep the data for ``read``."""
        self._store_output(self._out, data)

    def on_stderr(self, data: bytes) -> None:
        """Keep the data for ``read``."""
        self._store_output(self._err, data)

    def on_request(self, message: Message) -> None:
        """Handle exit-status and exit-signal (RFC 4254 6.10)."""
        kind, wants_reply = message.get_text(), message.get_boolean()
        if kind == "exit-status":
            self._set_exit_status(message.get_int())
        elif kind == "exit-signal":
            self._set_exit_status(128 + _signal_number(message.get_text()))
        else:
            self.reply(wants_reply, success=False)

    def on_request_success(self, _: Message) -> None:
        """Handle the consent to the terminal, which precedes that to the command."""
        self._awaits_terminal = False

    def on_request_failure(self, _: Message) -> None:
        """Handle the refusal of the terminal or the command; no other request wants a reply."""
        self.close()
        if self._awaits_terminal:
            self.open_refused(terminal_refused_error())
            return
        command = self._command.decode("utf-8", "replace") or "the login shell"
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


def terminal_refused_error() -> ConnectError:
    """Return the error for a host that refuses a terminal."""
    return ConnectError(
        "shell",
        "the host refuses a terminal",
        "`PermitTTY` in its sshd_config or `no-pty` in authorized_keys forbids it; for a command "
        "without a terminal add `< /dev/null`",
    )


def _take_output(parts: list[bytes]) -> bytes:
    """Remove the first of ``parts`` and return them joined, ``INITIAL_WINDOW`` bytes at most.

    The caller copies what it parses, so it should not get a whole ``MAX_WINDOW`` at once.
    """
    if not parts:
        return b""
    ends = accumulate(map(len, parts))
    count = max(1, sum(end <= INITIAL_WINDOW for end in ends))
    output = parts[0] if count == 1 else b"".join(parts[:count])
    del parts[:count]
    return output


def _add_size(message: Message, size: TerminalSize) -> Message:
    """Add the size in characters, and 0 for the unknown size in pixels."""
    return message.add_int(size.columns).add_int(size.rows).add_int(0).add_int(0)


def _encode_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _signal_number(name: str) -> int:
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        return 0


class AgentForwardChannel(SshChannel):
    """A channel that forwards a host's requests to the SSH agent, and its replies to the host.

    It has its own thread, because the agent may be slow and the reader has other channels to
    serve. An agent that does not answer in time is not used again by any host of the run.
    """

    def __init__(self, owner: ChannelOwner, number: int, agent: AgentClient) -> None:
        super().__init__(owner, number)
        self._agent = agent
        self._request_bytes = bytearray()
        self._socket: socket.socket | None = None

    def connect_agent(self) -> bool:
        """Connect to the agent. Return False if that fails or the agent has failed before."""
        if self._agent.error:
            return False
        try:
            self._socket = self._agent.connect(lambda: 0.0)
        except OSError:
            return False
        return True

    def on_confirmed(self, peer: int, window: int, largest: int) -> None:
        """Start the thread when the channel is open."""
        super().on_confirmed(peer, window, largest)
        threading.Thread(target=self._serve_requests, name="orch-agent", daemon=True).start()

    def on_data(self, data: bytes) -> None:
        """Keep the data for the thread."""
        with self._changed:
            self._request_bytes += data
            self._changed.notify_all()

    def on_connection_lost(self) -> None:
        """Stop the thread, because nothing more can be sent or received."""
        super().on_connection_lost()
        with contextlib.suppress(OSError):  # the thread may have closed it
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def _serve_requests(self) -> None:
        assert self._socket is not None
        try:
            while request := self._next_request():
                answer = self._ask_agent(self._socket, request)
                self._send_reply(len(answer).to_bytes(4, "big") + answer)
        except (OSError, AgentError):
            pass  # one end was closed or the agent failed; both ends are closed below
        finally:
            self._socket.close()
            self.close()

    def _ask_agent(self, agent: socket.socket, request: bytes) -> bytes:
        """Send a request and return the reply. Raises OSError; AgentError on a timeout."""
        is_signing = request[4:5] == bytes([SIGN_REQUEST])
        timeout = SIGN_TIMEOUT if is_signing else LIST_TIMEOUT
        end = time.monotonic() + timeout
        try:
            return exchange(agent, request, lambda: max(0.0, end - time.monotonic()))
        except TimeoutError:
            action = "sign" if is_signing else "answer"
            raise self._agent.mark_failed(
                f"{self._agent} did not {action} within {timeout:g} s"
            ) from None

    def _next_request(self) -> bytes:
        """Return the next complete message, or b'' at the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._complete_size() or self._gone or self._eof_received
            )
            size = self._complete_size()
            request = bytes(self._request_bytes[:size])
            del self._request_bytes[:size]
        if size > MAX_MESSAGE_BYTES:
            raise ConnectionAbortedError("agent message too long")
        self.grant_window(len(request))
        return request

    def _complete_size(self) -> int:
        """Return the size of the first complete message with its length field, or 0."""
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
