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
from orchestrator.transports.ssh_config.settings import Settings

LISTING = 3.0  # seconds to list keys, once a run: an agent asks nobody for that
SIGNING = 60.0  # seconds for what a host asks it: its owner may have to confirm a signature
SPARE = 0.25  # of the time to connect: kept for the keys behind those of an agent that is silent
SLICE = 0.2  # seconds between looks at whether the run was cancelled
PAUSE = 0.05  # seconds until an agent with too many callers is called again
LONGEST = 1 << 18  # bytes of a message, as OpenSSH's agent has it
FAILURE, LIST, LISTED, SIGN, SIGNED = 5, 11, 12, 13, 14
RSA_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
_AWAY = (FileNotFoundError, ConnectionRefusedError, PermissionError)  # as without an agent
NONE = "none"
USUAL = "SSH_AUTH_SOCK"
_NO_AGENT = "say `IdentityAgent none` in ssh_config"

Left: TypeAlias = Callable[[], float]
"""Seconds that may still be waited, 0 at the end. May raise CancelledError."""


class AgentError(Exception):
    """The agent is not there, or would not do as asked."""


class _GarbageError(AgentError):
    """What came is not what an agent says."""


class Agents:
    """The agents of a run, by their sockets. What fails of one is remembered, and ``warn`` is told
    of it once."""

    def __init__(
        self, environ: Mapping[str, str], warn: Callable[[str], object] = lambda _: None
    ) -> None:
        self._environ, self._warn = environ, warn
        self._lock = threading.Lock()
        self._agents: dict[str, Agent] = {}

    def own(self, settings: Settings) -> Agent | None:
        """Return the agent whose keys are for this host; None where there is none."""
        return self.at(socket_of(settings, self._environ))

    def forwarded(self, settings: Settings) -> Agent | None:
        """Return the agent that this host's shells may use; None where there is none."""
        if not settings.forward_agent:
            return None
        return self.at(settings.forward_socket) or self.own(settings)

    def at(self, path: str) -> Agent | None:
        """Return the agent with this socket; None where ``path`` is '' or none."""
        if path in ("", NONE):
            return None
        with self._lock:
            if path not in self._agents:
                usual = path == self._environ.get(USUAL)
                which = f"run with `{USUAL}=`" if usual else _NO_AGENT
                self._agents[path] = Agent(path, f"restart it, or {which}", self._told)
            return self._agents[path]

    def close(self) -> None:
        """Ask them nothing any more. Safe to call twice."""
        with self._lock:
            agents = list(self._agents.values())
        for agent in agents:
            agent.close()

    def _told(self, agent: Agent) -> None:
        self._warn(f"{agent.trouble}; continuing with key files only ({agent.remedy})")


class Agent:
    """The agent behind a UNIX socket, for many threads. Asked for its keys once.

    ``trouble`` says why it is of no use for the rest of the run, '' as long as it is, and
    ``remedy`` what to do about that; ``away``: nobody is there to ask. ``failed`` is told once
    where it is there and does not do what an agent does.
    """

    def __init__(self, path: str, remedy: str, failed: Callable[[Agent], object]) -> None:
        self.path, self.trouble, self.remedy, self._failed = path, "", remedy, failed
        self.away = False
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # held by whoever asks: an agent answers in order
        self._socket: socket.socket | None = None
        self._keys: tuple[tuple[bytes, str], ...] = ()
        self._asked, self._closed = False, False
        self._known = threading.Event()  # its keys, or that it does not tell them

    def __str__(self) -> str:
        return f"the agent at {self.path}"

    def listed(self, deadline: Deadline) -> tuple[tuple[bytes, str], ...]:
        """Return the public blobs and comments of its keys.

        Waits for LISTING seconds at most, and keeps SPARE of the time that there is to connect.
        Raises AgentError, and CancelledError.
        """
        self._ask_once()
        left = _until(_end(deadline), deadline)
        while not self._known.wait(min(SLICE, left())):
            if not left():
                raise AgentError(f"{self} has not answered yet")
        if self.trouble:
            raise AgentError(self.trouble)
        return self._keys

    def sign(self, blob: bytes, data: bytes, algorithm: str, deadline: Deadline) -> bytes:
        """Return the signature over ``data`` as SSH sends it.

        Its owner may have to confirm that: it has the time that there is to connect, but for SPARE
        of it. Raises AgentError, and CancelledError.
        """
        flags = RSA_FLAGS.get(algorithm.removesuffix("-cert-v01@openssh.com"), 0)
        request = bytes([SIGN]) + _string(blob) + _string(data) + struct.pack(">I", flags)
        began, left = time.monotonic(), _until(_end(deadline), deadline)
        with self._in_turn(left):
            if self.trouble:
                raise AgentError(self.trouble)
            try:
                return _signature(self._answer(request, left))
            except TimeoutError:
                late = f"did not sign within {time.monotonic() - began:.2g} s"
                raise self.fail(f"{self} {late}") from None
            except OSError as error:
                raise self.fail(f"{self} does not answer: {reason(error)}") from error
            except _GarbageError as error:
                raise self.fail(f"{self} {error}") from None
            except AgentError as error:
                raise AgentError(f"{self} {error}") from None

    def fail(self, trouble: str) -> AgentError:
        """Note that it is of no use for the rest of the run; return the error that says so."""
        with self._lock:
            first = not self.trouble and not self._closed
            self.trouble = self.trouble or trouble
        if first and not self.away:
            self._failed(self)
        return AgentError(self.trouble)

    def close(self) -> None:
        """Ask it nothing any more, and let go of the socket."""
        with self._lock:
            self._closed = True
            asked = self._asked
        if asked:
            self._known.wait()
        with self._turn:
            self._drop()

    def call(self, left: Left) -> socket.socket:
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
                    if not left():
                        raise TimeoutError("it takes no more callers") from None
                    time.sleep(PAUSE)
        except BaseException:
            sock.close()
            raise

    def _ask_once(self) -> None:
        """Have it asked for its keys, by a thread: nobody waits longer than they like."""
        with self._lock:
            if self._asked:
                return
            self._asked = True
            if self._closed:
                self.trouble = self.trouble or f"{self} is not asked any more"
                self._known.set()
                return
        try:
            threading.Thread(target=self._list, name="orch-agent", daemon=True).start()
        except RuntimeError as error:
            self.fail(f"{self} can't be asked: {error}")
            self._known.set()

    def _list(self) -> None:
        end = time.monotonic() + LISTING
        left = _until(lambda: -1.0 if self._closed else end)
        try:
            with self._turn:
                self._keys = _keys(self._answer(bytes([LIST]), left))
        except TimeoutError:
            self.fail(f"{self} did not answer within {LISTING:g} s")
        except OSError as error:
            self.away = isinstance(error, _AWAY)
            self.fail(f"{self} does not answer: {reason(error)}")
        except _GarbageError as error:
            self.fail(f"{self} {error}")
        finally:
            self._known.set()

    @contextlib.contextmanager
    def _in_turn(self, left: Left) -> Iterator[None]:
        while not self._turn.acquire(timeout=min(SLICE, left())):
            if not left():
                raise AgentError(f"{self} is still busy with what other hosts want signed")
        try:
            yield
        finally:
            self._turn.release()

    def _answer(self, request: bytes, left: Left) -> bytes:
        """Ask, once more where the connection has ended since the last question."""
        try:
            if self._socket is not None:
                with contextlib.suppress(ConnectionError):
                    return exchange(self._socket, _string(request), left)
                self._drop()
            self._socket = self.call(left)
            return exchange(self._socket, _string(request), left)
        except BaseException:
            self._drop()  # what it may still say is no answer to the next question
            raise

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def socket_of(settings: Settings, environ: Mapping[str, str]) -> str:
    """Return the socket of the agent that a host's keys are asked of; '' or none for no agent."""
    said = settings.identity_agent
    return environ.get(USUAL, "") if said is None else said


