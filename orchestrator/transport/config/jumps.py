"""ProxyJump: hops as USER@HOST:PORT or ssh://USER@HOST:PORT, with commas between them."""

from __future__ import annotations

import re
from urllib.parse import unquote

from orchestrator.model.regex import regex
from orchestrator.transport.config.keywords import BadValueError, port

NONE = ("none",)
_HOP = regex(r"(?:(.+)@)?(\[[^\]\[]+\]|[^:@/\[\]]+)(?::([^:/]+))?", re.DOTALL)


def hops(text: str) -> tuple[str, ...]:
    """The hops in order, or NONE. Raises BadValueError."""
    text = text.partition("#")[0].strip(" \t\r\n")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]  # a shell takes them away in the end, for ssh
    if text.lower() == "none":
        return NONE
    return tuple(_hop(one) for one in text.split(","))


def split(hop: str) -> tuple[str, str, int | None]:
    """User ('' where none is said), host and port of one of the ``hops``."""
    found = _HOP.fullmatch(hop)
    if found is None:  # a token made it so
        return "", hop, None
    user, host, number = found.groups()
    return user or "", host.strip("[]"), port([number], {}) if number else None


def _hop(text: str) -> str:
    found = _HOP.fullmatch(text.strip())
    if text.lower().startswith("ssh://"):
        found = _HOP.fullmatch(text[6:].removesuffix("/"))
    if found is None:
        raise BadValueError(f"{text!r} is no USER@HOST:PORT")
    user, host, number = found.groups()
    user = unquote(user) if user and text.lower().startswith("ssh://") else user
    at = f"{user}@" if user else ""
    return f"{at}{host}" + (f":{port([number], {})}" if number else "")
