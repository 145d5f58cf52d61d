"""Connections between the coordinator of a run and its workers: what carries their messages.

Workers of this machine connect to a Unix socket in a folder that only its user can open. Others
use queues of Dask's scheduler, over TLS, because each of them can reach the scheduler.
"""

from __future__ import annotations

import os
import pickle
import secrets
import socket
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

_GATHER_CALLS, _GATHER_EVENTS = 0.01, 0.03
"""For how many seconds messages are gathered for a queue: to a worker, and from it.

Each batch costs a scheduler milliseconds.
"""
_GATHER_ON_SOCKET = 0.01
"""The same for a socket: threads that often wake up wait for each other."""
_QUEUE_SIZE = 64
"""How many batches of messages may wait in a queue before its sender does."""
_GREETING_SECONDS = 5.0
"""How long a worker that has connected may take to say which one it is."""
_BACKLOG = 128
_MAX_SOCKET_PATH = 100  # bytes; sun_path has 104 on macOS and 108 on Linux


class PeerEndedError(OSError):
    """The process at the other end has ended."""


class MessageConnection(Protocol):
    """Carries messages in both directions, in order. One thread sends, and one receives."""

    gather_seconds: float
    """For how long messages are worth being gathered, to be sent together."""

    def send(self, messages: Sequence[object]) -> None:
        """Send messages; wait if the other side is slow. Raises OSError if it is gone."""

    def receive(self, timeout: float | None) -> Sequence[object]:
        """Wait for messages, and return them; () if there are none within ``timeout`` seconds.

        Raises OSError if the other side is gone: PeerEndedError if that is certain.
        """


class WorkerListener(Protocol):
    """Waits for the workers of a run. ``address`` is where they connect."""

    address: str

    def accept(self, timeout: float) -> tuple[int, MessageConnection]:
        """Return the index of a worker that has connected, and its connection.

        Raises TimeoutError after so many seconds, PeerEndedError if it has ended, and OSError.
        """

    def close(self) -> None:
        """Accept no more workers."""


def listen_for_workers(distributed: Any, client: Any, run: str, folder: str) -> WorkerListener:
    """Return what waits for the workers of a run.

    ``folder`` is one that only this user can open, for workers of this machine; '' for others.
    """
    path = str(Path(folder, f"{run}.sock"))
    if folder and len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        return _SocketListener(path)
    return _QueueListener(distributed, client, run)


def connect_to_coordinator(
    distributed: Any, client: Any, address: str, index: int
) -> MessageConnection:
    """Connect a worker to where its coordinator waits. Raises OSError."""
    if address.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address)
        connection = SocketConnection(sock)
        connection.send((index,))
        return connection
    prefix = f"{address}-{secrets.token_hex(8)}"
    down = distributed.Queue(f"{prefix}-down", client=client)
    up = distributed.Queue(f"{prefix}-up", client=client, maxsize=_QUEUE_SIZE)
    distributed.Queue(f"{address}-hello", client=client).put((index, prefix))
    return QueueConnection(down, up, _GATHER_EVENTS)


class _SocketListener:
    """A Unix socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen(_BACKLOG)

    def accept(self, timeout: float) -> tuple[int, MessageConnection]:
        self._listener.settimeout(timeout)
        sock, _ = self._listener.accept()
        connection = SocketConnection(sock)
        for greeting in connection.receive(_GREETING_SECONDS):
            return int(str(greeting)), connection
        raise PeerEndedError("a worker has connected that says nothing")

    def close(self) -> None:
        self._listener.close()
        Path(self.address).unlink(missing_ok=True)


class _QueueListener:
    """A queue of a scheduler."""

    def __init__(self, distributed: Any, client: Any, run: str) -> None:
        self.address = f"orch-{run}"
        self._make_queue = partial(distributed.Queue, client=client)
        self._hello = self._make_queue(f"{self.address}-hello")

    def accept(self, timeout: float) -> tuple[int, MessageConnection]:
        index, prefix = self._hello.get(timeout=timeout)
        down, up = (self._make_queue(f"{prefix}-{name}") for name in ("down", "up"))
        return int(index), QueueConnection(up, down, _GATHER_CALLS)

    def close(self) -> None:
        pass


class QueueConnection:
    """Two queues of a scheduler."""

    def __init__(self, incoming: Any, outgoing: Any, gather_seconds: float) -> None:
        """Store the queues."""
        self._incoming, self._outgoing = incoming, outgoing
        self.gather_seconds, self._has_more = gather_seconds, False

    def send(self, messages: Sequence[object]) -> None:
        """Implement ``MessageConnection.send``."""
        try:
            self._outgoing.put(pickle.dumps(messages))
        except OSError:
            raise
        except Exception as error:  # whatever a connection raises that is being closed
            raise OSError(str(error)) from error

    def receive(self, timeout: float | None) -> Sequence[object]:
        """Implement ``MessageConnection.receive``.

        Whatever else is in the queue by then is taken at once: each request to a scheduler that is
        far away takes a round trip.
        """
        try:
            batches = self._incoming.get(batch=True) if self._has_more else ()
            self._has_more = False
            if not batches:
                batches = (self._incoming.get(timeout=timeout),)
            self._has_more = True
        except TimeoutError:
            return ()
        except Exception as error:  # whatever a connection raises that is being closed
            raise OSError(str(error)) from error
        return [message for batch in batches for message in pickle.loads(batch)]


class SocketConnection:
    """A Unix socket."""

    gather_seconds = _GATHER_ON_SOCKET

    def __init__(self, sock: socket.socket) -> None:
        """Take over the socket."""
        sock.settimeout(None)
        self._connection = Connection(sock.detach())

    def send(self, messages: Sequence[object]) -> None:
        """Implement ``MessageConnection.send``."""
        try:
            self._connection.send_bytes(pickle.dumps(messages))
        except (BrokenPipeError, ConnectionResetError):
            raise PeerEndedError("it has ended") from None

    def receive(self, timeout: float | None) -> Sequence[object]:
        """Implement ``MessageConnection.receive``."""
        try:
            if not self._connection.poll(timeout):
                return ()
            messages: Sequence[object] = pickle.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionResetError):  # the latter: it had not read everything
            raise PeerEndedError("it has ended") from None
        return messages