def exchange(sock: socket.socket, message: bytes, left: Left) -> bytes:
    """Send a whole message; return the answer without its length. ``sock`` does not block.

    Raises TimeoutError after ``left``, ConnectionError where the agent hangs up, and AgentError
    where what comes has a length that no agent would send.
    """
    rest = memoryview(message)
    while rest:
        _ready(sock, select.POLLOUT, left)
        rest = rest[sock.send(rest) :]
    size = int.from_bytes(_take(sock, 4, left), "big")
    if not 0 < size <= LONGEST:
        raise _GarbageError("sent something that is not the protocol of SSH agents")
    return _take(sock, size, left)


def reason(error: OSError) -> str:
    """Return what the system says of an error, in small letters as the other parts of a message."""
    return (error.strerror or str(error)).lower()


def _take(sock: socket.socket, size: int, left: Left) -> bytes:
    taken = bytearray()
    while len(taken) < size:
        _ready(sock, select.POLLIN, left)
        part = sock.recv(size - len(taken))
        if not part:
            raise ConnectionResetError("it closed the connection")
        taken += part
    return bytes(taken)


def _ready(sock: socket.socket, event: int, left: Left) -> None:
    poller = select.poll()
    poller.register(sock, event)
    while not poller.poll(min(SLICE, left()) * 1000):
        if not left():
            raise TimeoutError("it does not answer")


def _end(deadline: Deadline) -> Callable[[], float]:
    """Return when an agent's time is over: a deadline may still be moved."""
    return lambda: deadline.end - SPARE * deadline.timeout


def _until(end: Callable[[], float], deadline: Deadline | None = None) -> Left:
    def left() -> float:
        if deadline is not None:
            deadline.left()
        return max(0.0, end() - time.monotonic())

    return left


def _keys(answer: bytes) -> tuple[tuple[bytes, str], ...]:
    if answer[:1] != bytes([LISTED]) or len(answer) < 5:
        raise _GarbageError("does not list its keys")
    found, at = [], 5
    for _ in range(struct.unpack_from(">I", answer, 1)[0]):
        blob, at = _read(answer, at)
        comment, at = _read(answer, at)
        found.append((blob, comment.decode("utf-8", "replace")))
    return tuple(found)


def _signature(answer: bytes) -> bytes:
    if answer[:1] == bytes([FAILURE]):
        raise AgentError("does not sign with this key")
    if answer[:1] != bytes([SIGNED]):
        raise _GarbageError("sent something else than a signature")
    return _read(answer, 1)[0]


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _read(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the string at ``at``, and where the next one begins. Raises _GarbageError."""
    end = at + 4 + int.from_bytes(data[at : at + 4], "big")
    if len(data) < at + 4 or len(data) < end:
        raise _GarbageError("sent an answer that is cut off")
    return data[at + 4 : end], end
