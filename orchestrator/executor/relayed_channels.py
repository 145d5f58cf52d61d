"""Channels to hosts that another process of the run is connected to.

The process that uses such a channel sends a request and the input; the one with the connection
opens the channel, and sends what arrives. The coordinator passes the messages on. As in SSH, each
side sends only as much as the other has room for.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TypeAlias

from msgspec import Struct

from orchestrator.errors import ConnectError, describe_bug
from orchestrator.executor.connection_pool import ConnectionPool
from orchestrator.planner.plan import CONTROLLER
from orchestrator.remote_shell import ShellSession
from orchestrator.remote_shell.channel_protocol import (
    Channel,
    PreparedShell,
    ReadChunk,
)

COORDINATOR = -1
"""The coordinator's number; workers count from 0."""

_WINDOW_BYTES = 4 << 20
"""How much may be on its way in each direction of a channel."""
_EXIT_POLL_SECONDS = 0.5

ChannelKey: TypeAlias = tuple[int, int]
"""The number of the process that uses the channel, and one of its own."""


class ChannelRequest(Struct, frozen=True):
    """Open a channel to a host as a user, or as the login user if that is ''.

    ``app`` owns the sessions that may be closed for it, if ``is_side``; ``for_rollback`` is as in
    ``ConnectionPool``.
    """

    channel: ChannelKey
    host: str
    user: str = ""
    app: str | None = None
    is_side: bool = False
    for_rollback: bool = False


class ChannelRefusal(Struct, frozen=True):
    """The fields of a ``ConnectError``."""

    phase: str
    reason: str
    hint: str = ""
    transient: bool = False

    @classmethod
    def of(cls, error: ConnectError) -> ChannelRefusal:
        """Return the refusal for an error."""
        return cls(error.phase, error.reason, error.hint, error.transient)

    def error(self) -> ConnectError:
        """Return the error."""
        return ConnectError(self.phase, self.reason, self.hint, transient=self.transient)


class ChannelReply(Struct, frozen=True):
    """A channel is open, or was refused. ``endpoint`` is that of its connection."""

    channel: ChannelKey
    endpoint: str = ""
    prepared: PreparedShell | None = None
    refusal: ChannelRefusal | None = None


class ChannelInput(Struct, frozen=True):
    """What a channel's user did: wrote ``data``, read ``room`` bytes, ended stdin, or closed it."""

    channel: ChannelKey
    data: bytes = b""
    room: int = 0
    is_eof: bool = False
    is_closed: bool = False


class ChannelOutput(Struct, frozen=True):
    """What happened on a channel: data arrived, ``room`` bytes of input were passed on, and so on.

    With ``refusal``, reading raises that error.
    """

    channel: ChannelKey
    chunk: ReadChunk = ReadChunk()
    room: int = 0
    exit_status: int | None = None
    cause: str = ""
    refusal: ChannelRefusal | None = None


ChannelMessage: TypeAlias = ChannelRequest | ChannelReply | ChannelInput | ChannelOutput
OpenFunction: TypeAlias = Callable[[ChannelRequest], tuple[Channel, str]]
"""Opens a channel on a connection of this process; returns it and its connection's endpoint."""


