"""Encryption in the format of Ansible Vault 1.1 and 1.2.

The format is documented in Ansible's documentation ("Format of files encrypted with Ansible
Vault"): a header line ``$ANSIBLE_VAULT;VERSION;AES256[;ID]``, then hexadecimal text in lines of 80
characters. Decoded, it is three lines of hexadecimal text: a salt, an HMAC and the encrypted bytes.
The keys come from the password by PBKDF2 with SHA-256; the cipher is AES-256 in counter mode.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
import re

from msgspec import Struct

VAULT_HEADER = "$ANSIBLE_VAULT;"
DEFAULT_ID = "default"
"""The vault ID of text that names none."""

_CIPHER = "AES256"
_VERSIONS = ("1.1", "1.2")
_ITERATIONS = 10_000
_KEY_BYTES, _IV_BYTES, _SALT_BYTES = 32, 16, 32
_BLOCK_BYTES = 16
_LINE_CHARS = 80
_ID = re.compile(r"[A-Za-z0-9_.@-]+")


def is_vault_text(text: str) -> bool:
    """Return True if a file's text is a vault."""
    return text.startswith(VAULT_HEADER)


class VaultError(ValueError):
    """A text is not a vault, or cannot be decrypted; the message says why."""


class WrongPasswordError(VaultError):
    """The password does not decrypt the text."""


class VaultText(Struct, frozen=True):
    """The parts of a vault. ``vault_id`` is ``default`` if the text names none."""

    vault_id: str
    salt: bytes
    signature: bytes
    encrypted: bytes

    @classmethod
    def parse(cls, text: str) -> VaultText:
        """Return the parts of a text. Raises VaultError."""
        lines = [line.strip() for line in text.strip().splitlines()]
        if not lines or not lines[0].startswith(VAULT_HEADER):
            raise VaultError(f"it does not begin with {VAULT_HEADER}")
        fields = lines[0].split(";")
        if len(fields) < 3 or fields[1] not in _VERSIONS:
            known = " and ".join(_VERSIONS)
            raise VaultError(f"its header is '{lines[0][:60]}', but only {known} are known")
        if fields[2] != _CIPHER:
            raise VaultError(f"its cipher is {fields[2][:20]!r}, but only {_CIPHER} is known")
        vault_id = fields[3] if len(fields) > 3 and fields[1] == "1.2" else DEFAULT_ID
        try:
            parts = binascii.unhexlify("".join(lines[1:])).split(b"\n", 2)
            salt, signature, encrypted = (binascii.unhexlify(part) for part in parts)
        except ValueError:
            raise VaultError(
                "its text is damaged: it is not the hexadecimal text of a vault"
            ) from None
        if not salt or len(signature) != hashlib.sha256().digest_size or not encrypted:
            raise VaultError("its text is damaged: a part is missing")
        return cls(vault_id or DEFAULT_ID, salt, signature, encrypted)

    def decrypt(self, password: bytes) -> bytes:
        """Return the decrypted bytes. Raises WrongPasswordError and VaultError."""
        cipher_key, hmac_key, iv = _derive_keys(password, self.salt)
        found = hmac.new(hmac_key, self.encrypted, hashlib.sha256).digest()
        if not hmac.compare_digest(found, self.signature):
            raise WrongPasswordError("the password is wrong, or the text was changed")
        padded = _apply_cipher(cipher_key, iv, self.encrypted)
        size = padded[-1]
        if not 1 <= size <= _BLOCK_BYTES or padded[-size:] != bytes([size]) * size:
            raise VaultError("its text is damaged: its padding is invalid")
        return padded[:-size]


def encrypt_text(data: bytes, password: bytes, vault_id: str = "", salt: bytes = b"") -> str:
    """Return the bytes encrypted, with a final newline.

    The version is 1.2 if there is a vault ID, and 1.1 otherwise. ``salt`` is random if it is empty.
    Raises VaultError for an invalid ID.
    """
    if vault_id and not _ID.fullmatch(vault_id):
        raise VaultError(f"'{vault_id}' cannot be a vault ID: letters, digits, _, ., @ and - can")
    salt = salt or os.urandom(_SALT_BYTES)
    cipher_key, hmac_key, iv = _derive_keys(password, salt)
    size = _BLOCK_BYTES - len(data) % _BLOCK_BYTES
    encrypted = _apply_cipher(cipher_key, iv, data + bytes([size]) * size)
    signature = hmac.new(hmac_key, encrypted, hashlib.sha256).digest()
    parts = b"\n".join(binascii.hexlify(part) for part in (salt, signature, encrypted))
    body = binascii.hexlify(parts).decode("ascii")
    named = bool(vault_id) and vault_id != DEFAULT_ID
    header = f"{VAULT_HEADER}{_VERSIONS[named]};{_CIPHER}{f';{vault_id}' if named else ''}"
    lines = [body[at : at + _LINE_CHARS] for at in range(0, len(body), _LINE_CHARS)]
    return "\n".join((header, *lines, ""))


def _derive_keys(password: bytes, salt: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the keys of the cipher and of the HMAC, and the initial counter."""
    size = 2 * _KEY_BYTES + _IV_BYTES
    derived = hashlib.pbkdf2_hmac("sha256", password, salt, _ITERATIONS, size)
    return derived[:_KEY_BYTES], derived[_KEY_BYTES : 2 * _KEY_BYTES], derived[2 * _KEY_BYTES :]


def _apply_cipher(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Return the data encrypted, or decrypted, which is the same in counter mode."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # costs 30 ms

    encryptor = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()
