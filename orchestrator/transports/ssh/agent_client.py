"""A client for SSH agents (draft-miller-ssh-agent): list keys and sign, with timeouts."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from orchestrator.transports.deadline import Deadline
from orchestrator.transports.ssh_config.settings import SshSettings

LIST_TIMEOUT = 3.0  # seconds to list keys, once a run; an agent needs no confirmation for that
SIGN_TIMEOUT = 60.0  # seconds for a forwarded signature, which the user may have to confirm
RESERVED_SHARE = 0.25  # of the connect timeout: left for other keys if an agent does not answer
POLL_INTERVAL = 0.2  # seconds between checks for cancellation
RECONNECT_DELAY = 0.05  # seconds between connects to an agent with a full backlog
MAX_MESSAGE_BYTES = 1 << 18  # bytes of a message, as in OpenSSH's agent
AGENT_FAILURE, REQUEST_IDENTITIES, IDENTITIES_ANSWER, SIGN_REQUEST, SIGN_RESPONSE = (
    5,
    11,
    12,
    13,
    14,
)
RSA_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
_ABSENT_ERRORS = (FileNotFoundError, ConnectionRefusedError, PermissionError)  # no agent is running
NONE = "none"
AUTH_SOCK_VARIABLE = "SSH_AUTH_SOCK"
_NO_AGENT_HINT = "set `IdentityAgent none` in ssh_config"

RemainingTime: TypeAlias = Callable[[], float]
"""Returns the seconds that are left to wait, 0 at the end. May raise CancelledError."""


class AgentError(Exception):
    """The agent cannot be reached or refused the request."""


class _AgentProtocolError(AgentError):
    """The agent sent an invalid message."""


class AgentRegistry:
    """The agents of a run, by socket path.

    A failure of an agent is remembered, and ``warn`` is called with it once.
    """

    def __init__(
        self, environ: Mapping[str, str], warn: Callable[[str], object] = lambda _: None
    ) -> None:
        self._environ, self._warn = environ, warn
        self._lock = threading.Lock()
        self._agents: dict[str, AgentClient] = {}

    def agent_for_keys(self, settings: SshSettings) -> AgentClient | None:
        """Return the agent with keys for this host, or None if there is none."""
        return self.agent_at(agent_socket_path(settings, self._environ))

    def agent_to_forward(self, settings: SshSettings) -> AgentClient | None:
        """Return the agent that is forwarded to this host, or None if there is none."""
        if not settings.forward_agent:
            return None
        return self.agent_at(settings.forward_socket) or self.agent_for_keys(settings)

    def agent_at(self, path: str) -> AgentClient | None:
        """Return the agent with this socket, or None if ``path`` is '' or ``none``."""
        if path in ("", NONE):
            return None
        with self._lock:
            if path not in self._agents:
                is_default = path == self._environ.get(AUTH_SOCK_VARIABLE)
                remedy = f"run with `{AUTH_SOCK_VARIABLE}=`" if is_default else _NO_AGENT_HINT
                self._agents[path] = AgentClient(
                    path, f"restart it, or {remedy}", self._warn_of_failure
                )
            return self._agents[path]

    def close(self) -> None:
        """Send no more requests to the agents. Safe to call twice."""
        with self._lock:
            agents = list(self._agents.values())
        for agent in agents:
            agent.close()

    def _warn_of_failure(self, agent: AgentClient) -> None:
        self._warn(f"{agent.error}; continuing with key files only ({agent.remedy})")


class AgentClient:
    """The agent at a Unix socket. Thread-safe; its keys are listed once.

    ``error`` is the reason why it cannot be used for the rest of the run, '' as long as it can,
    and ``remedy`` what to do about it. ``is_absent``: no agent is running at the socket.
    ``on_failure`` is called once if an agent is running but fails.
    """

    def __init__(self, path: str, remedy: str, on_failure: Callable[[AgentClient], object]) -> None:
        self.path, self.error, self.remedy, self._on_failure = path, "", remedy, on_failure
        self.is_absent = False
        self._lock = threading.Lock()
        self._request_lock = threading.Lock()  # for one request at a time
        self._socket: socket.socket | None = None
        self._keys: tuple[tuple[bytes, str], ...] = ()
        self._listing_started, self._closed = False, False
        self._keys_known = threading.Event()  # the keys were listed, or listing has failed

    def __str__(self) -> str:
        return f"the agent at {self.path}"

    def list_keys(self, deadline: Deadline) -> tuple[tuple[bytes, str], ...]:
        """Return the public blobs and comments of its keys.

        Wait for ``LIST_TIMEOUT`` seconds at most, and leave ``RESERVED_SHARE`` of the connect
        timeout. Raises AgentError, and CancelledError.
        """
        self._start_listing()
        remaining = _remaining_until(_agent_deadline(deadline), deadline)
        while not self._keys_known.wait(min(POLL_INTERVAL, remaining())):
            if not remaining():
                raise AgentError(f"{self} has not answered yet")
        if self.error:
            raise AgentError(self.error)
        return self._keys

    def sign(self, blob: bytes, data: bytes, algorithm: str, deadline: Deadline) -> bytes:
        """Return the signature over ``data`` in SSH's format.

        The user may have to confirm it, so the agent has all of the connect timeout except
        ``RESERVED_SHARE``. Raises AgentError, and CancelledError.
        """
        flags = RSA_FLAGS.get(algorithm.removesuffix("-cert-v01@openssh.com"), 0)
        request = (
            bytes([SIGN_REQUEST])
            + _encode_string(blob)
            + _encode_string(data)
            + struct.pack(">I", flags)
        )
        began, remaining = time.monotonic(), _remaining_until(_agent_deadline(deadline), deadline)
        with self._exclusive_access(remaining):
            if self.error:
                raise AgentError(self.error)
            try:
                return _parse_signature(self._send_request(request, remaining))
            except TimeoutError:
                reason = f"did not sign within {time.monotonic() - began:.2g} s"
                raise self.mark_failed(f"{self} {reason}") from None
            except OSError as error:
                raise self.mark_failed(f"{self} does not answer: {os_error_text(error)}") from error
            except _AgentProtocolError as error:
                raise self.mark_failed(f"{self} {error}") from None
            except AgentError as error:
                raise AgentError(f"{self} {error}") from None

    def mark_failed(self, error: str) -> AgentError:
        """Stop using the agent for the rest of the run; return the error that says why."""
        with self._lock:
            first = not self.error and not self._closed
            self.error = self.error or error
        if first and not self.is_absent:
            self._on_failure(self)
        return AgentError(self.error)

    def close(self) -> None:
        """Send no more requests and close the socket."""
        with self._lock:
            self._closed = True
            is_listing = self._listing_started
        if is_listing:
            self._keys_known.wait()
        with self._request_lock:
            self._disconnect()

    def connect(self, remaining: RemainingTime) -> socket.socket:
        """Return a new connection to the agent.

        Raises OSError; TimeoutError if its backlog stays full.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            while True:
                try:
                    sock.connect(self.path)
                    return sock
                except BlockingIOError:  # the backlog is full
                    if not remaining():
                        raise TimeoutError("its backlog is full") from None
                    time.sleep(RECONNECT_DELAY)
        except BaseException:
            sock.close()
            raise

    def _start_listing(self) -> None:
        """Start a thread that lists the keys, so that each caller has its own timeout."""
        with self._lock:
            if self._listing_started:
                return
            self._listing_started = True
            if self._closed:
                self.error = self.error or f"{self} is no longer used"
                self._keys_known.set()
                return
        try:
            threading.Thread(
                target=self._list_keys_in_thread, name="orch-agent", daemon=True
            ).start()
        except RuntimeError as error:
            self.mark_failed(f"{self} can't be asked: {error}")
            self._keys_known.set()

    def _list_keys_in_thread(self) -> None:
        end = time.monotonic() + LIST_TIMEOUT
        left = _remaining_until(lambda: -1.0 if self._closed else end)
        try:
            with self._request_lock:
                self._keys = _parse_key_list(self._send_request(bytes([REQUEST_IDENTITIES]), left))
        except TimeoutError:
            self.mark_failed(f"{self} did not answer within {LIST_TIMEOUT:g} s")
        except OSError as error:
            self.is_absent = isinstance(error, _ABSENT_ERRORS)
            self.mark_failed(f"{self} does not answer: {os_error_text(error)}")
        except _AgentProtocolError as error:
            self.mark_failed(f"{self} {error}")
        finally:
            self._keys_known.set()

    @contextlib.contextmanager
    def _exclusive_access(self, remaining: RemainingTime) -> Iterator[None]:
        while not self._request_lock.acquire(timeout=min(POLL_INTERVAL, remaining())):
            if not remaining():
                raise AgentError(f"{self} is busy signing for other hosts")
        try:
            yield
        finally:
            self._request_lock.release()

    def _send_request(self, request: bytes, remaining: RemainingTime) -> bytes:
        """Send a request. Reconnect if the connection was closed since the last request."""
        try:
            if self._socket is not None:
                with contextlib.suppress(ConnectionError):
                    return exchange(self._socket, _encode_string(request), remaining)
                self._disconnect()
            self._socket = self.connect(remaining)
            return exchange(self._socket, _encode_string(request), remaining)
        except BaseException:
            self._disconnect()  # a late reply must not be taken for the next request's
            raise

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def agent_socket_path(settings: SshSettings, environ: Mapping[str, str]) -> str:
    """Return the path of the agent's socket for a host's keys; '' or ``none`` for no agent."""
    configured = settings.identity_agent
    return environ.get(AUTH_SOCK_VARIABLE, "") if configured is None else configured


