"""A channel of a command, as the broker sees it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from orchestrator.errors import ConnectError
from orchestrator.remote_shell.channel_protocol import PreparedShell, TerminalSize
from orchestrator.transports.broker.command_link import CommandLink
from orchestrator.transports.broker.event_loop import EventLoop, FrameSocket
from orchestrator.transports.broker.kept_connection import KeptConnection
from orchestrator.transports.broker.messages import (
    EXIT_STATUS,
    LOST,
    MESSAGE,
    OUTPUT_END,
    STDIN,
    STDIN_END,
    ChannelOpened,
    ChannelRefused,
    OpenChannel,
    ResizeTerminal,
    decode_message,
    encode_frame,
    encode_message,
)
from orchestrator.transports.broker.relay_channel import RelayChannel
from orchestrator.transports.deadline import CancelledError
from orchestrator.transports.ssh.connector import open_channel

ANSWER_TIMEOUT = 0.2
"""Seconds for a prepared shell to answer, after which the host is also connected to anew."""
OPEN_TIMEOUT = 2.0
"""Seconds for a kept connection to open a channel, after which it is likewise."""


class ChannelBroker(Protocol):
    """What a channel needs of the broker."""

    loop: EventLoop

    def work(self, call: Callable[[], object]) -> None: ...

    def command(self, token: str) -> CommandLink | None: ...

    def find(self, key: bytes) -> KeptConnection | None: ...

    def keep(self, kept: KeptConnection) -> None: ...

    def drop(self, kept: KeptConnection) -> None: ...

    def end_channel(self, link: ChannelLink) -> None: ...


class ChannelLink:
    """The link between a command's socket and a channel on a host.

    The channel is opened on a kept connection. If that does not answer, the host is connected to
    anew as well, and what is open first is used; until then nothing of the command was sent.
    """

    def __init__(self, broker: ChannelBroker, link: FrameSocket, request: OpenChannel) -> None:
        """Begin to open the channel."""
        self._broker, self._link, self._request = broker, link, request
        self._channel: RelayChannel | None = None
        self._kept: KeptConnection | None = None
        self._attempts = 0  # that may still open the channel
        self._is_closed = self._has_written = self._is_connecting = False
        self._error: ConnectError | None = None
        self._unsent = memoryview(b"")
        self._stdin_ended = False
        self._told: set[bytes] = set()
        link.on_frame, link.on_closed = self._on_frame, self._on_closed
        self._open()

    def _open(self) -> None:
        command = self._broker.command(self._request.token)
        kept = self._broker.find(self._request.key)
        if command is None:
            self._refuse(ConnectError("connect", "the command has ended"))
        elif kept is None:
            self._connect()
        elif kept in command.used or command.may_clearly_use(kept):
            command.used.add(kept)
            self._use(kept)
        else:
            self._broker.work(lambda: self._check(command, kept))

    def _check(self, command: CommandLink, kept: KeptConnection) -> None:
        """Find out whether the command may use a connection. Runs in a worker."""
        may_use = command.may_use(kept)
        self._broker.loop.call_soon(lambda: self._on_checked(command, kept, may_use))

    def _on_checked(self, command: CommandLink, kept: KeptConnection, may_use: bool) -> None:
        if may_use and kept.is_open:
            command.used.add(kept)
            self._use(kept)
            return
        if not kept.channels_in_use:
            self._broker.drop(kept)
        self._connect()

    # Attempts. Each ends with _on_opened or _on_failed.

    def _use(self, kept: KeptConnection) -> None:
        """Open the channel on a kept connection."""
        self._attempts += 1
        kept.begin_use()
        request, spare = self._request, None
        if request.is_shell and (not request.command or request.become):
            if None in kept.wanted and not request.command:
                kept.wanted[None] = max(kept.wanted[None], kept.channels_in_use)
            spare = kept.take_spare(request.become)
        if spare is None:
            self._broker.loop.call_later(OPEN_TIMEOUT, self._connect_if_silent)
            self._broker.work(lambda: self._open_on(kept))
            return

        def on_answer(shell: PreparedShell | None) -> None:
            give_up.cancel()
            if shell is None:
                self._on_failed(kept, ConnectError("connect", "the kept shell does not answer"))
            else:
                self._on_opened(kept, spare.channel, shell)

        self._broker.loop.call_later(ANSWER_TIMEOUT, self._connect_if_silent)
        timeout = kept.route.connection.connect.timeout
        give_up = self._broker.loop.call_later(timeout, spare.end)
        spare.ask(on_answer)

    def _open_on(self, kept: KeptConnection) -> None:
        """Open a new channel on a connection. Runs in a worker."""
        request, client = self._request, kept.client
        timeout = kept.route.connection.connect.timeout

        def start() -> RelayChannel:
            if request.is_shell:
                channel = client.request_shell(request.command)
            else:
                channel = client.request_command(request.command, request.terminal)
            assert isinstance(channel, RelayChannel)
            return channel

        def close_spare() -> bool:
            return client.close_spare_shell() or kept.close_spare()

        try:
            channel = open_channel(client, start, timeout, close_spare)
        except ConnectError as error:
            failure = error
            self._broker.loop.call_soon(lambda: self._on_failed(kept, failure))
            return
        assert isinstance(channel, RelayChannel)
        self._broker.loop.call_soon(lambda: self._on_opened(kept, channel, None))

    def _connect_if_silent(self) -> None:
        if self._channel is None and not self._is_closed and not self._is_connecting:
            self._connect()

    def _connect(self) -> None:
        """Connect anew."""
        command = self._broker.command(self._request.token)
        if command is None:
            self._refuse(ConnectError("connect", "the command has ended"))
            return
        self._attempts += 1
        self._is_connecting = True
        self._broker.work(lambda: self._log_in(command))

    def _log_in(self, command: CommandLink) -> None:
        """Connect and log in. Runs in a worker."""
        request = self._request
        state = command.known_hosts_state(request.route)
        try:
            client = command.log_in(request.route, request.host, has_password=request.has_password)
        except ConnectError as error:
            failure = error
            self._broker.loop.call_soon(lambda: self._on_failed(None, failure))
            return
        kept = KeptConnection(request, client, state)

        def keep() -> None:
            self._broker.keep(kept)
            command.used.add(kept)
            kept.begin_use()
            self._broker.work(lambda: self._open_on(kept))

        self._broker.loop.call_soon(keep)

    def _on_opened(
        self,
        kept: KeptConnection,
        channel: RelayChannel,
        shell: PreparedShell | None,
    ) -> None:
        """Use the channel, unless it comes too late."""
        self._attempts -= 1
        if self._is_closed or self._channel is not None:
            channel.close()
            kept.end_use()
            return
        self._channel, self._kept = channel, kept
        kept.idle = self._request.idle
        opened = ChannelOpened(shell.nonce, shell.pid) if shell else ChannelOpened()
        self._link.send(encode_message(opened))
        channel.pass_to(self)

    def _on_failed(self, kept: KeptConnection | None, error: ConnectError) -> None:
        """Connect anew after a kept connection has failed; refuse if nothing is left to try."""
        self._attempts -= 1
        if kept is not None:
            kept.end_use()
            if not kept.channels_in_use and not isinstance(error, CancelledError):
                self._broker.drop(kept)
        if self._is_closed or self._channel is not None:
            return
        self._error = error
        if kept is not None and not self._is_connecting and error.phase != "shell":
            self._connect()
        elif not self._attempts:
            self._refuse(error)

    def _refuse(self, error: ConnectError) -> None:
        self._link.send(encode_message(ChannelRefused.of(error)))

    # The command's side.

    def _on_frame(self, kind: bytes, data: bytes) -> None:
        channel = self._channel
        if channel is None:
            return
        if kind == STDIN:
            self._has_written = True
            self._unsent = memoryview(bytes(self._unsent) + data)
            self._flush()
        elif kind == STDIN_END:
            self._stdin_ended = True
            self._flush()
        elif kind == MESSAGE:
            message = decode_message(data)
            if isinstance(message, ResizeTerminal):
                channel.resize(TerminalSize(message.columns, message.rows))

    def _flush(self) -> None:
        """Send to the host what it has room for; read no more of the command until all is sent."""
        channel = self._channel
        if channel is None:
            return
        try:
            while self._unsent and (sent := channel.write(self._unsent)):
                self._unsent = self._unsent[sent:]
        except OSError:
            self._unsent = memoryview(b"")  # the channel's end is told as such
        if self._stdin_ended and not self._unsent:
            channel.close_stdin()
        self._link.pause(bool(self._unsent))

    def _on_closed(self) -> None:
        """Handle that the command has closed the channel, or has ended."""
        self._is_closed = True
        if self._channel is not None and self._kept is not None:
            self._channel.close()
            self._kept.end_use()
        self._broker.end_channel(self)

    # The host's side; see ChannelReceiver.

    def on_output(self, kind: bytes, data: bytes, done: Callable[[], None]) -> None:
        """Pass output on."""
        self._link.send(encode_frame(kind, data), done)

    def on_exit_status(self, status: int) -> None:
        """Pass the exit status on."""
        self._tell_once(EXIT_STATUS, struct.pack(">I", status))

    def on_output_end(self) -> None:
        """Pass EOF on."""
        self._tell_once(OUTPUT_END)

    def on_lost(self, cause: str) -> None:
        """Pass the end of the channel on."""
        self._tell_once(LOST, cause.encode("utf-8", "surrogateescape"))

    def on_refused(self, error: ConnectError) -> None:
        """Pass a late refusal on."""
        self._link.send(encode_message(ChannelRefused.of(error)))

    def on_room(self) -> None:
        """Send what has waited."""
        if self._unsent:
            self._broker.loop.call_soon(self._flush)

    def _tell_once(self, kind: bytes, data: bytes = b"") -> None:
        if kind not in self._told:
            self._told.add(kind)
            self._link.send(encode_frame(kind, data))
