"""The SSH agent's protocol (draft-miller-ssh-agent): list keys, sign. None holds up a run."""

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

LIST_TIMEOUT = 3.0  # seconds to list keys, once a run: an agent asks nobody for that
SIGN_TIMEOUT = 60.0  # seconds for what a host asks it: its owner may have to confirm a signature
RESERVED_SHARE = (
    0.25  # of the time to connect: kept for the keys behind those of an agent that is silent
)
POLL_INTERVAL = 0.2  # seconds between looks at whether the run was cancelled
RECONNECT_DELAY = 0.05  # seconds until an agent with too many callers is called again
MAX_MESSAGE_BYTES = 1 << 18  # bytes of a message, as OpenSSH's agent has it
AGENT_FAILURE, REQUEST_IDENTITIES, IDENTITIES_ANSWER, SIGN_REQUEST, SIGN_RESPONSE = (
    5,
    11,
    12,
    13,
    14,
)
RSA_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
_ABSENT_ERRORS = (FileNotFoundError, ConnectionRefusedError, PermissionError)  # as without an agent
NONE = "none"
AUTH_SOCK_VARIABLE = "SSH_AUTH_SOCK"
_NO_AGENT_HINT = "say `IdentityAgent none` in ssh_config"

RemainingTime: TypeAlias = Callable[[], float]
"""Seconds that may still be waited, 0 at the end. May raise CancelledError."""


class AgentError(Exception):
    """The agent is not there, or would not do as asked."""


class _AgentProtocolError(AgentError):
    """What came is not what an agent says."""


class AgentRegistry:
    """The agents of a run, by their sockets. What fails of one is remembered, and ``warn`` is told
    of it once."""

    def __init__(
        self, environ: Mapping[str, str], warn: Callable[[str], object] = lambda _: None
    ) -> None:
        self._environ, self._warn = environ, warn
        self._lock = threading.Lock()
        self._agents: dict[str, AgentClient] = {}

    def agent_for_keys(self, settings: SshSettings) -> AgentClient | None:
        """Return the agent whose keys are for this host; None where there is none."""
        return self.agent_at(agent_socket_path(settings, self._environ))

    def agent_to_forward(self, settings: SshSettings) -> AgentClient | None:
        """Return the agent that this host's shells may use; None where there is none."""
        if not settings.forward_agent:
            return None
        return self.agent_at(settings.forward_socket) or self.agent_for_keys(settings)

    def agent_at(self, path: str) -> AgentClient | None:
        """Return the agent with this socket; None where ``path`` is '' or none."""
        if path in ("", NONE):
            return None
        with self._lock:
            if path not in self._agents:
                usual = path == self._environ.get(AUTH_SOCK_VARIABLE)
                which = f"run with `{AUTH_SOCK_VARIABLE}=`" if usual else _NO_AGENT_HINT
                self._agents[path] = AgentClient(
                    path, f"restart it, or {which}", self._warn_of_failure
                )
            return self._agents[path]

    def close(self) -> None:
        """Ask them nothing any more. Safe to call twice."""
        with self._lock:
            agents = list(self._agents.values())
        for agent in agents:
            agent.close()

    def _warn_of_failure(self, agent: AgentClient) -> None:
        self._warn(f"{agent.error}; continuing with key files only ({agent.remedy})")


