"""Expand ``%h``, ``${NAME}`` and ``~`` (ssh_config(5): TOKENS, ENVIRONMENT VARIABLES)."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from orchestrator.model.lazy_regex import lazy_regex

_PERCENT = lazy_regex(r"%(.?)", re.DOTALL)
_PERCENT_OR_VARIABLE = lazy_regex(r"%(.?)|\$\{([^}]*)(\}?)", re.DOTALL)


class TokenError(Exception):
    """An unknown token, user or variable. The message names it."""


def expand_tokens(text: str, tokens: Mapping[str, str]) -> str:
    """Return ``text`` with its tokens expanded. Raises TokenError."""
    return _PERCENT.sub(lambda found: _token_value(found[1], tokens), text) if "%" in text else text


def expand_path(
    text: str, tokens: Mapping[str, str], environ: Mapping[str, str], home: Path
) -> str:
    """Return a path with ``~``, tokens and ${NAME} expanded. Raises TokenError."""

    def replace_one(found: re.Match[str]) -> str:
        if found[2] is None:
            return _token_value(found[1], tokens)
        if not found[3] or found[2] not in environ:
            raise TokenError(f"${{{found[2]}}} is not set in the environment")
        return environ[found[2]]

    return _PERCENT_OR_VARIABLE.sub(replace_one, expand_tilde(text, home))


def expand_tilde(path: str, home: Path) -> str:
    """Return ``path`` with ~ or ~USER expanded. Raises TokenError if there is no such user."""
    if not path.startswith("~"):
        return path
    user, slash, rest = path[1:].partition("/")
    try:
        folder = pwd.getpwnam(user).pw_dir if user else str(home)
    except KeyError:
        raise TokenError(f"unknown user {user!r} in {path!r}") from None
    return f"{folder.rstrip('/')}{slash}{rest}" if slash else folder


def connection_tokens(
    *, name: str, host: str, port: int, user: str, local: str, home: Path, alias: str, jump: str
) -> dict[str, str]:
    """Return all tokens of a connection to ``host``, which was looked up as ``name``."""
    machine = socket.gethostname()
    seed = f"{machine}{host}{port}{user}{jump}"
    return {
        "C": hashlib.sha1(seed.encode("utf-8", "surrogateescape")).hexdigest(),
        "L": machine.partition(".")[0],
        "d": str(home),
        "h": host,
        "i": str(os.getuid()),
        "j": jump,
        "k": alias or host,
        "l": machine,
        "n": name,
        "p": str(port),
        "r": user,
        "u": local,
    }


def _token_value(sign: str, tokens: Mapping[str, str]) -> str:
    if sign == "%":
        return "%"
    if sign not in tokens:
        known = " ".join(f"%{each}" for each in tokens)
        raise TokenError(f"unknown token %{sign} (known: %% {known})")
    return tokens[sign]
