"""The SSH agent's protocol (draft-miller-ssh-agent): list keys, sign."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

PATIENCE = 60.0  # seconds; agents may ask their owner to confirm
FAILURE, LIST, LISTED, SIGN, SIGNED = 5, 11, 12, 13, 14
RSA_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}


class AgentError(Exception):
    """The agent is not there, or would not do as asked."""


class Agent:
    """The agent behind a UNIX socket. Asked for its keys once; used by many threads."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._keys: tuple[tuple[bytes, str], ...] | None = None

    def listed(self) -> tuple[tuple[bytes, str], ...]:
        """The public blobs and comments of what it holds. Raises AgentError."""
        with self._lock:
            if self._keys is None:
                self._keys = self._list()
            return self._keys

    def sign(self, blob: bytes, data: bytes, algorithm: str) -> bytes:
        """The signature over ``data`` as SSH sends it. Raises AgentError."""
        flags = RSA_FLAGS.get(algorithm.removesuffix("-cert-v01@openssh.com"), 0)
        request = bytes([SIGN]) + _string(blob) + _string(data) + struct.pack(">I", flags)
        with self._lock:
            answer = self._ask(request)
        if answer[:1] != bytes([SIGNED]):
            raise AgentError("the agent does not sign with this key")
        return _read(answer, 1)[0]

    def close(self) -> None:
        """Let go of the socket; a later question opens it again."""
        with self._lock:
            self._drop()

    def _list(self) -> tuple[tuple[bytes, str], ...]:
        answer = self._ask(bytes([LIST]))
        if answer[:1] != bytes([LISTED]) or len(answer) < 5:
            raise AgentError("the agent does not list its keys")
        found, at = [], 5
        for _ in range(struct.unpack_from(">I", answer, 1)[0]):
            blob, at = _read(answer, at)
            comment, at = _read(answer, at)
            found.append((blob, comment.decode("utf-8", "replace")))
        return tuple(found)

    def _ask(self, request: bytes) -> bytes:
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.settimeout(PATIENCE)
                self._socket.connect(self._path)
            self._socket.sendall(_string(request))
            return self._take(struct.unpack(">I", self._take(4))[0])
        except OSError as error:
            self._drop()
            raise AgentError(f"the agent at {self._path} does not answer: {error}") from error

    def _take(self, size: int) -> bytes:
        assert self._socket is not None
        taken = bytearray()
        while len(taken) < size:
            part = self._socket.recv(size - len(taken))
            if not part:
                raise ConnectionResetError("it closed the connection")
            taken += part
        return bytes(taken)

    def _drop(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _read(data: bytes, at: int) -> tuple[bytes, int]:
    try:
        size = struct.unpack_from(">I", data, at)[0]
    except struct.error:
        raise AgentError("the agent's answer is cut off") from None
    return data[at + 4 : at + 4 + size], at + 4 + size
