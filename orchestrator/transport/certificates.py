"""User certificates in files of their own (OpenSSH's PROTOCOL.certkeys): whose they are."""

from __future__ import annotations

import struct
from pathlib import Path

from msgspec import Struct

from orchestrator.source.files import read_file
from orchestrator.transport.identity import public_line

TAIL = b"-cert-v01@openssh.com"


class Certificate(Struct, frozen=True):
    """What a CertificateFile gives. ``trouble`` says why it can't be used, if so."""

    name: str
    blob: bytes = b""
    trouble: str = ""

    def certifies(self, public: bytes) -> bool:
        """Whether this public key is the one in it: the fields behind the type and the nonce."""
        kind, fields = _split(public)
        own, rest = _split(self.blob)
        _, rest = _split(rest)
        return bool(fields) and own == kind + TAIL and rest.startswith(fields)


def read_certificate(path: Path, name: str) -> Certificate:
    """Read ``path``, called ``name`` in messages. Never raises."""
    try:
        blob = public_line(read_file(path))
    except OSError as error:
        return Certificate(name, trouble=f"{name} can't be read: {error.strerror}")
    if not _split(blob)[0].endswith(TAIL):
        return Certificate(name, trouble=f"{name} is no certificate")
    return Certificate(name, blob)


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The first string and what follows it."""
    size = struct.unpack_from(">I", data)[0] if len(data) >= 4 else 0
    return data[4 : 4 + size], data[4 + size :]