class ChannelRelay:
    """What one process of a run uses of the others' channels, and they of its own.

    ``process`` is its number. ``send`` passes a message on, in order, without waiting.
    ``open_here`` may raise ConnectError. Thread-safe.
    """

    def __init__(
        self, process: int, send: Callable[[ChannelMessage], object], open_here: OpenFunction
    ) -> None:
        """Start without channels."""
        self._process, self._send, self._open_here = process, send, open_here
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._used: dict[ChannelKey, RelayedChannel] = {}
        self._provided: dict[ChannelKey, _ProvidedChannel] = {}
        self._end = ""

    def open(
        self,
        host: str,
        user: str = "",
        *,
        app: str | None = None,
        is_side: bool = False,
        for_rollback: bool = False,
    ) -> RelayedChannel:
        """Open a channel in the process that has the host. Raises ConnectError."""
        key = self._process, next(self._numbers)
        channel = RelayedChannel(key, self._send_of_user)
        with self._lock:
            if self._end:
                raise ConnectError("channel", self._end)
            self._used[key] = channel
        self._send(ChannelRequest(key, host, user, app, is_side=is_side, for_rollback=for_rollback))
        try:
            channel.wait_until_open()
        except ConnectError:
            channel.close()
            raise
        return channel

    def receive(self, message: ChannelMessage) -> None:
        """Handle a message that is for this process; does not wait."""
        match message:
            case ChannelRequest():
                provided = _ProvidedChannel(message, self._open_here, self._send, self._forget)
                with self._lock:
                    self._provided[message.channel] = provided
                provided.start()
            case ChannelInput():
                with self._lock:
                    provided_channel = self._provided.get(message.channel)
                if provided_channel is not None:
                    provided_channel.receive(message)
            case ChannelReply() | ChannelOutput():
                with self._lock:
                    used_channel = self._used.get(message.channel)
                if used_channel is not None:
                    used_channel.receive(message)

    def close(self, reason: str) -> None:
        """End all channels, and refuse new ones."""
        with self._lock:
            self._end = reason
            used, provided = list(self._used.values()), list(self._provided.values())
        for each in used:
            each.receive(ended_output(each.key, reason))
        for one in provided:
            one.receive(ChannelInput(one.key, is_closed=True))

    def _send_of_user(self, message: ChannelInput) -> None:
        if message.is_closed:
            with self._lock:
                self._used.pop(message.channel, None)
        self._send(message)

    def _forget(self, key: ChannelKey) -> None:
        with self._lock:
            self._provided.pop(key, None)


def ended_output(key: ChannelKey, cause: str) -> ChannelOutput:
    """Return the last message of a channel whose process or connection has gone."""
    refusal = ChannelRefusal("channel", cause)  # of a channel that is not open yet
    return ChannelOutput(key, ReadChunk(eof=True), cause=cause, refusal=refusal)


class RelayedChannel:
    """A ``Channel`` that another process has opened."""

    def __init__(self, key: ChannelKey, send: Callable[[ChannelInput], object]) -> None:
        """Store how input is sent; the channel is not open yet."""
        self.key, self.endpoint = key, ""
        self._send = send
        self._changed = threading.Condition()
        self._chunks: list[ReadChunk] = []
        self._room = _WINDOW_BYTES
        self._is_open = self._has_ended = self._is_closed = False
        self._is_woken = self._is_short = False
        self._refusal: ChannelRefusal | None = None
        self._prepared: PreparedShell | None = None
        self._exit_status: int | None = None
        self._cause = ""

    def wait_until_open(self) -> None:
        """Wait until the channel is open. Raises ConnectError if it was refused."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_open or self._refusal is not None)
            if not self._is_open and self._refusal is not None:
                raise self._refusal.error()

    def receive(self, message: ChannelReply | ChannelOutput) -> None:
        """Handle a message from the process that has the channel."""
        with self._changed:
            if isinstance(message, ChannelReply):
                self._is_open = message.refusal is None
                self._refusal, self._prepared = message.refusal, message.prepared
                self.endpoint = message.endpoint
            else:
                self._note_output(message)
            self._changed.notify_all()

    def _note_output(self, message: ChannelOutput) -> None:
        if message.chunk.stdout or message.chunk.stderr or message.chunk.waited:
            self._chunks.append(message.chunk)
        self._room += message.room
        if message.room and self._is_short:
            self._is_woken, self._is_short = True, False
        if message.exit_status is not None:
            self._exit_status = message.exit_status
        self._cause = self._cause or message.cause
        self._has_ended = self._has_ended or message.chunk.eof
        if message.refusal is not None and not (self._is_open and message.chunk.eof):
            self._refusal = message.refusal

    def write(self, data: bytes | memoryview) -> int:
        """Implement ``Channel.write``."""
        with self._changed:
            if self._has_ended or self._is_closed:
                raise BrokenPipeError(self._cause or "the channel has ended")
            count = min(len(data), self._room)
            self._room -= count
            self._is_short = count < len(data)
            if count:
                self._send(ChannelInput(self.key, bytes(data[:count])))
        return count

    def read(self, timeout: float | None) -> ReadChunk:
        """Implement ``Channel.read``."""
        with self._changed:
            self._changed.wait_for(self._has_news, timeout)
            self._is_woken = False
            chunks, self._chunks = self._chunks, []
            if self._refusal is not None and not chunks:
                raise self._refusal.error()
            stdout = b"".join(each.stdout for each in chunks)
            stderr = b"".join(each.stderr for each in chunks)
            if (size := len(stdout) + len(stderr)) and not self._has_ended:
                self._send(ChannelInput(self.key, room=size))
            waited = sum(each.waited for each in chunks)
            return ReadChunk(stdout, stderr, self._has_ended, waited)

    def _has_news(self) -> bool:
        return bool(
            self._chunks
            or self._is_woken
            or self._has_ended
            or self._is_closed
            or self._refusal is not None
        )

    def wake(self) -> None:
        """Implement ``Channel.wake``."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def close_stdin(self) -> None:
        """Implement ``Channel.close_stdin``."""
        self._send(ChannelInput(self.key, is_eof=True))

    def close(self) -> None:
        """Implement ``Channel.close``."""
        with self._changed:
            was_closed, self._is_closed = self._is_closed, True
            self._has_ended = True
            self._changed.notify_all()
        if not was_closed:
            self._send(ChannelInput(self.key, is_closed=True))

    def exit_status(self) -> int | None:
        """Implement ``Channel.exit_status``."""
        return self._exit_status

    def cause(self) -> str:
        """Implement ``Channel.cause``."""
        return self._cause

    def prepared_shell(self) -> PreparedShell | None:
        """Implement ``Channel.prepared_shell``."""
        return self._prepared


