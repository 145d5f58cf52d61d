"""SSH agents that misbehave, behind real sockets (draft-miller-ssh-agent)."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.sshd import wait_until

REQUEST_IDENTITIES, SIGN_REQUEST = 11, 13
AgentBehaviour: TypeAlias = Callable[[socket.socket, bytes], object]


def answer_honestly(client: socket.socket, answer: bytes) -> None:
    client.sendall(encode_string(answer))


def stay_silent(client: socket.socket, answer: bytes) -> None:
    """Keep the connection open without replying."""


def answer_halfway(client: socket.socket, answer: bytes) -> None:
    client.sendall(encode_string(answer)[:-1])


def close_connection(client: socket.socket, answer: bytes) -> None:
    client.shutdown(socket.SHUT_RDWR)


def answer_http(client: socket.socket, answer: bytes) -> None:
    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def answer_nothing(client: socket.socket, answer: bytes) -> None:
    client.sendall(encode_string(b""))


def answer_truncated(client: socket.socket, answer: bytes) -> None:
    answer_honestly(client, answer[:-3])


def answer_unasked(client: socket.socket, answer: bytes) -> None:
    answer_honestly(client, b"\x63" + answer[1:])


def refuse_request(client: socket.socket, answer: bytes) -> None:
    answer_honestly(client, b"\x05")


class FalseAgent:
    """An agent with one key, whose replies are made by ``lists`` and ``signs``.

    ``asked`` has the kinds of its requests; ``calls`` counts connections.
    """

    def __init__(
        self,
        path: Path,
        lists: AgentBehaviour = answer_honestly,
        signs: AgentBehaviour = answer_honestly,
    ) -> None:
        self.path, self.asked, self.calls = path, list[int](), 0
        self._how = {REQUEST_IDENTITIES: lists, SIGN_REQUEST: signs}
        self._key = Ed25519PrivateKey.generate()
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._blob = encode_string(b"ssh-ed25519") + encode_string(public)
        self._listener = socket.socket(socket.AF_UNIX)
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def environ(self) -> dict[str, str]:
        return {"SSH_AUTH_SOCK": str(self.path)}

    @property
    def public_line(self) -> str:
        """Return its key in the format of authorized_keys."""
        return f"ssh-ed25519 {base64.b64encode(self._blob).decode()} false\n"

    def __enter__(self) -> FalseAgent:
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *self._clients):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return  # the test is over
            self.calls += 1
            self._clients.append(client)
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as asked:
            for request in _read_requests(asked.read):
                kind = request[0]
                self.asked.append(kind)
                self._how.get(kind, refuse_request)(client, self._answer(request))

    def _answer(self, request: bytes) -> bytes:
        if request[0] == REQUEST_IDENTITIES:
            return (
                b"\x0c" + struct.pack(">I", 1) + encode_string(self._blob) + encode_string(b"false")
            )
        if request[0] == SIGN_REQUEST:
            at = 5 + struct.unpack_from(">I", request, 1)[0]
            size = struct.unpack_from(">I", request, at)[0]
            signature = self._key.sign(request[at + 4 : at + 4 + size])
            return b"\x0e" + encode_string(encode_string(b"ssh-ed25519") + encode_string(signature))
        return b"\x05"


@contextmanager
def start_ssh_agent(path: Path, *keys: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a real ssh-agent at ``path`` with these keys."""
    path.unlink(missing_ok=True)
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(lambda: is_accepting(path), "the agent")
            for key in keys:
                environ = {**os.environ, "SSH_AUTH_SOCK": str(path)}
                subprocess.run(["ssh-add", "-q", key], check=True, env=environ)
            yield process
        finally:
            process.kill()
            path.unlink(missing_ok=True)


def is_accepting(path: Path) -> bool:
    """Return True if the socket accepts connections, which is a moment after it exists."""
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        return not sock.connect_ex(str(path))


def encode_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _read_requests(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while head := read(4):
        yield read(struct.unpack(">I", head)[0])
