"""What stages, roles and hosts may be called, and how a host is written."""

from __future__ import annotations

import ipaddress

from msgspec import Struct

from orchestrator.inventory.ranges import BadNameError, expand
from orchestrator.model.regex import regex

COMMON = "common"
ALL = "all"

_ROLE = regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST = regex(r"\w[\w.-]{0,252}")
_USER = regex(r"[^\W][^\s:/,!&\[\]'\"`$;|<>(){}*?~#=\x00-\x1f]*")
_PORT = regex(r"[1-9][0-9]{0,4}")


class Written(Struct, frozen=True):
    """A host as written: ``user@name:port``, the name standing for one host or, by ranges, more."""

    names: tuple[str, ...]
    user: str | None = None
    port: int | None = None


def printable(name: str) -> str:
    """The name as it can be shown: what does not print is escaped."""
    return name if name.isprintable() else repr(name)[1:-1]


def why_no_stage(name: str) -> str:
    """Why a folder of this name cannot be a stage; empty where it can."""
    if not name.strip():
        return "it is blank"
    if name.lower() == COMMON:
        return f"'{COMMON}' holds what all stages share"
    if name[0] in "-.":
        return f"it begins with '{name[0]}'"
    if "/" in name or ".." in name:
        return "it holds '/' or '..'"
    if any(c.isspace() or not c.isprintable() for c in name):
        return "it holds a blank or a character that does not print"
    return ""


def why_no_role(name: str) -> str:
    """Why this cannot name a role; empty where it can."""
    if name == ALL:
        return "'all' means every host"
    if not _ROLE.fullmatch(name):
        return "only letters, digits, '_', '.' and '-' are allowed, and no '.' or '-' in front"
    return ""


def key(name: str) -> str:
    """What two names of one host have in common: case and IPv6 spelling do not tell hosts apart."""
    if ":" in name:
        return ipaddress.IPv6Address(name).compressed.lower()
    return name.lower()


def read_host(text: str) -> Written:
    """``name``, ``user@name:port``, ``[v6]:port`` or a bare IPv6 address; ranges are expanded.

    Raises ``BadNameError``.
    """
    if "//" in text:
        raise BadNameError("it is a URL", "write it as user@host:port")
    if any(c.isspace() or not c.isprintable() for c in text):
        raise BadNameError("it holds a blank or a character that does not print")
    before, at, rest = text.rpartition("@")
    user = check_user(before) if at else None
    name, port = _split_port(rest)
    names = (key(name),) if is_v6(name) else expand(name)
    for each in (names[0], names[-1]):
        if not is_v6(each) and not _HOST.fullmatch(each):
            raise BadNameError(f"'{each}' is no host name and no IP address")
        if each == ALL:
            raise BadNameError(
                "'all' means every host", "give the host another name, and an `address`"
            )
    return Written(names, user, check_port(port) if port is not None else None)


def check_user(user: str) -> str:
    """The name of a login. Raises ``BadNameError``."""
    if not _USER.fullmatch(user):
        raise BadNameError(f"'{user}' is no user name")
    return user


def check_port(port: str) -> int:
    """A TCP port. Raises ``BadNameError``."""
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise BadNameError(f"the port must be between 1 and 65535, found '{port}'")
    return int(port)


def is_v6(text: str) -> bool:
    """Whether this is an IPv6 address, without brackets."""
    if text.count(":") < 2:
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _split_port(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        inner, closed, after = text[1:].partition("]")
        if closed and is_v6(inner) and (not after or after.startswith(":")):
            return inner, after[1:] if after else None
    if is_v6(text):
        return text, None
    colon = text.rfind(":")
    if colon > text.rfind("]"):
        return text[:colon], text[colon + 1 :]
    return text, None
