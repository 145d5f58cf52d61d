"""The filter ``password_hash``: hashes for ``/etc/shadow``, by libpass and bcrypt."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct

from orchestrator.model.text_encoding import encode_lossy
from orchestrator.templating.value_text import UnusableValueError, text_of


class HashKind(Struct, frozen=True):
    """A kind of hash: its salt, the rounds unless others are given, and their bounds."""

    salt: str
    salt_meaning: str
    rounds: int = 0
    min_rounds: int = 0
    max_rounds: int = 0


HASH_KINDS: Mapping[str, HashKind] = {
    "blowfish": HashKind(
        "[./0-9A-Za-z]{22}", "22 letters, digits, dots and slashes", 12, min_rounds=4, max_rounds=16
    ),
    "md5": HashKind("[./0-9A-Za-z]{1,8}", "1 to 8 letters, digits, dots and slashes"),
    "sha256": HashKind(
        *("[./0-9A-Za-z]{1,16}", "1 to 16 letters, digits, dots and slashes", 535_000),
        min_rounds=1000,
        max_rounds=1_000_000,
    ),
    "sha512": HashKind(
        *("[./0-9A-Za-z]{1,16}", "1 to 16 letters, digits, dots and slashes", 656_000),
        min_rounds=1000,
        max_rounds=1_000_000,
    ),
}
"""The kinds of hashes, with Ansible's rounds; those of ``blowfish`` are a power of two."""
_ALIASES = {"bcrypt": "blowfish"}
_BCRYPT_DIGITS = f"./{string.ascii_uppercase}{string.ascii_lowercase}{string.digits}"
_MAX_BCRYPT_BYTES = 72
_SALT_HINT = "`password_hash('sha512', (host.name | hash('sha256'))[:16])` has one for each host"


def password_hash(
    value: Any, hashtype: str = "sha512", salt: Any = None, rounds: int | None = None
) -> str:
    """Return the hash of a password as crypt(3) makes it: one of ``HASH_KINDS``.

    ``salt`` is required, because a random one would be a change in each run. ``rounds`` are by
    default those of Ansible: 656,000 for ``sha512`` take about a second. Raises UnusableValueError
    for others.
    """
    password, name = text_of(value), text_of(hashtype).removesuffix("_crypt")
    name = _ALIASES.get(name, name)
    kind = HASH_KINDS.get(name)
    if kind is None:
        known = ", ".join(sorted(HASH_KINDS))
        raise UnusableValueError(f"there is no password hash '{hashtype}'", f"it is one of {known}")
    if salt is None:
        raise UnusableValueError("`password_hash` without a salt", _SALT_HINT)
    if not re.fullmatch(kind.salt, text_of(salt)):
        raise UnusableValueError(f"a salt of {name} is {kind.salt_meaning}", _SALT_HINT)
    rounds = kind.rounds if rounds is None else int(rounds)
    if not kind.min_rounds <= rounds <= kind.max_rounds:
        meaning = f"it is {kind.min_rounds:,} to {kind.max_rounds:,} rounds"
        raise UnusableValueError(f"{rounds} rounds", meaning if kind.rounds else "md5 has none")
    if name == "blowfish" and len(encode_lossy(password)) > _MAX_BCRYPT_BYTES:
        message = f"a password of more than {_MAX_BCRYPT_BYTES} bytes, which blowfish would cut"
        raise UnusableValueError(message, "use sha512")
    return _crypt(password, name, text_of(salt), rounds)


@lru_cache(1024)
def _crypt(password: str, kind: str, salt: str, rounds: int) -> str:
    secret = encode_lossy(password)
    if kind == "blowfish":
        import bcrypt

        # of the last character, which is one of 64, only the two highest bits are salt
        salt = salt[:-1] + _BCRYPT_DIGITS[_BCRYPT_DIGITS.index(salt[-1]) & 0b110000]
        return bcrypt.hashpw(secret, f"$2b${rounds:02}${salt}".encode()).decode()
    from passlib.hash import (  # type: ignore[import-untyped]
        md5_crypt,
        sha256_crypt,
        sha512_crypt,
    )

    if kind == "md5":
        return str(md5_crypt.using(salt=salt).hash(secret))
    maker = {"sha256": sha256_crypt, "sha512": sha512_crypt}[kind]
    return str(maker.using(salt=salt, rounds=rounds).hash(secret))
