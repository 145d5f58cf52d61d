"""A channel whose output is pushed to a receiver instead of being read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from orchestrator.errors import ConnectError
from orchestrator.remote_shell.channel_protocol import Terminal
from orchestrator.transports.broker.messages import STDERR, STDOUT
from orchestrator.transports.ssh.channels import ChannelOwner, ShellChannel
from orchestrator.transports.ssh.paramiko_compat import Message


class ChannelReceiver(Protocol):
    """Receives what happens on a channel, mostly in the connection's reader thread.

    No call may block or raise. The end may be told more than once.
    """

    def on_output(self, kind: bytes, data: bytes, done: Callable[[], None]) -> None:
        """Handle output (STDOUT or STDERR); ``done`` is called when it has been passed on."""

    def on_exit_status(self, status: int, /) -> None:
        """Handle the exit status."""

    def on_output_end(self) -> None:
        """Handle EOF: the peer sends no more output."""

    def on_lost(self, cause: str, /) -> None:
        """Handle the end of the channel; ``cause`` is the reason if the connection broke."""

    def on_refused(self, error: ConnectError, /) -> None:
        """Handle that the host refused the channel or its command."""

    def on_room(self) -> None:
        """Handle that there may be room again after a short ``send``."""


class RelayChannel(ShellChannel):
    """A shell channel that passes everything on to its receiver; until it has one, it is kept."""

    def __init__(
        self,
        owner: ChannelOwner,
        number: int,
        command: bytes,
        forward_agent: bool = False,
        environment: tuple[tuple[str, str], ...] = (),
        terminal: Terminal | None = None,
    ) -> None:
        super().__init__(
            owner,
            number,
            command,
            forward_agent=forward_agent,
            environment=environment,
            terminal=terminal,
        )
        self._receiver: ChannelReceiver | None = None
        self._waiting: list[Callable[[ChannelReceiver], None]] = []
        self._handover = threading.RLock()  # held while the receiver is called or replaced

    def pass_to(self, receiver: ChannelReceiver) -> None:
        """Pass everything that happens from now on, and what is kept, to this receiver.

        Of an end that came before, it is told again.
        """
        with self._handover:
            self._receiver = receiver
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call(receiver)
            if self._status is not None:
                receiver.on_exit_status(self._status)
            if self._eof_received:
                receiver.on_output_end()
            if self._gone:
                receiver.on_lost(self.cause())

    def _pass_on(self, call: Callable[[ChannelReceiver], None]) -> None:
        with self._handover:
            if self._receiver is None:
                self._waiting.append(call)
            else:
                call(self._receiver)

    # Called by the reader thread.

    def on_data(self, data: bytes) -> None:
        """Pass output on."""
        self._pass_output(STDOUT, data)

    def on_stderr(self, data: bytes) -> None:
        """Pass error output on."""
        self._pass_output(STDERR, data)

    def on_eof(self, message: Message) -> None:
        """Pass EOF on."""
        super().on_eof(message)
        self._pass_on(lambda receiver: receiver.on_output_end())

    def on_connection_lost(self) -> None:
        """Pass the end on, once."""
        with self._changed:
            was_gone = self._gone
        super().on_connection_lost()
        if not was_gone:
            cause = self.cause()
            self._pass_on(lambda receiver: receiver.on_lost(cause))

    def open_refused(self, error: ConnectError) -> None:
        """Pass the refusal on."""
        super().open_refused(error)
        self._pass_on(lambda receiver: receiver.on_refused(error))

    def on_writable(self) -> None:
        """Pass on that there may be room."""
        super().on_writable()
        self._pass_on(lambda receiver: receiver.on_room())

    def _set_exit_status(self, status: int) -> None:
        super()._set_exit_status(status)
        self._pass_on(lambda receiver: receiver.on_exit_status(status))

    def _pass_output(self, kind: bytes, data: bytes) -> None:
        size = len(data)

        def done() -> None:
            self.grant_window(size)

        self._pass_on(lambda receiver: receiver.on_output(kind, data, done))
