"""The filter ``password_hash``: hashes for ``/etc/shadow``, by libpass."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.text_encoding import encode_lossy
from orchestrator.templating.value_text import UnusableValueError, text_of

DEFAULT_ROUNDS = {"sha256": 535_000, "sha512": 656_000}
"""The rounds of each kind of hash unless others are given: those of Ansible."""
_MAX_ROUNDS = 1_000_000
_SALT = lazy_regex(r"[./0-9A-Za-z]{1,16}")
_SALT_HINT = "`password_hash('sha512', (host.name | hash('sha256'))[:16])` has one for each host"


def password_hash(
    value: Any, hashtype: str = "sha512", salt: Any = None, rounds: int | None = None
) -> str:
    """Return the hash of a password as crypt(3) makes it: ``sha512`` or ``sha256``.

    ``salt``: 1 to 16 letters, digits, dots and slashes; required, because a random one would be a
    change in each run. ``rounds``: 1,000 to 1,000,000, by default 656,000 for ``sha512``, which
    take about a second, and 535,000 for ``sha256``. Raises UnusableValueError for others.
    """
    password, kind = text_of(value), text_of(hashtype).removesuffix("_crypt")
    if kind not in DEFAULT_ROUNDS:
        known = " or ".join(sorted(DEFAULT_ROUNDS))
        raise UnusableValueError(f"there is no password hash '{hashtype}'", f"it is {known}")
    if salt is None:
        raise UnusableValueError("`password_hash` without a salt", _SALT_HINT)
    if not _SALT.fullmatch(text_of(salt)):
        raise UnusableValueError("a salt is 1 to 16 letters, digits, dots and slashes", _SALT_HINT)
    rounds = DEFAULT_ROUNDS[kind] if rounds is None else int(rounds)
    if not 1000 <= rounds <= _MAX_ROUNDS:
        raise UnusableValueError(f"{rounds} rounds", f"it is 1,000 to {_MAX_ROUNDS:,} rounds")
    return _crypt(password, kind, text_of(salt), rounds)


@lru_cache(1024)
def _crypt(password: str, kind: str, salt: str, rounds: int) -> str:
    from passlib.hash import (  # type: ignore[import-untyped]
        sha256_crypt,
        sha512_crypt,
    )

    maker = {"sha256": sha256_crypt, "sha512": sha512_crypt}[kind]
    return str(maker.using(salt=salt, rounds=rounds).hash(encode_lossy(password)))
