"""Identity files: private keys in OpenSSH's formats, public keys, and user certificates."""

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

CERTIFICATE_TYPE_SUFFIX = b"-cert-v01@openssh.com"


class UserCertificate(Struct, frozen=True):
    """A certificate from a file. ``error`` is the reason why it cannot be used, or ''."""

    name: str
    blob: bytes = b""
    error: str = ""

    def certifies(self, public: bytes) -> bool:
        """Return True if the certificate has this key: the fields after the type and the nonce."""
        kind, fields = _split_string(public)
        own, rest = _split_string(self.blob)
        _, rest = _split_string(rest)
        return bool(fields) and own == kind + CERTIFICATE_TYPE_SUFFIX and rest.startswith(fields)


def read_user_certificate(path: Path, name: str) -> UserCertificate:
    """Read ``path``, which messages call ``name``. Never raises."""
    try:
        blob = public_key_blob(read_file(path))
    except OSError as error:
        return UserCertificate(name, error=f"{name} can't be read: {error.strerror}")
    if not _split_string(blob)[0].endswith(CERTIFICATE_TYPE_SUFFIX):
        return UserCertificate(name, error=f"{name} is not a certificate")
    return UserCertificate(name, blob)


def _split_string(data: bytes) -> tuple[bytes, bytes]:
    """Return the first string and the rest."""
    size = struct.unpack_from(">I", data)[0] if len(data) >= 4 else 0
    return data[4 : 4 + size], data[4 + size :]


SignFunction: TypeAlias = Callable[[bytes, str], bytes]
MAGIC = b"openssh-key-v1\0"  # OpenSSH's PROTOCOL.key
CURVES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


class PrivateKeyFile(Struct, frozen=True):
    """The contents of an identity file.

    ``public_blob`` is the public key in SSH's format, or b'' if it is unknown. If the private key
    cannot be used, ``sign`` is None and ``error`` is the reason. ``is_locked``: the key is
    encrypted and needs a passphrase.
    """

    name: str
    public_blob: bytes = b""
    certificate_blob: bytes = b""
    sign: SignFunction | None = None
    error: str = ""
    exists: bool = True
    is_locked: bool = False


def read_private_key(path: Path, name: str, passphrase: str | None = None) -> PrivateKeyFile:
    """Read ``path``, which messages call ``name``. Never raises: errors are in the result.

    With a wrong passphrase the key remains locked.
    """
    try:
        data = read_file(path)
    except FileNotFoundError:
        public = _read_public_key(Path(f"{path}.pub"))
        return PrivateKeyFile(name, public, error=f"{name} does not exist", exists=False)
    except OSError as error:
        return PrivateKeyFile(name, error=f"{name} can't be read: {error.strerror}")
    if public := public_key_blob(data):
        return PrivateKeyFile(
            name, public, error=f"{name} is a public key, and no agent has its private key"
        )
    public = _read_public_key(Path(f"{path}.pub")) or _container_public_key(data)
    certificate = _read_public_key(Path(f"{path}-cert.pub"))
    locked = PrivateKeyFile(name, public, certificate, None, f"{name} is encrypted", is_locked=True)
    if _is_encrypted(data) and passphrase is None:
        return locked
    try:
        key = _load_private_key(data, passphrase if _is_encrypted(data) else None)
        public = _decode_base64(key.public_key().public_bytes(*_OPENSSH).split()[1])
        return PrivateKeyFile(name, public, certificate, make_signer(key))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if passphrase is not None and not isinstance(error, UnsupportedAlgorithm):
            return locked  # cryptography has no specific exception for a wrong passphrase
        return PrivateKeyFile(name, public, error=f"{name} is not a usable private key: {error}")


_OPENSSH = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
_PrivateKey: TypeAlias = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def _load_private_key(data: bytes, passphrase: str | None) -> _PrivateKey:
    opener = None if passphrase is None else passphrase.encode("utf-8", "surrogateescape")
    if b"BEGIN OPENSSH PRIVATE KEY" in data:
        key: object = serialization.load_ssh_private_key(data, opener)
    elif b"PRIVATE KEY" in data:
        key = serialization.load_pem_private_key(data, opener)
    else:
        raise ValueError("it has no PRIVATE KEY block")
    if isinstance(key, _PrivateKey):
        return key
    raise ValueError(f"its type is not supported ({type(key).__name__})")


def make_signer(key: _PrivateKey) -> SignFunction:
    """Return a function that signs data with an algorithm and returns an SSH signature blob."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        edwards = key
        return lambda data, _: _encode_string(b"ssh-ed25519") + _encode_string(edwards.sign(data))
    if isinstance(key, rsa.RSAPrivateKey):
        return _rsa_signer(key)
    return _ec_signer(key)


def _rsa_signer(key: rsa.RSAPrivateKey) -> SignFunction:
    def sign(data: bytes, algorithm: str) -> bytes:
        base = algorithm.partition("-cert-")[0]
        digest = hashes.SHA256() if base == "rsa-sha2-256" else hashes.SHA512()
        return _encode_string(base.encode()) + _encode_string(
            key.sign(data, padding.PKCS1v15(), digest)
        )

    return sign


def _ec_signer(key: ec.EllipticCurvePrivateKey) -> SignFunction:
    digest = CURVES[key.curve.name]

    def sign(data: bytes, algorithm: str) -> bytes:  # RFC 5656 3.1.2
        r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
        base = algorithm.partition("-cert-")[0].encode()
        return _encode_string(base) + _encode_string(
            _encode_string(_encode_mpint(r)) + _encode_string(_encode_mpint(s))
        )

    return sign


def _is_encrypted(data: bytes) -> bool:
    body = _openssh_container(data)
    if body:
        return _read_field(body, len(MAGIC))[0] != b"none"
    return b"ENCRYPTED" in data


def _container_public_key(data: bytes) -> bytes:
    """Return the public key in an OpenSSH private key file; it is never encrypted."""
    body = _openssh_container(data)
    if not body:
        return b""
    at = len(MAGIC)
    for _ in ("cipher", "kdf", "options"):
        _, at = _read_field(body, at)
    return _read_field(body, at + 4)[0]


def _openssh_container(data: bytes) -> bytes:
    _, _, rest = data.partition(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    body = _decode_base64(b"".join(rest.partition(b"-----END")[0].split()))
    return body if body.startswith(MAGIC) else b""


def _read_public_key(path: Path) -> bytes:
    try:
        return public_key_blob(read_file(path))
    except OSError:
        return b""  # optional: the private key includes the public one


def public_key_blob(data: bytes) -> bytes:
    """Return the blob of the public key or certificate in ``data``, or b'' if there is none."""
    words = data.split(None, 2)
    if len(words) < 2 or b"PRIVATE" in data:
        return b""
    blob = _decode_base64(words[1])
    return blob if blob[4:].startswith(words[0]) else b""


def _decode_base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def _read_field(data: bytes, offset: int) -> tuple[bytes, int]:
    if len(data) < offset + 4:
        return b"", offset
    size = struct.unpack_from(">I", data, offset)[0]
    return data[offset + 4 : offset + 4 + size], offset + 4 + size


def _encode_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _encode_mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
