"""A software security key behind an agent's socket; a real sshd verifies its signatures.

Source: draft-miller-ssh-agent, OpenSSH's PROTOCOL.u2f.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KIND, APPLICATION = b"sk-ssh-ed25519@openssh.com", b"ssh:"
TOUCHED = 1  # the flag for user presence


def encode_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


class SecurityKey:
    """A security key; ``touches`` counts its signatures."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.blob = encode_string(KIND) + encode_string(public) + encode_string(APPLICATION)
        self.touches = 0

    @property
    def public_line(self) -> str:
        """Return the public key in the format of authorized_keys."""
        return f"{KIND.decode()} {base64.b64encode(self.blob).decode()} key"

    def answer(self, request: bytes) -> bytes:
        """Return the reply of an agent with this key."""
        if request[:1] == b"\x0b":
            return b"\x0c" + struct.pack(">I", 1) + encode_string(self.blob) + encode_string(b"key")
        at = 5 + struct.unpack_from(">I", request, 1)[0]
        size = struct.unpack_from(">I", request, at)[0]
        message = request[at + 4 : at + 4 + size]
        self.touches += 1
        about = struct.pack(">BI", TOUCHED, self.touches)
        digests = hashlib.sha256(APPLICATION).digest(), hashlib.sha256(message).digest()
        signed = encode_string(self._key.sign(digests[0] + about + digests[1]))
        return b"\x0e" + encode_string(encode_string(KIND) + signed + about)


@contextmanager
def start_key_agent(key: SecurityKey, path: Path) -> Iterator[dict[str, str]]:
    """Start an agent at ``path`` and yield its environment."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, key))
        thread.start()
        try:
            yield {"SSH_AUTH_SOCK": str(path)}
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, key: SecurityKey) -> None:
    while True:
        try:
            client = listener.accept()[0]
        except OSError:
            return  # the test is over
        with closing(client), client.makefile("rb") as asked:
            while head := asked.read(4):
                client.sendall(encode_string(key.answer(asked.read(struct.unpack(">I", head)[0]))))