def exchange(sock: socket.socket, message: bytes, remaining: RemainingTime) -> bytes:
    """Send a whole message and return the reply without its length. ``sock`` is non-blocking.

    Raises TimeoutError after ``remaining``, ConnectionError if the agent closes the connection,
    and AgentError if the reply's length is invalid.
    """
    rest = memoryview(message)
    while rest:
        _wait_ready(sock, select.POLLOUT, remaining)
        rest = rest[sock.send(rest) :]
    size = int.from_bytes(_receive_exactly(sock, 4, remaining), "big")
    if not 0 < size <= MAX_MESSAGE_BYTES:
        raise _AgentProtocolError("sent an invalid message")
    return _receive_exactly(sock, size, remaining)


def os_error_text(error: OSError) -> str:
    """Return the system's text for an error, in lower case."""
    return (error.strerror or str(error)).lower()


def _receive_exactly(sock: socket.socket, size: int, remaining: RemainingTime) -> bytes:
    received = bytearray()
    while len(received) < size:
        _wait_ready(sock, select.POLLIN, remaining)
        part = sock.recv(size - len(received))
        if not part:
            raise ConnectionResetError("it closed the connection")
        received += part
    return bytes(received)


def _wait_ready(sock: socket.socket, event: int, remaining: RemainingTime) -> None:
    poller = select.poll()
    poller.register(sock, event)
    while not poller.poll(min(POLL_INTERVAL, remaining()) * 1000):
        if not remaining():
            raise TimeoutError("it does not answer")


