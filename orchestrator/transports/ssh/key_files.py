"""User certificates in files of their own (OpenSSH's PROTOCOL.certkeys): whose they are.

One identity file: a private key in any format that OpenSSH writes, or the public part alone.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from msgspec import Struct

from orchestrator.yamlio.local_files import read_file

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


Sign: TypeAlias = Callable[[bytes, str], bytes]
MAGIC = b"openssh-key-v1\0"  # OpenSSH's PROTOCOL.key
CURVES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


class Identity(Struct, frozen=True):
    """What a file gives. ``public`` is the blob, b'' where unknown; ``sign`` is None and
    ``trouble`` says why where the private part can't be used. ``locked``: a passphrase would help.
    """

    name: str
    public: bytes = b""
    certificate: bytes = b""
    sign: Sign | None = None
    trouble: str = ""
    exists: bool = True
    locked: bool = False


def read_identity(path: Path, name: str, passphrase: str | None = None) -> Identity:
    """Read ``path``, called ``name`` in messages; a wrong passphrase leaves it locked. Never
    raises: trouble is told in the result.
    """
    try:
        data = read_file(path)
    except FileNotFoundError:
        public = _public_file(Path(f"{path}.pub"))
        return Identity(name, public, trouble=f"{name} does not exist", exists=False)
    except OSError as error:
        return Identity(name, trouble=f"{name} can't be read: {error.strerror}")
    if public := public_line(data):
        return Identity(name, public, trouble=f"{name} is a public key that no agent holds")
    public = _public_file(Path(f"{path}.pub")) or _container_public(data)
    certificate = _public_file(Path(f"{path}-cert.pub"))
    locked = Identity(name, public, certificate, None, f"{name} is encrypted", locked=True)
    if _encrypted(data) and passphrase is None:
        return locked
    try:
        key = _load(data, passphrase if _encrypted(data) else None)
        public = _decode(key.public_key().public_bytes(*_OPENSSH).split()[1])
        return Identity(name, public, certificate, signer(key))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if passphrase is not None and not isinstance(error, UnsupportedAlgorithm):
            return locked  # cryptography has no error of its own for a wrong one
        return Identity(name, public, trouble=f"{name} is no private key that can be used: {error}")


_OPENSSH = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
_Private: TypeAlias = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def _load(data: bytes, passphrase: str | None) -> _Private:
    opener = None if passphrase is None else passphrase.encode("utf-8", "surrogateescape")
    if b"BEGIN OPENSSH PRIVATE KEY" in data:
        key: object = serialization.load_ssh_private_key(data, opener)
    elif b"PRIVATE KEY" in data:
        key = serialization.load_pem_private_key(data, opener)
    else:
        raise ValueError("it has no PRIVATE KEY in it")
    if isinstance(key, _Private):
        return key
    raise ValueError(f"its type is not supported ({type(key).__name__})")


def signer(key: _Private) -> Sign:
    """What signs with ``key`` as SSH has it: data and algorithm to a signature's blob."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        edwards = key
        return lambda data, _: _string(b"ssh-ed25519") + _string(edwards.sign(data))
    if isinstance(key, rsa.RSAPrivateKey):
        return _rsa_signer(key)
    return _ec_signer(key)


def _rsa_signer(key: rsa.RSAPrivateKey) -> Sign:
    def sign(data: bytes, algorithm: str) -> bytes:
        base = algorithm.partition("-cert-")[0]
        digest = hashes.SHA256() if base == "rsa-sha2-256" else hashes.SHA512()
        return _string(base.encode()) + _string(key.sign(data, padding.PKCS1v15(), digest))

    return sign


def _ec_signer(key: ec.EllipticCurvePrivateKey) -> Sign:
    digest = CURVES[key.curve.name]

    def sign(data: bytes, algorithm: str) -> bytes:  # RFC 5656 3.1.2
        r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
        base = algorithm.partition("-cert-")[0].encode()
        return _string(base) + _string(_string(_mpint(r)) + _string(_mpint(s)))

    return sign


def _encrypted(data: bytes) -> bool:
    body = _container(data)
    if body:
        return _field(body, len(MAGIC))[0] != b"none"
    return b"ENCRYPTED" in data


def _container_public(data: bytes) -> bytes:
    """The public key of an OpenSSH private key file, which is in clear where the rest is not."""
    body = _container(data)
    if not body:
        return b""
    at = len(MAGIC)
    for _ in ("cipher", "kdf", "options"):
        _, at = _field(body, at)
    return _field(body, at + 4)[0]


def _container(data: bytes) -> bytes:
    _, _, rest = data.partition(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    body = _decode(b"".join(rest.partition(b"-----END")[0].split()))
    return body if body.startswith(MAGIC) else b""


def _public_file(path: Path) -> bytes:
    try:
        return public_line(read_file(path))
    except OSError:
        return b""  # there is none: it only says what the private part says as well


def public_line(data: bytes) -> bytes:
    """The blob of a public key or certificate in a file that holds one, b'' where it does not."""
    words = data.split(None, 2)
    if len(words) < 2 or b"PRIVATE" in data:
        return b""
    blob = _decode(words[1])
    return blob if blob[4:].startswith(words[0]) else b""


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def _field(data: bytes, at: int) -> tuple[bytes, int]:
    if len(data) < at + 4:
        return b"", at
    size = struct.unpack_from(">I", data, at)[0]
    return data[at + 4 : at + 4 + size], at + 4 + size


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