class _ProvidedChannel:
    """A channel of this process that another one uses; a thread of its own passes everything on."""

    def __init__(
        self,
        request: ChannelRequest,
        open_here: OpenFunction,
        send: Callable[[ChannelMessage], object],
        on_end: Callable[[ChannelKey], object],
    ) -> None:
        self.key, self._request, self._open_here = request.channel, request, open_here
        self._send, self._on_end = send, on_end
        self._changed = threading.Condition()
        self._input: deque[bytes] = deque()
        self._room = _WINDOW_BYTES
        self._is_eof = self._has_ended_stdin = self._is_closed = False
        self._channel: Channel | None = None
        self._sent_status: int | None = None

    def start(self) -> None:
        """Open the channel soon."""
        threading.Thread(target=self._run, name="relayed channel", daemon=True).start()

    def receive(self, message: ChannelInput) -> None:
        """Handle what the user did."""
        with self._changed:
            if message.data:
                self._input.append(message.data)
            self._room += message.room
            self._is_eof = self._is_eof or message.is_eof
            self._is_closed = self._is_closed or message.is_closed
            self._changed.notify_all()
            if self._channel is not None:
                self._channel.wake()

    def _run(self) -> None:
        try:
            channel, endpoint = self._open_here(self._request)
            with self._changed:
                self._channel = channel
            with closing(channel):
                self._send(ChannelReply(self.key, endpoint, channel.prepared_shell()))
                self._pass_on(channel)
        except ConnectError as error:
            self._refuse(ChannelRefusal.of(error))
        except Exception as error:  # the user's step fails with it
            self._refuse(ChannelRefusal("channel", describe_bug(error)))
        finally:
            with self._changed:
                self._channel = None
            self._on_end(self.key)

    def _refuse(self, refusal: ChannelRefusal) -> None:
        if self._channel is None:
            self._send(ChannelReply(self.key, refusal=refusal))
        else:
            self._send(ChannelOutput(self.key, refusal=refusal))

    def _pass_on(self, channel: Channel) -> None:
        """Pass input and output on until the channel ends or its user closes it."""
        unsent = memoryview(b"")
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._room > 0 or self._has_request())
                if self._is_closed:
                    return
                if self._input:
                    unsent = memoryview(b"".join((unsent, *self._input)))
                    self._input.clear()
                is_eof, has_room = self._is_eof, self._room > 0
            count = self._write(channel, unsent)
            unsent = unsent[count:]
            if is_eof and not unsent and not self._has_ended_stdin:
                self._has_ended_stdin = True
                channel.close_stdin()
            chunk = channel.read(_EXIT_POLL_SECONDS) if has_room else ReadChunk()
            if self._report(channel, chunk, count):
                return

    def _has_request(self) -> bool:
        is_ending = self._is_eof and not self._has_ended_stdin
        return bool(self._input) or is_ending or self._is_closed

    def _write(self, channel: Channel, unsent: memoryview) -> int:
        """Return how much of the input is done with."""
        try:
            return channel.write(unsent) if unsent else 0
        except OSError:
            return len(unsent)  # the next read reports the cause

    def _report(self, channel: Channel, chunk: ReadChunk, passed_on: int) -> bool:
        """Send what has happened; return True if that was the channel's end."""
        status = channel.exit_status()
        size = len(chunk.stdout) + len(chunk.stderr)
        with self._changed:
            self._room -= size
        if size or chunk.eof or chunk.waited or passed_on or status != self._sent_status:
            cause = channel.cause() if chunk.eof else ""
            self._send(ChannelOutput(self.key, chunk, passed_on, status, cause))
        self._sent_status = status
        return chunk.eof