def _agent_deadline(deadline: Deadline) -> Callable[[], float]:
    """Return a function for the end of an agent's time, because a deadline may be extended."""
    return lambda: deadline.end - RESERVED_SHARE * deadline.timeout


def _remaining_until(end: Callable[[], float], deadline: Deadline | None = None) -> RemainingTime:
    def remaining() -> float:
        if deadline is not None:
            deadline.remaining()
        return max(0.0, end() - time.monotonic())

    return remaining


def _parse_key_list(answer: bytes) -> tuple[tuple[bytes, str], ...]:
    if answer[:1] != bytes([IDENTITIES_ANSWER]) or len(answer) < 5:
        raise _AgentProtocolError("does not list its keys")
    found, at = [], 5
    for _ in range(struct.unpack_from(">I", answer, 1)[0]):
        blob, at = _read_string(answer, at)
        comment, at = _read_string(answer, at)
        found.append((blob, comment.decode("utf-8", "replace")))
    return tuple(found)


def _parse_signature(answer: bytes) -> bytes:
    if answer[:1] == bytes([AGENT_FAILURE]):
        raise AgentError("refused to sign with this key")
    if answer[:1] != bytes([SIGN_RESPONSE]):
        raise _AgentProtocolError("sent something other than a signature")
    return _read_string(answer, 1)[0]


def _encode_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _read_string(data: bytes, offset: int) -> tuple[bytes, int]:
    """Return the string at ``offset`` and the offset behind it. Raises _AgentProtocolError."""
    end = offset + 4 + int.from_bytes(data[offset : offset + 4], "big")
    if len(data) < offset + 4 or len(data) < end:
        raise _AgentProtocolError("sent a truncated reply")
    return data[offset + 4 : end], end