class AgentClient:
    """The agent behind a UNIX socket, for many threads. Asked for its keys once.

    ``error`` says why it is of no use for the rest of the run, '' as long as it is, and
    ``remedy`` what to do about that; ``is_absent``: nobody is there to ask. ``on_failure`` is told once
    where it is there and does not do what an agent does.
    """

    def __init__(self, path: str, remedy: str, on_failure: Callable[[AgentClient], object]) -> None:
        self.path, self.error, self.remedy, self._on_failure = path, "", remedy, on_failure
        self.is_absent = False
        self._lock = threading.Lock()
        self._request_lock = threading.Lock()  # held by whoever asks: an agent answers in order
        self._socket: socket.socket | None = None
        self._keys: tuple[tuple[bytes, str], ...] = ()
        self._listing_started, self._closed = False, False
        self._keys_known = threading.Event()  # its keys, or that it does not tell them

    def __str__(self) -> str:
        return f"the agent at {self.path}"

    def list_keys(self, deadline: Deadline) -> tuple[tuple[bytes, str], ...]:
        """Return the public blobs and comments of its keys.

        Waits for LISTING seconds at most, and keeps SPARE of the time that there is to connect.
        Raises AgentError, and CancelledError.
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
        """Return the signature over ``data`` as SSH sends it.

        Its owner may have to confirm that: it has the time that there is to connect, but for SPARE
        of it. Raises AgentError, and CancelledError.
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
                late = f"did not sign within {time.monotonic() - began:.2g} s"
                raise self.mark_failed(f"{self} {late}") from None
            except OSError as error:
                raise self.mark_failed(f"{self} does not answer: {os_error_text(error)}") from error
            except _AgentProtocolError as error:
                raise self.mark_failed(f"{self} {error}") from None
            except AgentError as error:
                raise AgentError(f"{self} {error}") from None

    def mark_failed(self, error: str) -> AgentError:
        """Note that it is of no use for the rest of the run; return the error that says so."""
        with self._lock:
            first = not self.error and not self._closed
            self.error = self.error or error
        if first and not self.is_absent:
            self._on_failure(self)
        return AgentError(self.error)

    def close(self) -> None:
        """Ask it nothing any more, and let go of the socket."""
        with self._lock:
            self._closed = True
            asked = self._listing_started
        if asked:
            self._keys_known.wait()
        with self._request_lock:
            self._disconnect()

    def connect(self, remaining: RemainingTime) -> socket.socket:
        """Return a new connection to it. Raises OSError: TimeoutError where it takes no callers
        in time.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            while True:
                try:
                    sock.connect(self.path)
                    return sock
                except BlockingIOError:  # too many wait to be let in
                    if not remaining():
                        raise TimeoutError("it takes no more callers") from None
                    time.sleep(RECONNECT_DELAY)
        except BaseException:
            sock.close()
            raise

    def _start_listing(self) -> None:
        """Have it asked for its keys, by a thread: nobody waits longer than they like."""
        with self._lock:
            if self._listing_started:
                return
            self._listing_started = True
            if self._closed:
                self.error = self.error or f"{self} is not asked any more"
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
                raise AgentError(f"{self} is still busy with what other hosts want signed")
        try:
            yield
        finally:
            self._request_lock.release()

    def _send_request(self, request: bytes, remaining: RemainingTime) -> bytes:
        """Ask, once more where the connection has ended since the last question."""
        try:
            if self._socket is not None:
                with contextlib.suppress(ConnectionError):
                    return exchange(self._socket, _encode_string(request), remaining)
                self._disconnect()
            self._socket = self.connect(remaining)
            return exchange(self._socket, _encode_string(request), remaining)
        except BaseException:
            self._disconnect()  # what it may still say is no answer to the next question
            raise

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def agent_socket_path(settings: SshSettings, environ: Mapping[str, str]) -> str:
    """Return the socket of the agent that a host's keys are asked of; '' or none for no agent."""
    configured = settings.identity_agent
    return environ.get(AUTH_SOCK_VARIABLE, "") if configured is None else configured


def exchange(sock: socket.socket, message: bytes, remaining: RemainingTime) -> bytes:
    """Send a whole message; return the answer without its length. ``sock`` does not block.

    Raises TimeoutError after ``remaining``, ConnectionError where the agent hangs up, and AgentError
    where what comes has a length that no agent would send.
    """
    rest = memoryview(message)
    while rest:
        _wait_ready(sock, select.POLLOUT, remaining)
        rest = rest[sock.send(rest) :]
    size = int.from_bytes(_receive_exactly(sock, 4, remaining), "big")
    if not 0 < size <= MAX_MESSAGE_BYTES:
        raise _AgentProtocolError("sent something that is not the protocol of SSH agents")
    return _receive_exactly(sock, size, remaining)


def os_error_text(error: OSError) -> str:
    """Return what the system says of an error, in small letters as the other parts of a message."""
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
    """Return when an agent's time is over: a deadline may still be moved."""
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
        raise AgentError("does not sign with this key")
    if answer[:1] != bytes([SIGN_RESPONSE]):
        raise _AgentProtocolError("sent something else than a signature")
    return _read_string(answer, 1)[0]


def _encode_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _read_string(data: bytes, offset: int) -> tuple[bytes, int]:
    """Return the string at ``at``, and where the next one begins. Raises _GarbageError."""
    end = offset + 4 + int.from_bytes(data[offset : offset + 4], "big")
    if len(data) < offset + 4 or len(data) < end:
        raise _AgentProtocolError("sent an answer that is cut off")
    return data[offset + 4 : end], end