class RelayingConnections(ConnectionPool):
    """The connections of a worker; other hosts are reached through the process that has them.

    A host is of this worker if it is one of ``own_hosts``, or if the coordinator lets this worker
    connect to it.
    """

    _relay: ChannelRelay
    _own_hosts: set[str]
    _endpoints: dict[str, str]

    def use_relay(self, relay: ChannelRelay, own_hosts: Iterable[str]) -> None:
        """Reach other hosts through this relay from now on."""
        self._relay, self._own_hosts = relay, set(own_hosts)
        self._endpoints = {}

    def open_here(self, request: ChannelRequest) -> tuple[Channel, str]:
        """Open a channel that another process uses. Raises ConnectError."""
        self.adopt(request.host)
        return open_requested(self, request)

    def adopt(self, name: str) -> None:
        """Connect to this host instead of using another process's connection from now on."""
        self._own_hosts.add(name)

    def open_channel(self, name: str, user: str = "") -> Channel:
        """Open a channel next to the host's sessions. Raises ConnectError."""
        if name in self._own_hosts:
            return super().open_channel(name, user)
        return self._open_relayed(name, user)

    def side_channel(self, name: str, app: str | None, user: str = "") -> Channel:
        """Open a channel for the app between two pipelines. Raises ConnectError."""
        if name in self._own_hosts:
            return super().side_channel(name, app, user)
        return self._open_relayed(name, user, app, is_side=True)

    def _open_relayed(
        self, name: str, user: str, app: str | None = None, *, is_side: bool = False
    ) -> Channel:
        channel = self._relay.open(
            name, user, app=app, is_side=is_side, for_rollback=self._for_rollback
        )
        self._endpoints[name] = channel.endpoint
        return channel

    def endpoint(self, name: str) -> str:
        """Return the endpoint of the host's connection for messages, or '' if not connected."""
        return super().endpoint(name) or self._endpoints.get(name, "")

    @contextmanager
    def delegated_session(
        self, name: str, app: str | None, user: str = ""
    ) -> Iterator[ShellSession]:
        """Yield the app's session on a delegate host; one caller at a time. Raises ConnectError.

        A session on another worker's host is closed afterwards: a host allows only so many, and
        each worker would keep one.
        """
        with super().delegated_session(name, app, user) as session:
            try:
                yield session
            finally:
                if name != CONTROLLER and name not in self._own_hosts:
                    self.close_session(session)


def open_requested(connections: ConnectionPool, request: ChannelRequest) -> tuple[Channel, str]:
    """Open a channel on these connections, and return it and its endpoint. Raises ConnectError."""
    if request.for_rollback:
        connections = connections.for_rollback()
    if request.is_side:
        channel = connections.side_channel(request.host, request.app, request.user)
    else:
        channel = connections.open_channel(request.host, request.user)
    return channel, connections.endpoint(request.host)
